"""`compare`: what is drawn equals the assignments, on any image, with errors that name the box."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from dsla import PointGrid
from dsla.assigners import DSLA, FCOS
from dsla.errors import DataError
from dsla.geometry import aligned_iou
from dsla.plots import compare, jittered_predictions
from dsla.plots.comparison import named_assigners
from dsla.plots.draw import as_image, show_labels
from dsla.plots.style import LABELS, LOST, picture

BOXES = [[20.0, 16.0, 90.0, 76.0], [1.0, 1.0, 3.0, 3.0]]  # the second holds no point of any grid


def black(height=96, width=128):
    return np.zeros((height, width, 3), dtype=np.uint8)


def texts(figure):
    return [t.get_text() for t in figure.texts]


def panels(figure, levels=5):
    """Axes of each row: objects, then levels; the colour bar is left out."""
    axes = [ax for ax in figure.axes if ax.get_title(loc="left") != "label"]
    return [axes[i : i + levels + 1] for i in range(0, len(axes), levels + 1)]


def test_numbers_shown_are_those_of_the_assignments():
    figure = compare(black(), BOXES)
    for row, axes, assigner, offset in zip(figure.rows, panels(figure), (FCOS(), DSLA()), (0.5, 0.0), strict=True):
        grid = PointGrid((96, 128), (8, 16, 32, 64, 128), offset)
        expected = assigner(grid, [torch.tensor(BOXES)], [torch.zeros(2, dtype=torch.int64)])
        assert row.assignment.grid.offset == offset
        assert torch.equal(row.assignment.label, expected.label)
        first, second = expected.counts().tolist()
        assert second == 0
        assert f"{first} points learn an object · per object {first}, 0 · 1 object without a point" in texts(figure)
        for level, ax in enumerate(axes[1:]):
            visible = ax.images[1].get_array()[..., 3] > 0
            wanted = grid.split(expected.gt_index)[level][0].numpy() >= 0
            assert (visible == wanted).all()
            count = int(wanted.sum())
            title = ax.get_title(loc="left")
            assert title.startswith(f"P{level + 3} · stride {8 << level} · ")
            assert title.endswith({0: "no points", 1: "1 point"}.get(count, f"{count} points"))


def test_an_object_without_a_point_is_red_and_dashed_in_every_panel():
    figure = compare(black(), BOXES, assigners="DSLA")
    for ax in panels(figure)[0]:
        lost = [c for c in ax.collections if len(c.get_paths()) == 1 and c.get_paths()[0].vertices.max() == 3.0]
        assert len(lost) == 1
        red = tuple(int(LOST[i : i + 2], 16) / 255 for i in (1, 3, 5))
        assert np.allclose(lost[0].get_color()[0][:3], red)
        assert lost[0].get_linestyle()[0][1] is not None  # dashes, not a solid line
    tags = {t.get_text() for t in panels(figure)[0][0].texts}
    assert tags == {"0", str(figure.rows[0].counts[0])}


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_a_label_is_painted_where_its_point_lies(offset):
    grid = PointGrid((64, 64), (16,), offset)
    labels = np.zeros((4, 4), dtype=np.float32)
    labels[1, 2] = 0.7
    figure = picture(4, 4, layout=None, dpi=100)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 64), ylim=(64, 0))
    show_labels(ax, grid, 0, labels, labels > 0)
    ax.set(xlim=(0, 64), ylim=(64, 0))
    ax.axis("off")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(float)
    x, y = (2 + offset) * 16, (1 + offset) * 16  # METHOD: ((j + offset)·s, (i + offset)·s)
    colour = 0.82 * np.array(LABELS(0.7)[:3]) * 255 + 0.18 * 255
    for dx, dy in ((0, 0), (-7.5, -7.5), (7.5, 7.5)):  # the cell reaches half a stride around the point
        assert np.abs(pixels[int((y + dy) * 400 / 64), int((x + dx) * 400 / 64)] - colour).max() < 3
    for dx, dy in ((-8.5, 0), (8.5, 0), (0, -8.5), (0, 8.5)):
        assert (pixels[int((y + dy) * 400 / 64), int((x + dx) * 400 / 64)] == 255).all()


def test_kinds_of_images_give_the_same_picture(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)
    path = tmp_path / "photo ä 雨.png"
    Image.fromarray(values).save(path)
    kinds = [
        path,
        str(path),
        Image.open(path),
        values,
        values.transpose(2, 0, 1),
        values / 255,
        values.astype(np.float32),
        torch.from_numpy(values).permute(2, 0, 1),
        torch.from_numpy(values).permute(2, 0, 1).float() / 255,
    ]
    for kind in kinds:
        assert np.allclose(as_image(kind), values / 255, atol=1e-6)
    pixels = compare(path, [[4, 4, 30, 30]], assigners="FCOS").axes[0].images[0].get_array()
    assert (np.asarray(pixels) == values).all()


def test_assigners_by_name_class_object_list_and_dict():
    assert [type(a) for a in named_assigners("dsla").values()] == [DSLA]
    assert [type(a) for a in named_assigners([FCOS, "FCOS", DSLA(relaxation=0)]).values()] == [FCOS, FCOS, DSLA]
    assert list(named_assigners([FCOS, "FCOS", DSLA()])) == ["FCOS", "FCOS (2)", "DSLA"]
    assert list(named_assigners(["fovea-dsla", "gfl", "atss"])) == ["FoveaBox + DSLA", "ATSS + IoU label", "ATSS"]
    figure = compare(black(), BOXES, None, {"no core zone": DSLA(core_zone=False)})
    assert "no core zone" in texts(figure)
    with pytest.raises(ValueError, match=r"no method 'dlsa': did you mean 'dsla'\?"):
        compare(black(), BOXES, assigners="dlsa")
    with pytest.raises(ValueError, match="at least one"):
        compare(black(), BOXES, assigners=[])


def test_strides_make_ranges_for_names_and_must_fit_objects():
    figure = compare(black(), BOXES, strides=(8, 16, 32), offset=0.25)
    row = figure.rows[0]
    assert row.assignment.assigner.regress_ranges == ((0, 64), (64, 128), (128, 1e8))
    assert {r.assignment.grid.offset for r in figure.rows} == {0.25}
    with pytest.raises(ValueError, match="FCOS has ranges for 5 levels but there are 3 strides"):
        compare(black(), BOXES, assigners=FCOS(), strides=(8, 16, 32))


def test_class_names_and_no_objects():
    figure = compare(black(), BOXES, [1, 0], "DSLA", class_names=("ant", "bee"))
    assert {t.get_text() for t in panels(figure)[0][0].texts} == {f"bee {figure.rows[0].counts[0]}", "ant 0"}
    empty = compare(black(), [])
    assert "0 points learn an object" in texts(empty)
    assert empty.rows[0].counts.shape == (0,)


def test_many_objects_are_summed_up():
    boxes = [[i * 10, 8, i * 10 + 30, 60] for i in range(9)]
    figure = compare(black(), boxes, assigners="FCOS")
    counts = figure.rows[0].counts
    text = f"per object {counts.min()} to {counts.max()}, median {np.median(counts):g}"
    assert any(text in t for t in texts(figure))


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[1, 2, 3]], r"shape \[1, 3\]: expected \[M, 4\]"),
        ([10, 10, 20, 20], r"shape \[4\]"),
        ("boxes", "M × 4 numbers"),
        ([[0, 0, 9, 9], [5, 5, float("nan"), 9]], r"box 1 .* is not finite"),
        ([[0, 0, 9, 9], [50, 50, 20, 20]], r"box 1 \[50.0, 50.0, 20.0, 20.0\] has x2 ≤ x1 .*COCO"),
        ([[200, 0, 300, 50]], "box 0 .* lies outside the 128 × 96 image"),
    ],
)
def test_bad_boxes_are_named(boxes, message):
    with pytest.raises(DataError, match=message):
        compare(black(), boxes)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("nowhere.png", "nowhere.png: no such image"),
        (np.zeros((2, 3, 4, 5)), r"image of shape \[2, 3, 4, 5\]"),
        (np.zeros((8, 8, 2)), "1, 3 or 4 channels"),
        (np.full((8, 8, 3), np.nan), "finite"),
        (torch.randn(3, 8, 8) - 3, "undo the normalisation"),
        (None, "expected a path"),
    ],
)
def test_bad_images_are_named(image, message):
    with pytest.raises(DataError, match=message):
        compare(image, [[1, 1, 5, 5]])


def test_bad_labels():
    with pytest.raises(DataError, match="2 boxes but 1 labels"):
        compare(black(), BOXES, [0])
    with pytest.raises(DataError, match="whole numbers"):
        compare(black(), BOXES, [0.5, 1])


class NeedsPredictions(FCOS):
    """FCOS that keeps only points whose predicted box is good: the least of a dynamic method."""

    name = "Dynamic"
    needs_predictions = True

    def _assign(self, grid, truth, predictions):
        self.seen = predictions
        return super()._assign(grid, truth, predictions)


def test_a_dynamic_assigner_gets_jittered_boxes_and_says_so():
    assigner = NeedsPredictions()
    figure = compare(black(), BOXES, [0, 2], assigner, jitter=0.25, seed=3)
    assert "Dynamic · predictions: true boxes jittered by 25%" in texts(figure)
    assert assigner.seen.logits.shape == (1, len(figure.rows[0].assignment.grid), 2)  # classes that there are
    expected = jittered_predictions(
        figure.rows[0].assignment.grid, [torch.tensor(BOXES)], [torch.tensor([0, 1])], 0.25, 2, seed=3
    )
    assert torch.equal(assigner.seen.distances, expected.distances)
    assert torch.equal(assigner.seen.logits, expected.logits)


@pytest.mark.robustness("wrong: labels of any size need no memory of their size")
@pytest.mark.parametrize("method", ["tal", "simota", NeedsPredictions()])
def test_large_labels_are_assigned_as_small_ones(method):
    small, large = (compare(black(), BOXES, labels, method).rows[0].assignment for labels in ([0, 1], [7, 2**40]))
    assert torch.equal(small.gt_index, large.gt_index)
    assert torch.equal(small.label, large.label)
    assert torch.equal(large.category, torch.tensor([7, 2**40, -1])[small.category])
    assert small.positive.any()
    assert not compare(black(), [], [], method).rows[0].assignment.positive.any()


def test_jittered_predictions():
    grid = PointGrid((64, 96), (8, 16), 0.5)
    big, small = [8.0, 8.0, 88.0, 60.0], [40.0, 20.0, 60.0, 40.0]
    boxes, labels = [torch.tensor([big, small]), torch.zeros(0, 4)], [torch.tensor([0, 1]), torch.zeros(0).long()]
    exact = jittered_predictions(grid, boxes, labels, 0.0, 2)
    at = int(((grid.xy == torch.tensor([52.0, 28.0])).all(1) & (grid.level == 0)).nonzero())
    assert exact.boxes[0, at].tolist() == small  # in both: the smaller one
    at = int(((grid.xy == torch.tensor([20.0, 20.0])).all(1) & (grid.level == 0)).nonzero())
    assert exact.boxes[0, at].tolist() == big
    assert exact.logits[0, at].argmax() == 0
    inside = ((grid.xy > torch.tensor(big[:2])) & (grid.xy < torch.tensor(big[2:]))).all(1)
    means = []
    for amount in (0.05, 0.2, 0.5):
        outputs = jittered_predictions(grid, boxes, labels, amount, 2, seed=1)
        again = jittered_predictions(grid, boxes, labels, amount, 2, seed=1)
        other = jittered_predictions(grid, boxes, labels, amount, 2, seed=2)
        assert torch.equal(outputs.distances, again.distances)
        assert not torch.equal(outputs.distances, other.distances)
        assert (outputs.distances >= 0).all()
        assert outputs.logits.isfinite().all()
        assert outputs.distances.isfinite().all()
        means.append(float(aligned_iou(outputs.boxes[0, inside], exact.boxes[0, inside]).mean()))
    assert 1 > means[0] > means[1] > means[2] > 0
    assert outputs.logits[1].sigmoid().max() < 0.011  # no object: background everywhere
    with pytest.raises(ValueError, match="jitter"):
        jittered_predictions(grid, boxes, labels, -1, 2)


def test_the_input_size_scales_boxes_and_points_and_stands_in_the_caption():
    """As if the image had been that large: the same points, the same labels."""
    figure = compare(black(), BOXES, [0, 2], ["FCOS", "DSLA"], input_size=(800, 1333))
    height, width = black().shape[:2]
    scale = min(800 / min(height, width), 1333 / max(height, width))
    size = (int(height * scale), int(width * scale))
    large = np.zeros((*size, 3), dtype=np.float32)
    boxes = torch.tensor(BOXES) * torch.tensor([size[1] / width, size[0] / height] * 2)
    for row, other in zip(figure.rows, compare(large, boxes, [0, 2], ["FCOS", "DSLA"]).rows, strict=True):
        assert torch.equal(row.assignment.gt_index, other.assignment.gt_index)
        assert torch.allclose(row.assignment.label, other.assignment.label, atol=1e-4)
    assert f"{size[1]} × {size[0]} pixels (stored as {width} × {height})" in figure.caption
    padded = compare(black(), BOXES, [0, 2], "DSLA", input_size=64)
    assert "padded to 64 × 64" in padded.caption
    assert padded.rows[0].assignment.grid.shapes[0] == (8, 8)
