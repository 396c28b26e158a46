"""The embedded scenes: the same everywhere, disjoint splits, labels that fit the pixels, what a scene is made of."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from pycocotools.coco import COCO

import dsla.data.render as render
from dsla import DataError
from dsla.data import CocoDataset, Scenes, write_coco

# Means of the 4x4 blocks of 32x32 pixels, channels averaged, and the object rows (label, box) of the first scenes of
# seed 0. They change only if the drawing is changed, and shipped weights then no longer fit the data.
PINNED = {
    "train": {
        "means": [
            [150.4, 140.7, 164.3, 150.8],
            [160.4, 159.2, 168.7, 158.5],
            [146.7, 141.6, 166.8, 147.7],
            [142.5, 144.5, 154.3, 150.8],
        ],
        "rows": [[1, 16, 90, 51, 116], [1, 3, 67, 46, 108], [1, 11, 79, 61, 128]],
    },
    "val": {
        "means": [
            [140.8, 143.9, 133.1, 121.1],
            [131.1, 134.9, 113.5, 105.7],
            [128.9, 133.1, 139.8, 125.8],
            [138.9, 122.7, 153.9, 147.1],
        ],
        "rows": [
            [2, 88, 0, 128, 48],
            [1, 97, 43, 120, 58],
            [2, 65, 52, 89, 69],
            [0, 68, 74, 113, 121],
            [0, 69, 31, 128, 98],
        ],
    },
    "test": {
        "means": [
            [131.9, 141.7, 136.2, 119.0],
            [120.4, 131.2, 117.2, 102.6],
            [145.8, 142.4, 150.9, 146.8],
            [139.7, 131.1, 146.5, 134.1],
        ],
        "rows": [[2, 0, 80, 42, 124]],
    },
}


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return Scenes("train", size=600).prepare()


@pytest.fixture(scope="module")
def stats(scenes) -> pd.DataFrame:
    return table_of(scenes)


def table_of(scenes: Scenes) -> pd.DataFrame:
    """One row an object: image index, class, x, y, w, h, long_side, aspect, visible, area, soft, tail."""
    rows = [scenes.prepare().rows(i) for i in range(len(scenes))]
    table = pd.DataFrame(np.concatenate([np.zeros((0, len(render.COLUMNS))), *rows]), columns=list(render.COLUMNS))
    table.insert(0, "image", np.repeat(np.arange(len(rows)), [len(r) for r in rows]))
    table["class"] = np.array(scenes.class_names)[table["label"].astype(int)]
    table["x"], table["y"] = table["x1"], table["y1"]
    table["w"], table["h"] = table["x2"] - table["x1"], table["y2"] - table["y1"]
    table["long_side"] = table[["w", "h"]].max(axis=1)
    table["aspect"] = table["long_side"] / table[["w", "h"]].min(axis=1).clip(lower=1)
    sides = ["image", "class", "x", "y", "w", "h", "long_side", "aspect"]
    return table[[*sides, "visible", "area", "soft", "tail"]].astype({"soft": bool, "tail": bool})


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_pixels_and_boxes_are_the_pinned_ones(split):
    """Block means may differ by one grey level, in case a platform's sine differs in the last bit; boxes may not."""
    pixels, rows = render.render(0, split, 0, 128)
    means = pixels.reshape(3, 4, 32, 4, 32).mean((0, 2, 4))
    np.testing.assert_allclose(means, PINNED[split]["means"], atol=1)
    assert rows[:, :5].astype(int).tolist() == PINNED[split]["rows"]


def test_scene_depends_on_seed_split_and_index_only(scenes):
    few = Scenes("train", size=5)
    assert torch.equal(few.images, scenes.images[:5])  # whatever the size, the order and the process
    late = Scenes("train", size=600)
    assert torch.equal(late[417][0], scenes[417][0])
    assert torch.equal(late[417][1]["boxes"], scenes[417][1]["boxes"])


def test_splits_and_seeds_are_disjoint():
    sets = [Scenes("train", 40), Scenes("val", 40), Scenes("test", 40), Scenes("train", 40, seed=1)]
    flat = torch.cat([s.images for s in sets]).flatten(1)
    assert len(torch.unique(flat, dim=0)) == 160


def test_processes_draw_what_one_process_draws():
    calls = []
    parallel = Scenes("val", 130).prepare(workers=2, progress=lambda done, of: calls.append((done, of)))
    alone = Scenes("val", 130).prepare(workers=1)
    assert torch.equal(parallel.images, alone.images)
    assert all(np.array_equal(parallel.rows(i), alone.rows(i)) for i in range(130))
    assert calls[-1] == (130, 130)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_prepare_after_single_scenes_fills_only_the_rest(monkeypatch):
    data = Scenes("val", 4)
    first = data[2][0]
    drawn = []
    real = render.render
    monkeypatch.setattr(render, "render", lambda *a: drawn.append(a[2]) or real(*a))
    data.prepare(workers=1)
    assert drawn == [0, 1, 3]
    assert torch.equal(data[2][0], first)


def test_a_worker_that_fails_says_why(monkeypatch):
    monkeypatch.setattr(render, "__file__", render.__file__ + ".missing")
    with pytest.raises(RuntimeError, match=r"drawing scenes .* failed"):
        Scenes("val", 200).prepare(workers=2)


def test_drawing_needs_numpy_only():
    """Workers start at once because they import neither torch nor the package."""
    code = (
        f"import sys, runpy; runpy.run_path({render.__file__!r}); print('torch' in sys.modules, 'dsla' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_items_follow_the_protocol(scenes):
    image, target = scenes[3]
    assert image.shape == (3, 128, 128)
    assert image.dtype == torch.float32
    assert 0 <= image.min() < image.max() <= 1
    assert target["boxes"].dtype == torch.float32
    assert target["labels"].dtype == torch.int64
    assert target["crowd_boxes"].shape == (0, 4)
    assert target["image_id"] == scenes.image_id(3) == 4
    assert scenes.image_size(3) == (128, 128)
    assert len(Scenes()) == 6000
    assert len(Scenes("val")) == len(Scenes("test")) == 400
    assert len(list(Scenes("val", size=3))) == 3


def test_boxes_are_whole_pixels_in_the_image_and_large_enough(stats):
    assert (stats[["x", "y"]].to_numpy() >= 0).all()
    assert (stats["x"] + stats["w"] <= 128).all()
    assert (stats["y"] + stats["h"] <= 128).all()
    assert (stats["long_side"] >= 18).all()
    assert (stats[["w", "h"]].min(axis=1) >= 7).all()
    assert (stats[["x", "y", "w", "h"]] % 1 == 0).all(axis=None)
    assert (stats["visible"].between(render.MIN_VISIBLE, 1)).all()
    assert (stats["area"] <= stats["w"] * stats["h"]).all()


def test_boxes_are_those_of_the_visible_pixels():
    """Recomputed the long way: owner of each pixel = the first shape, front to back, that is opaque there."""
    for index in range(30):
        shapes, rows = render.compose(render.Draw(0, "train", index), 128)
        owner = np.full((128, 128), -1)
        for n, shape in reversed(list(enumerate(shapes))):
            for r, c in np.argwhere(shape.alpha >= render.OPAQUE):
                y, x = shape.y0 + r, shape.x0 + c
                if 0 <= y < 128 and 0 <= x < 128:
                    owner[y, x] = n
        assert sorted(set(owner.ravel()) - {-1}) == list(range(len(shapes)))
        for n, (shape, row) in enumerate(zip(shapes, rows, strict=True)):
            ys, xs = np.nonzero(owner == n)
            assert row[0] == shape.label
            assert row[1:5] == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
            assert row[6] == len(ys)
            assert row[5] == len(ys) / (shape.alpha >= render.OPAQUE).sum()


def test_scenes_hold_what_makes_assignment_interesting(scenes, stats):
    per_image = stats.groupby("image").size().reindex(range(600), fill_value=0)
    assert 2.5 < per_image.mean() < 2.95
    assert per_image.max() == 5
    assert 1 <= (per_image == 0).sum() <= 36  # background images occur
    low, high = np.percentile(stats["long_side"], [5, 95])
    assert 20 <= low <= 26
    assert 85 <= high <= 100
    assert (stats["class"].value_counts(normalize=True) > 0.15).all()
    assert set(stats["class"]) == set(scenes.class_names)
    assert (stats["aspect"] > 3).mean() > 0.01
    assert (stats["visible"] < 0.7).mean() > 0.15
    assert 0.12 < stats["soft"].mean() < 0.28
    assert 0.12 < stats["tail"].mean() < 0.28
    # Largest distance from the box's centre, and from the point that is nearest to a corner: three ranges are met.
    half = stats["long_side"] / 2
    assert (half <= 32).mean() > 0.5
    assert ((half > 32) & (half <= 64)).mean() > 0.15
    assert (stats["long_side"] > 64).mean() > 0.15
    overlapping = 0
    for i in range(200):
        boxes = scenes.target(i)["boxes"]
        wide = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - torch.maximum(
            boxes[:, None, :2], boxes[None, :, :2]
        )
        overlapping += int(((wide > 0).all(2).sum(1) > 1).any())
    assert 60 < overlapping < 160


def test_stats_follow_the_rows(scenes, stats):
    assert list(stats.columns) == ["image", "class", "x", "y", "w", "h", "long_side", "aspect", "visible", "area",
                                   "soft", "tail"]  # fmt: skip
    assert len(stats) == sum(len(scenes.rows(i)) for i in range(600))
    of = stats[stats["image"] == 7]
    target = scenes.target(7)
    corners = np.stack([of["x"], of["y"], of["x"] + of["w"], of["y"] + of["h"]], 1)
    np.testing.assert_array_equal(corners, target["boxes"].numpy())
    assert of["class"].tolist() == [scenes.class_names[n] for n in target["labels"]]
    assert table_of(Scenes("val", size=0)).empty


def test_image_size_scales_the_scene():
    data = Scenes("train", size=60, image_size=64)
    assert data[0][0].shape == (3, 64, 64)
    assert data.image_size(0) == (64, 64)
    assert table_of(data)["long_side"].between(9, 64).all()


def test_ground_truth_is_what_pycocotools_reads(scenes):
    coco = COCO()
    coco.dataset = scenes.ground_truth()
    coco.createIndex()
    assert sorted(coco.getImgIds()) == list(range(1, 601))
    rows = coco.loadAnns(coco.getAnnIds(imgIds=[8]))
    boxes = scenes.target(7)["boxes"]
    assert [row["bbox"] for row in rows] == torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).tolist()
    assert [row["area"] for row in rows] == [row["bbox"][2] * row["bbox"][3] for row in rows]
    assert min(coco.getAnnIds()) == 1


def test_written_as_coco_and_read_back(tmp_path):
    data = Scenes("test", size=12)
    path = data.to_coco(tmp_path)
    assert path == tmp_path / "instances.json"
    back = CocoDataset(tmp_path / "images", path, strict=True, check_files=True)
    assert back.class_names == data.class_names
    assert back.ground_truth()["annotations"] == data.ground_truth()["annotations"]
    for i in range(12):
        assert torch.equal(back[i][0], data[i][0])
        assert torch.equal(back[i][1]["boxes"], data[i][1]["boxes"])
        assert torch.equal(back[i][1]["labels"], data[i][1]["labels"])


def test_transforms_do_not_reach_what_is_written(tmp_path):
    plain = Scenes("test", size=1)
    turned = Scenes("test", size=1, transforms=lambda image, target: (image * 0, target))
    assert turned[0][0].max() == 0
    path = write_coco(turned, tmp_path)
    assert torch.equal(CocoDataset(tmp_path / "images", path)[0][0], plain[0][0])


@pytest.mark.parametrize("options", [{"split": "dev"}, {"size": -1}, {"seed": -1}, {"image_size": 8}])
def test_impossible_sets_are_refused(options):
    with pytest.raises(DataError, match=r"10{13} scenes of 128 × 128 pixels take 491,520,000 GB of memory"):
        Scenes("val", size=10**13)
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        Scenes(**options)
    with pytest.raises(IndexError, match="image 3 of 3"):
        Scenes("val", size=3)[3]
