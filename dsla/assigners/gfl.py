"""Hard assignment with the IoU as the label: GFL's quality label, over any assigner.

Li et al., "Generalized focal loss", NeurIPS 2020: ATSS decides who teaches a point, the IoU of the box that the
model predicts there right now decides how strongly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ..geometry import HeadOutputs, PointGrid, aligned_iou
from .atss import ATSS
from .base import Assigner, Pairs, Truth
from .explanation import Explanation, Rule


class QualityLabel(Assigner):
    """The points of another assigner, each labelled with the IoU of its predicted box.

    A positive whose prediction misses its box has label 0 and stays positive: its box is still learnt.

    Args:
        base: who decides which box teaches which point; ATSS, as in GFL, by default. Its own labels only say
            which points are positive.
    """

    name = "Quality label"
    needs_predictions = True

    def __init__(self, base: Assigner | None = None) -> None:
        self.base = ATSS() if base is None else base
        self.name = f"{self.base.name} + IoU label"

    def options(self) -> dict[str, Any]:
        return {"base": self.base}

    def _assign(
        self, grid: PointGrid, truth: Truth, predictions: HeadOutputs | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        assert predictions is not None
        found = self.base._assign(grid, truth, predictions)
        keys, extras = found if isinstance(found, tuple) else (found, {})
        none = torch.zeros((len(truth.first), len(grid)), dtype=torch.bool, device=grid.device)
        decided = truth.decode(grid, keys, self.base, none, extras)
        return keys, extras | {"label": decided.iou(predictions.boxes.float()).nan_to_num(0).clamp(0, 1)}

    def factors(self, pairs: Pairs) -> dict[str, Tensor]:
        """Those of the base assigner: the IoU is known only with predictions."""
        return self.base.factors(pairs)

    def explain(
        self,
        grid: PointGrid,
        point: int,
        box: Iterable[float],
        predictions: HeadOutputs | None = None,
        image: int = 0,
        category: int = 0,
        others: Tensor | None = None,
    ) -> Explanation:
        """The rules of the base assigner, then the IoU of the prediction as the label."""
        if predictions is None:
            raise ValueError(f"{self.name} explains from predictions: pass predictions=HeadOutputs")
        context: dict[str, Any] = {}
        if self.base.needs_predictions:
            context = {"predictions": predictions, "image": image, "category": category, "others": others}
        found = self.base.explain(grid, point, box, **context)
        predicted = predictions.detach().boxes[image, point].float()
        iou = float(aligned_iou(predicted, predicted.new_tensor(found.box)))
        label = iou if found.admitted else 0.0
        text = f"IoU {iou:.4g} of the predicted box ({', '.join(f'{v:.4g}' for v in predicted.tolist())})"
        rules = (*found.rules[:-1], Rule("label", text, label, found.admitted))
        return Explanation(self.name, point, found.xy, found.level, found.stride, found.box, rules, label)
