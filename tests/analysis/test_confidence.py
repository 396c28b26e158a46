"""Ranking: exact values, a slow reference, undefined cases."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsla.analysis import correlations, ranking, reliability, summary
from dsla.errors import DataError
from dsla.files import plain


def slow(score: list[float], iou: list[float]) -> dict[str, float]:
    """Correlations by their definitions, pair by pair."""
    n = len(score)

    def pearson(a, b):
        return float(np.corrcoef(a, b)[0, 1])

    def average_ranks(values):
        return [sum(w < v for w in values) + (sum(w == v for w in values) + 1) / 2 for v in values]

    right = wrong = tied_score = tied_iou = 0
    for i in range(n):
        for j in range(i):
            d = np.sign(score[i] - score[j]) * np.sign(iou[i] - iou[j])
            right, wrong = right + (d > 0), wrong + (d < 0)
            tied_score, tied_iou = tied_score + (score[i] == score[j]), tied_iou + (iou[i] == iou[j])
    every = n * (n - 1) / 2
    tau = (right - wrong) / math.sqrt((every - tied_score) * (every - tied_iou))
    spearman = pearson(average_ranks(score), average_ranks(iou))
    return {
        "pearson": pearson(score, iou),
        "spearman": spearman,
        "kendall": tau,
        "pairs": right + wrong,
        "wrong": wrong,
    }


pair = st.tuples(st.integers(0, 4).map(lambda v: v / 4), st.integers(0, 6).map(lambda v: v / 6), st.integers(0, 3))


@pytest.mark.slow
@given(st.lists(pair, max_size=30))
def test_correlations_equal_the_slow_reference_in_every_group(rows):
    score, iou, group = (np.array(column) for column in zip(*rows, strict=True)) if rows else (np.zeros(0),) * 3
    table = correlations(score, iou, group)
    assert table.index.tolist() == sorted(set(group.tolist()))
    for name, row in table.iterrows():
        s, q = score[group == name].tolist(), iou[group == name].tolist()
        assert row["n"] == len(s)
        if len(set(s)) < 2 or len(set(q)) < 2:
            assert row[["pearson", "spearman", "kendall"]].isna().all()
        else:
            expected = slow(s, q)
            assert {k: row[k] for k in expected} == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("levels", [5, 1000])
def test_groups_of_many_equal_the_slow_reference_too(levels):
    rng = np.random.default_rng(levels)
    score, iou = (rng.integers(0, levels, 300) / levels for _ in range(2))
    table = correlations(score, iou, np.repeat([0, 1], [65, 235]))
    for group, rows in ((0, slice(0, 65)), (1, slice(65, 300))):
        expected = slow(score[rows].tolist(), iou[rows].tolist())
        assert table.loc[group, list(expected)].to_dict() == pytest.approx(expected, abs=1e-12)


def pairs(*rows: tuple[float, float]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=["score", "iou"])


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (pairs(), "no such detection"),
        (pairs((0.9, 0.8)), "fewer than two"),
        (pairs((0.9, 0.8), (0.7, 0.8), (0.5, 0.8)), "score or IoU is constant"),
        (pairs((0.9, 0.8), (0.7, 0.8 + 1e-9), (0.5, 0.8)), "score or IoU is constant"),
        (pairs((0.5, 0.9), (0.5, 0.8)), "score or IoU is constant"),
    ],
)
def test_undefined_correlations_say_why(table, reason):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        numbers = ranking(table).summary()
    for kind in ("pearson", "spearman", "kendall"):
        assert math.isnan(numbers[kind])
        assert numbers.attrs["reasons"][kind] == reason
        assert json.loads(json.dumps(plain(numbers.to_dict())))[kind] is None
    assert set(numbers.attrs["reasons"]) == set(numbers[numbers.isna()].index)
    assert set(numbers.attrs["definitions"]) == set(numbers.index)


@pytest.mark.parametrize(("ious", "value"), [((0.9, 0.8, 0.7), 1.0), ((0.7, 0.8, 0.9), -1.0)])
def test_perfect_correlations(ious, value):
    numbers = ranking(pairs(*zip((0.9, 0.8, 0.7), ious, strict=True))).summary()
    assert numbers[["pearson", "spearman", "kendall"]].tolist() == pytest.approx([value] * 3, abs=1e-12)


def test_summary_by_hand(one_image):
    truth, rows = one_image(
        [(1, 0, 0, 10, 10), (1, 100, 0, 110, 10)],
        [
            (1, 0.9, 0, 0, 10, 6),  # object 100: IoU 0.6, 0.8, 0.7
            (1, 0.8, 0, 0, 10, 8),
            (1, 0.7, 0, 0, 10, 7),
            (1, 0.6, 100, 0, 110, 9),  # object 101: IoU 0.9, 0.5
            (1, 0.2, 100, 0, 110, 5),
            (1, 0.1, 50, 50, 60, 60),  # background
        ],
    )
    table = ranking(rows, truth)
    numbers = summary(table)
    assert (numbers["detections"], numbers["boxes"], numbers["objects"]) == (6, 5, 2)
    assert (numbers["pairs"], numbers["wrong_pairs"]) == (4, 0.5)  # (0.9, 0.8) and (0.9, 0.7) of object 100
    assert numbers["kendall_object"] == pytest.approx((-1 / 3 + 1) / 2)
    expected = slow([0.9, 0.8, 0.7, 0.6, 0.2], [0.6, 0.8, 0.7, 0.9, 0.5])
    assert {k: numbers[k] for k in ("pearson", "spearman", "kendall")} == pytest.approx(
        {k: expected[k] for k in ("pearson", "spearman", "kendall")}
    )
    assert numbers["kendall_image"] == numbers["kendall"]
    gaps = [0.3, 0.0, 0.0, 0.3, 0.3, 0.1]
    assert numbers["reliability_gap"] == pytest.approx(np.mean(gaps))

    curve = reliability(table)
    assert curve["count"].tolist() == [0, 1, 1, 0, 0, 0, 1, 1, 1, 1]
    assert curve.loc[1, ["low", "high", "score", "iou"]].tolist() == pytest.approx([0.1, 0.2, 0.1, 0.0])
    assert math.isnan(curve.loc[0, "iou"])

    low = ranking(rows, truth, iou_threshold=0.0).summary()
    assert low["boxes"] == 6
    assert "IoU ≥ 0.75" in ranking(rows, truth, iou_threshold=0.75).summary().attrs["definitions"]["boxes"]


@pytest.mark.parametrize(
    ("table", "options"),
    [("results.json", {}), ({"score": [0.1]}, {}), ({"score": [0.1], "iou": [0.2]}, {"crowd": "background"})],
)
def test_without_a_ground_truth_a_table_and_no_other_option(table, options):
    with pytest.raises(DataError, match="too, or a table of score and iou, and at most iou_threshold"):
        ranking(table, **options)
    columns = {"score": [0.1, 0.3, 0.2], "iou": [0.2, 0.9, 0.4]}
    assert ranking(columns).equals(ranking(pd.DataFrame(columns)))


@pytest.mark.robustness("unclear: scores and IoUs of a table that are no finite numbers are named with their row")
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"score": [0.1, math.nan], "iou": [0.6, 0.7]}, r"row 1: score nan, iou 0\.7; both must be finite"),
        ({"score": [0.1, 0.2, math.inf], "iou": [0.6, 0.7, 0.9]}, r"row 2: score inf, iou 0\.9; both must be finite"),
        ({"score": [0.1, 0.2], "iou": [math.nan, 0.7]}, r"row 0: score 0\.1, iou nan; both must be finite"),
        ({"score": ["a", 0.2], "iou": [0.6, 0.7]}, "ranking needs columns of numbers, score and iou, of one length"),
        ({"score": [0.1], "iou": [0.6, 0.7]}, "ranking needs columns of numbers, score and iou, of one length"),
        ({"score": 0.1, "iou": 0.6}, "ranking needs columns of numbers, score and iou, of one length"),
    ],
)
def test_tables_without_numbers_are_refused(columns, message):
    with pytest.raises(DataError, match=message):
        ranking(columns)


def test_the_highest_score_falls_into_the_last_bin():
    curve = reliability(ranking(pairs((1.0, 0.5), (0.999, 0.7))), bins=4)
    assert curve["count"].tolist() == [0, 0, 0, 2]
    assert curve["iou"].iloc[-1] == pytest.approx(0.6)


def test_nothing_detected_and_all_perfect_end_to_end(one_image):
    truth, rows = one_image([(1, 0, 0, 20, 20), (1, 50, 50, 70, 70)],
                            [(1, 0.9, 0, 0, 20, 20), (1, 0.8, 50, 50, 70, 70)])  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        empty, perfect = ranking([], truth).summary(), ranking(rows, truth).summary()
    assert empty["detections"] == 0
    assert math.isnan(empty["pearson"])
    assert math.isnan(empty["reliability_gap"])
    assert perfect["boxes"] == 2
    assert perfect.attrs["reasons"]["pearson"] == "score or IoU is constant"


@pytest.mark.parametrize("seed", range(3))
def test_order_does_not_matter(random_case, seed):
    truth, rows = random_case(seed, digits=9)
    turned = {**truth, "images": truth["images"][::-1]}
    pd.testing.assert_series_equal(ranking(rows, truth).summary(), ranking(rows[::-1], turned).summary())


def test_selected_rows_keep_their_summary(random_case):
    truth, rows = random_case(0)
    table = ranking(rows, truth)
    part = table[table["category"] == 90]
    assert part.summary()["detections"] == (~part["ignored"]).sum() < table.summary()["detections"]
    with pytest.raises(DataError, match="not a table"):
        summary(pd.DataFrame({"a": [1]}))
