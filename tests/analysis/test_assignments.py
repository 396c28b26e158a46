"""Assignment statistics: points by hand, batches and orders that must not matter, undefined numbers."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import dsla
from dsla.analysis import assignment_statistics
from dsla.assigners import DSLA, FCOS, METHODS, FoveaBox
from dsla.data import Scenes
from dsla.errors import DataError, DataWarning
from dsla.geometry import PointGrid

RANGES = ((0, 16), (16, 1e8))
ONE = {"strides": (8, 16), "offset": 0.5, "image_sizes": (32, 32)}


def target(*boxes, **more):
    return {"boxes": torch.tensor(boxes).float().reshape(-1, 4), "labels": torch.zeros(len(boxes)).long(), **more}


def test_points_by_hand():
    # Points of stride 8 at 4, 12, 20, 28; of stride 16 at 8 and 24.
    data = [
        target([0, 0, 16, 16], [0, 0, 8, 8], [30, 30, 32, 32]),
        target(),
        target([0, 0, 32, 32], crowd_boxes=torch.tensor([[0.0, 0, 32, 32]]), image_id=7),
    ]
    table = assignment_statistics(FCOS(RANGES), data, **ONE)
    assert table["image"].tolist() == [0, 0, 0, 7]
    assert table["gt"].tolist() == [0, 1, 2, 0]
    # 4 points of stride 8 lie in the first box, of which the smaller second one takes one. Nothing lies in the third.
    # In the last box m = max(l, t, r, b) ≥ 20 at every point of stride 8, so only the four of stride 16 remain.
    assert table["points_8"].tolist() == [3, 1, 0, 0]
    assert table["points_16"].tolist() == [0, 0, 0, 4]
    assert table["points"].tolist() == [3, 1, 0, 4]
    assert table["claimed"].tolist() == [4, 1, 0, 4]
    assert table["ambiguous"].tolist() == [0, 1, 0, 0]
    assert table["label_mass"].tolist() == [3, 1, 0, 4]
    assert table["label_max"].tolist() == [1, 1, 0, 1]
    numbers = table.summary()
    assert numbers.to_dict() == {
        "objects": 4, "points": 2, "points_median": 2, "points_8": 1, "points_16": 1, "label_mass": 2, "positives": 8,
        "ambiguous": 1, "ambiguous_share": 1 / 8, "without_point": 1, "few_points_share": 0.25, "crowded_out": 0,
        "best_possible_recall": 0.75,
    }  # fmt: skip
    assert table.attrs["images"] == 3
    small = table[(table["x2"] - table["x1"]) < 10].summary()
    assert (small["objects"], small["best_possible_recall"]) == (2, 0.5)


def test_an_object_that_others_crowd_out():
    numbers = assignment_statistics(FCOS(RANGES), [target([3, 3, 5, 5], [2, 2, 6, 6])], **ONE).summary()
    assert numbers[["without_point", "crowded_out", "ambiguous"]].tolist() == [1, 1, 1]


def test_smooth_labels_by_hand():
    table = assignment_statistics(DSLA(((0, 64),), core_zone=False), [target([0, 0, 24, 24])], strides=(8,),
                                  offset=0.5, image_sizes=(24, 24))  # fmt: skip
    side = np.sqrt(4 / 20)  # centerness one point off the centre along one axis; along both it is side²
    np.testing.assert_allclose(table["label_mass"], [1 + 4 * side + 4 * side**2], rtol=1e-6)
    assert (table["points"].tolist(), table["label_max"].tolist()) == ([9], [1.0])


def test_resized_to_the_input_of_a_detector():
    data = {
        "images": [{"id": 3, "height": 100, "width": 200}],
        "categories": [{"id": 5}],
        "annotations": [{"id": 9, "image_id": 3, "category_id": 5, "bbox": [10, 20, 30, 40]}],
    }
    plain = assignment_statistics("FCOS", data)
    assert plain[["x1", "y1", "x2", "y2", "gt", "category"]].to_numpy().tolist() == [[10, 20, 40, 60, 9, 5]]
    twice = assignment_statistics("FCOS", data, input_size=(200, 1000))
    assert twice[["x1", "y1", "x2", "y2"]].to_numpy().tolist() == [[20, 40, 80, 120]]
    assert assignment_statistics("FCOS", data, input_size=(200, 300))["x2"].tolist() == [60]  # the long side decides
    assert twice["points"].item() > plain["points"].item()


@pytest.mark.parametrize("name", METHODS)
def test_every_assigner_whatever_the_batch(name):
    data = Scenes("val", 5)
    one, all_ = (assignment_statistics(name, data, batch_size=size) for size in (1, 5))
    pd.testing.assert_frame_equal(pd.DataFrame(one), pd.DataFrame(all_))
    first = assignment_statistics(name, data, max_images=2)
    pd.testing.assert_frame_equal(pd.DataFrame(first), pd.DataFrame(one[one["image"].isin(first["image"])]))
    assert len(one) == sum(len(data[i][1]["boxes"]) for i in range(5))
    assert (one["points"] == one[[f"points_{s}" for s in (8, 16, 32, 64, 128)]].sum(axis=1)).all()
    assert ((one["points"] > 0) == (one["label_max"] > 0)).all()
    assert (one["label_max"] <= one["label_mass"] + 1e-6).all()
    assert (one["ambiguous"] <= one["points"]).all()
    if not METHODS[name].needs_predictions:
        assert (one["points"] <= one["claimed"]).all()
    assert one.summary()["best_possible_recall"] > 0


def test_equal_to_the_assignment(random_case):
    truth, _ = random_case(3, images=9)
    for image, height in zip(truth["images"], range(90, 180, 10), strict=True):
        image |= {"height": height, "width": 130}
    table = assignment_statistics("DSLA", truth, batch_size=4)
    labels = {3: 0, 7: 1, 90: 2}
    for image in truth["images"]:
        rows = [a for a in truth["annotations"] if a["image_id"] == image["id"] and not a["iscrowd"]]
        xywh = torch.tensor([a["bbox"] for a in rows]).float().reshape(-1, 4)
        boxes = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
        grid = PointGrid((image["height"], 130), (8, 16, 32, 64, 128), 0.0)
        alone = DSLA()(grid, [boxes], [torch.tensor([labels[a["category_id"]] for a in rows]).long()])
        mine = table[table["image"] == image["id"]]
        assert mine["gt"].tolist() == [a["id"] for a in rows]
        assert mine["points"].tolist() == alone.counts().tolist()
        mass = [float(alone.label[alone.gt_index == n].sum()) for n in range(len(rows))]
        np.testing.assert_allclose(mine["label_mass"], mass, rtol=1e-5)


@pytest.mark.parametrize("method", [FCOS(), FCOS(center_sampling=1.5), DSLA(), DSLA(relaxation=0.4, core_zone=False)])
@pytest.mark.parametrize("input_size", ["native", (120, 160), 256])
def test_counting_from_candidates_equals_assigning(random_case, method, input_size):
    class Assigning(type(method)):
        """The same rules, but nothing says that they can be counted pair by pair."""

        def _assign(self, grid, truth, predictions):
            return super()._assign(grid, truth, predictions)

    truth, _ = random_case(4, images=20)
    for place, image in enumerate(truth["images"]):
        image |= {"height": 90 + place, "width": 130 - 3 * place}
    many, one = (
        assignment_statistics(m, truth, input_size=input_size) for m in (method, Assigning(**method.options()))
    )
    assert many["ambiguous"].sum() > 0
    pd.testing.assert_frame_equal(pd.DataFrame(many), pd.DataFrame(one))


@pytest.mark.parametrize("seed", range(2))
def test_order_of_objects_and_images_does_not_matter(random_case, seed):
    truth, _ = random_case(seed, images=8)
    turned = {**truth, "images": truth["images"][::-1], "annotations": truth["annotations"][::-1]}
    tables = [
        assignment_statistics("FCOS", t, image_sizes=(120, 120), batch_size=3).sort_values("gt")
        for t in (truth, turned)
    ]
    pd.testing.assert_frame_equal(*(pd.DataFrame(t.reset_index(drop=True)) for t in tables))


def test_real_images(shared):
    """FCOS's points, and objects that no point of DSLA's learns, on the first images of the COCO sample."""
    file = shared / "data" / "coco_sample" / "instances.json"
    table = assignment_statistics("DSLA", file, max_images=24)
    data = json.loads(file.read_text())
    ids = [image["id"] for image in data["images"]][:24]
    assert len(table) == sum(a["image_id"] in ids and not a["iscrowd"] for a in data["annotations"])
    hard = assignment_statistics(FCOS(), file, max_images=24)
    assert (hard["label_mass"] == hard["points"]).all()
    assert hard.summary()["label_mass"] > table.summary()["label_mass"] > 0


def test_undefined_numbers_have_a_reason():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        empty = assignment_statistics("FCOS", [target()], image_sizes=(64, 64))
        lost = assignment_statistics("FCOS", [target([30, 30, 31, 31])], image_sizes=(64, 64)).summary()
    assert len(empty) == 0
    numbers = empty.summary()
    assert numbers[["objects", "positives", "without_point"]].tolist() == [0, 0, 0]
    undefined = set(numbers[numbers.isna()].index)
    assert undefined == set(numbers.attrs["reasons"]) >= {"points", "best_possible_recall", "ambiguous_share"}
    assert set(numbers.attrs["reasons"].values()) == {"no object"}
    assert lost["best_possible_recall"] == 0
    assert lost.attrs["reasons"] == {"ambiguous_share": "no point learns an object"}


def test_bad_input_is_named():
    with pytest.raises(DataError, match=r"images 0 are not known; give image_sizes"):
        assignment_statistics("FCOS", [target([0, 0, 9, 9])])
    with pytest.raises(DataError, match=r"one each of 1 images; got \[3, 2\]"):
        assignment_statistics("FCOS", [target()], image_sizes=[(9, 9)] * 3)
    with pytest.raises(ValueError, match="no method 'ssd': there are"):
        assignment_statistics("ssd", [target()], image_sizes=(9, 9))
    for one, levels in ((FCOS(RANGES), 2), (FoveaBox(), 5)):
        with pytest.raises(ValueError, match=f"ranges for {levels} levels but there are 1 strides"):
            assignment_statistics(one, [target()], image_sizes=(9, 9), strides=(8,))
    assert dsla.analysis.assignment_statistics is assignment_statistics


def test_the_size_that_the_detector_sees_decides_which_objects_lack_a_point(shared):
    file = shared / "data" / "coco_sample" / "instances.json"
    lacking = [
        assignment_statistics("DSLA", file, input_size=size).summary()["without_point"]
        for size in ("native", (800, 1333), 640)
    ]
    assert lacking[:2] == [34, 7]
    assert 7 < lacking[2] <= 34  # of the 640 pixels of most images nothing is scaled, but for the smaller ones


@pytest.mark.robustness("wrong: sizes in the file that are not the pictures' are said where no picture is read")
def test_sizes_of_the_file_and_of_the_pictures(tmp_path):
    sizes = {1: (64, 32), 2: (64, 32), 3: (32, 64)}  # width, height; 3 is a photograph to be turned
    exif = Image.Exif()
    exif[0x0112] = 6
    for n, size in sizes.items():
        size = (96, 48) if n == 2 else size
        Image.new("RGB", size).save(tmp_path / f"{n}.jpg", exif=exif if n == 3 else b"")
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 64, "height": 32} for n in sizes]
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [0, 0, 8, 8]} for n in sizes]
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "x"}]}))
    data = dsla.CocoDataset(tmp_path, file)
    at = {"strides": (8, 16), "input_size": 128}
    with pytest.warns(DataWarning, match=r"than its picture has, of those looked at: 1 image \(2\)"):
        as_said = assignment_statistics("fcos", data, **at)
    with pytest.warns(DataWarning, match=r"than its picture has, of those looked at: 1 image \(2\)") as caught:
        dsla.analysis.coverage(["fcos", "dsla"], data)
    assert len(caught) == 1  # however many settings are counted
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_they_are = assignment_statistics("fcos", data, image_sizes="pictures", **at)
        assert assignment_statistics("fcos", str(file), **at).equals(as_said)  # of a file nobody knows the pictures
    assert as_said["x2"].tolist() == [16, 16, 16]
    assert as_they_are["x2"].round(3).tolist() == [16, 10.667, 16]
    for wrong in (data, str(file)):
        with pytest.raises(DataError, match="image_sizes is"):
            assignment_statistics("fcos", wrong, image_sizes="pictures" if wrong is not data else "photos")
