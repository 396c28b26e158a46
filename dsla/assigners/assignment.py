"""`Assignment`: who teaches which point what, and how strongly. The one value that travels."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..geometry import HeadOutputs, PointGrid, aligned_iou, short_repr
from ..losses import check_coupling, dynamic_target
from .pairs import Pairs

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Assignment:
    """Which box teaches each point.

    Attributes:
        gt_index: [B, P] int64, index into the image's boxes, −1 background.
        label: [B, P] float32 static label in [0, 1], 0 background.
        category: [B, P] int64 class, −1 background.
        ignored: [B, P] bool: neither taught as an object nor as background (padding, crowds).
        grid: the points.
        boxes: [N, 4] all boxes of the batch.
        first: [B] where each image's boxes begin.
        assigner: who decided.
        coupling: how the label is coupled with the IoU of the predicted box, as `dsla.losses.dynamic_target` has it.
            The loss, the tables and all views read it here.
        extras: further [B, P] columns of the method, by name.
    """

    gt_index: Tensor
    label: Tensor
    category: Tensor
    ignored: Tensor
    grid: PointGrid
    boxes: Tensor
    first: Tensor
    assigner: Any  # an `Assigner`, which stands above
    coupling: str
    extras: dict[str, Tensor] = field(default_factory=dict)

    __repr__ = short_repr

    def __post_init__(self) -> None:
        check_coupling(self.coupling)

    @cached_property
    def positive(self) -> Tensor:
        """[B, P] bool."""
        return self.gt_index >= 0

    @cached_property
    def matched_boxes(self) -> Tensor:
        """[B, P, 4] the box of each point; at background the empty box at the point itself."""
        here = self.grid.xy.repeat(1, 2).expand(*self.gt_index.shape, 4)
        if not len(self.boxes):
            return here
        index = (self.gt_index + self.first[:, None]).where(self.positive, 0)
        return torch.where(self.positive[..., None], self.boxes[index], here)

    def iou(self, boxes: Tensor) -> Tensor:
        """[B, P] IoU of the predicted boxes [B, P, 4] with the box of their point; 0 at background."""
        return aligned_iou(boxes, self.matched_boxes) * self.positive

    def target(self, boxes: Tensor) -> Tensor:
        """[B, P] what the classification is taught where boxes [B, P, 4] are predicted; 0 at background."""
        return dynamic_target(self.label, self.iou(boxes), self.coupling)

    def pairs(self) -> Pairs:
        """Each positive point with its box, [N⁺] in the order of ``positive.nonzero()``."""
        image, point = self.positive.nonzero(as_tuple=True)
        return Pairs.of(self.grid, point, self.matched_boxes[image, point].unbind(-1))

    def counts(self) -> Tensor:
        """[N] points of each box of the batch, in its order: 0 marks an object that no point learns."""
        index = (self.gt_index + self.first[:, None])[self.positive]
        return torch.bincount(index, minlength=len(self.boxes))

    def to_frame(self, predictions: HeadOutputs | None = None) -> "pd.DataFrame":
        """One row a (point, box): every positive point with the box that won it.

        Columns: image, point, level, row, column, x, y, gt, category, l, t, r, b (pixels), centerness (without
        core zone), core_zone, relaxation, label; given predictions also iou (with the predicted box) and
        target (what the classification is taught there: see `target`). NaN where a method has no such factor.
        """
        import pandas as pd

        image, point = self.positive.nonzero(as_tuple=True)
        pairs = self.pairs()
        columns: dict[str, Any] = {"image": image, "point": point}
        columns |= {name: getattr(self.grid, name)[point] for name in ("level", "row", "column")}
        columns |= {"x": pairs.x, "y": pairs.y}
        columns |= {"gt": self.gt_index[image, point], "category": self.category[image, point]}
        columns |= dict(zip("ltrb", pairs.distances, strict=True))
        factors = self.assigner.factors(pairs)
        columns |= {name: factors.get(name, float("nan")) for name in ("centerness", "core_zone", "relaxation")}
        columns |= {name: values[image, point] for name, values in {"label": self.label, **self.extras}.items()}
        if predictions is not None:
            columns["iou"] = self.iou(predictions.boxes.detach())[image, point]
            columns["target"] = dynamic_target(columns["label"], columns["iou"], self.coupling)
        return pd.DataFrame({k: v.cpu().numpy() if isinstance(v, Tensor) else v for k, v in columns.items()})
