"""D-ECE, LaECE and optimal LRP: by hand, and equal to slow computations that share no code."""

from __future__ import annotations

import json

import numpy as np
import pytest

import dsla
from dsla.analysis.calibration import calibration, class_thresholds, d_ece, la_ece, optimal_lrp


def test_by_hand():
    score = np.array([0.95, 0.91, 0.35, 0.3])
    # bins of 0.1: {0.95, 0.91}: mean score 0.93, one of two hits; {0.35, 0.3}: mean 0.325, none
    assert d_ece(score, np.array([True, False, False, False]), 10) == pytest.approx(0.5 * 0.43 + 0.5 * 0.325)
    # bins of 0.05: 0.3 and 0.35 stand alone; so do 0.95 and 0.91
    assert d_ece(score, np.array([True, False, False, False]), 20) == pytest.approx((0.05 + 0.91 + 0.35 + 0.3) / 4)
    assert la_ece(score, np.array([0.8, 0, 0, 0.3]), 10) == pytest.approx(0.5 * abs(0.93 - 0.4) + 0.5 * (0.325 - 0.15))
    assert d_ece(np.array([1.0]), np.array([True]), 10) == 0
    assert np.isnan(d_ece(np.zeros(0), np.zeros(0, dtype=bool), 10))
    # one object of two found with IoU 0.75; the false one below costs more than it brings
    best = optimal_lrp(np.array([0.9, 0.4]), np.array([0.75, np.nan]), 2)
    assert best == (pytest.approx((0.5 + 1) / 2), 0.9, 0.25, 0, 0.5)
    assert optimal_lrp(np.array([0.9]), np.array([1.0]), 1, 1.0) == (0, 0.9, 0, 0, 0)
    assert optimal_lrp(np.zeros(0), np.zeros(0), 2)[0] == 1
    assert np.isnan(optimal_lrp(np.array([0.9]), np.array([np.nan]), 0).error)


def matched(truth, rows, least):
    """[(class, score, IoU or None, ignored)] of all detections, box after box."""
    answers = []
    for image in truth["images"]:
        objects = [dict(a, free=True) for a in truth["annotations"] if a["image_id"] == image["id"]]
        for row in sorted((r for r in rows if r["image_id"] == image["id"]), key=lambda r: -r["score"]):
            x, y, w, h = row["bbox"]
            best = None
            for a in (a for a in objects if a["category_id"] == row["category_id"]):
                u, v, s, t = a["bbox"]
                inside = max(min(x + w, u + s) - max(x, u), 0) * max(min(y + h, v + t) - max(y, v), 0)
                iou = inside / (w * h if a["iscrowd"] else w * h + s * t - inside)
                if iou >= least and (a["free"] or a["iscrowd"]):
                    rank = (not a["iscrowd"], iou)
                    best = (rank, a) if best is None or rank >= best[0] else best
            real = best is not None and not best[1]["iscrowd"]
            iou, ignored = best[0][1] if real else None, best is not None and not real
            answers.append((row["category_id"], row["score"], iou, ignored))
            if real:
                best[1]["free"] = False
    return [a[:3] for a in answers if not a[3]]


def binned(rows, bins, value):
    total = 0.0
    for b in range(bins):
        low, high = b / bins, (b + 1) / bins
        mine = [(s, v) for _, s, v in rows if low <= s < high or (b == bins - 1 and s == 1)]
        if mine:
            gap = np.mean([s for s, _ in mine]) - np.mean([value(v) for _, v in mine])
            total += len(mine) / len(rows) * abs(gap)
    return total


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_a_slow_reference(random_case, seed):
    truth, rows = random_case(seed, images=14, digits=2)  # two digits: many scores are equal
    table = calibration(rows, truth)
    numbers, classes = table.summary(), class_thresholds(table)
    tight, loose = matched(truth, rows, 0.5), matched(truth, rows, 0.1)
    for bins in (10, 20):
        assert numbers[f"d_ece_{bins}"] == pytest.approx(binned(tight, bins, lambda v: v is not None))
    errors = []
    for category in sorted({a["category_id"] for a in truth["annotations"] if not a["iscrowd"]}):
        objects = sum(a["category_id"] == category and not a["iscrowd"] for a in truth["annotations"])
        mine = [r for r in tight if r[0] == category]
        best, best_score = 1.0, None
        for threshold in sorted({r[1] for r in mine}, reverse=True):
            kept = [r for r in mine if r[1] >= threshold]
            hits = [1 - r[2] for r in kept if r[2] is not None]
            wrong, lost = len(kept) - len(hits), objects - len(hits)
            error = (sum(hits) / 0.5 + wrong + lost) / (len(hits) + wrong + lost)
            if error < best - 1e-12:
                best, best_score = error, threshold
        assert classes["lrp"][category] == pytest.approx(best)
        if best_score is not None:
            assert classes["threshold"][category] == best_score
        assert classes["objects"][category] == objects
        error = binned([r for r in loose if r[0] == category], 25, lambda v: v or 0.0)
        assert classes["la_ece"][category] == pytest.approx(error)
        errors.append((best, error))
    np.testing.assert_allclose(numbers[["lrp", "la_ece"]], np.mean(errors, axis=0))


def test_real_results(shared):
    folder = shared / "data" / "coco_sample"
    table = calibration(folder / "results" / "yolox_nano_results.json", folder / "instances.json")
    numbers = table.summary()
    assert not numbers.isna().any()
    assert 0 < numbers["lrp"] < 1
    classes = class_thresholds(table)
    names = {c["id"]: c["name"] for c in json.loads((folder / "instances.json").read_text())["categories"]}
    assert classes["name"].to_dict() == {c: names[c] for c in classes.index}
    # the thresholds do what they promise: without what lies below, no other threshold is better
    limit = table["category"].map(classes["threshold"]).fillna(2.0)
    kept = table[table["score"] >= limit]
    kept.attrs = table.attrs
    np.testing.assert_allclose(class_thresholds(kept)["lrp"], classes["lrp"])
    assert kept.summary()["d_ece_10"] != numbers["d_ece_10"]


def test_undefined_numbers_have_a_reason():
    target = {"boxes": np.array([[0.0, 0, 10, 10]]), "labels": np.array([0])}
    none = dsla.analysis.calibration([], [target]).summary()
    assert none["lrp"] == 1
    assert none.attrs["reasons"]["d_ece_10"] == "no detection"
    empty = dsla.analysis.calibration([], [{"boxes": np.zeros((0, 4)), "labels": np.zeros(0, dtype=int)}]).summary()
    assert empty.attrs["reasons"]["lrp"] == "no class with objects"
