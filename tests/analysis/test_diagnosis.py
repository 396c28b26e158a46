"""Diagnosis: planted faults are named, verdicts equal a slow reference, points those of the assigner."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import dsla
from dsla.analysis.diagnosis import VERDICTS, Offer, judge, objects_of
from dsla.coco.detections import Results
from dsla.coco.ground_truth import GroundTruth
from dsla.errors import DataError

FAULTS = {  # planted → verdict with candidates, and from results alone
    "removed": ("nothing near", "nothing near"),
    "shifted": ("too loose", "too loose"),
    "class": ("other class", "other class"),
    "score": ("below threshold", "below threshold"),
    "suppressed": ("suppressed", "too loose"),
    "none": ("found", "found"),
}


def box_iou(a, b, crowd=False):
    """IoU of two boxes x, y, w, h; with a crowd the share of the first inside."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / (a[2] * a[3] if crowd else a[2] * a[3] + b[2] * b[3] - w * h)


def drawn(seed: int = 0, images: int = 60) -> dict[str, Any]:
    """Objects of five classes; most stand alone, one in eight covers a neighbour."""
    rng = np.random.default_rng(seed)
    truth: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 3 * c + 2} for c in range(5)]}
    for i in range(images):
        truth["images"].append({"id": 7 * i + 5, "width": 640, "height": 480})
        for x in range(0, 640, 160):
            for y in range(0, 480, 160):
                side = rng.uniform(12, 120, 2)
                corner = np.array([x, y]) + rng.uniform(0, 1, 2) * (150 - side)
                boxes = [[*corner, *side]]
                if rng.random() < 0.125:
                    boxes.append([*(corner + 0.1 * side), *side])
                for box in boxes:
                    truth["annotations"].append(
                        {"id": 1000 + 3 * len(truth["annotations"]), "image_id": 7 * i + 5, "bbox": box,
                         "category_id": int(rng.choice(5)) * 3 + 2}
                    )  # fmt: skip
    return truth


def planted(truth: dict[str, Any], seed: int = 1):
    """Perfect detections with a fault in each object that stands alone: results, candidates, {annotation: fault}."""
    rng, by_image = np.random.default_rng(seed), {}
    for a in truth["annotations"]:
        by_image.setdefault(a["image_id"], []).append(a)
    classes = [c["id"] for c in truth["categories"]]
    results, candidates, faults = [], [], {}
    for a in truth["annotations"]:
        if a.get("iscrowd"):
            continue
        x, y, w, h = a["bbox"]
        row = {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": [x, y, w, h], "score": 0.9}
        others = [b for b in by_image[a["image_id"]] if b is not a]
        if any(box_iou(a["bbox"], b["bbox"], b.get("iscrowd")) > 0.1 for b in others):
            results.append(row)
            candidates.append(row)
            continue
        fault = faults[a["id"]] = str(rng.choice(list(FAULTS)))
        away = 0.45 * w if x >= 0.45 * w else -0.45 * w  # IoU with the object 0.38
        moved = {**row, "bbox": [x - away, y, w, h]}
        wrong = {**row, "category_id": int(rng.choice([c for c in classes if c != a["category_id"]]))}
        low = {**row, "score": 0.02}
        put = {"removed": [], "shifted": [moved], "class": [wrong], "score": [low], "suppressed": [moved]}
        put["none"] = [row]
        results += put[fault]
        candidates += [*put[fault], *([{**row, "score": 0.6}] if fault == "suppressed" else [])]
    return results, candidates, faults


def check_planted(truth: dict[str, Any]) -> None:
    results, candidates, faults = planted(truth)
    for place, before in ((0, candidates), (1, None)):
        answers = dsla.why(results, truth, candidates=before, nms_threshold=0.3)
        table = answers.table.set_index("gt")
        right = [table["verdict"][gt] == FAULTS[fault][place] for gt, fault in faults.items()]
        assert set(faults.values()) == set(FAULTS)
        assert np.mean(right) >= 0.99
        assert answers.summary()[list(VERDICTS)].sum() == len(table)
        lost = table.loc[[gt for gt, fault in faults.items() if fault == "suppressed"]]
        if before:
            np.testing.assert_allclose(lost[["score", "iou", "suppressor_score"]], [[0.6, 1, 0.9]] * len(lost))
            np.testing.assert_allclose(lost["suppressor_overlap"], 0.55 / 1.45, atol=1e-9)
        else:
            assert "only results are known" in answers.summary().attrs["reasons"]["suppressed"]


@pytest.mark.parametrize("seed", range(2))
def test_planted_faults_are_named(seed):
    check_planted(drawn(seed))


@pytest.mark.filterwarnings("ignore::dsla.errors.DataWarning")
def test_planted_faults_are_named_on_photographs(shared):
    check_planted(json.loads((shared / "data" / "coco_sample" / "instances.json").read_text()))


@pytest.mark.parametrize(("method", "offset"), [("fcos", 0.5), ("dsla", 0.0), ("max-iou", 0.5)])
def test_objects_shrunk_below_a_stride_have_no_point(method, offset):
    """Each second object becomes 5 pixels large, around the corner of four cells."""
    truth = drawn(3, 20)
    small = set()
    for a in truth["annotations"][::2]:
        x, y = (8 * (round(v / 8) + 0.5 - offset) for v in a["bbox"][:2])
        a["bbox"] = [x + 8 - 2.5, y + 8 - 2.5, 5.0, 5.0]
        small.add(a["id"])
    table = dsla.why([], truth, method).table
    mine = table[table["gt"].isin(small)]
    assert (table[~table["gt"].isin(small)]["points"] != "none").mean() > 0.9
    if method == "max-iou":  # its best anchors learn an object whatever their IoU
        assert (mine["points"] != "none").all()
        return
    assert (mine["points"] == "none").mean() >= 0.99
    assert mine["rule"].str.contains("inside the box").mean() >= 0.99
    assert (mine["size"] - 5).abs().max() < 1e-4
    finer = dsla.why([], truth, method, strides=(4, 8, 16, 32, 64)).table
    assert (finer[finer["gt"].isin(small)]["points"] != "none").all()


def reference(truth: dict[str, Any], kept: list[Any], candidates: list[Any], score: float, least: float):
    """The verdicts, object by object and box by box."""
    verdicts = {}
    for image in truth["images"]:
        objects = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
        rows = [{**r, "kept": True} for r in kept if r["image_id"] == image["id"]]
        rows += [{**r, "kept": False} for r in candidates if r["image_id"] == image["id"]]
        free = {a["id"]: True for a in objects}
        for row in sorted(rows, key=lambda r: -r["score"]):
            row["of"] = None
            if not row["kept"] or row["score"] < score:
                continue
            best = None
            for a in objects:  # as pycocotools: real objects first, of equal ones the later
                if a["category_id"] != row["category_id"] or not (free[a["id"]] or a["iscrowd"]):
                    continue
                value = box_iou(row["bbox"], a["bbox"], a["iscrowd"])
                rank = (not a["iscrowd"], value)
                if value >= least and (best is None or rank >= best[0]):
                    best = (rank, a)
            if best:
                row["of"], free[best[1]["id"]] = best[1]["id"], False
        for a in (a for a in objects if not a["iscrowd"]):
            kinds = {"nothing near"}
            for row in rows:
                value, same = box_iou(row["bbox"], a["bbox"]), row["category_id"] == a["category_id"]
                high, live = row["score"] >= score, row["kept"] and row["score"] >= score
                kinds |= {"found"} if row["of"] == a["id"] else set()
                kinds |= {"taken"} if same and live and value >= least else set()
                kinds |= {"suppressed"} if same and high and not row["kept"] and value >= least else set()
                kinds |= {"below threshold"} if same and not high and value >= least else set()
                kinds |= {"other class"} if not same and live and row["of"] is None and value >= least else set()
                kinds |= {"too loose"} if live and (same or row["of"] is None) and value > 0.1 else set()
            verdicts[a["id"]] = min(kinds, key=list(VERDICTS).index)
    return verdicts


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("score", "least"), [(0.05, 0.5), (0.5, 0.5), (0.4, 0.75)])
def test_equal_to_a_slow_reference(random_case, seed, score, least):
    truth, rows = random_case(seed, images=15)
    kept = rows[::2]
    expected = reference(truth, kept, rows, score, least)
    columns = GroundTruth.of(truth)
    offer = Offer(Results.of(kept, columns), Results.of(rows, columns))
    table = judge(offer, score, least)
    ids = columns.ids[objects_of(columns)].tolist()
    assert dict(zip(ids, table["verdict"], strict=True)) == expected


def test_who_took_the_box_and_what_stands_in_a_row(one_image):
    truth, rows = one_image(
        [(1, 0, 0, 100, 100), (1, 20, 0, 120, 100), (2, 300, 300, 340, 340)],
        [(1, 0.9, 5, 0, 105, 100), (2, 0.03, 300, 300, 340, 336), (2, 0.4, 400, 0, 440, 40)],
    )
    table = dsla.why(rows, truth).table
    assert table["verdict"].tolist() == ["found", "taken", "below threshold"]
    assert table["taken_by"].tolist() == [None, 100, None]
    np.testing.assert_allclose(table["iou"], [9500 / 10500, 8500 / 11500, 0.9])
    np.testing.assert_allclose(table["score"], [0.9, 0.9, 0.03])
    assert table["points"].tolist() == ["unknown"] * 3  # the file has no size of the image
    assert table["count"].isna().all()
    assert table["box_category"].tolist() == [1, 1, 2]


def test_a_box_that_is_the_hit_of_a_neighbour_is_said_to_be_one(one_image):
    """Of the same class it is too loose, as the best box there; of another class it is none of this object."""
    truth, rows = one_image(
        [(1, 0, 0, 40, 40), (1, 20, 0, 60, 40), (2, 2, 0, 42, 40), (1, 200, 0, 240, 40), (1, 300, 0, 340, 40)],
        [(1, 0.9, 0, 0, 40, 40), (1, 0.8, 220, 0, 260, 40)],
    )
    why = dsla.why(rows, truth)
    assert why.table["verdict"].tolist() == ["found", "too loose", "nothing near", "too loose", "nothing near"]
    assert why.table["taken_by"].tolist() == [None, 100, None, None, None]
    elsewhere = "That box is the hit of object 100."
    assert [elsewhere in why.explain(i) for i in range(5)] == [False, True, False, False, False]
    assert "by more than 0.1, but for hits of objects of other classes." in why.explain(2)  # whose IoU with it is 0.9


@pytest.mark.slow
def test_verdicts_of_foreign_detectors_sum_to_all_objects(shared):
    folder = shared / "data" / "coco_sample"
    objects = [a for a in json.loads((folder / "instances.json").read_text())["annotations"] if not a["iscrowd"]]
    for name in ("yolox_nano", "nanodet_m_416"):
        answers = dsla.why(folder / "results" / f"{name}_results.json", folder / "instances.json", input_size=416)
        assert answers.table["gt"].sort_values().tolist() == sorted(a["id"] for a in objects)
        numbers = answers.summary()
        assert numbers[list(VERDICTS)].sum() == len(objects) == 977
        assert numbers["missed_none"] > numbers["missed_few"] > numbers["missed_more"]
        evaluated = dsla.analysis.match(
            folder / "results" / f"{name}_results.json", folder / "instances.json", score_threshold=0.05
        )
        assert numbers["found"] == evaluated["match"].notna().sum()
        assert any("crowd" in note for note in answers.notes)


def test_points_are_counted_where_only_some_images_have_a_size(one_image):
    truth, rows = one_image([(1, 0, 0, 50, 50)], [(1, 0.9, 0, 0, 50, 50)])
    truth["images"].append({"id": 2, "width": 200, "height": 200})
    truth["annotations"].append(truth["annotations"][0] | {"id": 7, "image_id": 2})
    table = dsla.why(rows, truth, input_size=(800, 1333)).table
    assert table["points"].tolist() == ["unknown", "more"]
    assert table["count"].isna().tolist() == [True, False]


def test_the_flag_ignore_teaches_nothing_and_is_judged_as_coco_does(one_image):
    truth, rows = one_image([(1, 0, 0, 50, 50), (1, 100, 100, 150, 150)], [(1, 0.9, 0, 0, 50, 50)])
    truth["images"][0] |= {"width": 200, "height": 200}
    truth["annotations"][0]["ignore"] = 1
    with pytest.warns(dsla.errors.DataWarning):
        table = dsla.why(rows, truth).table
    assert table["verdict"].tolist() == ["found", "nothing near"]
    assert table["points"].tolist() == ["none", "more"]
    assert table["rule"].tolist() == ["marked as ignored: nothing is taught", ""]


def test_no_detection_and_no_object(one_image):
    truth, rows = one_image([(1, 0, 0, 50, 50)], [(1, 0.9, 0, 0, 50, 50)])
    assert dsla.why([], truth).table["verdict"].tolist() == ["nothing near"]
    assert dsla.why([], truth).notes[0] == "1 image without a detection: 1"
    nothing = {**truth, "annotations": []}
    assert len(dsla.why(rows, nothing).table) == 0
    assert dsla.why(rows, nothing).summary()["objects"] == 0


def test_a_crowd_of_every_class_ignores_as_one_of_the_class_of_the_detection_does():
    """A box of class 1 fits the object of class 0, and lies in a crowd: it is ignored there, and says nothing."""
    rows = [{"boxes": np.array([[0, 0, 50, 50]]), "scores": np.array([0.9]), "labels": np.array([1])}]
    object_, crowd = [0.0, 0, 50, 50], [0.0, 0, 60, 60]
    truths = {
        "other class": {"boxes": np.array([object_]), "labels": np.array([0])},
        "nothing near": {"boxes": np.array([object_, crowd]), "labels": np.array([0, 1]), "iscrowd": np.array([0, 1])},
    }
    for verdict, target in truths.items():
        assert dsla.why(rows, [target]).table["verdict"].tolist() == [verdict]
    every = truths["other class"] | {"crowd_boxes": np.array([crowd])}
    assert dsla.why(rows, [every]).table["verdict"].tolist() == ["nothing near"]


def test_bad_input_is_named(one_image):
    truth, rows = one_image([(1, 0, 0, 50, 50)], [(1, 0.9, 0, 0, 50, 50)])
    model, data = dsla.build(dsla.recipe("scenes-dsla", channels=16), num_classes=5), dsla.Scenes("val", 2)
    cases: list[tuple[Any, dict[str, Any], str]] = [
        ((truth, rows), {}, "the results come first, the annotations second"),
        ((data, model), {}, "the data set comes second"),
        ((model, truth), {}, "a model needs a data set to run on"),
        ((model, data), {"candidates": rows}, "candidates are for results"),
        ((rows, truth), {"assigner": "fcso"}, "no method 'fcso': did you mean 'fcos'"),
        ((rows, truth), {"input_size": "big"}, "input size 'big'"),
        ((rows, truth), {"iou_threshold": 50}, "iou_threshold is a number from 0 to 1, got 50"),
        ((rows, truth), {"iou_threshold": 0}, "iou_threshold one above 0; got 0.05 and 0"),
        ((rows, truth), {"score_threshold": None}, "score_threshold is a number from 0 to 1, .* got None and 0.5"),
        ((rows, truth), {"nms_threshold": "0.5"}, "nms_threshold is a number from 0 to 1, got '0.5'"),
        (([{**rows[0], "image_id": 99}], truth), {}, "image_id that the ground truth does not know: 99"),
    ]
    for arguments, options, message in cases:
        with pytest.raises(DataError, match=message):
            dsla.why(*arguments, **options)
    with pytest.raises(IndexError, match="row 3: the table has 1 row"):
        dsla.why(rows, truth).explain(3)
