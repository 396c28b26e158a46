"""The odd inputs and the real data sets that may lie beside the repository."""

import json

import pytest

from dsla.analysis import assignment_statistics, truth_of
from dsla.analysis.detectors import ask
from dsla.coco.engines import ENGINES
from dsla.coco.evaluation import evaluate_detections
from dsla.data import CocoDataset
from dsla.errors import DataError, DataWarning
from dsla.widgets import DetectionBrowser


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


def test_case_c03(shared):
    """Left out of teaching like a crowd, and said; evaluation as pycocotools has it: an object without a detection."""
    with pytest.warns(DataWarning, match=r"the flag ignore: 1: 1 annotation \(2\), not taught"):
        data = case(shared, "C03")
    target = data[0][1]
    assert (target["boxes"].tolist(), target["crowd_boxes"].tolist()) == ([[10, 10, 40, 40]], [[70, 20, 120, 80]])
    results = shared / "cases/inputs/C03/dets.json"
    values = [evaluate_detections(data, results, engine=engine).summary["AP"] for engine in ENGINES]
    assert values == [pytest.approx(51 / 101)] * 2


def test_case_c06(shared, tmp_path):
    """Results whose ids are a counter, beside the files' names: nobody can mean that."""
    file = shared / "cases/inputs/C06/ann.json"
    rows = [{"image_id": n, "file_name": f"{name}.png", "category_id": 1, "bbox": [10, 10, 40, 40], "score": 0.9}
            for n, name in enumerate("abc", 1)]  # fmt: skip
    (tmp_path / "r.json").write_text(json.dumps(rows), encoding="utf-8")
    with pytest.raises(DataError, match=r"r.json: detections of 'a.png' carry image_id 1, which in .* is 'b.png'"):
        ask([tmp_path / "r.json"], file)


@pytest.mark.parametrize("form", ["big_images", "huge_images", "wide_images", "float_ids", "mixed_category", "text_ann",
                                  "text_category", "uuid_ann"])  # fmt: skip
def test_case_c13(shared, form):
    folder = shared / "cases/inputs/C13"
    truth = folder / f"ann_{form}.json"
    results = next((f for f in [folder / f"dets_{form}.json"] if f.exists()), folder / "dets.json")
    assert len(CocoDataset(folder / "images", truth)[0][1]["boxes"]) == 1
    for engine in ENGINES:
        assert evaluate_detections(truth, results, engine=engine).summary["AP"] == pytest.approx(1.0)
    assert ask([results], truth)[0].value("evaluation", "AP") == pytest.approx(1.0)
    browser = DetectionBrowser(CocoDataset(folder / "images", truth), results)
    assert [table["verdict"].tolist() for table in browser.tables.values()] == [["hit"]]
    browser.close()


@pytest.mark.robustness("wrong: an image listed twice counts once or is refused everywhere")
def test_case_c17(shared):
    """One refusal, by whatever door: nobody can know which of the two rows is meant."""
    folder = shared / "cases/inputs/C17"
    doors = (
        lambda f: CocoDataset(folder / "images", f),
        lambda f: evaluate_detections(f, folder / "dets.json"),
        lambda f: ask([folder / "dets.json"], f),
        lambda f: assignment_statistics("fcos", f),
        truth_of,
    )
    for door in doors:
        with pytest.raises(DataError, match=r"images\[2\] \(1.png\): id 1 is used twice; remove one"):
            door(folder / "ann.json")
        door(folder / "ann_once.json")
