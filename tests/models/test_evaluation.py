"""Evaluation: hand-computed values, files that broke other tools, and pycocotools' own numbers on real results."""

from __future__ import annotations

import copy
import json
import math
import re
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

import dsla
from dsla.coco.evaluation import METRICS, evaluate_detections, shown
from dsla.coco.ground_truth import GroundTruth
from dsla.errors import DataError, DataWarning
from dsla.files import plain
from dsla.models.evaluation import evaluate, predict_dataset
from dsla.models.hub import from_pretrained


def truth_of(boxes: list[tuple[int, int, list[float]]], categories: dict[int, str], images: int = 1) -> dict[str, Any]:
    """A COCO ground truth from (image_id, category_id, xywh); images from 1."""
    return {
        "images": [{"id": i + 1, "file_name": f"{i}.png", "width": 200, "height": 200} for i in range(images)],
        "annotations": [
            {"id": i + 1, "image_id": image, "category_id": c, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for i, (image, c, box) in enumerate(boxes)
        ],
        "categories": [{"id": c, "name": name} for c, name in categories.items()],
    }


def perfect(truth: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": list(a["bbox"]), "score": 0.9 - 0.1 * i}
        for i, a in enumerate(truth["annotations"])
    ]


ONE = pytest.approx(1.0, abs=1e-12)  # pycocotools adds a rounding unit to the denominators
THREE_SIZES = [(1, 1, [10, 10, 20, 20]), (1, 1, [50, 50, 50, 40]), (1, 1, [90, 90, 100, 100])]


def test_average_precision_by_hand():
    truth = truth_of([(1, 1, [0, 0, 40, 40]), (1, 1, [100, 100, 40, 40])], {1: "a"})
    detections = perfect(truth)
    detections[0]["score"], detections[1]["score"] = 0.9, 0.7
    detections.append({"image_id": 1, "category_id": 1, "bbox": [50, 0, 20, 20], "score": 0.8})
    result = evaluate_detections(truth, detections)
    # precision 1 for recall 0, 0.01 … 0.5 (51 of 101 points), then 2/3
    assert result.summary["AP"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert result.summary["AR@1"] == 0.5
    assert result.summary["AR@10"] == 1.0
    row = result.per_class.loc[1]
    assert (row["name"], row["objects"], row["detections"]) == ("a", 2, 3)


def test_average_precision_at_thresholds_by_hand():
    truth = truth_of([(1, 1, [0, 0, 100, 100])], {1: "a"})
    detections = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 100, 72], "score": 0.5}]  # IoU 0.72
    summary = evaluate_detections(truth, detections).summary
    assert (summary["AP50"], summary["AP75"]) == pytest.approx((1.0, 0.0))
    assert summary["AP"] == pytest.approx(0.5)  # 0.50, 0.55, 0.60, 0.65, 0.70 of ten thresholds


@pytest.mark.parametrize("ids", [(90, 3, 7), (3, 7, 90), (0, 1, 2), (1000, 1, 999)])
def test_category_ids_with_gaps_in_any_order(ids):
    names = dict(zip(ids, ("ninety", "three", "seven"), strict=True))
    truth = truth_of([(1, c, [10 + 50 * i, 10, 20, 20]) for i, c in enumerate(ids)], names)
    result = evaluate_detections(truth, perfect(truth))
    assert result.summary["AP"] == ONE
    assert result.per_class["name"].to_dict() == names
    assert result.per_class["AP"].tolist() == [ONE] * 3


@pytest.mark.parametrize("absent", [("area",), ("iscrowd",), ("area", "iscrowd"), ("id",), ("area", "iscrowd", "id")])
@pytest.mark.parametrize("null", [False, True])
def test_absent_fields_are_completed_and_the_file_stays(tmp_path, absent, null):
    truth = truth_of(THREE_SIZES, {1: "a"})
    for row in truth["annotations"]:
        for key in absent:
            if null:
                row[key] = None
            else:
                del row[key]
    path, results = tmp_path / "ann.json", tmp_path / "dets.json"
    path.write_text(json.dumps(truth), encoding="utf-8")
    results.write_text(json.dumps(perfect(truth)), encoding="utf-8")
    before, kept = path.read_bytes(), copy.deepcopy(truth)
    for source in (path, str(path), truth):
        summary = evaluate_detections(source, results).summary
        assert summary[["AP", "AP_small", "AP_medium", "AP_large"]].tolist() == [ONE] * 4
    assert path.read_bytes() == before
    assert truth == kept


def test_area_of_the_file_decides_the_size_class():
    truth = truth_of([(1, 1, [0, 0, 40, 40])], {1: "a"})
    truth["annotations"][0]["area"] = 500.0  # a segmentation's area: small, although the box is medium
    summary = evaluate_detections(truth, perfect(truth)).summary
    assert summary["AP_small"] == ONE
    assert math.isnan(summary["AP_medium"])


@pytest.mark.parametrize("ids", [(0, 1), (5, 5), (-1, 0), ("a", "b")])
def test_annotation_ids_from_zero_and_other_odd_ones(ids):
    truth = truth_of([(1, 1, [0, 0, 20, 20]), (1, 1, [50, 50, 20, 20])], {1: "a"})
    truth["images"][0]["id"] = 0
    for row, name in zip(truth["annotations"], ids, strict=True):
        row["id"], row["image_id"] = name, 0
    summary = evaluate_detections(truth, perfect(truth)).summary
    assert summary[["AP", "AP50", "AR@100"]].tolist() == [ONE] * 3


def test_no_detection_at_all_is_zero():
    truth = truth_of(THREE_SIZES, {1: "a"})
    result = evaluate_detections(truth, [])
    assert result.summary.tolist() == [0.0] * 12
    assert result.per_class["AP"].tolist() == [0.0]
    assert result.notes == ("0 detections",)


def test_undefined_values_are_not_numbers():
    truth = truth_of([(1, 1, [10, 10, 20, 20]), (1, 1, [40, 10, 16, 16])], {1: "seen", 2: "unseen"})
    detections = perfect(truth)
    result = evaluate_detections(truth, detections)
    defined = {"AP", "AP50", "AP75", "AP_small", "AR@1", "AR@10", "AR@100", "AR_small"}
    assert set(result.summary.dropna().index) == defined
    assert result.summary["AP"] == ONE
    assert result.summary["AP_small"] == ONE
    assert math.isnan(result.per_class.loc[2, "AP"])
    assert result.notes == ()
    data = json.loads(json.dumps(plain({**result.to_series(), "classes": result.to_series().attrs["per_class"]})))
    assert data["AP_medium"] is None
    assert data["AP"] == ONE
    assert data["classes"]["2"]["AP"] is None
    assert "-1" not in str(result)
    assert re.search(r"AP_medium +n/a", str(result))

    detections.append({"image_id": 1, "category_id": 2, "bbox": [60, 60, 30, 30], "score": 0.99})
    result = evaluate_detections(truth, detections)
    assert result.summary["AP"] == ONE
    assert result.notes == ("1 detection in a class without ground truth: unseen",)


def test_nothing_to_find_is_undefined():
    truth = truth_of([], {1: "a"})
    result = evaluate_detections(truth, [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5}])
    assert result.summary.isna().all()
    assert any("no ground truth object" in note for note in result.notes)


def test_crowd_takes_detections_without_counting_them():
    truth = truth_of([(1, 1, [0, 0, 40, 40]), (1, 1, [100, 100, 90, 90])], {1: "a"})
    truth["annotations"][1]["iscrowd"] = 1
    detections = [{"image_id": 1, "category_id": 1, "bbox": [110, 110, 20, 20], "score": 0.9}, perfect(truth)[0]]
    detections[1]["score"] = 0.5
    assert evaluate_detections(truth, detections).summary["AP"] == ONE


def test_byte_order_mark_and_names_beyond_ascii(tmp_path):
    truth = truth_of(THREE_SIZES, {1: "고양이 café"})
    path = tmp_path / "mit Marke ä.json"
    path.write_text(json.dumps(truth, ensure_ascii=False), encoding="utf-8-sig")
    assert evaluate_detections(path, perfect(truth)).per_class.loc[1, "name"] == "고양이 café"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_id": 77}, ["image_id", "77"]),
        ({"category_id": 12}, ["category_id", "12", "it knows 1"]),
        ({"score": float("nan")}, ["detection 1", "score nan"]),
        ({"score": None}, ["detection 1", "score None"]),
        ({"bbox": [1, 2, 3]}, ["detection 1", "[1, 2, 3]"]),
        ({"bbox": [1, 2, 3, float("inf")]}, ["detection 1", "inf"]),
    ],
)
def test_a_bad_detection_is_named(change, words):
    truth = truth_of(THREE_SIZES, {1: "a"})
    detections = perfect(truth)
    detections[1] |= change
    with pytest.raises(DataError) as error:
        evaluate_detections(truth, detections)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize("row", ["a word", 7, None, [1, 1, [0, 0, 5, 5], 0.5]])
def test_a_row_that_is_none_is_named(row):
    truth = truth_of(THREE_SIZES, {1: "a"})
    with pytest.raises(DataError, match="detection 1 is"):
        evaluate_detections(truth, [perfect(truth)[0], row])
    with pytest.raises(DataError, match="not a COCO results list"):
        evaluate_detections(truth, 7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bbox": [float("nan"), 0, 1, 1]}, ["annotation 2", "nan", "left out"]),
        ({"bbox": None}, ["annotation 2", "None", "left out"]),
        ({"bbox": []}, ["annotation 2", "[]", "left out"]),
        ({"bbox": [1, 2, 0, 5]}, ["annotation 2", "(1.0, 2.0, 0.0, 5.0)", "left out"]),
        ({"image_id": 5}, ["annotation 2 (image 5)", "no such image id", "left out"]),
    ],
)
def test_a_bad_annotation_is_left_out_and_named(change, words):
    """One way with a data set, one with a file, made 0.505 and 1.0 of the same box without area."""
    truth = truth_of(THREE_SIZES, {1: "a"})
    truth["annotations"][1] |= change
    with pytest.warns(DataWarning) as caught:
        evaluation = evaluate_detections(truth, perfect(truth_of(THREE_SIZES, {1: "a"}))[::2])
    assert len(caught) == 1
    assert all(word in str(caught[0].message) for word in words)
    assert evaluation.summary["AP"] == ONE
    assert evaluation.per_class.loc[1, "objects"] == 2


def test_an_unlisted_category_is_refused_with_its_annotation():
    truth = truth_of(THREE_SIZES, {1: "a"})
    truth["annotations"][1]["category_id"] = 9
    with pytest.raises(DataError, match=r"which lists 1; .*\n  annotation 2 \(image 1\): category_id 9"):
        evaluate_detections(truth, [])


def test_files_that_are_something_else_are_named(tmp_path):
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    (tmp_path / "list.json").write_text("[]", encoding="utf-8")
    words = {"absent.json": "cannot read", "broken.json": "not valid JSON", "list.json": "a list instead"}
    for name, word in words.items():
        with pytest.raises(DataError, match=word) as error:
            GroundTruth.of(tmp_path / name)
        assert name in str(error.value)
    with pytest.raises(DataError, match="results list"):
        evaluate_detections(truth_of(THREE_SIZES, {1: "a"}), {"annotations": []})


def test_numbers_in_lines_have_three_digits_and_undefined_ones_say_so():
    numbers = pd.Series({"AP": 0.12345, "AP_small": float("nan")})
    numbers.attrs = {"max_detections": 100, "notes": ["odd"]}
    first, second, _, note = shown(numbers).splitlines()
    assert (first.split(), second.split(), note) == (["AP", "0.123"], ["AP_small", "n/a"], "note: odd")


class Pictures:
    """Four images; image i has one object of class i % 2 at (10 i, 0). Ids with gaps."""

    category_ids = (90, 7)
    class_names = ("ninety", "seven")

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> tuple[torch.Tensor, dict[str, Any]]:
        image = torch.full((3, 32, 64), i / 10)
        return image, {"image_id": 10 + i}

    def ground_truth(self) -> dict[str, Any]:
        truth = truth_of([(10 + i, (90, 7)[i % 2], [10 * i, 0, 10, 10]) for i in range(4)], {90: "ninety", 7: "seven"})
        return truth | {"images": [{"id": 10 + i} for i in range(4)]}


class Seer(nn.Module):
    """Finds the object of every `Pictures` image from its brightness."""

    def __init__(self) -> None:
        super().__init__()
        self.part, self.frozen = nn.Linear(1, 1), nn.Dropout()
        self.batches: list[int] = []

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        assert not self.training
        assert torch.is_inference_mode_enabled()
        self.batches.append(len(images))
        result = []
        for image in images:
            i = round(float(image[0, 0, 0]) * 10)
            box = torch.tensor([[10.0 * i, 0, 10 * i + 10, 10]])
            result.append({"boxes": box, "scores": torch.tensor([0.5]), "labels": torch.tensor([i % 2])})
        return result


def test_evaluating_a_model():
    model = Seer().train()
    model.frozen.eval()
    seen: list[tuple[int, int]] = []
    series = evaluate(model, Pictures(), batch_size=3, progress=lambda done, total: seen.append((done, total)))
    assert list(series.index) == list(METRICS)
    assert series["AP"] == ONE
    assert series.attrs["n_images"] == 4
    assert series.attrs["per_class"][7]["name"] == "seven"
    assert seen == [(3, 4), (4, 4)]
    assert (model.training, model.part.training, model.frozen.training) == (True, True, False)
    assert model.batches == [3, 1]


@pytest.mark.parametrize(
    "option", [{"max_images": 0}, {"max_images": -5}, {"batch_size": 0}, {"batch_size": "2"}, {"max_images": 2.5}]
)
def test_numbers_of_images_that_are_none_are_refused(option):
    (name, value) = next(iter(option.items()))
    with pytest.raises(DataError, match=f"{name} is 1 or more, a whole number, got {value!r}"):
        evaluate(Seer(), Pictures(), **option)


def test_numbers_of_images_in_other_forms_are_taken():
    model = Seer()
    assert evaluate(model, Pictures(), max_images=float("inf"), batch_size=3.0).attrs["n_images"] == 4
    assert model.batches == [3, 1]


@pytest.mark.parametrize("limit", [3, 3.0, torch.tensor(3)])
def test_evaluating_the_first_images_only(limit):
    series = evaluate(Seer(), Pictures(), max_images=limit)
    assert series["AP"] == ONE
    assert series.attrs["n_images"] == 3
    assert series.attrs["notes"] == ["3 of 4 images"]


def test_the_images_that_count_are_those_whose_samples_were_looked_at():
    """No `image_id(i)` is needed; samples in another order than the ground truth, with ids as torchvision's tensors."""

    class Backwards(Pictures):
        def __getitem__(self, i: int) -> tuple[torch.Tensor, dict[str, Any]]:
            image, target = super().__getitem__(3 - i)
            return image, {"image_id": torch.tensor([target["image_id"]])}

    model = Seer()
    series = evaluate(model, Backwards(), max_images=1)
    assert (series["AP"], series.attrs["notes"]) == (ONE, ["1 of 4 images"])
    assert {k: row["objects"] for k, row in series.attrs["per_class"].items()} == {90: 0, 7: 1}


@pytest.mark.robustness("unclear: options of evaluate that cannot be are said before an image is looked at")
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"engine": "x"}, "an engine is one of numpy, pycocotools; got 'x'"),
        ({"max_detections": 0}, "max_detections is 1 or more, a whole number, got 0"),
        ({"device": "gpu"}, "no device 'gpu': there are cpu, cuda"),
        ({"device": "cuda:99"}, "device cuda:99: no such GPU; PyTorch finds"),
        ({"device": "xla"}, "device xla: PyTorch has none here; cpu is always there"),
    ],
)
def test_options_are_looked_at_before_images(option, message):
    model = Seer()
    with pytest.raises(ValueError, match=message):
        evaluate(model, Pictures(), **option)
    assert model.batches == []


@pytest.mark.robustness("unclear: a device that there is not is one message wherever a device is given")
@pytest.mark.parametrize(
    ("device", "message"), [("gpu", "no device 'gpu'"), (99, "device 99: no such GPU"), ([], "no device")]
)
def test_devices_that_there_are_not_are_refused_by_whatever_takes_one(device, message, tmp_path):
    model, scenes = dsla.load("scenes-dsla"), dsla.Scenes("val", size=1)
    for use in (
        lambda: dsla.load("scenes-dsla", device=device),
        lambda: from_pretrained(tmp_path, device=device),
        lambda: dsla.analysis.match(model, scenes, device=device),
        lambda: dsla.why(model, scenes, device=device),
        lambda: dsla.train(dsla.recipe("scenes-dsla"), scenes, device=device, progress=False),
    ):
        with pytest.raises(DataError, match=message):
            use()


def test_a_limit_of_detections_can_be_asked_for():
    series = evaluate(Seer(), Pictures(), max_detections=1)
    assert list(series.index)[6:8] == ["AR@1", "AR_small"]
    assert series.attrs["max_detections"] == 1


def test_a_model_of_other_classes_is_refused():
    model = Seer()
    for names in (("seven", "ninety"), ("ninety",), ("class 0", "class 1", "class 2")):
        model.class_names = names
        with pytest.raises(DataError, match=r"the model knows the classes .*, but the data set has ninety, seven"):
            evaluate(model, Pictures())
    pictures = Pictures()
    pictures.annotation_json = "photos/instances.json"  # a data set of a file
    with pytest.raises(DataError, match=r"but photos/instances\.json has ninety, seven"):
        evaluate(model, pictures)
    for names in (("ninety", "seven"), ("class 0", "class 1")):  # the latter have no names yet
        model.class_names = names
        assert evaluate(model, Pictures())["AP"] == ONE


def test_modes_are_restored_when_a_model_fails():
    class Failing(Seer):
        def forward(self, images):
            raise RuntimeError("no")

    model = Failing().train()
    with pytest.raises(RuntimeError, match="no"):
        evaluate(model, Pictures())
    assert model.training


def test_predictions_carry_the_ids_of_the_data_set():
    rows = predict_dataset(Seer(), Pictures())
    assert [(row["image_id"], row["category_id"]) for row in rows] == [(10, 90), (11, 7), (12, 90), (13, 7)]
    assert rows[2]["bbox"] == [20.0, 0.0, 10.0, 10.0]


@pytest.mark.parametrize(
    ("name", "ap"),
    # the numbers of the README beside the files
    [("yolox_nano_results", 0.315), ("nanodet_m_416_results", 0.258)],
)
def test_real_results(shared, name, ap, capsys):
    folder = shared / "data" / "coco_sample"
    result = evaluate_detections(folder / "instances.json", folder / "results" / f"{name}.json")
    assert round(result.summary["AP"], 3) == ap
    assert capsys.readouterr().out == ""
    assert "without ground truth" in result.notes[0]
    assert "parking meter" in result.notes[0]
