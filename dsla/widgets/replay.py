"""`TrainingReplay`: the dynamic label at work: labels, scores and boxes of a recorded run grow together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ipywidgets as w
import numpy as np
import pandas as pd
import torch
import traitlets as t

from ..errors import unknown
from ..geometry import Frame
from ..plots import draw
from ..plots.style import Picture, drawing
from ..training.recorder import SHIPPED, Recorder, Recording
from .pane import Pane
from .surface import BACKDROP, Sheet, encoded, script

# One an object, by its number in the image; none is a method's, and each stands out from a photograph and from paper.
OBJECTS = ["#e8590c", "#1c7ed6", "#d6336c", "#2f9e44", "#9c36b5", "#b8860b", "#0c8599", "#862e2e"]
OWN = ["label", "iou", "taught", "score"]


class ReplaySurface(Sheet):
    """A recorded run; all of it is in the browser, where moving through it asks nobody.

    Attributes:
        film: the recording as `film_of` gives it.
        index: of the frame shown.  image: which of its images.
    """

    _esm = script("replay.js")
    film: "t.Dict[str, Any]" = t.Dict().tag(sync=True)
    index = t.Int(0).tag(sync=True)
    image = t.Int(0).tag(sync=True)


class TrainingReplay(Pane):
    """One slider through the steps of a training run: what each point was taught, what it said, and the boxes.

    For each object the box is drawn that its point of highest static label predicts. As that box fits better, the IoU
    raises the dynamic label, and the score follows what it is taught.

    Args:
        recording: a `dsla.recording.Recording` or its file, or a `Recorder`; or several by name, to choose from; None
            for those that ship, of a run that starts with plausible boxes and of one whose first boxes fit nothing.
    Raises:
        DataError: a file that is no recording, or a recorder that has seen no step.

    Attributes:
        recordings: name → recording.  recording: what is shown.
        controls: recording (shown where there are several), play, frame and image.
    """

    def __init__(self, recording: Any = None) -> None:
        super().__init__(ReplaySurface())
        given = SHIPPED if recording is None else recording
        given = given if isinstance(given, Mapping) else {"recording": given}
        self.recordings = {str(name): _recording(value) for name, value in given.items()}
        several = None if len(given) > 1 else "none"
        self.bar(
            recording=(
                w.Dropdown(options=list(self.recordings), layout=w.Layout(width="150px", display=several)),
                lambda change: self.choose(change["new"]),
            ),
            play=(w.Play(interval=200), None),
            frame=(w.IntSlider(readout=False, layout=w.Layout(width="520px")), None),
            image=(w.Dropdown(layout=w.Layout(width="150px")), None),
        )
        self.choose(next(iter(self.recordings)))
        ends = [("play", "value", "index"), ("frame", "value", "index"), ("image", "index", "image")]
        for name, trait, to in ends:  # in the browser, so that no kernel is between the slider and the pixels
            self.keep(w.jslink((self.surface, to), (self.controls[name], trait)))

    def choose(self, name: str) -> None:
        """Shows another of the recordings, its last frame.

        Raises:
            DataError: there is none of this name.
        """
        if name not in self.recordings:
            raise unknown("recording", name, self.recordings)
        self.recording = r = self.recordings[name]
        self.controls["image"].options = [(f"image {k + 1} of {len(r.images)}", k) for k in range(len(r.images))]
        self.controls["play"].max = self.controls["frame"].max = len(r) - 1
        self.controls["recording"].value = name
        with self.surface.hold_sync():
            self.surface.names, self.surface.film = list(r.class_names), film_of(r)
            self.show(-1, 0)

    def show(self, frame: int | None = None, image: int | None = None) -> None:
        """Moves to a frame (negative: from the end) and an image, as the controls do."""
        if frame is not None:
            index = range(len(self.recording))[frame]
            self.surface.index = self.controls["play"].value = self.controls["frame"].value = index
        if image is not None:
            self.surface.image = self.controls["image"].value = range(len(self.recording.images))[image]

    def table(self) -> pd.DataFrame:
        """One row a frame and object: step, image, object, name, label, iou, taught, score of its best point."""
        r = self.recording
        names = [draw.name_of(label, r.class_names) for label in r.labels]
        objects = pd.DataFrame({"image": r.image, "object": range(len(names)), "name": names})
        best = pd.DataFrame(r.own.reshape(-1, 4).astype(float), columns=OWN)
        return pd.DataFrame({"step": r.steps}).merge(objects, how="cross").join(best)

    def static(self) -> Picture:
        """Four moments of the image shown: the boxes, what was taught, and the scores, on the busiest level."""
        r, k = self.recording, self.surface.image
        moments = sorted({round(i) for i in np.linspace(0, len(r) - 1, 4)})
        frame = Frame(r.images[k].shape[:2], r.sizes[k], r.sizes[k])
        taught, score = (r.grid.split(torch.tensor(v[:, k])) for v in (r.taught, r.score))
        level = int(np.argmax([int((part > 0).sum()) for part in taught]))
        s, mine = r.grid.strides[level], np.flatnonzero(r.image == k)
        colour, dim = draw.backdrop(r.images[k].astype(np.float32) / 255, 400)
        with drawing(5.7) as figure:
            axes = figure.subplots(3, len(moments), squeeze=False)
            for column, f in zip(axes.T, moments, strict=True):
                for ax, pixels in zip(column, (colour, dim, dim), strict=True):
                    draw.show_image(ax, pixels, frame.size)
                for n, m in enumerate(mine):
                    look = OBJECTS[n % len(OBJECTS)]
                    for ax in column:
                        draw.show_boxes(ax, frame.boxes(torch.tensor(r.objects[m])), look, 1.1, (0, (2, 2)))
                    if np.isfinite(r.own_box[f, m]).all():
                        draw.show_boxes(column[0], frame.boxes(torch.tensor(r.own_box[f, m])), look, 1.5)
                learns, scores = taught[level][f], score[level][f]
                draw.show_labels(column[1], r.grid, level, (learns.float() - 1) / 254, learns > 0)
                draw.show_labels(column[2], r.grid, level, scores / 255, scores >= 8)
                for ax in column:
                    ax.set(xlim=(0, frame.size[1]), ylim=(frame.size[0], 0))
                column[0].set_title(f"step {r.steps[f]}")
            for ax, text in zip(axes[:, 0], ("boxes", f"taught, stride {s}", f"score, stride {s}"), strict=True):
                ax.set_ylabel(text)
        figure.caption = (
            f"{r.name}: objects (dashed) and the boxes that their best points predict; the dynamic labels of the "
            "points that learn; the scores, from 0.03. Labels and scores on one scale."
        )
        return figure


def _recording(source: Recording | Recorder | str | Path) -> Recording:
    if isinstance(source, Recorder):
        return source.recording()
    return source if isinstance(source, Recording) else Recording.load(source)


def film_of(recording: Recording) -> dict[str, Any]:
    """What the browser needs: plain numbers, and arrays as bytes (float32, or uint8 as recorded)."""
    r, images = recording, []
    for k, (pixels, (h, w_)) in enumerate(zip(r.images, r.sizes, strict=True)):
        objects = [
            {"row": m, "box": r.objects[m].tolist(), "name": draw.name_of(r.labels[m], r.class_names)}
            for m in np.flatnonzero(r.image == k).tolist()
        ]
        colour, dim = map(encoded, draw.backdrop(pixels.astype(np.float32) / 255, BACKDROP))
        height, width = pixels.shape[:2]
        place = {"size": [height, width], "scale": [width / w_, height / h], "objects": objects}
        images.append({"photo": colour, "dim": dim, **place})
    parts = [i for i, part in enumerate(r.parts) if part.startswith("loss_")] or list(range(len(r.parts)))
    floats = {"boxes": r.boxes, "own": r.own, "own_box": r.own_box, "losses": r.losses[:, parts]}
    arrays = {name: np.asarray(values, dtype=np.float32) for name, values in floats.items()}
    arrays |= {"taught": r.taught, "score": r.score, "box_score": r.box_score}
    return {
        "name": r.name,
        "images": images,
        "steps": r.steps.tolist(),
        "shapes": [list(s) for s in r.grid.shapes],
        "strides": list(r.grid.strides),
        "offset": r.grid.offset,
        "points": len(r.grid),
        "kept": int(r.boxes.shape[2]),
        "rows": len(r.labels),
        "parts": [r.parts[i].removeprefix("loss_") for i in parts],
        "loss_steps": r.loss_steps.tolist(),
        "colours": OBJECTS,
        **{name: values.tobytes() for name, values in arrays.items()},
    }
