"""Whole arrays against pycocotools: the same arrays, of cases with everything that breaks ties and habits."""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsla.coco.detections import Results
from dsla.coco.engines import ENGINES, curves
from dsla.coco.evaluation import evaluate_detections
from dsla.coco.ground_truth import GroundTruth
from dsla.coco.matching import CAPS, overlapping
from dsla.errors import DataError


def random_case(seed, images=7, names=lambda i: i):
    """Ids with gaps in any order, crowds, areas that are not the boxes', equal scores and boxes, classes without
    objects or detections, boxes of no size, more than 100 boxes of a class in one image."""
    rng = np.random.default_rng(seed)
    image_ids, kinds = (rng.permutation(40)[:images] * 3).tolist(), [90, 3, 7, 1]
    objects, rows = [], []
    for image in image_ids:
        for _ in range(rng.integers(0, 7)):
            box = [*rng.integers(0, 900, 2).tolist(), *np.round(np.exp(rng.uniform(1, 6, 2)), 1).tolist()]
            one = {"id": len(objects), "image_id": names(image), "category_id": names(int(rng.choice(kinds[:3])))}
            objects.append({**one, "bbox": box, "iscrowd": int(rng.random() < 0.15)})
            if rng.random() < 0.6:
                objects[-1]["area"] = float(rng.choice([32**2, 96**2, 50.5, 0.6 * box[2] * box[3]]))
            for _ in range(rng.integers(0, 6)):
                moved = np.array(box) + rng.normal(0, 0.1, 4) * np.tile(box[2:], 2) * (rng.random() < 0.8)
                kind = one["category_id"] if rng.random() < 0.8 else names(int(rng.choice(kinds)))
                moved[2:] = moved[2:].clip(0 if rng.random() < 0.1 else 1)
                detection = {"image_id": one["image_id"], "category_id": kind, "bbox": moved.round(1).tolist()}
                rows += [{**detection, "score": float(rng.integers(0, 12) / 12)}] * (1 + (rng.random() < 0.1))
    if objects:
        same = {k: objects[0][k] for k in ("image_id", "category_id")}
        for _ in range(130 * (rng.random() < 0.3)):
            box = (np.array(objects[0]["bbox"]) + rng.integers(0, 9, 4)).tolist()
            rows.append({**same, "bbox": box, "score": float(rng.integers(0, 30) / 30)})
    rng.shuffle(rows)
    truth = {"images": [{"id": names(i)} for i in image_ids], "annotations": objects}
    return truth | {"categories": [{"id": names(c)} for c in kinds]}, rows


def check(truth, rows, caps=CAPS):
    results = Results.of(rows, GroundTruth.of(truth, warn=False), warn=False)
    ours, theirs = (curves(engine, results, caps) for engine in ("numpy", "pycocotools"))
    np.testing.assert_array_equal(ours.precision, theirs.precision)
    np.testing.assert_array_equal(ours.recall, theirs.recall)
    return theirs


@pytest.mark.slow
@settings(max_examples=40)
@given(seed=st.integers(0, 10**6))
def test_arrays_are_those_of_pycocotools(seed):
    check(*random_case(seed))


def test_the_cases_are_not_easy():
    """Sizes, classes and thresholds of which some are undefined, some 0, some 1 and some between."""
    seen = check(*random_case(3, images=30))
    for values in (seen.precision, seen.recall):
        assert -1 in values
        assert 0 in values
        assert ((values > 0) & (values < 0.99)).any()
    assert len({tuple(values) for values in seen.precision.reshape(-1, 4)}) > 20  # sizes differ


def test_ids_that_are_words():
    check(*random_case(1, names="no. {:03d}".format))


def same(truth, rows, **options):
    ours, theirs = (evaluate_detections(truth, rows, engine=engine, **options) for engine in ENGINES)
    pd.testing.assert_series_equal(ours.summary, theirs.summary, check_exact=True)
    pd.testing.assert_frame_equal(ours.per_class, theirs.per_class, check_exact=True)
    assert [n for n in ours.notes if "equal scores" not in n] == list(theirs.notes)
    assert ours.n_images == theirs.n_images
    return ours


@pytest.mark.filterwarnings("ignore::dsla.errors.DataWarning")
@pytest.mark.parametrize("limit", [100, 5, 10, 300])
def test_an_evaluation_is_the_same_whatever_the_engine(limit):
    evaluation = same(*random_case(4, images=30), max_detections=float(limit))
    assert list(evaluation.summary.index)[6:9] == [*(f"AR@{cap}" for cap in (1, 10) if cap < limit), f"AR@{limit}",
                                                   "AR_small"][:3]  # fmt: skip
    assert f"AP counts the {limit} best detections of an image and class" in str(evaluation)
    assert evaluation.to_series().attrs["max_detections"] == limit


def test_a_limit_of_none_is_refused():
    with pytest.raises(DataError, match="max_detections is 1 or more, a whole number, got 0"):
        evaluate_detections(*random_case(0), max_detections=0)


def test_ids_of_several_kinds():
    same(*random_case(1, names=lambda i: f"{i}" if i % 2 else i))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolox_nano_results", "nanodet_m_416_results"])
def test_real_results(shared, name):
    folder = shared / "data" / "coco_sample"
    same(folder / "instances.json", folder / "results" / f"{name}.json")


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_found_nothing_there_and_nothing_at_all(engine):
    truth, rows = random_case(0)
    nothing_found = evaluate_detections(truth, [], engine=engine)
    assert nothing_found.summary.tolist() == [0.0] * 12
    assert nothing_found.notes == ("0 detections",)
    nothing_there = evaluate_detections(truth | {"annotations": []}, rows, engine=engine)
    assert nothing_there.summary.isna().all()
    assert any("no ground truth object" in note for note in nothing_there.notes)
    empty = {"images": [], "annotations": [], "categories": truth["categories"]}
    assert evaluate_detections(empty, [], engine=engine).summary.isna().all()
    with pytest.raises(DataError, match="image_id that the ground truth does not know: 1000"):
        evaluate_detections(truth, [rows[0] | {"image_id": 1000}], engine=engine)


def test_an_engine_of_another_name():
    with pytest.raises(ValueError, match=r"numpy, pycocotools; got 'fast'"):
        evaluate_detections(*random_case(0), engine="fast")


def test_the_shell_offers_every_engine():
    from dsla.cli.arguments import add_options

    parser = argparse.ArgumentParser()
    add_options(parser, "evaluate")
    for engine in ENGINES:
        assert parser.parse_args(["x", "--engine", engine]).engine == engine
    assert parser.parse_args(["x"]).engine == ENGINES[0] == "numpy"


def ties(scores):
    """Two objects of a class in two images, a true and a false detection of each, in this order."""
    truth = {"images": [{"id": 1}, {"id": 2}], "categories": [{"id": 1}], "annotations": [
        {"image_id": i, "category_id": 1, "bbox": [0, 0, 50, 50]} for i in (1, 2)
    ]}  # fmt: skip
    boxes = [(1, [0, 0, 50, 50]), (1, [70, 70, 50, 50]), (2, [70, 70, 50, 50]), (2, [0, 0, 50, 50])]
    rows = [{"image_id": i, "category_id": 1, "bbox": b, "score": s} for (i, b), s in zip(boxes, scores, strict=True)]
    return evaluate_detections(truth, rows)


@pytest.mark.robustness("wrong: equal scores whose order changes AP are said, with the range")
def test_equal_scores_whose_order_changes_ap_are_said():
    """Precision 1, 1/2, 1/3, 2/4: 1 up to recall 1/2, then 2/4. At worst 1/3, 2/4; at best 1 throughout."""
    tied = ties([0.5] * 4)
    assert tied.summary["AP"] == pytest.approx((51 + 50 * 0.5) / 101)
    assert tied.notes == ("equal scores, whose order the file decides: by it AP lies in 0.500…1.000, here 0.752",)
    assert ties([0.9, 0.5, 0.5, 0.8]).notes == ()  # the false ones alone are equal
    assert ties([0.9, 0.5, 0.4, 0.8]).notes == ()
    assert len(ties([0.5, 0.5, 0.1, 0.8]).notes) == 1


@pytest.mark.robustness("strangers: more pairs that overlap than memory may hold are one message")
def test_more_pairs_than_memory_may_hold_are_one_message(monkeypatch):
    monkeypatch.setattr("dsla.coco.matching.MOST", 99)
    ones = np.zeros(10, dtype=int)
    with pytest.raises(DataError, match=r"10 boxes against 10: more than 99 pairs overlap.*low scores"):
        overlapping(ones, ones, lambda i, j: np.ones(len(i)))
    assert len(overlapping(ones, ones[1:], lambda i, j: np.ones(len(i))).iou) == 90


@pytest.mark.robustness("strangers: pairs of many detections and objects are looked at in parts, with the same result")
@pytest.mark.parametrize("most", [1, 7, 10**6])
def test_pairs_are_the_same_in_parts(most):
    rng = np.random.default_rng(most)
    a, b = rng.integers(0, 5, 40), rng.integers(0, 6, 30)
    table = rng.random((40, 30)) - 0.5
    largest = []

    def iou_of(i, j):
        largest.append(len(i))
        return table[i, j]

    pairs = overlapping(a, b, iou_of, most)
    i, j = np.nonzero((a[:, None] == b) & (table > 0))
    assert pairs.detection.tolist() == i.tolist()
    assert pairs.object.tolist() == j.tolist()
    assert pairs.iou.tolist() == table[i, j].tolist()
    assert max(largest) <= most + 30
    assert len(overlapping(a[:0], b, iou_of).iou) == len(overlapping(a, b[:0], iou_of).iou) == 0
