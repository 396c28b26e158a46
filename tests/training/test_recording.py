"""Recording a run changes nothing of it, and what is recorded is what the detector says at that step."""

import json
import re

import numpy as np
import pytest
import torch

import dsla
from dsla.errors import DataError
from dsla.losses import dynamic_target
from dsla.training.recorder import SHIPPED, Recorder, Recording, _sixteenths

SMALL = dsla.recipe("scenes-dsla").replace(steps=6, batch_size=2, channels=8, head_convs=1, groups=4, warmup_steps=2)
SCENES = dsla.Scenes("train", size=8)
PROBES = dsla.Scenes("test", size=12)


def trained(recorder=None, recipe=SMALL, **options):
    return dsla.train(recipe, SCENES, seed=3, device="cpu", progress=False, on_step=recorder, **options)


@pytest.fixture(scope="module")
def run():
    """(recorder, recording, trained model)"""
    recorder = Recorder(PROBES, (11, 2), every=2)
    result = trained(recorder)
    return recorder, recorder.recording(), result.model


def test_weights_and_log_are_the_same_bit_for_bit(run):
    recorder, _, model = run
    plain = trained()
    assert recorder.seconds > 0
    for (name, a), b in zip(model.state_dict().items(), plain.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name  # running means of the norms among them


def test_a_frame_is_what_the_detector_says_after_that_step(run):
    _, recording, model = run
    assert recording.steps.tolist() == [2, 4, 6]
    images, targets = zip(*(PROBES[i] for i in (11, 2)), strict=True)
    with torch.inference_mode():
        raw = model.eval().forward_raw(list(images), list(targets))
        a, outputs = model.assign(raw), raw.outputs
        detections = model(list(images))
    assert recording.grid.shapes == outputs.grid.shapes
    positive = (a.gt_index >= 0).numpy()
    taught = dynamic_target(a.label, a.iou(outputs.boxes)).numpy()
    last = recording.taught[-1]
    assert ((last > 0) == positive).all()
    assert positive.any(axis=1).all()
    assert np.abs((last[positive] - 1.0) / 254 - taught[positive]).max() <= 0.5 / 254 + 1e-6
    scores = outputs.logits.sigmoid().numpy()
    class_score = np.take_along_axis(scores, a.category.clamp(min=0).numpy()[..., None], 2)[..., 0]
    wanted = np.where(positive, class_score, scores.max(-1))
    assert np.abs(recording.score[-1] / 255 - wanted).max() <= 0.5 / 255 + 1e-6
    for k, one in enumerate(detections):
        n = min(20, len(one["scores"]))
        assert (recording.box_score[-1, k] > 0).sum() == n
        assert np.allclose(recording.boxes[-1, k, :n], one["boxes"][:n], atol=0.07)
        assert (recording.box_label[-1, k, :n] == one["labels"][:n].numpy()).all()
    objects = [len(t["boxes"]) for t in targets]
    assert recording.image.tolist() == [0] * objects[0] + [1] * objects[1]
    assert recording.labels.tolist() == [int(c) for t in targets for c in t["labels"]]
    point = int(torch.where(a.gt_index[0] == 0, a.label[0], -1).argmax())
    assert recording.own[-1, 0, 0] == pytest.approx(float(a.label[0, point]), abs=1e-3)
    assert recording.own[-1, 0, 2] == pytest.approx(taught[0, point], abs=1e-3)
    assert recording.own[-1, 0, 3] == pytest.approx(class_score[0, point], abs=1e-3)
    assert np.allclose(recording.own_box[-1, 0], outputs.boxes[0, point], atol=0.07)


@pytest.mark.robustness("wrong: torchvision's iscrowd is no object of a recording, as of training")
def test_iscrowd_is_no_object(run):
    class Flagged(dsla.Scenes):
        def load(self, i):
            image, target = super().load(i)
            boxes = torch.cat([torch.tensor([[0.0, 0.0, 9.0, 9.0]]), target["boxes"]])
            labels = torch.cat([target["labels"][:1], target["labels"]])
            return image, {"boxes": boxes, "labels": labels, "iscrowd": torch.arange(len(boxes)) == 0}

    recorder = Recorder(Flagged("test", size=12), (11, 2), every=2)
    recorder(2, run[2], {"loss": 0.0})
    flagged = recorder.recording()
    assert np.array_equal(flagged.objects, run[1].objects)
    assert np.array_equal(flagged.own[-1], run[1].own[-1], equal_nan=True)


def test_the_loss_curve_is_the_runs(run):
    _, recording, _ = run
    log = trained(log_every=1).log
    assert recording.loss_steps.tolist() == [1, 2, 3, 4, 5, 6]
    at = recording.parts.index("loss")
    assert recording.losses.dtype == np.float32
    assert recording.losses[:, at] == pytest.approx([r["loss"] for r in log if "loss" in r], abs=1e-5)


def test_it_comes_back_from_a_small_file_without_pickle(run, tmp_path):
    _, recording, _ = run
    path = recording.save(tmp_path / "deep" / "run.npz")
    back = Recording.load(path)
    assert path.stat().st_size < 60_000
    with np.load(path, allow_pickle=False) as file:
        assert json.loads(str(file["about"]))["name"] == "scenes-dsla"
        assert all(file[name].dtype.kind != "O" for name in file.files)
    for name in ("steps", "loss_steps", "losses", "taught", "score", "boxes", "box_score", "own", "own_box", "objects"):
        assert np.array_equal(getattr(back, name), getattr(recording, name), equal_nan=True), name
    assert (back.name, back.class_names, back.parts, back.sizes) == (
        recording.name, recording.class_names, recording.parts, recording.sizes,
    )  # fmt: skip
    assert back.grid.shapes == recording.grid.shapes
    assert (back.grid.strides, back.grid.offset) == (recording.grid.strides, recording.grid.offset)
    assert torch.equal(back.grid.xy, recording.grid.xy)
    assert [i.shape for i in back.images] == [i.shape for i in recording.images]
    assert np.abs(back.images[0].astype(int) - recording.images[0]).mean() < 8  # JPEG


class Silent:
    """Counts instead of looking."""

    def __init__(self, **options):
        self.recorder = Recorder(PROBES, (0,), **options)
        self.recorder._look = lambda model: {}

    def steps(self, total):
        for step in range(1, total + 1):
            self.recorder(step, None, {"loss": 1.0})
        return [int(f["steps"]) for f in self.recorder._frames]


def test_frames_grow_apart_or_keep_their_distance():
    steps = Silent().steps(400)
    assert steps[:13] == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 24, 27]
    assert len(steps) == 39
    assert len(Silent().steps(4000)) == 63
    assert Silent(growth=2).steps(40) == [1, 3, 6, 12, 24]
    assert Silent(every=10).steps(35) == [10, 20, 30]
    long = Silent(every=500)
    long.steps(2500)
    assert long.recorder._losses[-1] == (2500, [1.0])


def test_the_last_step_has_a_frame_once():
    recorder = Recorder(PROBES, (11,), every=4)
    trained(recorder)
    assert [f["steps"] for f in recorder._frames] == [4]
    for _ in range(2):
        assert recorder.recording().steps.tolist() == [4, 6]


def test_long_loss_curves_become_means(run):
    recorder = Recorder(PROBES, (0,), every=10_000)
    for step in range(1, 2501):
        recorder(step, None, {"loss": float(step)})
    source = run[0]
    recorder._frames, recorder._about = source._frames, {**source._about, "parts": ("loss",)}
    recorder._last = source._last
    recording = recorder.recording()
    assert len(recording.loss_steps) == 834  # windows of three
    assert recording.loss_steps[:2].tolist() == [3, 6]
    assert recording.losses[:2, 0].tolist() == [2, 5]
    assert recording.loss_steps[-1] == 2500
    assert recording.losses[-1, 0] == 2500


def test_what_cannot_be_recorded_is_refused(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="at least one probe"):
        Recorder(PROBES, ())
    with pytest.raises(ValueError, match="growth must exceed 1"):
        Recorder(PROBES, growth=1.0)
    with pytest.raises(DataError, match="nothing recorded"):
        Recorder(PROBES).recording()
    with pytest.raises(DataError, match="the model knows the classes a, b, but scenes-test has disc, box"):
        Recorder(PROBES)(1, dsla.build(SMALL, class_names=["a", "b"]), {})
    path = tmp_path / "no.npz"
    with pytest.raises(DataError, match=rf"{re.escape(str(tmp_path))}.no\.npz: no such file"):
        Recording.load(path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=re.escape(str(tmp_path))):  # the full path that was tried
        Recording.load("no.npz")
    path.write_bytes(b"PK nothing")
    with pytest.raises(DataError, match=r"no\.npz is no recording"):
        Recording.load(path)
    np.savez(path, about=np.array(json.dumps({"format": "other"})))
    with pytest.raises(DataError, match="another format"):
        Recording.load(path)


def test_boxes_of_large_images_keep_their_sixteenths_and_none_becomes_infinite():
    boxes = _sixteenths(torch.tensor([[1333.0625, 2047.9, 1e6, -3.031]]))
    assert boxes.dtype == np.float32
    assert boxes.tolist() == [[1333.0625, 2047.875, 1e6, -3.0]]


@pytest.mark.parametrize("name", SHIPPED)
def test_those_that_ship_are_small_and_show_labels_grow(name):
    assert SHIPPED[name].stat().st_size <= 100_000
    recording = Recording.load(name)
    assert 40 <= len(recording) <= 80
    assert recording.steps[0] == 1
    label, iou, taught, score = np.nanmean(recording.own.astype(float), axis=1).T
    assert np.allclose(label, label[0], atol=1e-3)  # the static label does not move
    assert taught[-5:].mean() > 1.3 * taught[:5].mean()
    assert score[-5:].mean() > 5 * score[:5].mean()
    assert iou[-5:].mean() > 0.6
    loss = recording.losses[:, recording.parts.index("loss")]
    assert loss[-50:].mean() < 0.7 * loss[:50].mean()
