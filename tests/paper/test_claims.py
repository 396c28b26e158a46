"""Verdicts: from hand-made numbers, the interval by the textbook's formula."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dsla.errors import DataError
from dsla.paper.claims import (
    CLAIMS,
    LEAST,
    Claim,
    Finding,
    holm,
    interval,
    judge,
    judge_all,
    measure_claims,
    pooled,
    power,
    rate_claims,
    step_claims,
)
from dsla.paper.definitions import as_text
from dsla.paper.protocol import PLAN
from dsla.paper.tables import CONDITION_CLAIMS

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
        (HIGHER, [0.35, 0.31, 0.33], [0.34, 0.32, 0.33], "undecided"),  # differences 0.01, −0.01, 0: 0 ± 0.025
        (HIGHER, [0.333, 0.329, 0.331], [0.332, 0.330, 0.331], "not seen"),  # 0 ± 0.0025: 0.015 is excluded
        (HIGHER, [0.290, 0.320, 0.305], [0.342, 0.341, 0.341], "not seen"),  # −0.036 ± 0.039: 0.015 is excluded
        (HIGHER, [0.31, 0.32, 0.316], [0.35, 0.36, 0.355], "contradicted"),
        (LOWER, [0.40, 0.41], [0.50, 0.511], "seen"),
        (LOWER, [0.50, 0.511], [0.40, 0.41], "contradicted"),
        (HIGHER, [0.96], [0.33], "undecided"),  # one seed has no interval
        (LOWER, [0.40], [0.50], "undecided"),
        (HIGHER, [np.nan], [0.3], "n/a"),
        (HIGHER, [], [0.3], "n/a"),
    ],
)
def test_verdicts(claim, better, other, verdict):
    finding = judge(claim, numbers(claim, better, other))
    assert finding.verdict == verdict


def test_seeds_are_compared_in_pairs():
    # each seed moves both methods by far more than the methods differ
    other = np.array([0.1, 0.3, 0.5])
    finding = judge(HIGHER, numbers(HIGHER, other + np.array([0.010, 0.011, 0.012]), other))
    assert finding.verdict == "seen"
    assert finding.difference == pytest.approx(0.011)
    half = 4.302653 * 0.001 / np.sqrt(3)
    assert (finding.low, finding.high) == pytest.approx((0.011 - half, 0.011 + half), abs=1e-6)
    assert finding.sentence == ("AP: DSLA 31.1, FCOS 30.0, difference +1.1, 95 % interval +0.9 to +1.3, 3 seeds.")


def test_the_deviation_is_that_of_least_squares_over_all_methods():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(0.3, 0.02, (4, 3)), columns=["DSLA", "FCOS", "x"]).rename_axis("seed")
    table += np.array([[0.1], [0.0], [-0.1], [0.05]])  # seeds move all methods
    cells = [(seed, m) for seed in range(4) for m in range(3)]
    design = np.array([[*(s == np.arange(4)), *(m == np.arange(1, 3))] for s, m in cells], dtype=float)
    rest = np.linalg.lstsq(design, table.to_numpy().ravel(), rcond=None)[1].item()
    square, freedom = pooled(table)
    assert freedom == 12 - 6
    assert square == pytest.approx(rest / 6)
    rows = table.reset_index().melt("seed", var_name="method").assign(analysis="evaluation", name="AP")
    finding = judge(HIGHER, rows)
    half = stats.t.ppf(0.975, 6) * np.sqrt(2 * rest / 6 / 4)
    assert (finding.high - finding.low) / 2 == pytest.approx(half)
    assert finding.difference == pytest.approx((table["DSLA"] - table["FCOS"]).mean())


def test_of_two_methods_it_is_the_paired_t_test():
    better, other = [0.33, 0.36, 0.31, 0.35], [0.32, 0.33, 0.31, 0.32]
    finding = judge(HIGHER, numbers(HIGHER, better, other))
    expected = stats.ttest_rel(better, other)
    assert finding.p == pytest.approx(expected.pvalue)
    assert (finding.low, finding.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_holm_by_the_textbook():
    ps = [0.01, 0.04, 0.03, 0.005, np.nan]
    findings = holm(Finding(HIGHER, "undecided", 3, difference=0.1, low=0.0, high=0.2, p=p) for p in ps)
    # the fifth, which no run decides, counts: 5 · 0.005, 4 · 0.01, 3 · 0.03, and never below the one before
    np.testing.assert_allclose([f.p for f in findings], [0.04, 0.09, 0.09, 0.025, np.nan])
    assert [f.verdict for f in findings] == ["seen", "undecided", "undecided", "seen", "undecided"]
    without = holm(Finding(HIGHER, "undecided", 3, difference=0.1, low=0.0, high=0.2, p=p) for p in ps[:4])
    np.testing.assert_allclose([f.p for f in without], [0.03, 0.06, 0.06, 0.02])


def test_what_is_seen_does_not_fall_because_a_run_comes():
    """The claims of a table are counted before their runs are there."""
    other = Claim("another", "evaluation", "AP", better="later")
    rows = numbers(HIGHER, [0.350, 0.361, 0.355], [0.31, 0.32, 0.316])
    later = rows[rows["method"] == "FCOS"].assign(method="later", value=[0.316, 0.321, 0.307])
    before, after = judge_all([HIGHER, other], rows), judge_all([HIGHER, other], pd.concat([rows, later]))
    assert [f.verdict for f in before] == ["seen", "n/a"]
    assert before[0].p == pytest.approx(2 * judge(HIGHER, rows).p)
    assert after[0].p == pytest.approx(2 * judge(HIGHER, pd.concat([rows, later])).p)


def test_a_number_has_one_effect_that_is_asked_for():
    every = [*CLAIMS, *measure_claims("x"), *step_claims(), *rate_claims(0.008), *CONDITION_CLAIMS.values()]
    effects = {}
    for claim in every:
        effects.setdefault((claim.analysis, claim.name), set()).add(claim.least)
    assert {len(each) for each in effects.values()} == {1}
    assert effects["ranking", "spearman"] == {0.03}
    assert effects["suppression", "lost_over_0.05"] == {0.04}
    assert effects["evaluation", "AP"] == effects["oracle", "ranking_cost"] == {PLAN["effect"]} == {0.015}
    assert {(analysis, name) for analysis, names in LEAST.items() for name in names} <= set(effects)


def test_the_claims_of_a_table_are_corrected_together():
    rows = numbers(HIGHER, [0.35, 0.36, 0.355], [0.31, 0.32, 0.316])
    alone = judge(HIGHER, rows)
    once, twice = judge_all([HIGHER], rows), judge_all([HIGHER, HIGHER], rows)
    assert once[0].p == alone.p
    assert [f.p for f in twice] == [2 * alone.p] * 2


def test_power_is_that_of_published_tables():
    # G*Power's example: paired t, effect 0.5 deviations, 34 pairs, two sides: 0.8078
    assert power(0.5, 1 / np.sqrt(34), 33) == pytest.approx(0.8078, abs=1e-4)
    assert power(1e-9, 1.0, 10) == pytest.approx(0.05, abs=1e-6)  # no effect: the level
    assert power(1.0, 1e-9, 10) == pytest.approx(1.0)


def test_other_images_widen_the_interval():
    rows = numbers(HIGHER, [0.35, 0.36, 0.355], [0.31, 0.32, 0.316])
    drawn = {"DSLA": [0.30, 0.32, 0.34], "FCOS": [0.31, 0.31, 0.31]}  # the difference has variance 0.0004 over draws
    kept = rows.assign(resampled=[drawn[m] for m in rows["method"]])
    finding, without = judge(HIGHER, kept), judge(HIGHER, rows)
    widths = [((f.high - f.low) / 2 / stats.t.ppf(0.975, 2)) ** 2 for f in (finding, without)]
    assert widths[0] - widths[1] == pytest.approx(0.0004)
    assert finding.difference == without.difference
    kept.at[1, "resampled"] = None
    with pytest.raises(DataError, match=r"the run of DSLA, seed 1, keeps no AP on resampled images, .*: leave it out"):
        judge(HIGHER, kept)


def test_a_seed_that_one_method_lacks_is_left_out():
    finding = judge(HIGHER, numbers(HIGHER, [0.5, 0.5, 0.9], [0.4, 0.41]))
    assert finding.seeds == 2
    assert finding.better == 0.5


@pytest.mark.robustness("wrong: two runs of one method and seed are refused by name, not averaged")
def test_two_runs_of_a_method_and_a_seed_are_refused():
    rows = numbers(HIGHER, [0.35, 0.36], [0.31, 0.32])
    again = rows[(rows["method"] == "FCOS") & (rows["seed"] == 1)].assign(value=0.5)
    with pytest.raises(DataError, match="more than one run of FCOS, seed 1: keep one of each"):
        judge(HIGHER, pd.concat([rows, again]))
    other = again.assign(name="AR@100")  # another number of the same run
    assert judge(HIGHER, pd.concat([rows, other])) == judge(HIGHER, rows)


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
