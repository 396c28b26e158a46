"""`widgets/labels.js` says what the assigners say: random scenes in node and in Python, point by point."""

import json
import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from dsla import PointGrid
from dsla.assigners import ATSS, DSLA, FCOS, FoveaBox, MaxIoU, jittered_predictions
from dsla.assigners.jitter import steps

METHODS = {"fcos": FCOS, "dsla": DSLA, "fovea": FoveaBox, "fovea-dsla": FoveaBox, "max-iou": MaxIoU, "atss": ATSS}
EXACT = ("fcos", "dsla", "fovea", "fovea-dsla")
STRIDES = [(8, 16, 32, 64, 128), (8, 16, 32), (4, 8, 16, 32, 64), (16,), (3, 7)]
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed (apt-get install nodejs)")


def node(script: str, scenes: list) -> list:
    """What a script of this folder answers to scenes, in one process."""
    path = Path(__file__).with_name(script)
    done = subprocess.run([NODE, path], input=json.dumps(scenes), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def boxes_of(r: random.Random, height: int, width: int, strides: tuple) -> list[list[float]]:
    """Ordinary boxes, tiny, huge, thin, on the grid, outside the image, equal ones, of equal size, empty ones."""
    boxes: list[list[float]] = []
    for _ in range(r.choice([0, 1, 1, 2, 3, 5, 8, 20])):
        kind = r.random()
        x, y = r.uniform(0, width), r.uniform(0, height)
        if kind < 0.1 and boxes:  # the same again, or moved by a cell
            step = r.choice([0, strides[0], strides[-1], 1])
            boxes.append([v + step for v in r.choice(boxes)])
            continue
        if kind < 0.2:
            w, h = r.uniform(0, 4), r.uniform(0, 4)
        elif kind < 0.3:
            w, h = r.uniform(0.5, 3) * width, r.uniform(0.5, 3) * height
        elif kind < 0.4:
            w, h = r.choice([(r.uniform(0, 3), height), (width, r.uniform(0, 3))])
        elif kind < 0.7:  # on whole cells, halves and quarters: many ties
            unit = r.choice([strides[0], strides[0] / 2, strides[-1], 0.25])
            x, y = (round(v / unit) * unit for v in (x, y))
            w, h = (r.randint(0, max(2, int(s / unit))) * unit for s in (width, height))
        else:
            w, h = np.exp(r.uniform(0, 6.5)), np.exp(r.uniform(0, 6.5))
        if kind > 0.93:
            x, y = r.choice([(-w / 2, y), (x, height - h / 4), (width + 5, y), (-1e4, -1e4)])
        boxes.append([float(v) for v in np.float32([x, y, x + w, y + h])])
    return boxes


def scene(seed: int) -> dict:
    """One image and one assigner with any options."""
    r = random.Random(seed)
    strides = r.choice(STRIDES)
    height, width = r.choice([(r.randint(1, 40), r.randint(1, 40)), (r.randint(40, 300), r.randint(40, 400))])
    if r.random() < 0.05:
        height, width = 800, 1344
    ends = sorted(r.sample(range(2, 900), len(strides) - 1))
    ranges = r.choice([None, [*zip([0, *ends], [*ends, 1e8], strict=True)]])
    if ranges is None:
        ranges = [*zip([0, *(8 * s for s in strides[:-1])], [*(8 * s for s in strides[:-1]), 1e8], strict=True)]
    if r.random() < 0.2:
        ranges = [(low * 0.77, high * 1.033) for low, high in ranges]
    name = list(METHODS)[seed % len(METHODS)]
    radius = r.choice([None, None, 1.5, 0.5, 2.2, r.uniform(0.1, 4)])
    options = {
        "fcos": lambda: {"regress_ranges": ranges, "center_sampling": radius},
        "dsla": lambda: {
            "regress_ranges": ranges,
            "relaxation": r.choice([0.2, 0, None, 0.1, 0.45, 0.95, r.random() * 0.99]),
            "truncate": r.random() < 0.5,
            "core_zone": r.random() < 0.6,
            "center_sampling": radius,
        },
        "fovea": lambda: {
            "scale_ranges": [(low / 2, high) for low, high in ranges],
            "sigma": r.choice([0.4, 0.2, 1, r.uniform(0.01, 1)]),
            "smooth": name == "fovea-dsla",
            "relaxation": r.choice([0.2, 0, r.random() * 0.9]),
        },
        "max-iou": lambda: {
            "positive": r.choice([0.5, 0.7, r.uniform(0.1, 1)]),
            "negative": 0.1,
            "low_quality": r.random() < 0.7,
            "anchor_scale": r.choice([8, 4, 1.7]),
        },
        "atss": lambda: {"topk": r.choice([9, 1, 4, 15, 40]), "anchor_scale": r.choice([8, 8, 4, 2.3])},
    }
    made = options["fovea" if name == "fovea-dsla" else name]()
    boxes = boxes_of(r, height, width, strides)
    shapes = [list(s) for s in PointGrid((height, width), strides).shapes]
    padding = r.random() < 0.3
    if padding:
        shapes = [[h + r.randint(0, 3), w + r.randint(0, 3)] for h, w in shapes]
    grid = {"shapes": shapes, "strides": strides, "offset": r.choice([0, 0.5, 0.25, 0.3])}
    if padding or r.random() < 0.3:
        grid["size"] = [height, width]
    jitter = r.choice([None, 0.0, 0.1, 0.37]) if name in ("dsla", "fovea-dsla") else None
    return {
        "method": name, "options": METHODS[name](**made).options(), "grid": grid, "boxes": boxes,
        "labels": [r.randint(0, 9) for _ in boxes], "jitter": jitter, "seed": r.choice([0, 1, 77, 2**31 + 5]),
    }  # fmt: skip


def in_python(s: dict):
    grid = PointGrid.from_shapes(s["grid"]["shapes"], s["grid"]["strides"], s["grid"]["offset"])
    boxes, labels = torch.tensor(s["boxes"]).reshape(-1, 4), torch.tensor(s["labels"], dtype=torch.int64)
    sizes = [s["grid"]["size"]] if "size" in s["grid"] else None
    assigner = METHODS[s["method"]](**s["options"])
    a = assigner(grid, [boxes], [labels], image_sizes=sizes)
    values = a.label
    if s["jitter"] is not None:
        values = a.target(jittered_predictions(grid, [boxes], [labels], s["jitter"], 10, s["seed"]).boxes)
    return a, values


def near_threshold(s: dict, a, points: np.ndarray) -> bool:
    """Whether at each of these points some box's IoU lies within 1e-6 of its threshold."""
    for point in points.tolist():
        gaps = []
        for box in s["boxes"]:
            rules = {r.name: r for r in a.assigner.explain(a.grid, point, box).rules}
            iou = rules["threshold" if s["method"] == "atss" else "IoU"].value
            near = a.assigner.candidates(a.grid, _truth(box)) if s["method"] == "atss" else None
            gaps.append(abs(iou - (float(near.threshold) if near else s["options"]["positive"])))
        if min(gaps) >= 1e-6:
            return False
    return True


def _truth(box):
    from dsla.assigners.base import Truth

    return Truth.of([torch.tensor([box])], [torch.zeros(1)], torch.device("cpu"))


def compare(scenes: list[dict]) -> dict[str, int]:
    """Asserts that both agree; counts points, positives and the points of anchors at a threshold."""
    tally = {"points": 0, "positive": 0, "anchors": 0, "at threshold": 0}
    for s, answer in zip(scenes, node("labels.mjs", scenes), strict=True):
        a, values = in_python(s)
        size = a.gt_index.shape[1]
        assert answer["size"] == size
        index, label, value = np.full(size, -1), np.zeros(size, np.float32), np.zeros(size, np.float32)
        for p, n, y, v in answer["points"]:
            index[p], label[p], value[p] = n, y, (y if v is None else v)
        wrong = np.flatnonzero(index != a.gt_index[0].numpy())
        tally["points"] += size
        tally["positive"] += int((index >= 0).sum())
        if s["method"] in EXACT:
            assert not len(wrong), (s, wrong[:5], index[wrong[:5]], a.gt_index[0, wrong[:5]])
        else:
            tally["anchors"] += size
            tally["at threshold"] += len(wrong)
            assert near_threshold(s, a, wrong), (s, wrong)
        right = np.delete(np.arange(size), wrong)
        assert np.abs(label - a.label[0].numpy())[right].max(initial=0) <= 1e-6, s
        assert np.abs(value - values[0].numpy())[right].max(initial=0) <= 1e-6, s
    return tally


@needs_node
def test_a_relaxed_end_that_int_cuts_below_the_range_cuts_no_point_of_the_range():
    options = DSLA(regress_ranges=((0, 20.5), (20.5, 1e8)), relaxation=0.01).options()
    grid = {"shapes": [[16, 16], [8, 8]], "strides": (4, 8), "offset": 0}
    boxes = [[11.75, 11.75, 40.25, 40.25]]  # of points in it m is 16.25, 20.25, …
    one = {"method": "dsla", "options": options, "grid": grid, "boxes": boxes, "labels": [0], "jitter": None, "seed": 0}
    assert compare([one])["positive"] > 0


@pytest.mark.slow
@needs_node
def test_labels_in_the_browser_are_those_of_python():
    tally = compare([scene(i) for i in range(300)])
    assert tally["positive"] > 5000
    assert tally["at threshold"] <= tally["anchors"] / 10_000


@needs_node
@pytest.mark.slow
def test_ten_thousand_scenes():
    tally = compare([scene(i) for i in range(1000, 11_000)])
    print(tally)
    assert tally["at threshold"] <= tally["anchors"] / 10_000


@needs_node
@pytest.mark.parametrize("seed", [0, 3, -1, 2**31, 2**40 + 9])
def test_steps_of_jitter_are_equal_bit_for_bit(seed):
    wanted = steps(50, seed)
    module = Path(__file__).parents[2] / "dsla/widgets/jitter.js"
    script = (
        f"import {{ step }} from '{module}'; const all = [];"
        f"for (let p = 0; p < 50; p++) for (let s = 0; s < 4; s++) all.push(step({seed}, p, s));"
        "process.stdout.write(JSON.stringify(all))"
    )
    done = subprocess.run([NODE, "--input-type=module", "-e", script], capture_output=True, text=True, check=True)
    assert np.array_equal(np.float32(json.loads(done.stdout)).reshape(50, 4), wanted.numpy())


def test_steps_are_near_normal_and_depend_on_nothing_else():
    many = steps(40_000, 5)
    assert abs(float(many.mean())) < 0.01
    assert abs(float(many.std()) - 1) < 0.01
    assert float(many.abs().max()) <= 3.47
    assert torch.equal(steps(100, 5), many[:100])  # whatever the number of points
    assert (steps(100, 6) != many[:100]).float().mean() > 0.99
    corr = torch.corrcoef(torch.cat((many.t(), steps(40_000, 6).t())))
    assert float((corr - torch.eye(8)).abs().max()) < 0.03
