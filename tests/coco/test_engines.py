"""The quicker engines against pycocotools: the same arrays, of cases with everything that breaks ties and habits."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsla.coco.engines import ENGINES, curves
from dsla.coco.results import read_ground_truth, read_table
from dsla.errors import DataError
from dsla.models.evaluation import evaluate_detections

FASTER = pytest.param(
    "faster",
    marks=pytest.mark.skipif(
        importlib.util.find_spec("faster_coco_eval") is None, reason="faster-coco-eval is not installed"
    ),
)
QUICK = ["numpy", FASTER]


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
                found = {"image_id": one["image_id"], "category_id": kind, "bbox": moved.round(1).tolist()}
                rows += [{**found, "score": float(rng.integers(0, 12) / 12)}] * (1 + (rng.random() < 0.1))
    if objects:
        same = {k: objects[0][k] for k in ("image_id", "category_id")}
        for _ in range(130 * (rng.random() < 0.3)):
            box = (np.array(objects[0]["bbox"]) + rng.integers(0, 9, 4)).tolist()
            rows.append({**same, "bbox": box, "score": float(rng.integers(0, 30) / 30)})
    rng.shuffle(rows)
    truth = {"images": [{"id": names(i)} for i in image_ids], "annotations": objects}
    return truth | {"categories": [{"id": names(c)} for c in kinds]}, rows


def check(engine, truth, rows):
    known = read_ground_truth(truth)
    table = read_table(rows, known)
    ours, theirs = curves(engine, known, table), curves("pycocotools", known, table)
    assert list(ours.categories) == list(theirs.categories)
    # faster-coco-eval rounds the last bit of a precision otherwise
    least = 0.0 if engine == "numpy" else 1e-15
    np.testing.assert_allclose(ours.precision, theirs.precision, rtol=0, atol=least)
    np.testing.assert_allclose(ours.recall, theirs.recall, rtol=0, atol=least)
    return theirs


@pytest.mark.parametrize("engine", QUICK)
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6))
def test_arrays_are_those_of_pycocotools(engine, seed):
    check(engine, *random_case(seed))


@pytest.mark.parametrize("engine", QUICK)
def test_the_cases_are_not_easy(engine):
    """Sizes, classes and thresholds of which some are undefined, some 0, some 1 and some between."""
    seen = check(engine, *random_case(3, images=30))
    for values in (seen.precision, seen.recall):
        assert -1 in values
        assert 0 in values
        assert ((values > 0) & (values < 0.99)).any()
    assert len({tuple(values) for values in seen.precision.reshape(-1, 4)}) > 20  # sizes differ


@pytest.mark.parametrize("engine", QUICK)
def test_ids_that_are_words(engine):
    check(engine, *random_case(1, names="no. {:03d}".format))


@pytest.mark.parametrize("engine", QUICK)
def test_an_evaluation_is_the_same_whatever_the_engine(engine):
    truth, rows = random_case(4, images=30)
    ours, theirs = evaluate_detections(truth, rows, engine=engine), evaluate_detections(truth, rows)
    np.testing.assert_allclose(ours.summary, theirs.summary, rtol=0, atol=1e-15 if engine == "faster" else 0)
    pd.testing.assert_frame_equal(ours.per_class, theirs.per_class, check_exact=engine == "numpy", rtol=1e-12)
    assert (ours.notes, ours.n_images) == (theirs.notes, theirs.n_images)


@pytest.mark.parametrize("engine", QUICK)
@pytest.mark.parametrize("name", ["yolox_nano_results", "nanodet_m_416_results"])
def test_real_results(shared, engine, name):
    folder = shared / "data" / "coco_sample"
    files = folder / "instances.json", folder / "results" / f"{name}.json"
    ours, theirs = evaluate_detections(*files, engine=engine), evaluate_detections(*files)
    np.testing.assert_allclose(ours.summary, theirs.summary, rtol=0, atol=1e-15 if engine == "faster" else 0)
    pd.testing.assert_frame_equal(ours.per_class, theirs.per_class, check_exact=engine == "numpy", rtol=1e-12)


@pytest.mark.parametrize("engine", ["pycocotools", *QUICK])
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


def test_an_engine_of_another_name_and_one_that_is_not_installed(monkeypatch):
    truth, rows = random_case(0)
    with pytest.raises(ValueError, match=r"pycocotools, faster, numpy; got 'fast'"):
        evaluate_detections(truth, rows, engine="fast")
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(DataError, match=r"pip install 'dsla\[fast\]'"):
        evaluate_detections(truth, rows, engine="faster")
    assert ENGINES[0] == "pycocotools"


def test_the_shell_offers_every_engine():
    from dsla.cli.main import _parser

    for engine in ENGINES:
        assert _parser().parse_args(["evaluate", "x", "--engine", engine]).engine == engine
    assert _parser().parse_args(["evaluate", "x"]).engine == "pycocotools"
