"""DSLA and FCOS against a slow float64 reference, the release's numbers, and their invariants."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dsla
from dsla.assigners import DSLA, FCOS
from dsla.assigners.dsla import centerness, interval_relaxation

STRIDES = (8, 16, 32)
RANGES = ((0.0, 32.0), (32.0, 64.0), (64.0, 1e8))
GRID = dsla.PointGrid((96, 128), STRIDES, offset=0.5)


def random_boxes(seed, count, width=128, height=96):
    rng = np.random.default_rng(seed)
    size = np.exp(rng.uniform(np.log(4), np.log(140), (count, 2)))
    centre = rng.uniform((0, 0), (width, height), (count, 2))
    boxes = np.concatenate([centre - size / 2, centre + size / 2], 1)
    return torch.tensor(boxes, dtype=torch.float32)


def one(assigner, grid, boxes, labels=None):
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return assigner(grid, [boxes], [torch.arange(len(boxes)) if labels is None else labels])


CONFIGURATIONS = [
    (DSLA, {}),
    (DSLA, {"truncate": False}),
    (DSLA, {"relaxation": 0.5, "core_zone": False}),
    (DSLA, {"relaxation": None}),
    (DSLA, {"center_sampling": 1.5}),
    (FCOS, {}),
    (FCOS, {"center_sampling": 1.5}),
]
NAMES = [f"{k.__name__}-{'-'.join(map(str, o.values()))}" for k, o in CONFIGURATIONS]


@pytest.mark.parametrize(("kind", "options"), CONFIGURATIONS, ids=NAMES)
@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("count", [1, 4, 15])
def test_equals_the_slow_reference(kind, options, offset, count):
    grid = dsla.PointGrid((96, 128), STRIDES, offset=offset)
    label_of = reference.dsla_label if kind is DSLA else reference.fcos_label
    slow = reference.Options(RANGES, **{"relaxation": 0.2, **options})
    positives = 0
    for seed in range(3):
        boxes = random_boxes(seed * 100 + count, count)
        a = one(kind(RANGES, **options), grid, boxes)
        label, gt = reference.assign(grid.shapes, STRIDES, offset, boxes, label_of, slow)
        np.testing.assert_allclose(a.label[0].numpy(), label, atol=2e-6)
        np.testing.assert_array_equal(a.gt_index[0].numpy(), gt)
        np.testing.assert_array_equal(a.category[0].numpy(), gt)
        positives += (gt >= 0).sum()
    assert positives >= count


@pytest.mark.parametrize(("kind", "options"), CONFIGURATIONS, ids=NAMES)
def test_a_batch_equals_its_images_one_by_one(kind, options):
    assigner = kind(RANGES, **options)
    batch = [random_boxes(s, n) for s, n in enumerate((3, 0, 17, 1))]
    labels = [torch.randint(0, 5, (len(b),)) for b in batch]
    together = assigner(GRID, batch, labels)
    for i, (b, c) in enumerate(zip(batch, labels, strict=True)):
        alone = assigner(GRID, [b], [c])
        for name in ("label", "gt_index", "category", "matched_boxes"):
            assert torch.equal(getattr(together, name)[i], getattr(alone, name)[0]), name


@pytest.mark.parametrize(("kind", "options"), CONFIGURATIONS, ids=NAMES)
def test_fixed_windows_and_kept_candidates_give_the_same_bits(kind, options):
    """A GPU keeps whole windows, a CPU only the valid pairs of them."""
    from dsla.assigners.pairs import Truth
    from dsla.assigners.sparse.regions import candidates

    assigner = kind(RANGES, **options)
    truth = Truth.of([random_boxes(5, 30)], [torch.zeros(30)], torch.device("cpu"))
    ranges = tuple(zip(*assigner.reach, strict=True))
    region = candidates(GRID, truth, *ranges, assigner.center_sampling)
    kept, fixed = region.listed(), region.windows(*region.most)
    assert kept.box.numel() == int(fixed.valid.sum())
    assert kept.box.numel() < fixed.point.numel() / 3
    keys = [c.keys(assigner.label(c.pairs)) for c in (kept, fixed)]
    assert torch.equal(*keys)
    assert (keys[0] > 0).any()


def test_what_is_kept_from_an_evaluation_serves_a_training():
    size = (72, 88)  # of no other test, so that its grid is made here
    with torch.inference_mode():
        grid = dsla.PointGrid(size, STRIDES)
        one(DSLA(RANGES), grid, [[10.0, 10, 50, 50]])
    grid = dsla.PointGrid(size, STRIDES)
    for kept in (grid.xy, grid.stride, one(DSLA(RANGES), grid, [[10.0, 10, 50, 50]]).label):
        assert not kept.is_inference()
    distances = torch.ones(1, len(grid), 4, requires_grad=True)
    (dsla.HeadOutputs(torch.zeros(1, len(grid), 2), distances, grid).boxes * grid.xy.sum()).sum().backward()
    assert torch.isfinite(distances.grad).all()


def test_no_boxes_at_all():
    for assigner in (DSLA(RANGES), FCOS(RANGES)):
        a = assigner(GRID, [torch.zeros(0, 4)] * 2, [torch.zeros(0)] * 2)
        assert a.label.shape == (2, len(GRID))
        assert (a.gt_index == -1).all()
        assert (a.label == 0).all()
        assert a.to_frame().empty
        assert a.counts().tolist() == []


def test_ties_go_to_the_smaller_box_then_to_the_lower_index():
    big, small = [20.0, 20, 60, 60], [30.0, 30, 50, 50]  # same centre: label 1 for both in the core zone
    grid = dsla.PointGrid((96, 96), (8,), 0.0)
    for order in ([big, small], [small, big]):
        a = one(DSLA(((0, 1e8),)), grid, order)
        centre = 5 * 12 + 5
        assert a.matched_boxes[0, centre].tolist() == small
    twins = one(DSLA(((0, 1e8),)), grid, [big, big, big])
    assert set(twins.gt_index[0].unique().tolist()) == {-1, 0}


def test_fcos_smallest_box_wins_even_where_it_is_less_central():
    grid = dsla.PointGrid((96, 96), (8,), 0.0)
    a = one(FCOS(((0, 1e8),)), grid, [[0.0, 0, 90, 90], [38, 38, 70, 70]])
    assert a.gt_index[0, 5 * 12 + 5] == 1
    assert one(DSLA(((0, 1e8),)), grid, [[0.0, 0, 90, 90], [38, 38, 70, 70]]).gt_index[0, 5 * 12 + 5] == 0


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 3))
def test_translation_by_the_largest_stride_moves_the_labels(seed, count, cells):
    grid = dsla.PointGrid((256, 256), STRIDES, 0.0)
    boxes = (random_boxes(seed, count) * 4).round() / 4  # quarters: exact in float32 before and after
    keep = ((boxes[:, :2] >= 0) & (boxes[:, 2:] <= 128)).all(1)
    boxes, shift = boxes[keep], 32 * cells
    for assigner in (DSLA(RANGES), FCOS(RANGES, center_sampling=1.5)):
        here = grid.split(one(assigner, grid, boxes).label)
        there = grid.split(one(assigner, grid, boxes + shift).label)
        for a, b, s in zip(here, there, STRIDES, strict=True):
            n = shift // s
            assert torch.equal(a[0, : 160 // s, : 160 // s], b[0, n : n + 160 // s, n : n + 160 // s])


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 20), st.randoms(use_true_random=False))
def test_permuting_boxes_permutes_nothing_but_their_index(seed, count, random):
    boxes = random_boxes(seed, count)
    order = list(range(count))
    random.shuffle(order)
    for assigner in (DSLA(RANGES), FCOS(RANGES)):
        a, b = one(assigner, GRID, boxes), one(assigner, GRID, boxes[order])
        assert torch.equal(a.label, b.label)
        assert torch.equal(a.matched_boxes, b.matched_boxes)
        assert ((a.label >= 0) & (a.label <= 1)).all()


def test_many_boxes_and_boxes_beyond_the_image():
    boxes = torch.cat([random_boxes(1, 1500), torch.tensor([[-900.0, -900, 2000, 2000], [-50, -50, -9, -9]])])
    a = one(DSLA(RANGES), GRID, boxes)
    label, gt = reference.assign(GRID.shapes, STRIDES, 0.5, boxes, reference.dsla_label, reference.Options(RANGES))
    np.testing.assert_allclose(a.label[0].numpy(), label, atol=2e-6)
    assert (a.gt_index[0].numpy() == gt).mean() > 0.995  # float32 may order two nearly equal labels otherwise
    assert a.counts()[-1] == 0


def test_centerness_outside_on_the_edge_and_in_the_core():
    """Points of a box [10, 10, 50, 50] at stride 8, worked by hand."""
    box = (10.0, 10, 50, 50)
    expected = {(30, 30): 1, (20, 30): (10 / 30) ** 0.5, (10, 30): 0, (8, 30): 0, (8, 8): 0}
    expected[33, 27] = 17 / 23
    for (x, y), value in expected.items():
        c = centerness(*(torch.tensor(v) for v in (x - box[0], y - box[1], box[2] - x, box[3] - y)))
        assert float(c) == pytest.approx(value, abs=1e-6)
    pairs = dsla.assigners.Pairs(
        torch.tensor(33.0), torch.tensor(27.0), tuple(map(torch.tensor, box)), torch.tensor(8.0), torch.tensor(0)
    )
    assert float(DSLA(RANGES).factors(pairs)["label"]) == 1
    assert float(DSLA(RANGES, core_zone=False).factors(pairs)["label"]) == pytest.approx(0.73913, abs=1e-5)


def test_relaxation_is_continuous_and_1_within_the_range():
    low, high, wide_low, wide_high = (torch.tensor(float(v)) for v in (64, 128, 51, 153))
    m = torch.tensor([50.9, 51, 57.5, 64, 100, 128, 140.5, 153, 153.1])
    h = interval_relaxation(m, low, high, wide_low, wide_high)
    assert h.tolist() == pytest.approx([0, 0, 0.5, 1, 1, 1, 0.5, 0, 0])


def test_explain_says_what_the_assignment_does():
    box = [20.0, 24, 84, 70]
    for assigner in (DSLA(RANGES, center_sampling=1.5), DSLA(RANGES), FCOS(RANGES)):
        label = one(assigner, GRID, box).label[0]
        explanations = [assigner.explain(GRID, p, box) for p in range(len(GRID))]
        assert [e.label for e in explanations] == label.tolist()
        assert [e.admitted for e in explanations] == (label > 0).tolist()
        for e in explanations:
            assert e.admitted or "excluded" in str(e)
            assert e["inside the box"].passed == (e["inside the box"].value > 0)
    assert "centre sampling" in str(DSLA(RANGES, center_sampling=1.5).explain(GRID, 0, box))
    near = DSLA(RANGES, center_sampling=1.5).explain(GRID, 16 * 3 + 3, [30.0, 20, 38, 40])  # (28, 28)
    assert (near["centre sampling"].passed, near["inside the box"].passed) == (True, False)
    assert near.verdict == "excluded: inside the box"
    with pytest.raises(ValueError, match="point 999 "):
        FCOS().explain(GRID, 999, box)


def test_to_frame_holds_one_row_a_positive_point_with_the_factors_of_its_label():
    boxes = random_boxes(3, 8)
    a = one(DSLA(RANGES), GRID, boxes, torch.arange(8) % 3)
    frame = a.to_frame()
    assert len(frame) == int(a.positive.sum()) == int(a.counts().sum())
    for row in frame.sample(20, random_state=0).itertuples():
        box = boxes[row.gt]
        assert GRID.xy[row.point].tolist() == [row.x, row.y]
        assert (row.x - row.l, row.y - row.t, row.x + row.r, row.y + row.b) == pytest.approx(box.tolist(), abs=1e-4)
        c = 1.0 if row.core_zone else row.centerness
        assert row.label == pytest.approx(c * row.relaxation, abs=1e-6)
        assert row.category == row.gt % 3
    distances = torch.rand(1, len(GRID), 4) * 40
    outputs = dsla.HeadOutputs(torch.zeros(1, len(GRID), 3), distances, GRID)
    given_model = a.to_frame(outputs)
    np.testing.assert_allclose(given_model["target"], given_model["iou"] * given_model["label"], rtol=1e-6)
    assert given_model["iou"].between(0, 1).all()
    assert given_model["iou"].max() > 0.1


def test_what_is_taught_follows_the_predicted_boxes():
    boxes = random_boxes(7, 4)
    predicted = dsla.assigners.jittered_predictions(GRID, [boxes], [torch.arange(4)], 0.2, 4).boxes
    a, hard = one(DSLA(RANGES), GRID, boxes), one(FCOS(RANGES), GRID, boxes)
    on, off, alone = (replace(a, coupling=coupling).target(predicted) for coupling in ("on", "off", "iou-only"))
    assert torch.equal(a.target(predicted), on)
    assert torch.equal(off, a.label)
    assert torch.equal(hard.target(predicted), hard.label)  # FCOS couples with nothing
    background = a.gt_index[0] < 0
    assert background.any()
    assert (on[0, background] == 0).all()
    assert (alone[0, background] == 0).all()
    for p in (~background).nonzero().flatten().tolist():
        x1, y1, x2, y2 = predicted[0, p].double().tolist()
        u1, v1, u2, v2 = boxes[a.gt_index[0, p]].double().tolist()
        both = max(0, min(x2, u2) - max(x1, u1)) * max(0, min(y2, v2) - max(y1, v1))
        iou = both / ((x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - both)
        assert float(alone[0, p]) == pytest.approx(iou, abs=1e-5)
        assert float(on[0, p]) == pytest.approx(float(a.label[0, p]) * iou, abs=1e-5)
    with pytest.raises(ValueError, match="coupling is"):
        replace(a, coupling="sometimes")
    for coupling in ("on", "off", "iou-only"):
        asked_for = DSLA(RANGES)(GRID, [boxes], [torch.arange(4)], coupling=coupling)
        assert torch.equal(asked_for.target(predicted), replace(a, coupling=coupling).target(predicted))


def test_an_object_without_a_point_is_counted():
    """Box 0 lies between the points of either grid; no training can teach it."""
    for offset in (0.0, 0.5):
        grid = dsla.PointGrid((64, 64), (8, 16, 32, 64, 128), offset)
        for assigner in (DSLA(), FCOS()):
            a = one(assigner, grid, [[1.0, 1, 3, 3], [20, 20, 60, 60]])
            assert a.counts()[0] == 0
            assert a.counts()[1] >= 1
            assert (a.counts() == 0).nonzero().tolist() == [[0]]


def test_crowds_and_padding_teach_nothing_but_a_crowd_never_silences_an_object():
    crowd = torch.tensor([[0.0, 0, 64, 96]])
    boxes = [torch.tensor([[10.0, 10, 40, 40], [70, 50, 128, 96]])]  # the second reaches into the padding
    a = DSLA(RANGES)(GRID, boxes, [torch.tensor([1, 2])], ignore=[crowd], image_sizes=[(80, 100)])
    x, y = GRID.xy.unbind(-1)
    padding = (x >= 100) | (y >= 80)
    in_crowd = (x > 0) & (x < 64) & (y > 0) & (y < 96)
    free = one(DSLA(RANGES), GRID, boxes[0], torch.tensor([1, 2]))
    assert (free.positive[0] & padding).any()
    assert torch.equal(a.positive[0], free.positive[0] & ~padding)
    assert torch.equal(a.label[0], free.label[0] * ~padding)
    assert (a.positive[0] & in_crowd).any()
    assert torch.equal(a.ignored[0], (in_crowd & ~a.positive[0]) | padding)


@pytest.mark.parametrize(
    ("boxes", "labels", "message"),
    [
        (torch.zeros(0), torch.zeros(0), r"\[0, 4\]"),
        (torch.zeros(2, 4), torch.zeros(3), r"\[2, 4\]"),
        (torch.tensor([[0, 0, float("nan"), 1]]), torch.zeros(1), "finite"),
        (torch.tensor([[0, 0, 4.0, 4]]), torch.tensor([-2]), "label -2"),
    ],
)
def test_bad_input_names_the_image_and_the_box(boxes, labels, message):
    with pytest.raises(ValueError, match="image 0 of the batch") as error:
        FCOS()(dsla.PointGrid((64, 64), (8, 16, 32, 64, 128)), [boxes], [labels])
    assert re.search(message, str(error.value))


def test_options_are_checked_and_rebuild_the_assigner():
    for bad in ({"relaxation": 1.0}, {"center_sampling": 0}, {"regress_ranges": ((3, 2),)}):
        with pytest.raises(ValueError):
            DSLA(**bad)
    with pytest.raises(ValueError, match="FCOS has ranges for 2 levels but there are 3 strides"):
        one(FCOS(((0, 8), (8, 16))), GRID, [[0.0, 0, 9, 9]])
    for assigner in (DSLA(RANGES, 0.3, False, False, 2.0), FCOS(RANGES, 1.0)):
        assert repr(type(assigner)(**assigner.options())) == repr(assigner)


def test_under_autocast_labels_are_float32():
    boxes = torch.tensor([[10.0, 10, 310, 310]])  # 300 × 300 is infinite in half precision
    grid = dsla.PointGrid((320, 320), (8, 16, 32, 64, 128))
    expected = one(DSLA(), grid, boxes).label
    with torch.autocast("cpu", dtype=torch.bfloat16):
        a = DSLA()(grid, [boxes.half()], [torch.tensor([0])])
    assert a.label.dtype == a.matched_boxes.dtype == torch.float32
    assert torch.equal(a.label, expected)


def test_labels_carried_over_from_the_release():
    """A sample of its recorded labels, so that this holds without the recordings themselves."""
    z = json.loads((Path(__file__).parent / "release_numbers.json").read_text())["static"]
    grid = dsla.PointGrid.from_shapes(z["sizes"], z["strides"], 0.0)
    for run in z["runs"]:
        relax, core, sampling, _, factor, radius = run["options"]
        assigner = DSLA(z["ranges"], factor if relax else None, True, bool(core), radius if sampling else None)
        a = one(assigner, grid, z["boxes"], torch.tensor(z["labels"]))
        np.testing.assert_allclose(a.label[0, run["point"]].numpy(), run["label"], atol=1e-6)
        assert a.category[0, run["point"]].tolist() == run["category"]
        assert int(a.positive.sum()) == run["positives"]
        assert float(a.label.double().sum()) == pytest.approx(run["sum"], abs=1e-4)


# The release's numbers ------------------------------------------------------------------------------

CASES = ["n0", "n1", "n5", "n40", "overlap_same", "overlap_diff", "tiny", "huge", "edges", "alt_config"]


@pytest.mark.parametrize("case", CASES)
def test_static_labels_equal_the_release(recorded, case):
    z = recorded(f"targets_{case}")
    grid = dsla.PointGrid.from_shapes(z["sizes"].tolist(), z["strides"].tolist(), 0.0)
    assert np.array_equal(grid.xy.numpy(), z["points"])
    boxes, labels = torch.tensor(z["gt_bboxes"]).reshape(-1, 4), torch.tensor(z["gt_labels"])
    for k, (relax, core, sampling, norm, factor, radius) in enumerate(z["options"]):
        assigner = DSLA(
            z["ranges"].tolist(),
            relaxation=float(factor) if relax else None,
            core_zone=bool(core),
            center_sampling=float(radius) if sampling else None,
        )
        a = one(assigner, grid, boxes, labels)
        flags, cls = z["flags"][k], z["cls"][k]
        certain = (flags & 32) == 0
        np.testing.assert_allclose(a.label[0].numpy()[certain], cls.max(1)[certain], atol=1e-6)
        clear = certain & ((flags & (8 | 16)) == 0)
        positive = a.positive[0].numpy()
        assert np.array_equal(a.category[0].numpy()[clear & positive], cls.argmax(1)[clear & positive])
        pairs = torch.cat([grid.xy - a.matched_boxes[0, :, :2], a.matched_boxes[0, :, 2:] - grid.xy], 1)
        distances = (pairs / grid.stride[:, None] if norm else pairs).numpy() * positive[:, None]
        np.testing.assert_allclose(distances[clear], z["reg"][k][clear], atol=1e-4, rtol=1e-6)
        ties = {(p, g) for o, p, g in z["ties"] if o == k}
        for p in np.flatnonzero(certain & ~clear & positive):
            assert (p, int(a.gt_index[0, p])) in ties


def test_a_batch_equals_the_release(recorded):
    z = recorded("targets_batch")
    counts = z["num_gts"].tolist()
    boxes = torch.tensor(z["gt_bboxes"]).reshape(-1, 4).split(counts)
    labels = torch.tensor(z["gt_labels"]).split(counts)
    grid = dsla.PointGrid.from_shapes(z["sizes"].tolist(), z["strides"].tolist(), 0.0)
    ranges = z["ranges"].tolist() if "ranges" in z.files else dsla.assigners.DEFAULT_RANGES
    for k, (relax, core, sampling, _, factor, radius) in enumerate(z["options"]):
        a = DSLA(ranges, float(factor) if relax else None, True, bool(core), float(radius) if sampling else None)(
            grid, boxes, labels
        )
        rows = torch.cat([m.flatten(1, 2).flatten(0, 1) for m in grid.split(a.label)])  # level, image, point
        want = np.zeros(len(rows), np.float32)
        want[z[f"o{k}_pos_index"]] = z[f"o{k}_cls"].max(1)
        np.testing.assert_allclose(rows.numpy(), want, atol=1e-6)


def test_points_centerness_and_relaxation_equal_the_release(recorded):
    z = recorded("points")
    cases = sorted({f.split("_")[0] for f in z.files})
    for c in cases:
        shapes, strides = z[f"{c}_sizes"].tolist(), z[f"{c}_strides"].tolist()
        for offset, name in ((0.0, "dsla"), (0.5, "fcos")):
            grid = dsla.PointGrid.from_shapes(shapes, strides, offset)
            assert np.array_equal(grid.xy.numpy(), z[f"{c}_{name}"])
    z = recorded("scores")
    values = centerness(*torch.tensor(z["centerness_in"]).unbind(1))
    np.testing.assert_allclose(values.numpy(), z["centerness_out"], atol=1e-7)
    for s in range(int(z["num_sets"])):
        assigner = DSLA(z[f"s{s}_ranges"].tolist(), relaxation=float(z[f"s{s}_factor"]))
        assert np.array_equal(np.array(assigner.relaxed_ranges), z[f"s{s}_relaxed"])
        ends = [torch.tensor(z[f"s{s}_{n}_of"]).float().unbind(1) for n in ("range", "relaxed")]
        h = interval_relaxation(torch.tensor(z[f"s{s}_measure"]), *ends[0], *ends[1])
        np.testing.assert_allclose(h.numpy(), z[f"s{s}_score"], atol=1e-6)


def test_fcos_targets_equal_mmdetection(recorded):
    z = recorded("fcos_targets")
    counts = z["num_gts"].tolist()
    boxes = torch.tensor(z["gt_bboxes"]).reshape(-1, 4).split(counts)
    labels = torch.tensor(z["gt_labels"]).split(counts)
    grid = dsla.PointGrid.from_shapes(z["sizes"].tolist(), z["strides"].tolist(), 0.5)
    background = int(z["num_classes"])
    for k, (sampling, norm, radius) in enumerate(z["options"]):
        a = FCOS(center_sampling=float(radius) if sampling else None)(grid, boxes, labels)
        by_row = lambda v: torch.cat([m.flatten(1, 2).flatten(0, 1) for m in grid.split(v)])  # noqa: E731
        category = by_row(a.category).where(by_row(a.category) >= 0, background).numpy()
        flags = z[f"o{k}_flags"]
        clear = (flags & (8 | 32)) == 0
        assert np.array_equal(category[clear], z[f"o{k}_labels"][clear])
        index = z[f"o{k}_pos_index"]
        keep = clear[index]
        xy = grid.xy.expand(len(boxes), -1, -1)
        distances = torch.cat([xy - a.matched_boxes[..., :2], a.matched_boxes[..., 2:] - xy], -1)
        if norm:
            distances = distances / grid.stride[:, None]
        np.testing.assert_allclose(by_row(distances).numpy()[index][keep], z[f"o{k}_reg"][keep], atol=1e-4, rtol=1e-6)
