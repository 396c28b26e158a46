"""Files that nobody would write: each is read, or refused in one message; never a traceback of something else.

Valid files are spoilt: values of their JSON are replaced, removed and repeated, bytes are turned, cut and inserted.
By default a few hundred of them; ``DSLA_FUZZ_MINUTES=60 pytest tests/test_fuzz.py`` hunts for an hour. What was caught
so stands in `CAUGHT` or beside the reader's other tests.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import os
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dsla.analysis import errors, ranking
from dsla.coco.detections import Results
from dsla.coco.evaluation import evaluate_detections
from dsla.coco.ground_truth import GroundTruth
from dsla.data import CocoDataset
from dsla.data.check import check
from dsla.data.pictures import load_pixels
from dsla.errors import DataError, DataWarning
from dsla.files import read_lines
from dsla.models import build, load, save
from dsla.models.build import outline
from dsla.models.checkpoint import convert
from dsla.models.weights import content_hash, read_checkpoint
from dsla.recipes import RECIPES, recipe
from dsla.recipes.recipe import Recipe
from dsla.training.folder import resume_from
from dsla.training.recorder import Recording

MINUTES = float(os.environ.get("DSLA_FUZZ_MINUTES", 0))
TESTS = 9  # that share the minutes
pytestmark = pytest.mark.filterwarnings("ignore::dsla.errors.DataWarning")

NASTY = st.one_of(
    st.sampled_from(
        [
            *[None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63) - 1, 10**400, 0.5, -0.0, 1e-320, 1e308, 1e39],
            *[float("nan"), float("inf"), -float("inf"), "", "1", "a", "../x", "\x1b[2J", "\ud800", "9" * 5000],
            *[[], {}, [[]], [1], [1, 2, 3, 4], [1e308] * 4, [None] * 4, ["1", "2", "3", "4"], [[1, 2, 3, 4]], {"a": 1}],
            *[{"size": [9, 9], "counts": [81]}, {"size": [-1, 9], "counts": "x"}, [[0, 0, 9]], [[0, 0, 9, 0, 9, 9]]],
        ]
    ),
    st.floats(-50, 500),
    st.integers(-5, 200),
)


def places(value, path=()):
    """The ways to all values inside JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


@st.composite
def spoilt(draw, valid):
    """A few changes inside a JSON value."""
    value = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 4))):
        ways = list(places(value))
        if not ways:
            break
        *way, last = draw(st.sampled_from(ways))
        inside = value
        for key in way:
            inside = inside[key]
        kind = draw(st.sampled_from(["replace", "replace", "remove", "repeat"]))
        if kind == "replace":
            inside[last] = copy.deepcopy(draw(NASTY))  # the next change may be inside it
        elif kind == "remove":
            del inside[last]
        elif isinstance(inside, list):
            inside.insert(last, copy.deepcopy(inside[last]))
        else:
            inside[f"{last} "] = inside[last]
    return value


@st.composite
def turned(draw, data, ends=200):
    """A few changes of bytes, more often near the ends, where headers lie."""
    value = bytearray(data)
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.one_of(st.integers(0, len(value)), st.integers(0, ends), st.integers(-ends, -1)))
        kind = draw(st.sampled_from(["turn", "turn", "cut", "insert", "double"]))
        if kind == "turn" and value:
            value[at % len(value)] ^= draw(st.integers(1, 255))
        elif kind == "cut":
            del value[at : at + draw(st.integers(1, 50))]
        elif kind == "insert":
            value[at:at] = draw(st.binary(min_size=1, max_size=8))
        else:
            value += value[at : at + 300]
    return bytes(value)


def hunt(test):
    """Runs a property with few cases that are always the same, or with new ones for its share of the minutes."""
    quiet = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
    if not MINUTES:
        return settings(max_examples=60, derandomize=True, **quiet)(test)()
    end, again = time.monotonic() + MINUTES * 60 / TESTS, settings(max_examples=200, **quiet)(test)
    while time.monotonic() < end:
        again()
    return None


def settled(call):
    """What the call gives, None where it refuses with a message of its own."""
    try:
        return call()
    except DataError:
        return None


TRUTH = {
    "info": {},
    "images": [{"id": i, "file_name": f"{i}.png", "width": 100, "height": 80} for i in (1, 2)],
    "categories": [{"id": 3, "name": "a"}, {"id": 9, "name": "b"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 30, 40], "area": 1200, "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 9, "bbox": [5.5, 6, 7, 8], "ignore": 0},
        {"id": 3, "image_id": 2, "category_id": 9, "segmentation": [[1, 1, 9, 1, 9, 9]], "iscrowd": 1},
    ],
}
ROWS = [
    {"image_id": 1, "category_id": 3, "bbox": [1, 2, 30, 41], "score": 0.9, "file_name": "1.png"},
    {"image_id": 1, "category_id": 9, "bbox": [5, 6, 7, 8], "score": 0.9},
    {"image_id": 2, "category_id": 9, "bbox": [50, 60, 7, 8], "score": 0.1},
]


def use_truth(path: Path) -> None:
    (report,) = check([path])
    assert report.code in (0, 1, 2)
    assert str(report)
    truth = settled(lambda: GroundTruth.of(path))
    assert (truth is None) == bool(report.error)
    data = settled(lambda: CocoDataset(path.parent, path))
    for i in range(len(data or ())):
        target = data.target(i)
        assert target["boxes"].isfinite().all()
        assert (target["boxes"][:, 2:] > target["boxes"][:, :2]).all()
    if truth is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        again = GroundTruth.of(truth.to_coco())
    assert again.boxes.tolist() == truth.boxes.tolist()
    rows = [{"image_id": i, "category_id": c, "bbox": [1, 2, 30, 41], "score": 0.5}
            for i in truth.image_ids.tolist()[:1] for c in truth.category_ids.tolist()[:1]]  # fmt: skip
    use_results(rows, truth)


def use_results(source, truth) -> None:
    evaluation = settled(lambda: evaluate_detections(truth, source))
    if evaluation is None:
        return
    assert len(evaluation.to_series()) >= 12
    assert str(evaluation)
    results = Results.of(source, truth)
    for table in (ranking(results, truth), errors(results, truth)):
        table.summary()


@pytest.mark.slow
@pytest.mark.robustness("strangers: spoilt annotation files end in columns or one message")
def test_annotation_files(tmp_path):
    path = tmp_path / "t.json"

    @given(st.one_of(spoilt(TRUTH).map(json.dumps).map(str.encode), turned(json.dumps(TRUTH).encode())))
    def property(data):
        path.write_bytes(data)
        use_truth(path)

    hunt(property)


@pytest.mark.robustness("strangers: spoilt results files end in numbers or one message")
def test_results_files(tmp_path):
    path, truth = tmp_path / "r.json", GroundTruth.of(TRUTH)
    lines = "\n".join(map(json.dumps, ROWS)).encode()

    @given(
        st.one_of(
            spoilt(ROWS).map(json.dumps).map(str.encode), turned(json.dumps(ROWS).encode()), turned(lines),
            spoilt(ROWS).map(lambda v: "\n".join(map(json.dumps, v)).encode() if isinstance(v, list) else b""),
        )
    )  # fmt: skip
    def property(data):
        path.write_bytes(data)
        use_results(path, truth)

    hunt(property)


@pytest.mark.slow
@pytest.mark.robustness("strangers: spoilt recipes end in a recipe that can be built, or one message")
def test_recipes():
    names = st.sampled_from(sorted(RECIPES))
    fields = st.sampled_from([f.name for f in dataclasses.fields(Recipe)])
    typed = st.one_of(NASTY.map(str), st.text(max_size=5), st.sampled_from(["none", "1,2", "(1", "true", "1e300"]))

    @given(names.flatmap(lambda n: spoilt(RECIPES[n].to_dict())), names, st.dictionaries(fields, typed, max_size=2))
    def property(stored, name, changes):
        for made in (settled(lambda: Recipe.from_dict(stored)), settled(lambda: recipe(name, **changes))):
            if made is not None:
                assert Recipe.from_dict(json.loads(json.dumps(made.to_dict()))) == made
                settled(lambda: outline(made, 2))  # noqa: B023

    hunt(property)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small model and its file."""
    torch.manual_seed(0)
    model = build(recipe("scenes-dsla", channels=16, head_convs=1), num_classes=3)
    return model, save(model, tmp_path_factory.mktemp("tiny") / "m.safetensors").read_bytes()


@pytest.mark.robustness("strangers: spoilt weights files end in a model or one message")
def test_weights(tiny, tmp_path):
    data = tiny[1]
    path = tmp_path / "w.safetensors"
    size = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + size])

    about = {key: json.loads(text) for key, text in head["__metadata__"].items()}

    def with_head(header):
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + data[8 + size :]

    def with_about(values):
        texts = {k: json.dumps(v) for k, v in values.items()}
        return with_head({**head, "__metadata__": texts})

    @given(st.one_of(spoilt(about).map(with_about), spoilt(head).map(with_head), turned(data, 3000)))
    def property(content):
        path.write_bytes(content)
        settled(lambda: load(path))

    hunt(property)


def torch_bytes(value) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.robustness("strangers: spoilt checkpoints of other programs end in tensors or one message")
def test_checkpoints_of_other_programs(tiny, tmp_path):
    model, _ = tiny
    path = tmp_path / "c.pth"
    state = {k: v[:1] if v.ndim else v for k, v in list(model.state_dict().items())[:8]}
    valid = torch_bytes({"state_dict": state, "meta": {"CLASSES": ["a", "b"]}})
    tensors = [torch.zeros(2, 2).to_sparse(), torch.zeros(1).expand(10**9), torch.ones(3)]
    odd = st.one_of(NASTY, st.sampled_from(tensors))
    nested = st.recursive(
        st.dictionaries(st.sampled_from(["state_dict", "model", "meta", "module.a", *state]), odd, max_size=4),
        lambda inner: st.dictionaries(st.sampled_from(["state_dict", "model", "model_state_dict"]), inner, max_size=2),
        max_leaves=4,
    )

    @given(st.one_of(nested.map(torch_bytes), turned(valid, 600), NASTY.map(torch_bytes)))
    def property(content):
        path.write_bytes(content)
        settled(lambda: read_checkpoint(path))
        settled(lambda: convert(path))

    hunt(property)


class Part:
    """Something with a state, in place of model and optimiser."""

    def state_dict(self):
        return {"a": torch.arange(6.0), "n": 1}

    def load_state_dict(self, state):
        assert state["a"].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.robustness("strangers: spoilt checkpoints of a run end in the same state or one message")
def test_checkpoints_of_a_run(tmp_path):
    state = {"step": 3, "identity": {"seed": 0}, "order": 2, "window": {}, "since": 3, "part": Part().state_dict()}
    valid = torch_bytes(state)

    @given(turned(valid, 1500))
    def property(content):
        (tmp_path / "checkpoint.pt").write_bytes(content)
        start = settled(lambda: resume_from(tmp_path, {"seed": 0}, torch.device("cpu"), {"part": Part()}))
        assert start is None or (start.step, start.since) == (3, 3)

    hunt(property)


@pytest.mark.robustness("strangers: spoilt logs end in rows or one message")
def test_lines(tmp_path):
    lines = b"".join(json.dumps({"step": n, "loss": 0.5}).encode() + b"\n" for n in range(5))

    @given(turned(lines))
    def property(content):
        (tmp_path / "log.jsonl").write_bytes(content)
        settled(lambda: read_lines(tmp_path / "log.jsonl"))

    hunt(property)


@pytest.mark.robustness("strangers: spoilt recordings end in a recording or one message")
def test_recordings(tmp_path):
    recording = Recording.load()
    frames = ("steps", "taught", "score", "boxes", "box_score", "box_label", "own", "own_box")
    few = dataclasses.replace(recording, **{k: getattr(recording, k)[:2] for k in frames})
    valid = few.save(tmp_path / "few.npz").read_bytes()
    with np.load(tmp_path / "few.npz") as file:
        arrays = dict(file)
    about = json.loads(str(arrays.pop("about")))

    def packed(value):
        buffer = io.BytesIO()
        np.savez(buffer, about=np.array(json.dumps(value)), **arrays)
        return buffer.getvalue()

    @given(st.one_of(spoilt(about).map(packed), turned(valid, 1500)))
    def property(content):
        (tmp_path / "r.npz").write_bytes(content)
        settled(lambda: Recording.load(tmp_path / "r.npz"))

    hunt(property)


@pytest.mark.robustness("strangers: spoilt images end in pixels or one message")
def test_images(tmp_path):
    valid = []
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        buffer = io.BytesIO()
        Image.effect_noise((23, 17), 60).convert("RGB").save(buffer, kind)
        valid.append(buffer.getvalue())

    @given(st.sampled_from(valid).flatmap(turned))
    def property(content):
        (tmp_path / "image").write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own
            pixels = settled(lambda: load_pixels(tmp_path / "image"))
        assert pixels is None or pixels.shape[0] == 3

    hunt(property)


def test_the_hash_of_tensors_is_that_of_their_values(tiny):
    """Else the tests above would not meet what comes after it."""
    state = tiny[0].state_dict()
    assert content_hash(state) == content_hash({k: v.clone() for k, v in state.items()})


CAUGHT = {  # by the hunts: part of a file → what stands in its place
    "Latin-1": ('"1.png"', b'"\xe4.png"', "not UTF-8"),
    "half a pair": ('"1.png"', b'"\\ud800"', None),
    "a polygon beyond a float": ("[[1, 1, 9, 1, 9, 9]]", b"[[1" + b"0" * 400 + b", 1, 9, 9]]", None),
    "a box whose area is beyond a float": ("[1, 2, 30, 40]", b"[1e308, 1e308, 1e308, 1e308]", None),
}


@pytest.mark.parametrize("name", CAUGHT)
@pytest.mark.robustness("strangers: what hunts caught in annotation files stays caught")
def test_caught(tmp_path, name):
    part, instead, message = CAUGHT[name]
    path = tmp_path / "t.json"
    path.write_bytes(json.dumps(TRUTH).encode().replace(part.encode(), instead))
    use_truth(path)
    if message:
        with pytest.raises(DataError, match=message):
            GroundTruth.of(path)
    else:
        assert len(GroundTruth.of(path)) == 2


@pytest.mark.robustness("strangers: numbers beyond a float or an integer in scores, sizes and recipes are one message")
def test_caught_numbers(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        truth = GroundTruth.of(TRUTH, warn=False)
        for score in (2**39, -(2**39)):
            results = Results.of([{**ROWS[0], "score": score}, *ROWS[1:]], truth, warn=False)
            assert ranking(results, truth).summary()["reliability_gap"] >= 0
        for score in (2**63, 1e308, -1e308):
            with pytest.raises(DataError, match=r"detection 0 .*score"):
                Results.of([{**ROWS[0], "score": score}], truth)
        huge = [{**TRUTH["images"][0], "width": 1e308, "height": 1e308}, TRUTH["images"][1]]
        with pytest.raises(DataError, match=r"image 1 \(1\.png\): 1e\+308x1e\+308"):
            GroundTruth.of({**TRUTH, "images": huge})
    stored = {**RECIPES["scenes-dsla"].to_dict(), "ranges": [[0, 32], [32, 64], [64, 10**400]]}
    with pytest.raises(DataError, match=r"ranges=.*a finite number is needed"):
        Recipe.from_dict(stored)


@pytest.mark.robustness("strangers: results with boxes beyond any image, or text that is none, are one message")
def test_caught_in_results(tmp_path):
    for row in ({**ROWS[0], "bbox": [1e308] * 4}, {**ROWS[0], "bbox": "\ud800"}, "\ud800"):
        (tmp_path / "r.json").write_text(json.dumps([ROWS[1], row]))
        with pytest.raises(DataError, match="detection 1 "):
            Results.of(tmp_path / "r.json", GroundTruth.of(TRUTH))
