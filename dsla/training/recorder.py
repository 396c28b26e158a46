"""A training run recorded on a few probe images: labels, scores and boxes as they grow together.

`Recorder` is an `on_step` hook of `dsla.train`; a `Recording` is what it saw, for `dsla.widgets.TrainingReplay`.
F frames, K probe images, P points of a padded image, M objects of all probe images, D detections that are kept.
"""

import io
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from ..data import DetectionDataset
from ..data.loading import apart
from ..data.pictures import as_bytes
from ..errors import DataError
from ..files import put_in_place, refuse_existing
from ..geometry import PointGrid, scaled
from ..models.evaluation import check_classes, evaluation_mode
from ..models.transform import sizes

FORMAT = "dsla recording 1"
# Of 500 steps of scenes-dsla; cold: its first boxes are far too small (box_bias −2 instead of 0.7), and fit nothing.
SHIPPED = {
    "starts warm": Path(__file__).parent / "recordings" / "scenes-dsla.npz",
    "starts cold": Path(__file__).parent / "recordings" / "scenes-dsla-cold.npz",
}
LARGEST = 2**30  # bytes of a recording that is unpacked
CURVE = 1000  # rows of the loss curve that are kept; of longer runs, means of equal windows


@dataclass(frozen=True)
class Recording:
    """What a `Recorder` saw. Beside each array stand its axes: the letters above; S rows of the loss curve, N parts.

    Attributes:
        name: of the recipe.  class_names: of labels 0…C−1.
        images: K pictures, uint8 [H, W, 3].  sizes: (height, width) of each as the network sees it, without padding.
        objects: [M, 4] float32 boxes in pixels of their image.  labels, image: [M] class, and which of the K it is in.
        grid: points of the padded images.
        steps: [F] after which a frame was taken.
        loss_steps: [S], losses: [S, parts] float32, parts: their names; the last step of a mean and the mean.
        taught: [F, K, P] uint8, 0 background, 1…255 the dynamic label 0…1 of a point that learns.
        score: [F, K, P] uint8 for 0…1; of the taught class where a point learns, else the highest of all classes.
        boxes: [F, K, D, 4] float32 detections in pixels of the image, to a sixteenth, best first; box_score: uint8, 0
            where there is none; box_label: uint16.
        own_box: [F, M, 4] float32 the box that each object's point of highest static label predicts (nan: no point).
        own: [F, M, 4] float16 of that point: static label, IoU with the object, dynamic label, score of its class.
    """

    name: str
    class_names: tuple[str, ...]
    images: tuple[np.ndarray, ...]
    sizes: tuple[tuple[int, int], ...]
    objects: Annotated[np.ndarray, "M4"]
    labels: Annotated[np.ndarray, "M"]
    image: Annotated[np.ndarray, "M"]
    grid: PointGrid
    parts: tuple[str, ...]
    steps: Annotated[np.ndarray, "F"]
    loss_steps: Annotated[np.ndarray, "S"]
    losses: Annotated[np.ndarray, "SN"]
    taught: Annotated[np.ndarray, "FKP"]
    score: Annotated[np.ndarray, "FKP"]
    boxes: Annotated[np.ndarray, "FKD4"]
    box_score: Annotated[np.ndarray, "FKD"]
    box_label: Annotated[np.ndarray, "FKD"]
    own: Annotated[np.ndarray, "FM4"]
    own_box: Annotated[np.ndarray, "FM4"]

    def __len__(self) -> int:
        return len(self.steps)

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """One compressed .npz of plain arrays; the pictures inside are JPEG, for looking at.

        Args:
            path: file to write.
            overwrite: replace one that is there.
        Raises:
            DataError: a file is there.
        """
        refuse_existing([path], overwrite=overwrite)
        about = {
            "format": FORMAT,
            **{k: getattr(self, k) for k in ("name", "class_names", "sizes", "parts")},
            "grid": {k: getattr(self.grid, k) for k in ("shapes", "strides", "offset")},
        }
        arrays = {k: getattr(self, k) for k in AXES}
        for i, pixels in enumerate(self.images):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, format="JPEG", quality=92)
            arrays[f"image{i}"] = np.frombuffer(buffer.getvalue(), dtype=np.uint8)
        with put_in_place(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path = "starts warm") -> "Recording":
        """From a file, or one of those that ship, by its name in `SHIPPED`.

        Raises:
            DataError: no such file, or no recording.
        """
        path = Path(SHIPPED.get(str(path), path)).absolute()
        try:
            with np.load(path, allow_pickle=False) as file:
                unpacked = sum(part.file_size for part in file.zip.infolist())
                if unpacked > LARGEST:
                    raise ValueError(f"it unpacks to {unpacked:,} bytes, and {LARGEST:,} are read")
                arrays = dict(file)
            return cls._from(arrays, json.loads(str(arrays.pop("about"))))
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; `Recorder.recording().save` makes one") from None
        except Exception as error:  # whatever a stranger packs, or flipped bits make of an archive
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(f"{path} is no recording of a training run: {reason:.200}") from error

    @classmethod
    def _from(cls, arrays: dict[str, np.ndarray], about: dict[str, Any]) -> "Recording":
        """What `save` wrote, with every array of the shape that its axes' names say."""
        if about["format"] != FORMAT:
            raise ValueError("another format")
        files = [arrays[f"image{i}"].tobytes() for i in range(len(about["sizes"]))]
        pictures = [np.asarray(Image.open(io.BytesIO(file))) for file in files]
        grid, shapes = about["grid"], [(int(h), int(w)) for h, w in about["grid"]["shapes"]]
        lengths = {"4": 4, "K": len(pictures), "N": len(about["parts"]), "P": sum(h * w for h, w in shapes)}
        for name, axes in AXES.items():
            wanted = tuple(lengths.setdefault(axis, size) for axis, size in zip(axes, arrays[name].shape, strict=True))
            if arrays[name].shape != wanted or arrays[name].dtype.kind not in "uif":
                raise ValueError(f"{name} is {arrays[name].dtype} {arrays[name].shape}, not numbers {wanted}")
        return cls(
            name=str(about["name"]),
            class_names=tuple(map(str, about["class_names"])),
            parts=tuple(map(str, about["parts"])),
            sizes=tuple((int(h), int(w)) for h, w in about["sizes"]),
            images=tuple(pictures),
            grid=PointGrid.from_shapes(shapes, tuple(grid["strides"]), float(grid["offset"])),
            **{name: arrays[name] for name in AXES},
        )


_HINTS = get_type_hints(Recording, include_extras=True)
AXES: dict[str, str] = {k: hint.__metadata__[0] for k, hint in _HINTS.items() if get_origin(hint) is Annotated}


class Recorder:
    """Records a training run: ``dsla.train(recipe, data, on_step=recorder)``, then `recording()`.

    It runs the detector in evaluation mode on the probe images and puts everything back: the run's weights stay
    the same bit for bit. Frames lie at steps that grow by a factor, dense at the start, where most happens: 39 frames
    for 400 steps, 63 for 4000; and at the last step.

    Args:
        dataset: where the probe images come from.  probes: their indices.
        every: a frame at each n-th step instead.
        growth: of the step from frame to frame.
        keep: detections of an image that are kept.
    Raises:
        DataError: no probe image; when it is called, a model of other classes.
        ValueError: growth or every that never come to an end.

    Attributes:
        seconds: of CPU time spent in here so far.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        probes: Sequence[int] = (0, 1, 2),
        *,
        every: int | None = None,
        growth: float = 1.1,
        keep: int = 20,
    ) -> None:
        if not len(probes):
            raise DataError("a recorder needs at least one probe image")
        if growth <= 1 or (every is not None and every < 1):
            raise ValueError(f"growth must exceed 1 and every be at least 1, got {growth}, {every}")
        self.every, self.growth, self.keep, self.seconds = every, growth, keep, 0.0
        self._dataset = dataset
        self.images, self.targets = zip(*(dataset[i] for i in probes), strict=True)
        self.targets = tuple(map(apart, self.targets))
        self._next = 1 if every is None else every
        self._frames: list[dict[str, Any]] = []
        self._losses: list[tuple[int, list[float]]] = []
        self._about: dict[str, Any] = {}
        self._last: tuple[int, Any] = (0, None)

    def __call__(self, step: int, model: Any, losses: Mapping[str, float]) -> None:
        began = time.process_time()
        self._about.setdefault("parts", tuple(losses))
        self._losses.append((step, list(losses.values())))
        if step >= self._next:
            self._next = step + self.every if self.every else max(step + 2, math.ceil(step * self.growth))
            self._frames.append({"steps": step, **self._look(model)})
        self._last = step, model
        self.seconds += time.process_time() - began

    def _look(self, model: Any) -> dict[str, Any]:
        if not self._frames:
            check_classes(model, self._dataset)
        device = next(model.parameters()).device
        self.images = tuple(image.to(device) for image in self.images)
        originals = sizes(self.images)
        with evaluation_mode(model):
            raw = model.forward_raw(self.images, self.targets)
            a, outputs = model.assign(raw), raw.outputs
            scores = model.postprocess.scores(outputs)
            candidates = model.postprocess.candidates(outputs, raw.image_sizes, originals)
            detections = [model.postprocess.suppress(one) for one in candidates]
            iou, taught = a.iou(outputs.boxes), a.target(outputs.boxes)
            of_class = scores.gather(-1, a.category.clamp(min=0)[..., None])[..., 0]
            score = torch.where(a.positive, of_class, scores.amax(-1))
            values, own_box = [], []
            for k, target in enumerate(self.targets):
                objects = torch.arange(len(target["boxes"]), device=device)[:, None]
                best, point = a.label[k].where(a.gt_index[k] == objects, -1).max(1)  # [M]
                lost = best[:, None] < 0
                rows = torch.stack([v[k, point] for v in (a.label, iou, taught, score)], 1)  # [M,4]
                values.append(rows.where(~lost, torch.nan))
                boxes = scaled(outputs.boxes[k, point], raw.image_sizes[k], originals[k])
                own_box.append(boxes.where(~lost, torch.nan))
        self._about |= {"grid": outputs.grid, "sizes": tuple(raw.image_sizes), "class_names": tuple(model.class_names)}
        self._about["name"] = getattr(model.recipe, "name", type(model).__name__)
        frame = {
            "taught": ((taught.clamp(0, 1) * 254 + 1.5) * a.positive).to(torch.uint8).cpu().numpy(),
            "score": (score.clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy(),
            "own": torch.cat(values).half().cpu().numpy(),
            "own_box": _sixteenths(torch.cat(own_box)),
        }
        return frame | self._kept(detections)

    def _kept(self, detections: Sequence[Mapping[str, Tensor]]) -> dict[str, np.ndarray]:
        """The best detections of each image, in arrays of one length."""
        shape = (len(detections), self.keep)
        boxes, label = np.zeros((*shape, 4), np.float32), np.zeros(shape, np.uint16)
        score = np.zeros(shape, np.uint8)
        for k, one in enumerate(detections):
            n = min(self.keep, len(one["scores"]))
            boxes[k, :n] = _sixteenths(one["boxes"][:n])
            label[k, :n] = one["labels"][:n].cpu().numpy()
            score[k, :n] = (one["scores"][:n].clamp(1 / 255, 1) * 255 + 0.5).cpu().numpy()
        return {"boxes": boxes, "box_score": score, "box_label": label}

    def recording(self) -> Recording:
        """What was recorded so far, and a frame of the last step, if it has none yet.

        Raises:
            DataError: no frame yet.
        """
        if not self._frames:
            raise DataError("nothing recorded: pass the recorder as on_step to dsla.train, and let it take a step")
        step, model = self._last
        if step > self._frames[-1]["steps"]:
            self._frames.append({"steps": step, **self._look(model)})
        frames: dict[str, Any] = {k: np.stack([f[k] for f in self._frames]) for k in self._frames[0]}
        steps, values = zip(*self._losses, strict=True)
        windows = np.arange(len(steps)) // math.ceil(len(steps) / CURVE)
        boxes = [t["boxes"].cpu().numpy().astype(np.float32).reshape(-1, 4) for t in self.targets]
        pictures = [as_bytes(i.cpu()).permute(1, 2, 0).numpy() for i in self.images]
        return Recording(
            images=tuple(pictures),
            objects=np.concatenate(boxes),
            labels=np.concatenate([t["labels"].cpu().numpy() for t in self.targets]),
            image=np.repeat(np.arange(len(boxes)), [len(b) for b in boxes]),
            loss_steps=pd.Series(steps).groupby(windows).last().to_numpy(),
            losses=pd.DataFrame(values, dtype=np.float32).groupby(windows).mean().to_numpy(np.float32),
            **self._about,
            **frames,
        )


def _sixteenths(boxes: Tensor) -> np.ndarray:
    """Pixels as float32, rounded so that they pack well; half precision knows whole pixels only from 1,024 on."""
    return (boxes.float().cpu() * 16).round().div(16).numpy()
