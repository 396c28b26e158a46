"""Verdicts: from hand-made numbers, the interval by the textbook's formula."""

import numpy as np
import pandas as pd
import pytest

from dsla.paper.claims import CLAIMS, Claim, interval, judge
from dsla.paper.definitions import as_text

HIGHER = Claim("higher AP", "evaluation", "AP")
LOWER = Claim("lower share", "suppression", "lost_over_0.05", sign=-1, other="FCOS + centerness")


def numbers(claim, better, other):
    """One row a (method, seed)."""
    rows = [
        {"method": m, "seed": seed, "analysis": claim.analysis, "name": claim.name, "value": value}
        for m, values in ((claim.better, better), (claim.other, other))
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame([*rows, {"method": "DSLA", "seed": 0, "analysis": "other", "name": claim.name, "value": 9.0}])


def test_interval_by_hand():
    # mean 2, standard deviation 1, n = 3: half width 4.302653 · 1 / √3
    assert interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2 - 2.484138, 2 + 2.484138), abs=1e-5)
    mean, low, high = interval([0.5])
    assert mean == 0.5
    assert np.isnan([low, high]).all()
    assert np.isnan(interval([])).all()
    assert interval([1.0, np.nan, 3.0])[0] == 2.0


@pytest.mark.parametrize(
    ("claim", "better", "other", "verdict"),
    [
        (HIGHER, [0.35, 0.36, 0.355], [0.31, 0.32, 0.316], "seen"),
        (HIGHER, [0.35, 0.31, 0.33], [0.34, 0.32, 0.33], "not seen here"),  # differences 0.01, −0.01, 0
        (HIGHER, [0.31, 0.32, 0.316], [0.35, 0.36, 0.355], "contradicted"),
        (LOWER, [0.40, 0.41], [0.50, 0.511], "seen"),
        (LOWER, [0.50, 0.511], [0.40, 0.41], "contradicted"),
        (HIGHER, [0.36], [0.33], "seen"),
        (HIGHER, [0.345], [0.33], "not seen here"),  # less than a seed may do
        (HIGHER, [0.20], [0.33], "not seen here"),  # one seed never contradicts
        (LOWER, [0.40], [0.50], "seen"),
        (HIGHER, [np.nan], [0.3], "n/a"),
        (HIGHER, [], [0.3], "n/a"),
    ],
)
def test_verdicts(claim, better, other, verdict):
    found = judge(claim, numbers(claim, better, other))
    assert found.verdict == verdict


def test_seeds_are_compared_in_pairs():
    # each seed moves both methods by far more than the methods differ
    other = np.array([0.1, 0.3, 0.5])
    found = judge(HIGHER, numbers(HIGHER, other + np.array([0.010, 0.011, 0.012]), other))
    assert found.verdict == "seen"
    assert found.difference == pytest.approx(0.011)
    half = 4.302653 * 0.001 / np.sqrt(3)
    assert (found.low, found.high) == pytest.approx((0.011 - half, 0.011 + half), abs=1e-6)
    assert found.sentence == ("AP: DSLA 31.1, FCOS 30.0, difference +1.1, 95 % interval +0.9 to +1.3, 3 seeds.")


def test_a_seed_that_one_method_lacks_is_left_out():
    found = judge(HIGHER, numbers(HIGHER, [0.5, 0.5, 0.9], [0.4, 0.41]))
    assert found.seeds == 2
    assert found.better == 0.5


def test_numbers_as_a_person_reads_them():
    assert as_text("AP", 0.3514) == "35.1"
    assert as_text("AP_iou", -0.0123, signed=True) == "−1.2"
    assert as_text("ranking_cost", 0.25) == "25.0"
    assert as_text("spearman", 0.5, signed=True) == "+0.500"
    assert as_text("pairs", 12345.0) == "12,345"
    assert as_text("AP", float("nan")) == "n/a"


def test_both_baselines_are_compared():
    for name in ("AP", "spearman", "lost_over_0.05"):
        assert {c.other for c in CLAIMS if c.name == name} == {"FCOS", "FCOS + centerness"}
