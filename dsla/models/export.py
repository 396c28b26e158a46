"""The raw head for other runtimes, as ONNX or a ``torch.export`` program; decoding and NMS stay outside.

What goes in is a batch of images, float32 [B, 3, H, W], RGB in 0…1, at the size that the model resizes them to, padded
at the right and the bottom to multiples of 32 with `padding_of`, which normalisation, inside, makes 0. What comes out:
``logits`` [B, P, C], ``distances`` [B, P, 4] in pixels (left, top, right, bottom of a point) and, with a quality
branch, ``quality`` [B, P] logits; P points of all levels, finest first, row by row. `HeadOutputs` with a `PointGrid` of
(H, W), and `Postprocess`, make detections of them.
"""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import DataError, whole_numbers
from ..files import put_in_place, refuse_existing
from .detector import Detector


class RawHead(nn.Module):
    """A detector as a function of tensors: images [B, 3, H, W] → logits, distances and, if any, quality."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        *outputs, _ = self.model.network(self.model.transform.normalize(images.clone()))
        return tuple(x for x in outputs if x is not None)


def padding_of(model: Detector) -> list[float]:
    """Red, green and blue in 0…1 of the padding: the mean colour of the model's normalisation."""
    colour = model.transform.mean.flatten() / model.transform.pixel_scale
    return [round(value, 7) for value in (colour.flip(0) if model.transform.bgr else colour).tolist()]


def names_of(model: Detector) -> list[str]:
    """Names of the outputs, in order."""
    return ["logits", "distances", *(["quality"] if model.head.quality is not None else [])]


def to_exported_program(model: Detector, size: tuple[int, int] | None = None) -> torch.export.ExportedProgram:
    """The raw head as a program of ``torch.export``; batches of any number.

    Args:
        size: (height, width) that it then takes, multiples of 32; None leaves both free, from the coarsest
            stride plus 32 on. Swin-S pads to its windows by the size: it needs one.
    Raises:
        DataError: a size that is none, or none for a network that needs one.
    """
    sides = None if size is None else whole_numbers("size (height, width)", size, 2)
    least = max(model.head.strides) // 32 + 1  # two cells on the coarsest level: one would be taken for a constant
    if sides is None and model.recipe is not None and model.recipe.backbone == "swin_s":
        raise DataError("Swin-S can only be exported for one size of images: give size=(height, width)")
    if sides is not None and (sides[0] % 32 or sides[1] % 32):
        raise DataError(f"size is (height, width) in multiples of 32, got {sides}")
    free: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if sides is None:
        free |= {i + 2: 32 * torch.export.Dim(name, min=least, max=256) for i, name in enumerate(("rows", "columns"))}
    example = torch.zeros(2, 3, *(sides or (32 * least, 32 * (least + 1))))
    raw = RawHead(copy.deepcopy(model).cpu()).eval()
    return torch.export.export(raw, (example,), dynamic_shapes={"images": free})


def to_onnx(model: Detector, path: str | Path, size: tuple[int, int] | None = None, *, overwrite: bool = False) -> Path:
    """Write the raw head as ONNX: input ``images``, outputs ``logits``, ``distances`` and, if any, ``quality``.

    The file's metadata hold recipe, class names, COCO's ids of them, point offset and padding as JSON. Deformable
    convolutions are those of ONNX.

    Args:
        size: as `to_exported_program` has it.
        overwrite: replace a file that is there.
    Raises:
        DataError: as `to_exported_program`; or another ending, a file that is there, packages that are not installed.
    """
    if Path(path).suffix.lower() != ".onnx":
        raise DataError(f"{path}: give a path that ends in .onnx, since ONNX is written")
    refuse_existing([path], overwrite=overwrite)
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise DataError(f'{error}: writing ONNX needs pip install "dsla[onnx]"') from error
    program = torch.onnx.export(
        to_exported_program(model, size),
        dynamo=True,
        input_names=["images"],
        output_names=names_of(model),
        opset_version=20,
        verbose=False,
    )
    assert program is not None
    about: dict[str, Any] = {"class_names": list(model.class_names), "point_offset": model.head.offset}
    about |= {"padding": padding_of(model), "category_ids": list(model.category_ids)}
    if model.recipe is not None:
        about["recipe"] = model.recipe.to_dict()
    program.model.metadata_props.update({k: json.dumps(v) for k, v in about.items()})
    with put_in_place(path) as partial:
        program.save(partial)
    return Path(path)
