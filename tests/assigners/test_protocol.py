"""Every assigner through the same protocol."""

import re
from typing import Literal

import numpy as np
import pytest
import reference_more as ref
import torch

from dsla.assigners import (
    ATSS,
    DSLA,
    FCOS,
    GFL,
    METHODS,
    Assigner,
    Assignment,
    FoveaBox,
    MaxIoU,
    PairAssigner,
    SimOTA,
    TaskAligned,
)  # fmt: skip
from dsla.assigners.sparse.regions import Region
from dsla.errors import DataError
from dsla.geometry import HeadOutputs, PointGrid, aligned_iou

STRIDES = (8, 16, 32, 64, 128)
ALL = {name: method.assigner() for name, method in METHODS.items()} | {
    "dsla, centre sampling": DSLA(center_sampling=1.5),
    "dsla, hard ranges": DSLA(relaxation=None, core_zone=False),
    "fcos, centre sampling": FCOS(center_sampling=1.5),
    "fovea, smooth": FoveaBox(smooth=True),
}
every = pytest.mark.parametrize("method", ALL.values(), ids=ALL.keys())
GRID = PointGrid((256, 320), STRIDES, offset=0.5)


def run(method, boxes, labels, outputs=None, grid=GRID, **others) -> Assignment:
    if method.needs_predictions:
        others["predictions"] = ref.head(grid, boxes) if outputs is None else outputs
    return method(grid, boxes, labels, **others)


def same(a: Assignment, b: Assignment) -> bool:
    names = ("gt_index", "label", "category", "ignored")
    return (
        all(torch.equal(getattr(a, n), getattr(b, n)) for n in names)
        and a.extras.keys() == b.extras.keys()
        and all(torch.equal(a.extras[n], b.extras[n]) for n in a.extras)
    )


def part(outputs, index):
    return HeadOutputs(outputs.logits[index], outputs.distances[index], outputs.grid)


@every
def test_no_boxes(method):
    for images in (1, 3):
        empty = [torch.zeros(0, 4)] * images
        a = run(method, empty, [torch.zeros(0, dtype=torch.int64)] * images)
        assert a.gt_index.shape == (images, len(GRID))
        assert a.gt_index.eq(-1).all()
        assert a.category.eq(-1).all()
        assert a.label.eq(0).all()
        assert not a.ignored.any()
        assert len(a.to_frame()) == 0


@every
def test_one_box(method):
    box = torch.tensor([[60.0, 50.0, 190.0, 150.0]])
    a = run(method, [box], [torch.tensor([3])])
    assert a.positive.any()
    assert a.category[a.positive].eq(3).all()
    assert a.matched_boxes[a.positive].eq(box).all()
    assert a.label[~a.positive].eq(0).all()
    frame = a.to_frame()
    assert len(frame) == a.positive.sum()
    assert set(a.extras) <= set(frame.columns)


@every
def test_batched_equals_single(method):
    boxes, labels = ref.scene(0, images=4, boxes=17)
    boxes[1], labels[1] = boxes[1][:0], labels[1][:0]
    boxes[2], labels[2] = boxes[2][:3], labels[2][:3]
    outputs = ref.head(GRID, boxes)
    batch = run(method, boxes, labels, outputs)
    for i in range(4):
        one = run(method, [boxes[i]], [labels[i]], part(outputs, slice(i, i + 1)))
        for name in ("gt_index", "label", "category", "ignored"):
            assert torch.equal(getattr(batch, name)[i], getattr(one, name)[0]), name
        for name, column in one.extras.items():
            assert torch.equal(batch.extras[name][i], column[0]), name


@every
def test_padding_of_the_batch_does_not_matter(method):
    """The same image in a wider and higher batch; the new points are ignored."""
    (boxes,), (labels,) = ref.scene(6, boxes=20)
    size = torch.tensor([320.0, 256.0]).repeat(2)
    boxes = torch.minimum(boxes.clamp(min=0), size)
    wide = PointGrid((384, 448), STRIDES, offset=0.5)
    inner = ref.head(GRID, [boxes])
    outer = ref.head(wide, [boxes], seed=5)
    for mine, theirs in zip(GRID.split(inner.logits), wide.split(outer.logits), strict=True):
        theirs[:, : mine.shape[1], : mine.shape[2]] = mine
    for mine, theirs in zip(GRID.split(inner.distances), wide.split(outer.distances), strict=True):
        theirs[:, : mine.shape[1], : mine.shape[2]] = mine
    a = run(method, [boxes], [labels], inner, image_sizes=[(256, 320)])
    b = run(method, [boxes], [labels], outer, grid=wide, image_sizes=[(256, 320)])
    for name in ("gt_index", "label", "category", "ignored"):
        parts = GRID.split(getattr(a, name)), wide.split(getattr(b, name))
        for mine, theirs in zip(*parts, strict=True):
            assert torch.equal(mine, theirs[:, : mine.shape[1], : mine.shape[2]]), name
    assert b.positive.sum() == a.positive.sum() > 0
    assert b.ignored[~wide.inside([(256, 320)])].all()


@every
def test_order_of_boxes_does_not_matter(method):
    (boxes,), (labels,) = ref.scene(1, boxes=30)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    outputs = ref.head(GRID, [boxes])
    a = run(method, [boxes], [labels], outputs)
    b = run(method, [boxes[order]], [labels[order]], outputs)
    back = torch.where(b.positive, order[b.gt_index.clamp(min=0)], -1)
    assert torch.equal(a.gt_index, back)
    assert torch.equal(a.label, b.label)
    assert torch.equal(a.category, b.category)
    assert torch.equal(a.ignored, b.ignored)


@every
def test_equal_boxes_go_to_the_first(method):
    box = torch.tensor([[60.0, 50.0, 190.0, 150.0]]).repeat(3, 1)
    a = run(method, [box], [torch.tensor([2, 2, 2])])
    assert a.gt_index[a.positive].unique().tolist() == [0]


@every
def test_translation_by_the_largest_stride(method):
    """Boxes and predictions moved by 128 pixels: the maps move by 16, 8, 4, 2 and 1 cells."""
    grid = PointGrid((1280, 1280), STRIDES, offset=0.5)
    (boxes,), (labels,) = ref.scene(2, boxes=12, size=(256, 256), largest=200.0)
    boxes = (boxes * 4).round() / 4 + 448.0
    outputs = ref.head(grid, [boxes], seed=3)
    distances = (outputs.distances * 4).round() / 4

    def moved(values):
        maps = zip(grid.split(values), STRIDES, strict=True)
        return torch.cat([m.roll((128 // s, 128 // s), (1, 2)).flatten(1, 2) for m, s in maps], 1)

    a = run(method, [boxes], [labels], HeadOutputs(outputs.logits, distances, grid), grid=grid)
    there = HeadOutputs(moved(outputs.logits), moved(distances), grid)
    b = run(method, [boxes + 128], [labels], there, grid=grid)
    assert torch.equal(moved(a.gt_index), b.gt_index)
    assert torch.equal(moved(a.label), b.label)
    assert torch.equal(moved(a.ignored), b.ignored)
    assert a.positive.any()


@every
def test_category_label_and_determinism(method):
    boxes, labels = ref.scene(3, images=2, boxes=40)
    outputs = ref.head(GRID, boxes)
    a = run(method, boxes, labels, outputs)
    for i in range(2):
        won = a.positive[i]
        assert torch.equal(a.category[i, won], labels[i][a.gt_index[i, won]])
        assert won.any()
    assert a.label.dtype == torch.float32
    assert a.label.isfinite().all()
    assert ((a.label >= 0) & (a.label <= 1)).all()
    assert a.label[~a.positive].eq(0).all()
    assert not (a.ignored & a.positive).any()
    assert same(a, run(method, boxes, labels, outputs))


@every
def test_half_precision_predictions(method):
    """Scores and distances in half precision count for what they are; all else stays float32."""
    boxes, labels = ref.scene(4, images=2, boxes=20)
    outputs = ref.head(GRID, boxes)
    half = HeadOutputs(outputs.logits.half(), outputs.distances.half(), GRID)
    wide = HeadOutputs(half.logits.float(), half.distances.float(), GRID)
    a, b = run(method, boxes, labels, half), run(method, boxes, labels, wide)
    assert same(a, b)
    assert a.label.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert same(run(method, boxes, labels, half), b)


@pytest.mark.slow
@every
def test_fifteen_hundred_boxes(method):
    """As many as the most crowded images; each image alone gives what the pair gives."""
    boxes, labels = ref.scene(5, images=2, boxes=1500, largest=320.0)
    outputs = ref.head(GRID, [b[:50] for b in boxes])
    a = run(method, boxes, labels, outputs)
    assert a.positive.any(1).all()
    assert a.gt_index.max() > 1000
    one = run(method, boxes[1:], labels[1:], part(outputs, slice(1, 2)))
    assert torch.equal(a.gt_index[1], one.gt_index[0])
    assert torch.equal(a.label[1], one.label[0])


@every
def test_crowds_are_ignored_where_no_box_claims(method):
    box, crowd = torch.tensor([[60.0, 50.0, 190.0, 150.0]]), torch.tensor([[100.0, 100.0, 300.0, 250.0]])
    a = run(method, [box], [torch.tensor([0])], ignore=[crowd])
    within = ((GRID.xy > crowd[0, :2]) & (GRID.xy < crowd[0, 2:])).all(-1)
    assert a.ignored[0, within & ~a.positive[0]].all()
    assert not (a.ignored & a.positive).any()


@every
def test_options_rebuild_the_assigner(method):
    (boxes,), (labels,) = ref.scene(1, boxes=10)
    outputs = ref.head(GRID, [boxes])
    again = type(method)(**method.options())
    assert repr(again) == repr(method)
    assert same(run(again, [boxes], [labels], outputs), run(method, [boxes], [labels], outputs))
    assert isinstance(method, Assigner)
    assert method.name


@every
def test_predictions_are_asked_for(method):
    boxes, labels = ref.scene(1, boxes=2)
    if method.needs_predictions:
        with pytest.raises(ValueError, match="pass predictions=HeadOutputs"):
            method(GRID, boxes, labels)
    else:
        outputs = ref.head(GRID, boxes)
        assert same(method(GRID, boxes, labels), method(GRID, boxes, labels, predictions=outputs))


@every
def test_no_gradient_flows(method):
    boxes, labels = ref.scene(1, boxes=5)
    outputs = ref.head(GRID, boxes)
    learnt = HeadOutputs(outputs.logits.requires_grad_(), outputs.distances.requires_grad_(), GRID)
    a = run(method, boxes, labels, learnt)
    assert not a.label.requires_grad
    assert not any(v.requires_grad for v in a.extras.values())


@every
def test_lists_and_arrays_are_boxes_too(method):
    boxes, labels = [[[48, 30, 210, 190], [120, 80, 300, 240]], []], [[0, 1], []]
    tensors = [torch.tensor(boxes[0], dtype=torch.float32), torch.zeros(0, 4)], [torch.tensor([0, 1]), torch.zeros(0)]
    outputs = ref.head(GRID, tensors[0])
    want = run(method, *tensors, outputs)
    assert same(run(method, boxes, labels, outputs, ignore=[[], []]), want)
    arrays = [np.array(boxes[0], dtype=np.int16), np.zeros((0, 4))], [np.array([0, 1]), np.zeros(0, dtype=int)]
    assert same(run(method, *arrays, outputs), want)
    crowd = [[[100.0, 100, 300, 250]], []]
    assert same(run(method, boxes, labels, outputs, ignore=crowd), run(method, *tensors, outputs, ignore=[
        torch.tensor(crowd[0]), torch.zeros(0, 4)]))  # fmt: skip


@pytest.mark.parametrize(
    ("boxes", "labels", "message"),
    [
        ([[[0, 0, 9, 9]], [0, 0, 9, 9]], [[0], [0]], r"image 1 of the batch: expected boxes \[M, 4\].*got \[4\]"),
        ([[[0, 0, 9, 9], [0, 0, 9]]], [[0, 0]], "image 0 of the batch.*got list"),
        ([[[0, 0, 9, 9]], "boxes"], [[0], [0]], "image 1 of the batch.*got str"),
        ([[[0, 0, 9, 9]]], [[0, 1]], r"got \[1, 4\] and \[2\]"),
        ([[[0, 0, 9, 9]]], [[0], [1]], "boxes of 1 images but labels of 2"),
        ([[[0, 0, 9, 9]]], [[1.7]], r"image 0 of the batch: labels are whole numbers, got \[1\.7"),
        ([[[0, 0, 9, 9]]], [np.array([np.nan])], "labels are whole numbers, got .nan"),
        ([[[0, 0, 9, 9]], [[0, 0, float("inf"), 9]]], [[0], [3]], "image 1 of the batch, box 0: .*must be finite"),
    ],
)
def test_bad_shapes_name_the_image(boxes, labels, message):
    with pytest.raises(ValueError, match=message):
        FCOS()(GRID, boxes, labels)


def test_numbers_that_do_not_fit_the_batch():
    with pytest.raises(ValueError, match="sizes of 2"):
        FCOS()(GRID, [[]], [[]], image_sizes=[(256, 320)] * 2)
    with pytest.raises(ValueError, match=r"crowd boxes \(ignore\) of 2"):
        FCOS()(GRID, [[]], [[]], ignore=[[], []])
    with pytest.raises(ValueError, match=r"image 0 of the batch: expected boxes \[M, 4\]"):
        FCOS()(GRID, [[]], [[]], ignore=[[1, 2, 3, 4]])


@pytest.mark.parametrize("name", ["simota", "tal"])
def test_a_label_that_is_no_class_of_the_predictions(name):
    method, outputs = ALL[name], ref.head(GRID, [torch.zeros(0, 4)] * 2)
    message = r"image 1 of the batch, box 1: box \[20.0, .*label 5; .*labels in 0…4: the predictions are of C = 5"
    boxes = [[[10, 10, 90, 90]], [[10, 10, 90, 90], [20, 20, 60, 60]]]
    with pytest.raises(ValueError, match=message):
        method(GRID, boxes, [[4], [0, 5]], predictions=outputs)
    with pytest.raises(ValueError, match="label 5"):
        method.explain(GRID, 0, (10, 10, 90, 90), predictions=outputs, category=5)
    with pytest.raises(ValueError, match="predictions for 2 images of"):
        method(GRID, boxes[:1], [[4]], predictions=outputs)


def test_assignments_compare_by_identity_and_print_their_shapes():
    a, b = (FCOS()(GRID, [[[60, 50, 190, 150]]], [[0]]) for _ in range(2))
    assert a == a
    assert a != b
    assert len({a, b}) == 2
    assert len({a.pairs(), b.pairs()}) == 2
    assert f"gt_index=[1, {len(GRID)}]" in repr(a)
    assert "coupling='off'" in repr(a)
    assert len(repr(a)) < 600
    assert repr(a.pairs()).startswith("Pairs(x=[")


@every
def test_default_coupling_of_a_bare_assigner(method):
    soft = {"DSLA": "on", "FoveaBox + DSLA": "on", "ATSS + IoU label": "iou-only"}
    a = run(method, [[[60, 50, 190, 150]]], [[0]], ref.head(GRID, [torch.tensor([[60.0, 50, 190, 150]])]))
    assert a.coupling == method.default_coupling == soft.get(method.name, "off")
    assert run(method, [[]], [[]], ref.head(GRID, [torch.zeros(0, 4)]), coupling="off").coupling == "off"


@every
def test_explanations_say_what_is_needed_and_end_with_what_is_taught(method):
    """Numbers carry a true minus sign, and a rule that failed does not read as if it held."""
    boxes = [torch.tensor([[60.0, 50, 190, 150]])]
    outputs = ref.head(GRID, boxes)
    a = run(method, boxes, [torch.tensor([0])], outputs)
    target = a.target(outputs.boxes)[0]
    for point in [0, *a.positive[0].nonzero().flatten().tolist()[:5]]:
        told = method.explain(GRID, point, boxes[0][0], predictions=outputs)
        last = told.rules[-1]
        assert last.value == pytest.approx(float(target[point]), abs=1e-6)
        assert last.name == ("label" if a.coupling == "off" else "taught label")
        if a.coupling != "off":
            assert told["IoU"].value == pytest.approx(float(aligned_iou(outputs.boxes[0, point], boxes[0][0])))
            plain = method.explain(GRID, point, boxes[0][0], predictions=outputs, coupling="off")
            assert plain.rules == told.rules[:-2]
        taught = "" if a.coupling == "off" else f", taught {last.value:.4g}"
        verdict = told.verdict
        assert verdict == f"admitted, label {told.label:.4g}{taught}" if told.admitted else "label" not in verdict
        for rule in told.rules:
            assert "-" not in rule.text.replace("one-hot", "").replace("1e-7", ""), rule
    if "inside the box" in {r.name for r in told.rules} and method.name != "SimOTA":
        outside = method.explain(GRID, 0, boxes[0][0], predictions=outputs)["inside the box"]
        assert outside.text.startswith("l, t, r, b = −56, −46, 186, 146; smallest −56, must be > ")
        assert outside.passed is False


@every
def test_explanations_know_the_padding(method):
    """Rules and label of a point are those of the image alone, without padding; nothing is learnt in the padding."""
    size, box = (200, 250), [100.0, 60, 249, 199]
    alone, outputs = PointGrid(size, STRIDES, offset=0.5), ref.head(GRID, [torch.tensor([box])])
    a = run(method, [[box]], [[0]], outputs, image_sizes=[size])
    padding = ~GRID.inside([size])[0]
    assert a.positive.any()
    assert not a.label[0, padding].any()
    near = (~padding & ((GRID.xy - torch.tensor([249.0, 199])).abs() < 40).all(-1)).nonzero()[::7]
    for point in [*a.positive[0].nonzero()[::5], *near, *padding.nonzero()[::150]]:
        given = {"predictions": outputs if method.needs_predictions else None}
        told = method.explain(GRID, int(point), box, **given, image_size=size)
        assert told.label == pytest.approx(float(a.label[0, point]), abs=1e-6)
        if padding[point]:
            assert told.rules[0].text.endswith("nothing is learnt: the image ends at x = 250, y = 200")
            assert told.verdict.startswith("excluded: in the image")
        elif not method.needs_predictions:
            shape = alone.shapes[int(GRID.level[point])]
            place = int(GRID.row[point]) * shape[1] + int(GRID.column[point])
            same_point = sum(alone.num_points[: int(GRID.level[point])]) + place
            assert told.rules == method.explain(alone, same_point, box).rules


class TestOnADevice:
    """What a GPU runs, on the CPU: tables of fixed shape in place of lists."""

    @pytest.mark.parametrize("method", [ALL["max-iou"], ALL["fovea"], FoveaBox(smooth=True)], ids=lambda m: m.name)
    def test_tables_of_regions_give_what_lists_give(self, method, monkeypatch):
        boxes, labels = ref.scene(3, images=3, boxes=20)
        sizes = [(256, 320), (100, 320), (200, 150)]
        want = run(method, boxes, labels, image_sizes=sizes)

        def tables(region):
            return (region.table(part) for part in torch.arange(len(region.first)).split(7))

        monkeypatch.setattr(Region, "cells", tables)
        assert same(run(method, boxes, labels, image_sizes=sizes), want)
        assert want.positive.sum() > 30

    @pytest.mark.robustness("wrong: on a GPU no pair is left out where the first map is not the largest")
    def test_without_a_known_size_all_points_are_looked_at(self, monkeypatch):
        grid = PointGrid.from_shapes([(2, 3), (12, 11)], (8, 16))
        ends = torch.zeros(1, 2, 2, dtype=torch.int64, device="meta")  # no CPU
        monkeypatch.setattr(Region, "table", lambda self, box: "all points")
        assert list(Region(grid, None, ends, ends).cells()) == ["all points"]


@every
def test_another_default_precision_changes_nothing(method):
    """Of a program that works in float64; what a grid keeps must not depend on it either."""
    boxes = [torch.tensor([[20.0, 30.0, 120.0, 140.0], [5.0, 5.0, 30.0, 25.0]], dtype=torch.float32)]
    labels = [torch.tensor([0, 1])]
    expected = run(method, boxes, labels, outputs := ref.head(GRID, boxes))
    try:
        torch.set_default_dtype(torch.float64)
        grid = PointGrid((256, 320), STRIDES, offset=0.5 + 2**-20)  # one that nobody has asked for
        assert grid.xy.dtype == grid.stride.dtype == torch.float32
        assert same(run(method, boxes, labels, outputs), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.robustness("wrong: an assigner's argument of another type is refused, not cut or taken for true")
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (DSLA, {"relaxation": "0.2"}), (DSLA, {"relaxation": True}), (DSLA, {"truncate": "no"}),
        (DSLA, {"core_zone": 0.3}), (DSLA, {"center_sampling": "1.5"}), (DSLA, {"relaxation": np.array([0.1, 0.2])}),
        (DSLA, {"relaxation": torch.tensor([0.1, 0.2])}), (FCOS, {"center_sampling": [1.5]}),
        (ATSS, {"topk": 9.5}), (ATSS, {"topk": "9"}), (GFL, {"anchor_scale": None}), (TaskAligned, {"beta": "6"}),
        (SimOTA, {"candidate_topk": None}), (MaxIoU, {"low_quality": "no"}), (FoveaBox, {"smooth": "false"}),
    ],
)  # fmt: skip
def test_arguments_of_another_type_are_refused(kind, options):
    (name,) = options
    with pytest.raises(DataError, match=re.escape(f"{name}=") + ".* is needed"):
        kind(**options)
    with pytest.raises(TypeError, match="unexpected keyword argument 'nothing'"):
        kind(nothing=1)
    assert kind() is not None


def test_arguments_of_the_same_type_in_other_forms_are_taken():
    method = DSLA(relaxation=np.float64(0.25), truncate=np.bool_(False), center_sampling=torch.tensor(1.5))
    assert (float(method.relaxation), method.truncate, float(method.center_sampling)) == (0.25, False, 1.5)
    assert (ATSS(topk=np.int64(9)).topk, ATSS(topk=9.0).topk) == (9, 9)
    assert DSLA(relaxation=None).relaxation == 0


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int | str, "auto"), ("int | str", "auto"), (bool | float, True), ("bool | int", 5), ("int | float", 2.5),
        (float, None), ("float", None), (Literal["none", "int"], "int"), ("Literal[1, 2]", 2), ("Any", []),
    ],
)  # fmt: skip
def test_arguments_of_a_method_of_ones_own_may_be_of_several_types(annotation, value):
    def __init__(self, *sides, chosen=None, **rest):
        self.chosen = sides, chosen, rest

    __init__.__annotations__ = dict.fromkeys(("sides", "chosen", "rest"), annotation)
    mine = type("Mine", (PairAssigner,), {"__init__": __init__, "factors": None})
    assert mine(1.5, 2.5, chosen=value, more=0.5).chosen == ((1.5, 2.5), value, {"more": 0.5})


@pytest.mark.parametrize("ranges", ["0-64", 64, ((0, 64), (64,)), ((64, 0),), (), None])
def test_ranges_that_are_none_are_refused(ranges):
    for make in (lambda: DSLA(regress_ranges=ranges), lambda: FCOS(ranges), lambda: FoveaBox(scale_ranges=ranges)):
        with pytest.raises(ValueError, match=r"each range must be \(low, high\) with low < high and 0 < high, got"):
            make()


@pytest.mark.parametrize("made", [{}, {"label": 0.5}, 0.5, None])
def test_factors_without_a_label_are_named(made):
    class Mine(PairAssigner):
        name = "Mine"

        def factors(self, pairs):
            return made

    with pytest.raises(ValueError, match="Mine: factors\\(\\) must give a dict with a tensor 'label', not"):
        run(Mine(), [[[20.0, 30.0, 120.0, 140.0]]], [[0]])
