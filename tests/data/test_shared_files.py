"""The odd inputs and the real data sets that may lie beside the repository."""

import json

import pytest

from dsla.data import CocoDataset
from dsla.errors import DataWarning


def case(shared, name, file="ann.json", images="images"):
    return CocoDataset(shared / "cases/inputs" / name / images, shared / "cases/inputs" / name / file)


@pytest.mark.parametrize("file", ["ann.json", "ann_only_empty.json"])
def test_case_b01(shared, file):
    assert [len(t["boxes"]) for _, t in case(shared, "B01", file)] == ([1, 0] if file == "ann.json" else [0])


def test_case_b02(shared):
    with pytest.warns(DataWarning) as caught:
        data = case(shared, "B02")
    assert len(caught) == 1
    assert sorted(i for p in data.problems for i in p.ids) == list(range(2, 11))
    assert data[0][1]["boxes"].tolist() == [[20, 20, 50, 50]]


def test_cases_b05_b08_b09(shared):
    data = case(shared, "B05")
    assert [data.class_names[n] for n in data[0][1]["labels"]] == ["zebra", "ant", "bee"]
    assert [a["area"] for a in case(shared, "B08").ground_truth()["annotations"]] == [400, 2000, 10000]
    data = case(shared, "B09")
    assert [(a["id"], a["image_id"]) for a in data.ground_truth()["annotations"]] == [(1, 0), (2, 0)]


@pytest.mark.parametrize(("file", "shape"), [("ann.json", (120, 80)), ("ann_stored_frame.json", (80, 120))])
def test_case_b12(shared, file, shape):
    image, target = case(shared, "B12", file)[0]
    assert image.shape == (3, *shape)
    x1, y1, x2, y2 = target["boxes"][0].int().tolist()
    red, green, _ = image[:, y1:y2, x1:x2].mean((1, 2)) * 255
    assert red > 200
    assert green < 60


def test_case_b13(shared):
    data = case(shared, "B13")
    for i, (image, _) in enumerate(data):
        assert image.shape == (3, 48, 64)
        assert 0 <= image.min() <= image.max() <= 1
        red, green, blue = image[:, :, :32].mean((1, 2)) * 255
        if data.path(i).stem in ("grey", "grey_alpha", "bilevel"):
            assert red == green == blue
        else:
            assert red - green > 100


def test_case_b17(shared):
    for file in ("ann bom.json", "ann utf8.json"):
        data = case(shared, "B17/my data", file, "bilder ä")
        assert data.class_names == ("고양이 café",)
        assert data[0][0].shape == (3, 60, 60)


def test_coco_sample_is_read_as_it_is(shared):
    """Counts from the sample's README; boxes to the bit, so that evaluation equals that of the file itself."""
    folder = shared / "data/coco_sample"
    data = CocoDataset(folder / "images", folder / "instances.json", strict=True, check_files=True)
    assert (len(data), len(data.category_ids), data.category_ids[-1]) == (128, 80, 90)
    truth, raw = data.ground_truth(), json.loads((folder / "instances.json").read_text(encoding="utf-8"))
    by_image = sorted(
        (a["image_id"], a["category_id"], *a["bbox"], a["area"], a["iscrowd"]) for a in truth["annotations"]
    )
    assert by_image == sorted(
        (a["image_id"], a["category_id"], *a["bbox"], a["area"], a["iscrowd"]) for a in raw["annotations"]
    )
    assert sum(len(data.target(i)["crowd_boxes"]) for i in range(128)) == 11
    assert sum(len(data.target(i)["boxes"]) == len(data.target(i)["crowd_boxes"]) == 0 for i in range(128)) == 3
    assert all(data[i][0].shape == (3, *data.image_size(i)) for i in range(0, 128, 8))


def test_bccd_is_read(shared):
    folder = shared / "data/bccd"
    data = CocoDataset(folder / "images", folder / "instances_val.json", strict=True, check_files=True)
    assert (len(data), data.class_names) == (72, ("Platelets", "RBC", "WBC"))
    assert sum(len(data.target(i)["boxes"]) for i in range(72)) == 945
