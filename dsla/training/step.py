"""One step: losses of a batch, their gradients, and the optimiser; it stops where a loss is not finite."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..coco.columns import plain_id
from ..data.sampling import empty_item
from ..errors import NotFinite
from ..models import Detector
from ..recipes.recipe import Recipe
from .processes import parallel, rank
from .schedule import learning_rate, optimizer_of


class Step:
    """Called with the number of a step (from 0) and its images, it teaches the model.

    Args:
        model: on its device, in training mode.
        recipe: optimiser, rates, clipping and precision are read.
        device: of the model.
        seed: of what chance does in the network.
        images: in the training set.
        total: steps of the run.
        accumulate: parts in which a process works through its images.
        checkpoint: file to go back to, if there is one.

    Attributes:
        parts: what has a state, by the name that it has in a checkpoint.
        rate: the learning rate of the last step.
        ids: of the images of the last step.
    """

    def __init__(
        self,
        model: Detector,
        recipe: Recipe,
        device: torch.device,
        seed: int,
        images: int,
        total: int,
        accumulate: int,
        checkpoint: Path | None,
    ) -> None:
        self.recipe, self.device, self.seed, self.images, self.total = recipe, device, seed, images, total
        self.accumulate, self.checkpoint, self.rate, self.ids = accumulate, checkpoint, 0.0, list[int]()
        self.optimizer = optimizer_of(model, recipe)
        gpu = device.type == "cuda"
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.amp == "fp16" and gpu)
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(recipe.amp)
        self.autocast = torch.autocast(device.type, dtype=half, enabled=half is not None and gpu)
        self.parts: dict[str, Any] = {"model": model, "optimizer": self.optimizer, "scaler": self.scaler}
        self.network: nn.Module | None = None

    def __call__(self, step: int, pictures: Sequence[Tensor], targets: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Losses by name, their sum "loss", and "grad_norm"; scalars, detached.

        Raises:
            NotFinite: on a CPU, before the weights are spoiled.
        """
        if self.network is None:  # once the state is that of a checkpoint, which the other processes get from the first
            self.network = parallel(self.parts["model"])
        self.rate = learning_rate(self.recipe, step, self.total, self.images)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * group["factor"]
        _reseed(self.seed, step, self.device)
        pictures = [picture.to(self.device, non_blocking=True) for picture in pictures]
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for n in range(self.accumulate):
            piece = slice(*(len(pictures) * k // self.accumulate for k in (n, n + 1)))
            with _without_sync(self.network, n < self.accumulate - 1), self.autocast:
                losses = losses_of(self.network, pictures[piece], targets[piece], self.device, self.accumulate)
                loss = torch.stack(tuple(losses.values())).sum()
                self.scaler.scale(loss).backward()
            for key, value in {**losses, "loss": loss}.items():
                sums[key] = sums[key] + value.detach() if n else value.detach()
        self.scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.recipe.clip or math.inf)
        # fp16 finds its scale by steps that overflow and are left out
        sums["grad_norm"] = norm.nan_to_num(0, 0, 0) if self.scaler.is_enabled() else norm
        self.ids = [plain_id(t["image_id"]) for t in targets if "image_id" in t]
        if self.device.type == "cpu":
            self.check_finite(sums, step + 1)  # before the step, while the weights are good
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return sums

    def check_finite(self, values: Mapping[str, Tensor | float], step: int) -> None:
        """Raises a NotFinite that names the part, the rate, the images and the checkpoint to go back to."""
        bad = [k for k, v in values.items() if not math.isfinite(float(v))]
        if bad:
            kept = f" The last good checkpoint is {path}." if (path := self.checkpoint) and path.exists() else ""
            raise NotFinite(
                f"step {step}: {', '.join(bad)} is not finite at learning rate {self.rate:.4g} (images {self.ids}). "
                "Lower the learning rate, lengthen the warm-up, or clip gradients harder; look at these images' boxes "
                f"if it comes back.{kept}"
            )


def losses_of(
    network: nn.Module, pictures: Sequence[Tensor], targets: Sequence[dict[str, Any]], device: torch.device, parts: int
) -> dict[str, Tensor]:
    """Losses of one of the parts of a step; without images those of nothing, since the other processes wait for it."""
    if pictures:
        return {k: v / parts if parts > 1 else v for k, v in network(pictures, targets).items()}
    picture, target = empty_item()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    for norm in norms:
        norm.eval()  # no image, no statistics
    losses = {k: v * 0 for k, v in network([picture.to(device)], [target]).items()}
    for norm in norms:
        norm.train()
    return losses


def _without_sync(network: nn.Module, more: bool) -> contextlib.AbstractContextManager[Any]:
    """Processes exchange gradients once a step, with its last part."""
    return network.no_sync() if more and isinstance(network, DistributedDataParallel) else contextlib.nullcontext()


def _reseed(seed: int, step: int, device: torch.device) -> None:
    """What chance does in the network at a step, such as drop path, is a function of seed, step and rank."""
    number = ((seed * 1_000_003 + step) * 1024 + rank()) % 2**63
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        with torch.cuda.device(device):  # else of the first one, whichever is used
            torch.cuda.manual_seed(number)
