"""Every assigner through the same protocol."""

import pytest
import reference_more as ref
import torch

from dsla.assigners import DSLA, FCOS, METHODS, Assigner, Assignment, FoveaBox
from dsla.geometry import HeadOutputs, PointGrid

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
