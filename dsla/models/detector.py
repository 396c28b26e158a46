"""The detector: backbone → pyramid → head, in torchvision's calling convention."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..assigners import Assigner, Assignment
from ..data.loading import apart
from ..data.pictures import image_tensor
from ..errors import DataError
from ..geometry import HeadOutputs
from ..recipes.recipe import Recipe, checked
from .criteria import Criterion
from .head import Head, RawOutputs
from .postprocess import Postprocess
from .transform import COARSEST, Target, Transform, check_targets, sizes


class Raw(NamedTuple):
    """Outputs of the head with the frame they are in: that of the resized images.

    image_sizes: (height, width) of each image in that frame, without padding. targets: brought to it.
    """

    outputs: HeadOutputs
    image_sizes: list[tuple[int, int]]
    targets: Sequence[Target] | None


class Detector(nn.Module):
    """``model(images, targets)`` → losses while training; ``model.eval()(images)`` → detections.

    Images are a list of [3, H, W], floats in 0…1 or bytes, of any sizes, or of pictures as `data.pictures.image_tensor`
    takes them; targets a list of dicts with ``boxes`` [M, 4] xyxy pixels, ``labels`` [M] in 0…C−1 and, if any,
    ``crowd_boxes`` [K, 4]. Detections are dicts with boxes, scores and labels, in pixels of the image as it came,
    best first.

    A batch is padded to its largest image. Unless it is told otherwise, nothing is taught or detected at a point of
    the padding, but near the border convolutions see it: scores there may differ a little from those of the image
    alone.

    Args:
        backbone: [B, 3, H, W] → dict of maps.  pyramid: dict of maps → dict of maps, finest first.
        assigner: who teaches which point.  criterion: outputs and assignment → losses by name.
        crowd: "ignore": nothing is taught in a crowd box; "background": as the release does.
        padding: "background" does the same at points in the padding of a batch, else nothing is taught there.
        class_names: of labels 0…C−1.  recipe: what the model was built from; stored with its weights.

    Attributes:
        category_ids: COCO ids of labels 0…C−1, those of the data set that it learnt from; 1…C of one that knows none.
    """

    category_ids: tuple[Any, ...]

    def __init__(
        self,
        backbone: nn.Module,
        pyramid: nn.Module,
        head: Head,
        *,
        assigner: Assigner | None = None,
        criterion: Criterion | None = None,
        transform: Transform | None = None,
        postprocess: Postprocess | None = None,
        crowd: str = "ignore",
        padding: str = "ignore",
        class_names: Sequence[str] | None = None,
        recipe: Recipe | None = None,
    ) -> None:
        super().__init__()
        names = tuple(class_names or (f"class {i}" for i in range(head.num_classes)))
        if len(names) != head.num_classes:
            raise ValueError(f"{len(names)} class names for {head.num_classes} classes")
        self.backbone, self.pyramid, self.head = backbone, pyramid, head
        self.assigner, self.criterion = assigner, criterion
        self.crowd, self.padding = checked("crowd", crowd), checked("padding", padding)
        self.transform, self.postprocess = transform or Transform(), postprocess or Postprocess()
        self.class_names, self.recipe = names, recipe
        self.category_ids = tuple(range(1, len(names) + 1))

    @property
    def num_classes(self) -> int:
        """C, as its head has it."""
        return self.head.num_classes

    def features(self, batch: Tensor) -> list[Tensor]:
        """Maps of the pyramid, finest first, of a normalised and padded batch [B, 3, H, W]."""
        return list(self.pyramid(self.backbone(batch)).values())

    def network(self, batch: Tensor) -> RawOutputs:
        """All that is learnt, from a batch to tensors without their points: what `torch.compile` is for."""
        return self.head.raw(self.features(batch))

    def forward_raw(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> Raw:
        """The head's outputs, in the frame of the resized images; targets are brought there too."""
        targets = None if targets is None else [apart(target) for target in targets]
        batch, image_sizes, targets = self.transform(images, targets)
        single = self.training and len(batch) == 1 and max(batch.shape[-2:]) <= COARSEST
        if single and any(isinstance(m, nn.BatchNorm2d) and m.training for m in self.modules()):
            raise DataError(
                f"a single image of {batch.shape[-1]}x{batch.shape[-2]} pixels leaves batch normalisation one value a "
                "channel to learn from: larger images (min_size) or more images a step (batch_size) are needed"
            )
        return Raw(self.head.outputs(self.network(batch)), image_sizes, targets)

    def assign(self, raw: Raw) -> Assignment:
        """Who teaches which point, for outputs that came with targets; in the padding nobody."""
        if self.assigner is None or raw.targets is None:
            raise ValueError("assigning needs a model with an assigner, and targets")
        crowds = [t.get("crowd_boxes", t["boxes"][:0]) for t in raw.targets] if self.crowd == "ignore" else None
        assignment = self.assigner(
            raw.outputs.grid,
            boxes=[t["boxes"] for t in raw.targets],
            labels=[t["labels"] for t in raw.targets],
            predictions=raw.outputs if self.assigner.needs_predictions else None,
            ignore=crowds,
            image_sizes=raw.image_sizes,
            coupling=getattr(self.criterion, "coupling", None),
        )
        if self.padding != "background":
            return assignment
        return replace(assignment, ignored=assignment.ignored & raw.outputs.grid.inside(raw.image_sizes))

    def candidates(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """What enters NMS, in pixels of the images as they came: boxes, scores, labels and grid points."""
        raw = self.forward_raw(images)
        return self.postprocess.candidates(raw.outputs, raw.image_sizes, sizes(images))

    def forward(
        self, images: Sequence[Any], targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        device = next(self.parameters()).device
        images = [x if isinstance(x, Tensor) else image_tensor(x).to(device) for x in images]
        if not self.training:
            detections = map(self.postprocess.suppress, self.candidates(images))
            return [{k: d[k] for k in ("boxes", "scores", "labels")} for d in detections]
        if self.criterion is None:
            raise ValueError("training needs a model with a criterion")
        raw = self.forward_raw(images, check_targets(targets, len(images), self.num_classes))
        return self.criterion(raw.outputs, self.assign(raw))
