"""Kinds of errors: by hand, against loops over pycocotools' matching, and what each costs against pycocotools' AP."""

from __future__ import annotations

import json
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from pycocotools import mask

from dsla.analysis import errors, match, summary
from dsla.analysis.tide import ERRORS, fixed_aps
from dsla.coco import evaluation as coco_evaluation

FOREGROUND, BACKGROUND = 0.5, 0.1

evaluate_detections = partial(coco_evaluation.evaluate_detections, engine="pycocotools")


def expected_kinds(evaluation):
    """{detection: (kind, annotation id)}, {annotation id: kind of an object without a match}, by plain loops."""
    run = evaluation.coco
    names = {row["id"]: row["original_id"] for row in run.cocoGt.dataset["annotations"]}
    kinds, matched, touched, shares = {}, set(), set(), {}
    for image, rows in run.cocoDt.imgToAnns.items():
        objects = [a for a in run.cocoGt.imgToAnns[image] if not a["iscrowd"]]
        table = mask.iou([r["bbox"] for r in rows], [a["bbox"] for a in objects], [0] * len(objects))
        shares |= {r["id"]: np.array(table).reshape(len(rows), -1)[i].tolist() for i, r in enumerate(rows)}
    for entry in run.evalImgs:
        if entry is None or entry["aRng"] != run.params.areaRng[0]:
            continue
        objects = [a for a in run.cocoGt.imgToAnns[entry["image_id"]] if not a["iscrowd"]]
        for number, to, skip in zip(entry["dtIds"], entry["dtMatches"][0], entry["dtIgnore"][0], strict=True):
            if skip:
                kinds[number - 1] = ("ignored", None)
                continue
            if to:
                kinds[number - 1] = ("correct", names[int(to)])
                matched.add(int(to))
                continue
            share = shares[number]
            same = max([(v, -i) for i, v in enumerate(share) if objects[i]["category_id"] == entry["category_id"]]
                      or [(0.0, 0)])  # fmt: skip
            other = max([(v, -i) for i, v in enumerate(share) if objects[i]["category_id"] != entry["category_id"]]
                        or [(0.0, 0)])  # fmt: skip
            if BACKGROUND <= same[0] < FOREGROUND:
                kind, about = "localisation", same
            elif other[0] >= FOREGROUND:
                kind, about = "classification", other
            elif same[0] >= FOREGROUND:
                kind, about = "duplicate", same
            elif max(same[0], other[0]) < BACKGROUND:
                kind, about = "background", None
            else:
                kind, about = "both", other
            about = None if about is None else objects[-about[1]]["id"]
            if kind in ("localisation", "classification"):
                touched.add(about)
            kinds[number - 1] = (kind, None if about is None else names[about])
    lost = {
        names[a["id"]]: "covered" if a["id"] in touched else "missed"
        for a in run.cocoGt.dataset["annotations"]
        if not a["iscrowd"] and a["id"] not in matched
    }
    return kinds, lost


def kinds_of(table):
    here = table["detection"].notna()
    kinds = {
        int(number): (kind, None if pd.isna(gt) else int(gt))
        for number, kind, gt in table.loc[here, ["detection", "kind", "gt"]].itertuples(index=False)
    }
    return kinds, dict(zip(table.loc[~here, "gt"].astype(int), table.loc[~here, "kind"], strict=True))


def repaired(truth, rows, table, error):
    """Ground truth and rows with one kind of error put right: for pycocotools to evaluate."""
    if error == "missed":
        gone = set(table.loc[table["kind"] == "missed", "gt"])
        return {**truth, "annotations": [a for a in truth["annotations"] if a["id"] not in gone]}, rows
    mistakes = table[table["kind"] == error]
    gone = set(mistakes["detection"])
    fixed = [row for i, row in enumerate(rows) if i not in gone]
    if error in ("classification", "localisation"):
        objects = {a["id"]: a for a in truth["annotations"]}
        free = set(table.loc[table["kind"] == "covered", "gt"])
        for gt, group in mistakes.groupby("gt"):
            if gt in free:
                row = dict(rows[int(group.loc[group["score"].idxmax(), "detection"])])
                key = "bbox" if error == "localisation" else "category_id"
                fixed.append(row | {key: objects[gt][key]})
    return truth, fixed


def check(truth, rows):
    table, evaluation = errors(rows, truth), evaluate_detections(truth, rows)
    assert kinds_of(table) == expected_kinds(evaluation)
    numbers, ap50 = table.summary(), evaluation.summary["AP50"]
    np.testing.assert_allclose(numbers["AP50"], ap50, atol=1e-12)
    for error in ERRORS:
        better = evaluate_detections(*repaired(truth, rows, table, error)).summary["AP50"]
        np.testing.assert_allclose(numbers[f"dAP_{error}"], better - ap50, atol=1e-9, err_msg=error)
    return table


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_pycocotools(random_case, seed):
    truth, rows = random_case(seed, images=12, digits=9)  # no equal scores: putting right does not reorder ties
    for row in rows[::4]:  # more boxes of another class, and some far off
        row["category_id"] = 3 + 4 * (row["category_id"] == 3)
    for row in rows[::7]:
        row["bbox"] = [row["bbox"][0] + 40, *row["bbox"][1:]]
    check(truth, rows)


def test_equal_to_pycocotools_on_real_results(shared):
    folder = shared / "data" / "coco_sample"
    truth = json.loads((folder / "instances.json").read_text())
    truth["images"] = truth["images"][:40]
    ids = {image["id"] for image in truth["images"]}
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in ids]
    rows = json.loads((folder / "results" / "yolox_nano_results.json").read_text())
    rows = [row for row in rows if row["image_id"] in ids]
    table, evaluation = errors(rows, truth), evaluate_detections(truth, rows)
    assert kinds_of(table) == expected_kinds(evaluation)
    count = table["kind"].value_counts()
    assert (count[["correct", "classification", "localisation", "both", "duplicate", "background"]] > 40).all()
    np.testing.assert_allclose(fixed_aps(table).mean(), evaluation.summary["AP50"], atol=1e-12)


def test_each_kind_by_hand(one_image):
    truth, rows = one_image(
        [(1, 0, 0, 10, 10), (1, 100, 0, 110, 10), (2, 200, 0, 210, 10), (2, 300, 0, 310, 10), (1, 400, 0, 500, 100)],
        [
            (1, 0.9, 0, 0, 10, 10),  # correct
            (1, 0.8, 0, 0, 10, 9),  # again: duplicate
            (1, 0.7, 100, 0, 110, 4),  # IoU 0.4: localisation
            (1, 0.6, 200, 0, 210, 8),  # right place, class 2: classification
            (1, 0.5, 200, 0, 210, 10),  # again: classification; only the higher score is put right
            (2, 0.4, 0, 0, 10, 3),  # IoU 0.3 with an object of class 1: both
            (2, 0.3, 600, 0, 610, 10),  # background
            (2, 0.2, 410, 10, 430, 30),  # in the crowd of class 1, but of class 2: background
            (1, 0.1, 410, 10, 430, 30),  # in the crowd: ignored
        ],
    )
    truth["annotations"][4]["iscrowd"] = 1
    table = errors(rows, truth)
    kinds = ["correct", "duplicate", "localisation", "classification", "classification", "both", "background",
             "background", "ignored"]  # fmt: skip
    assert table["kind"].tolist() == [*kinds, "covered", "covered", "missed"]
    assert table["gt"].tolist() == [100, 100, 101, 102, 102, 100, pd.NA, pd.NA, pd.NA, 101, 102, 103]
    assert table["gt_category"].tolist() == [1, 1, 1, 2, 2, 1, pd.NA, pd.NA, pd.NA, 1, 2, 2]
    np.testing.assert_allclose(table["iou"], [1, 0.9, 0.4, 0.8, 1, 0.3, 0, 0, 0, *[np.nan] * 3])
    numbers = table.summary()
    assert numbers[["detections", "objects", "missed", "covered", "ignored"]].tolist() == [9, 4, 1, 2, 1]
    # Class 1: 1 of 2 objects at precision 1, then none (51 of 101 recalls); class 2: none of 2.
    assert numbers["AP50"] == pytest.approx(51 / 101 / 2)
    # The third detection becomes a hit with precision 2/3, from recall 0.5 on.
    assert numbers["dAP_localisation"] == pytest.approx((51 + 50 * 2 / 3) / 101 / 2 - 51 / 101 / 2)
    # Class 2 gets a hit of the highest score; class 1 loses four false boxes after its last hit: no change.
    assert numbers["dAP_classification"] == pytest.approx(51 / 101 / 2)
    assert numbers[["dAP_both", "dAP_duplicate", "dAP_background", "dAP_missed"]].tolist() == [0, 0, 0, 0]
    assert "IoU ≥ 0.5" in numbers.attrs["definitions"]["classification"]
    check(truth, rows)


def test_thresholds_and_limits(one_image):
    truth, rows = one_image([(1, 0, 0, 10, 10)], [(1, 0.9, 0, 0, 10, 4), (1, 0.8, 0, 0, 10, 10), (1, 0.7, 0, 0, 10, 9)])
    assert errors(rows, truth)["kind"].tolist() == ["localisation", "correct", "duplicate"]
    assert errors(rows, truth, foreground=0.4)["kind"].tolist() == ["correct", "duplicate", "duplicate"]
    assert errors(rows, truth, background=0.45)["kind"].tolist() == ["background", "correct", "duplicate"]
    assert errors(rows, truth, score_threshold=0.85)["kind"].tolist() == ["localisation", "covered"]
    assert errors(rows, truth, max_detections=2)["detection"].tolist() == [0, 1]
    for wrong in ({"foreground": 0.1, "background": 0.2}, {"background": 0}):
        with pytest.raises(ValueError, match="0 < background ≤ foreground ≤ 1"):
            errors(rows, truth, **wrong)
    truth["annotations"][0]["iscrowd"] = 1
    assert errors(rows, truth)["kind"].tolist() == ["ignored"] * 3
    assert errors(rows, truth, crowd="background")["kind"].tolist() == ["background"] * 3
    with pytest.raises(ValueError, match="'ignore' or 'background'"):
        errors(rows, truth, crowd="drop")


def test_the_hundred_best_of_a_class_count_as_in_pycocotools(one_image):
    boxes = [(1, round(0.9 - 0.005 * i, 3), 20 * i, 50, 20 * i + 9, 60) for i in range(120)]
    truth, rows = one_image([(1, 2380, 50, 2389, 60)], boxes)  # only the 120th hits it
    table = errors(rows, truth)
    assert table["detection"].notna().sum() == 100
    assert kinds_of(table) == expected_kinds(evaluate_detections(truth, rows))
    assert errors(rows, truth, max_detections=None)["kind"].tolist() == ["background"] * 119 + ["correct"]


@pytest.mark.parametrize("seed", range(3))
def test_order_of_detections_and_images_does_not_matter(random_case, seed):
    truth, rows = random_case(seed, digits=9)
    order = np.random.default_rng(seed).permutation(len(rows))
    turned = {**truth, "images": truth["images"][::-1]}
    ours, theirs = errors(rows, truth), errors([rows[i] for i in order], turned)
    kinds, lost = kinds_of(theirs)
    assert ({int(order[k]): v for k, v in kinds.items()}, lost) == kinds_of(ours)
    pd.testing.assert_series_equal(ours.summary(), theirs.summary(), rtol=1e-12)


def test_classes_of_the_table_add_up(random_case):
    truth, rows = random_case(1, digits=9)
    table = errors(rows, truth)
    parts = [summary(part) for _, part in table.groupby(table["gt_category"].fillna(table["category"]))]
    assert sum(part["objects"] for part in parts) == table.summary()["objects"]


@pytest.mark.parametrize(("rows", "gain"), [([], 0.5), ([(2, 0.9, 200, 200, 220, 220)], 0.0)])
def test_a_class_without_objects_left_counts_as_in_tide(one_image, rows, gain):
    """Its AP is 0 where it has detections, else it is left out: `ClassedAPDataObject.get_mAP` of TIDE."""
    objects = [(1, 0, 0, 10, 10), (2, 50, 50, 60, 60)]
    truth, rows = one_image(objects, [(1, 0.8, 0, 0, 10, 10), *rows])
    numbers = errors(rows, truth).summary()
    assert numbers["AP50"] == pytest.approx(0.5)
    assert numbers["dAP_missed"] == pytest.approx(gain)


@pytest.mark.parametrize(
    ("detector", "counts"),
    [("nanodet_m_416", [1577, 2055, 2141, 463, 5950, 179]), ("yolox_nano", [660, 1268, 1070, 275, 2415, 200])],
)
def test_without_crowds_the_counts_are_those_of_tide(shared, detector, counts):
    """Of tidecv 1.0.1, `evaluate(…, mode=TIDE.BOX).count_errors()`, run on these files without their crowd regions."""
    folder = shared / "data" / "coco_sample"
    truth = json.loads((folder / "instances.json").read_text(encoding="utf-8"))
    truth["annotations"] = [a for a in truth["annotations"] if not a["iscrowd"]]
    numbers = errors(folder / "results" / f"{detector}_results.json", truth).summary()
    assert [numbers[kind] for kind in ERRORS] == counts


def test_undefined_numbers_have_a_reason(one_image):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nothing = errors([], one_image([], [])[0]).summary()
        no_object = errors(one_image([], [(1, 0.5, 0, 0, 5, 5)])[1], one_image([], [])[0]).summary()
        no_detection = errors([], one_image([(1, 0, 0, 10, 10)], [])[0]).summary()
    for numbers in (nothing, no_object):
        assert np.isnan(numbers["AP50"])
        assert numbers.attrs["reasons"]["dAP_missed"] == "no object in the ground truth"
    assert no_object["background"] == 1
    assert (no_detection["AP50"], no_detection["missed"], no_detection["dAP_background"]) == (0, 1, 0)
    assert np.isnan(no_detection["dAP_missed"])
    assert no_detection.attrs["reasons"] == {"dAP_missed": "no object would be left"}


def test_lists_of_tensors():
    import torch

    detections = [
        {"boxes": torch.tensor([[0.0, 0, 10, 10]]), "scores": torch.tensor([0.5]), "labels": torch.tensor([1])}
    ]
    target = {"boxes": torch.tensor([[0.0, 0, 10, 9]]), "labels": torch.tensor([0])}
    table = errors(detections, [target])
    assert table["kind"].tolist() == ["classification", "covered"]
    assert table["gt"].tolist() == [0, 0]
    inside = errors(detections, [target | {"crowd_boxes": torch.tensor([[0.0, 0, 50, 50]])}])
    assert inside["kind"].tolist() == ["ignored", "missed"]  # a crowd without a class is one of every class


@pytest.mark.robustness("unclear: detections may have names, in `errors` as in `match`")
@pytest.mark.parametrize("names", [["a", "b"], [7, 3], [7.0, 3.0]])
def test_names_of_detections_are_kept(one_image, names):
    truth, rows = one_image([(1, 0, 0, 9, 9), (1, 50, 50, 90, 90)], [(1, 0.9, 0, 0, 9, 9), (1, 0.8, 20, 20, 30, 30)])
    table = match(rows, truth).assign(detection=names)
    assert match(table, truth)["detection"].tolist() == names
    judged = errors(table, truth)
    assert judged["detection"].tolist() == [*names, pd.NA]
    assert judged["kind"].tolist() == ["correct", "background", "missed"]
    assert judged.summary()["detections"] == 2
