"""Resamples of images: the same numbers as an evaluation of data in which images stand several times."""

from __future__ import annotations

import numpy as np
import pytest

from dsla.analysis.resampling import differences, draws, intervals, resampled, resampled_ap, share_resampled
from dsla.coco.detections import Results
from dsla.coco.evaluation import evaluate_detections
from dsla.coco.ground_truth import GroundTruth

NAMES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")


def case(seed, images=9, classes=3):
    """Objects of all sizes, crowds, an image without objects, scores that are equal across images, boxes in crowds.

    Within an image scores differ: of equal ones the copies of an image would be interleaved.
    """
    rng = np.random.default_rng(seed)
    truth = {
        "images": [{"id": 10 + i, "width": 400, "height": 400} for i in rng.permutation(images)],
        "categories": [{"id": 1 + k, "name": f"c{k}"} for k in range(classes)],
        "annotations": [],
    }
    rows = []
    for image in truth["images"][1:]:
        scores = iter(rng.permutation(15) / 15)
        for _ in range(rng.integers(1, 6)):
            side = float(rng.choice([20, 60, 150]))
            box = [*rng.uniform(0, 200, 2), side, side * rng.uniform(0.7, 1.3)]
            ids = {"image_id": image["id"], "category_id": int(rng.integers(1, classes + 1))}
            crowd = int(rng.random() < 0.15)
            truth["annotations"].append({"id": len(truth["annotations"]) + 1, "bbox": box, "iscrowd": crowd, **ids})
            for noise in (0.03, 0.15):
                moved = np.array(box) + rng.normal(0, noise, 4) * side
                rows.append({**ids, "bbox": moved.tolist(), "score": float(next(scores))})
        noise = {"image_id": image["id"], "category_id": 1, "bbox": [300.0, 300.0, 40.0, 40.0]}
        rows.append({**noise, "score": float(next(scores))})
    return truth, rows


def copied(truth, rows, counts):
    """The data in which image i, by its id, stands counts[i] times; copies keep the order of the ids."""
    of = {image["id"]: count for image, count in zip(truth["images"], counts, strict=True)}

    def repeat(things, key):
        return [{**t, key: 100 * t[key] + n} for t in things for n in range(of[t[key]])]

    annotations = [{**a, "id": n} for n, a in enumerate(repeat(truth["annotations"], "image_id"), 1)]
    content = {**truth, "images": repeat(truth["images"], "id"), "annotations": annotations}
    return content, repeat(rows, "image_id")


@pytest.mark.robustness("values: resamples of images equal evaluations of data in which images stand several times")
@pytest.mark.parametrize("seed", range(4))
def test_a_resample_is_the_evaluation_of_data_with_images_several_times(seed):
    content, rows = case(seed)
    truth = GroundTruth.of(content)
    evaluation = evaluate_detections(truth, Results.of(rows, truth))
    weights = draws(len(truth), 6, seed)
    assert (weights.sum(1) == len(truth)).all()
    samples = resampled(evaluation.curves.matched, truth, weights)
    assert tuple(samples) == NAMES
    for n, counts in enumerate(weights.tolist()):
        slow = evaluate_detections(*copied(content, rows, counts)).summary
        for name in NAMES:
            assert samples[name][n] == pytest.approx(slow[name], abs=1e-12, nan_ok=True), (n, name)
    assert np.array_equal(resampled_ap(rows, content, weights), samples["AP"], equal_nan=True)


def test_every_image_once_is_the_evaluation_itself():
    content, rows = case(7)
    truth = GroundTruth.of(content)
    evaluation = evaluate_detections(truth, rows)
    one = resampled(evaluation.curves.matched, truth, np.ones((1, len(truth)), dtype=np.int32))
    for name in NAMES:
        assert one[name][0] == pytest.approx(evaluation.summary[name], abs=1e-12)


def test_parts_and_whole_are_the_same(monkeypatch):
    content, rows = case(3)
    truth = GroundTruth.of(content)
    matched, weights = evaluate_detections(truth, rows).curves.matched, draws(len(truth), 20)
    whole = resampled(matched, truth, weights)
    monkeypatch.setattr("dsla.analysis.resampling.TOGETHER", 3 * len(matched.score))
    parts = resampled(matched, truth, weights)
    assert all(np.array_equal(whole[name], parts[name], equal_nan=True) for name in NAMES)


def test_an_interval_is_the_number_and_the_spread_of_its_resamples():
    sample = np.array([0.2, 0.4, np.nan, 0.6])
    table = intervals({"AP": 0.3, "none": 0.5}, {"AP": sample, "none": np.full(4, np.nan)}, level=0.95)
    reach = 1.959964 * 0.2
    assert table.loc["AP", ["value", "low", "high"]].tolist() == pytest.approx([0.3, 0.3 - reach, 0.3 + reach])
    assert table.loc["AP", ["mean", "low_percentile", "high_percentile"]].tolist() == pytest.approx([0.4, 0.21, 0.59])
    assert table.loc["none", "value"] == 0.5
    assert table.loc["none"].isna().sum() == 5


def test_shares_and_differences_are_counted_image_by_image():
    weights = np.array([[1, 1], [2, 0], [0, 2]])
    hits, image = np.array([True, False, True]), np.array([0, 0, 1])
    first = {"found": share_resampled(hits, image, weights)}
    assert first["found"].tolist() == pytest.approx([2 / 3, 1 / 2, 1])
    second = {"found": share_resampled(~hits, image, weights), "other": np.zeros(3)}
    assert differences(first, second)["found"].tolist() == pytest.approx([1 / 3, 0, 1])
    assert list(differences(first, second)) == ["found"]


@pytest.mark.slow
def test_two_detectors_are_compared_on_the_same_resamples(shared):
    from dsla.analysis.detectors import ask, compared

    folder = shared / "data" / "coco_sample"
    files = [folder / "results" / f"{name}_results.json" for name in ("yolox_nano", "nanodet_m_416")]
    answers = ask(files, folder / "instances.json", resamples=60)
    table = compared(answers)[0].set_index("name")
    tables = [a.tables["intervals"].set_index("name") for a in answers]
    ap = table.loc["AP"]
    assert ap["value"] == pytest.approx(tables[0].loc["AP", "value"] - tables[1].loc["AP", "value"])
    reach = [t.loc["AP", "high"] - t.loc["AP", "low"] for t in tables]
    assert ap["high"] - ap["low"] < 0.8 * np.hypot(*reach)  # what is hard for both cancels
    assert ap["low"] > 0  # YOLOX-nano is better than NanoDet-m, whichever images of this kind are taken
    assert table.loc["AP_small", "low"] < 0 < table.loc["AP_small", "high"]


def test_draws_are_as_many_as_there_are_images_and_the_same_each_time():
    first = draws(50, 400, seed=3)
    assert first.shape == (400, 50)
    assert set(first.sum(axis=1)) == {50}
    assert (first == draws(50, 400, seed=3)).all()
    assert first.mean(axis=0) == pytest.approx(np.ones(50), abs=0.25)  # standard error 0.05
    assert first.var() == pytest.approx(0.98, abs=0.05)  # of a multinomial: 1 − 1/50
    assert draws(0, 3).shape == (3, 0)
