"""The protocol of all assigners: boxes in, an `Assignment` out."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from ..geometry import HeadOutputs, PointGrid, on_device
from .assignment import Assignment
from .options import of_its_types
from .pairs import Decision, Pairs, Truth, as_boxes
from .rules import Case, Explanation, Rule, explained, label_rule, region_rules, value_rules

DEFAULT_RANGES = ((0.0, 64.0), (64.0, 128.0), (128.0, 256.0), (256.0, 512.0), (512.0, 1e8))


class Assigner(ABC):
    """Decides which box teaches which point, and how strongly.

    Call it as ``assigner(grid, boxes=[[M, 4] …], labels=[[M] …])``; boxes in pixels, labels in 0…C−1, one tensor,
    array or list an image. Assigners with `needs_predictions` also take ``predictions=HeadOutputs``.
    ``ignore`` lists the crowd boxes [K, 4] of each image and ``image_sizes`` their (height, width). Points in
    a crowd that no box claims, and all points of the padding, are marked `Assignment.ignored`: nothing teaches
    them. A box that reaches beyond its image claims no point of the padding.

    Attributes:
        name: of the method.
        needs_predictions: whether it assigns from what the head says.
        default_coupling: of its label with the IoU, where nobody says another one: see `Assignment.coupling`.
        point_offset: where the method's own code places points, in strides from the cell's corner.
    """

    name: str = ""
    needs_predictions: bool = False
    default_coupling: str = "off"
    point_offset: float = 0.5

    def __init_subclass__(cls, **rest: Any) -> None:
        """Constructors, of a method of your own, too, refuse arguments that are not of their annotated types."""
        super().__init_subclass__(**rest)
        if "__init__" in vars(cls):
            setattr(cls, "__init__", of_its_types(cls.__init__))  # noqa: B010

    def __call__(
        self,
        grid: PointGrid,
        boxes: Sequence[Any],
        labels: Sequence[Any],
        predictions: HeadOutputs | None = None,
        ignore: Sequence[Any] | None = None,
        image_sizes: Sequence[tuple[int, int]] | None = None,
        coupling: str | None = None,
    ) -> Assignment:
        """Assign a batch.

        Args:
            grid: the points.
            boxes: [M, 4] of each image.
            labels: [M] of each image.
            predictions: what the head says at the points.
            ignore: crowd boxes [K, 4] of each image.
            image_sizes: (height, width) of each image in its padding.
            coupling: that the assignment carries; None: the method's default.
        Returns:
            `Assignment` with gt_index, label and category, each [B, P].
        Raises:
            ValueError: numbers of boxes and labels differ, boxes are not [M, 4] or not finite, a label
                is negative or not a class of the predictions, or these are missing where the method needs them.
        """
        classes = self._classes(grid, len(boxes), predictions)
        if ignore is not None and len(ignore) != len(boxes):
            raise ValueError(f"boxes of {len(boxes)} images but crowd boxes (ignore) of {len(ignore)}")
        with torch.no_grad(), torch.autocast(grid.device.type, enabled=False):
            truth = Truth.of(boxes, labels, grid.device, image_sizes, classes)
            decision = self._assign(grid, truth, predictions.detach() if predictions is not None else None)
            ignored = _in_crowds(grid, len(boxes), ignore)
            return self._assignment(grid, truth, decision, ignored, coupling or self.default_coupling)

    @abstractmethod
    def _assign(self, grid: PointGrid, truth: Truth, predictions: HeadOutputs | None) -> Decision:
        """Who wins which point of the batch. Called without gradients and autocast; predictions are detached."""

    def factors(self, pairs: Pairs) -> dict[str, Tensor]:
        """What is known of each pair by itself, by name, such as its centerness."""
        return {}

    def rules(self, case: Case) -> list[Rule]:
        """Each rule for one point and one box, with numbers and verdict; the last one is the label without rivals."""
        label = case.alone(self)
        return [*region_rules(case.pairs), *value_rules(case.values(self.factors)), label_rule(f"{label:.4g}", label)]

    def explain(
        self,
        grid: PointGrid,
        point: int,
        box: Iterable[float],
        predictions: HeadOutputs | None = None,
        image: int = 0,
        category: int = 0,
        others: Any = None,
        coupling: str | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> Explanation:
        """Each rule for a point and a box: numbers and verdict; coupled with predictions also the IoU.

        Args:
            grid: the points.
            point: index in the grid.
            box: x1, y1, x2, y2.
            predictions: of a batch; needed where the method assigns from them.
            image: which image of the predictions.
            category: the box's class.
            others: [M, 4] the image's other boxes, a tensor, array or list, for methods in which they matter.
            coupling: as in a call.
            image_size: (height, width) of the image in its padding; None: it has none.
        Raises:
            ValueError: no such point or image, not one box, or predictions missing.
        """
        pairs = Pairs.one(grid, point, box)
        if predictions is not None:
            if not 0 <= image < len(predictions.logits):
                raise ValueError(f"image {image} is not in predictions of {len(predictions.logits)} images")
            predictions = predictions.detach().of_image(image)
        classes = self._classes(grid, 1, predictions)
        with torch.no_grad(), torch.autocast(grid.device.type, enabled=False):
            boxes = torch.stack(pairs.boxes)[None]
            boxes = boxes if others is None else torch.cat((boxes, as_boxes(others, image).to(boxes)))
            names, sizes = [[category] * len(boxes)], image_size and [image_size]
            truth = Truth.of([boxes], names, grid.device, sizes, classes)
            case = Case(grid, point, pairs, truth, predictions)
            return explained(self.name, case, self.rules(case), coupling or self.default_coupling)

    @property
    def level_ranges(self) -> tuple[tuple[float, float], ...]:
        """Its range for each level, in whatever it measures; empty where the method has none."""
        return getattr(self, "regress_ranges", None) or getattr(self, "scale_ranges", None) or ()

    def check_levels(self, strides: Sequence[int], title: str = "") -> None:
        """Raises a ValueError unless its ranges, if it has any, are of as many levels as there are strides."""
        if (levels := len(self.level_ranges or strides)) != len(strides):
            number = f"there are {len(strides)} strides {tuple(strides)}"
            raise ValueError(f"{title or self.name} has ranges for {levels} levels but {number}")

    def _classes(self, grid: PointGrid, images: int, predictions: HeadOutputs | None) -> int | None:
        """C, where labels must lie below it. Raises a ValueError if the grid or the predictions do not fit."""
        self.check_levels(grid.strides)
        if not self.needs_predictions:
            return None
        if predictions is None:
            raise ValueError(f"{self.name} assigns from predictions: pass predictions=HeadOutputs")
        there, points, classes = predictions.logits.shape
        if (there, points) != (images, len(grid)):
            here = f"boxes of {images} images and a grid of {len(grid)} points"
            raise ValueError(f"predictions for {there} images of {points} points, but {here}")
        return classes

    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in self.options().items())
        return f"{type(self).__name__}({options})"

    def options(self) -> dict[str, Any]:
        """The constructor's arguments, kept as attributes: ``type(a)(**a.options())`` is the same assigner."""
        return {k: getattr(self, k) for k in signature(type(self)).parameters if hasattr(self, k)}

    def _assignment(
        self, grid: PointGrid, truth: Truth, decision: Decision, ignored: Tensor, coupling: str
    ) -> Assignment:
        """The decision as columns [B, P]; nobody wins a point of the padding."""
        size, point = (len(truth.first), len(grid)), decision.point
        won, box = decision.box >= 0, decision.box.clamp(min=0)
        if decision.ignored is not None:
            ignored = ignored | decision.ignored.view(size)
        if truth.sizes is not None:
            padding = ~grid.inside(truth.sizes)
            ignored = ignored | padding
            won = won & ~padding.flatten().index_select(0, point)

        def spread(values: Tensor, empty: float) -> Tensor:
            every = values.new_full((size[0] * size[1],), empty)
            return every.scatter_(0, point, values.where(won, empty)).view(size)

        gt_index = spread(truth.place.index_select(0, box), -1)
        return Assignment(
            gt_index=gt_index,
            label=spread(decision.label.float(), 0),
            category=spread(truth.labels.index_select(0, box), -1),
            ignored=ignored & (gt_index < 0),
            grid=grid,
            boxes=truth.boxes,
            first=truth.first,
            assigner=self,
            coupling=coupling,
            extras={name: spread(values, 0) for name, values in decision.extras.items()},
        )


def _in_crowds(grid: PointGrid, images: int, crowds: Sequence[Any] | None) -> Tensor:
    """[B, P] bool: strictly inside a crowd box of its image."""
    inside = torch.zeros((images, len(grid)), dtype=torch.bool, device=grid.device)
    for image, boxes in enumerate(crowds if crowds is not None else ()):
        if len(boxes):  # crowds are rare: most batches never come here
            (b,) = on_device(grid.device, as_boxes(boxes, image))
            inside[image] = ((grid.xy[:, None] > b[:, :2]) & (grid.xy[:, None] < b[:, 2:])).all(-1).any(-1)
    return inside
