"""Errors by class and size, confusions, missed objects by points: counts of tables, on cases counted by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from dsla.analysis import errors
from dsla.analysis.breakdown import BINS, confusion, errors_by, missed_by_points
from dsla.analysis.tables import truth_of

CAT, DOG, COW = 3, 5, 9
TRUTH = {
    "images": [{"id": 1, "width": 600, "height": 600}],
    "categories": [{"id": CAT, "name": "cat"}, {"id": DOG, "name": "dog"}, {"id": COW, "name": "cow"}],
    "annotations": [
        {"id": 11, "image_id": 1, "category_id": CAT, "bbox": [0, 0, 20, 20]},  # small, matched
        {"id": 12, "image_id": 1, "category_id": CAT, "bbox": [100, 0, 50, 50]},  # medium, called dog
        {"id": 13, "image_id": 1, "category_id": DOG, "bbox": [200, 0, 200, 200]},  # large, found below 0.3 only
        {"id": 14, "image_id": 1, "category_id": DOG, "bbox": [0, 300, 20, 20]},  # small, missed
    ],
}


def row(category, box, score):
    return {"image_id": 1, "category_id": category, "bbox": box, "score": score}


ROWS = [
    row(CAT, [0, 0, 20, 20], 0.9),
    row(CAT, [1, 0, 20, 20], 0.8),  # duplicate
    row(DOG, [100, 0, 50, 50], 0.7),  # classification
    row(DOG, [200, 0, 200, 200], 0.2),
    row(COW, [500, 500, 50, 50], 0.6),  # background, medium
]


@pytest.fixture(scope="module")
def table():
    return errors(ROWS, TRUTH)


def test_errors_have_names(table):
    assert list(table["name"][:5]) == ["cat", "cat", "dog", "dog", "cow"]
    assert table["gt_name"][2] == "cat"
    assert pd.isna(table["gt_name"][4])


@pytest.mark.robustness("wrong: an annotation id of −1 stands for no other than its object")
@pytest.mark.parametrize("gt", [1, -1, 0, "a"])
def test_a_false_alarm_counts_at_its_own_size_whatever_ids_there_are(gt):
    truth = {**TRUTH, "annotations": [{**TRUTH["annotations"][0], "id": gt}]}
    rows = [row(COW, [400, 400, 60, 60], 0.9), row(COW, [300, 300, 200, 200], 0.8)]
    sizes = errors_by(errors(rows, truth), truth_of(truth)).query("by == 'size'").set_index("name")
    assert sizes["detections"].to_dict() == {"small": 0, "medium": 1, "large": 1}
    assert sizes["missed"].to_dict() == {"small": 1, "medium": 0, "large": 0}


def test_errors_by_class_and_size(table):
    rows = errors_by(table, truth_of(TRUTH))
    classes, sizes = (rows[rows["by"] == by].set_index("name") for by in ("class", "size"))
    assert classes["category"].tolist() == [CAT, DOG, COW]
    assert classes["objects"].tolist() == [2, 2, 0]
    assert classes["detections"].tolist() == [2, 2, 1]
    assert classes.loc["cat", ["correct", "duplicate", "covered", "missed"]].tolist() == [1, 1, 1, 0]
    assert classes.loc["dog", ["correct", "classification", "missed", "found"]].tolist() == [1, 1, 1, 0.5]
    assert classes.loc["cow", "background"] == 1
    assert pd.isna(classes.loc["cow", "found"])
    assert list(sizes.index) == ["small", "medium", "large"]
    assert sizes["objects"].tolist() == [2, 1, 1]
    assert sizes["detections"].tolist() == [2, 2, 1]  # background at the size of its own box
    assert sizes.loc["medium", ["classification", "background", "covered"]].tolist() == [1, 1, 1]
    assert sizes["missed"].tolist() == [1, 0, 0]
    # The mean over classes is the number of the same name over all of them.
    numbers = table.summary()
    for name in ("AP50", "dAP_classification", "dAP_duplicate", "dAP_background"):
        assert classes[name].mean() == pytest.approx(numbers[name]), name
    assert classes.loc["cat", "dAP_classification"] == pytest.approx(2 / 3 * 50 / 101)  # a hit after the duplicate


def test_a_row_of_confusions_holds_all_objects(table):
    cells = confusion(table, 0.3).set_index(["truth", "detected"])["count"]
    assert cells.to_dict() == {
        ("cat", "cat"): 1, ("cat", "dog"): 1, ("cat", "no match"): 1, ("dog", "no match"): 2,
        ("background", "cow"): 1,
    }  # fmt: skip
    for name, objects in (("cat", 2), ("dog", 2)):
        assert cells.get((name, name), 0) + cells.get((name, "no match"), 0) == objects
    assert confusion(table, 0.0).set_index(["truth", "detected"])["count"]["dog", "dog"] == 1


def test_a_class_called_background_is_not_the_background():
    named = TRUTH | {"categories": [*TRUTH["categories"][:2], {"id": COW, "name": "background"}]}
    named["annotations"] = [
        *named["annotations"],
        {"id": 15, "image_id": 1, "category_id": COW, "bbox": [400, 0, 20, 20]},
    ]
    cells = confusion(errors(ROWS, named), 0.3).set_index(["truth", "detected"])["count"]
    assert cells["background (class)", "no match"] == 1
    assert cells["background", "background (class)"] == 1
    assert ("background", "no match") not in cells


def test_missed_by_points():
    why = pd.DataFrame({
        "count": pd.array([0, 1, 2, 3, 10, 11, 200, pd.NA], dtype="Int64"),
        "verdict": ["nothing near", "found", "too loose", "found", "found", "found", "taken", "found"],
    })  # fmt: skip
    table = missed_by_points(why).set_index("points")
    assert list(table.index) == list(BINS)
    assert table["objects"].tolist() == [1, 2, 1, 1, 2]
    assert table["unfound"].tolist() == [1, 1, 0, 0, 1]
    assert table["share"].tolist() == [1, 0.5, 0, 0, 0.5]


def test_on_real_results_all_parts_sum_to_the_whole(shared):
    folder = shared / "data" / "coco_sample"
    table = errors(folder / "results" / "yolox_nano_results.json", folder / "instances.json")
    rows, numbers = errors_by(table, truth_of(folder / "instances.json")), table.summary()
    for _, part in rows.groupby("by"):
        for name in ("objects", "correct", "missed", "covered", "classification", "both", "background", "duplicate"):
            assert part[name].sum() == numbers[name], name
    assert len(rows[rows["by"] == "class"]) == 79


@pytest.mark.robustness("wrong: two categories of one name are told apart in every table of names")
def test_two_categories_of_one_name_are_told_apart():
    truth = TRUTH | {"categories": [{"id": CAT, "name": "cat"}, {"id": DOG, "name": "cat"}, {"id": COW, "name": "cow"}]}
    cells = confusion(errors(ROWS, truth), 0.3).set_index(["truth", "detected"])["count"]
    assert cells.to_dict() == {
        ("cat (3)", "cat (3)"): 1, ("cat (3)", "cat (5)"): 1, ("cat (5)", "no match"): 2, ("background", "cow"): 1,
        ("cat (3)", "no match"): 1,
    }  # fmt: skip
    classes = errors_by(errors(ROWS, truth), truth_of(truth)).query("by == 'class'")
    assert classes["name"].tolist() == ["cat (3)", "cat (5)", "cow"]
    assert truth_of(truth).category_names == ("cat", "cat", "cow")  # as in the file, by which weights know them
