"""Findings as a table and as sentences."""

import numpy as np
import pandas as pd
import pytest

from dsla.paper.claims import Claim, effects, judge

AP = Claim("DSLA does better", "evaluation", "AP")
COST = Claim("Ranking costs less", "oracle", "ranking_cost", sign=-1)


def numbers(analysis, name, dsla, fcos):
    rows = [("DSLA", seed, value) for seed, value in enumerate(dsla)]
    rows += [("FCOS", seed, value) for seed, value in enumerate(fcos)]
    return pd.DataFrame(rows, columns=["method", "seed", "value"]).assign(analysis=analysis, name=name)


def test_effects_are_differences_in_the_numbers_unit():
    finding = judge(AP, numbers("evaluation", "AP", [0.42, 0.43, 0.44], [0.40, 0.40, 0.40]))
    row = effects([finding]).loc["DSLA does better"]
    # Differences 2, 3, 4 points: 3 ± 4.3027 · 1 / √3
    assert row["difference"] == pytest.approx(3)
    assert row["low"] == pytest.approx(3 - 2.4841, abs=1e-3)
    assert row["high"] == pytest.approx(3 + 2.4841, abs=1e-3)
    assert row["means"] == "DSLA 43.0, FCOS 40.0"
    assert (row["seeds"], row["verdict"]) == (3, "seen")


@pytest.mark.parametrize(
    ("dsla", "words"),
    [
        ([0.42, 0.43, 0.44], "HOLDS HERE"),
        ([0.399, 0.40, 0.401], "NOT SEEN HERE: not there, or smaller than the effect asked for"),
        ([0.39, 0.40, 0.41], "UNDECIDED: these runs cannot tell"),
        ([0.35, 0.36, 0.37], "THE OPPOSITE HOLDS HERE"),
        ([0.401], "UNDECIDED: these runs cannot tell"),
        ([], "N/A"),
    ],
)
def test_the_sentence_says_whether_the_claim_holds(dsla, words):
    finding = judge(AP, numbers("evaluation", "AP", dsla, [0.40] * len(dsla)))
    first, second = str(finding).split("\n")
    assert first == f"{words}. DSLA does better."
    assert second.strip() == finding.sentence


def test_a_number_that_claims_do_not_name_is_named_in_lines_that_break_between_words():
    finding = judge(COST, numbers("oracle", "ranking_cost", [0.2, 0.21], [0.3, 0.29]))
    lines = str(finding).split("\n")
    text = " ".join(line.strip() for line in lines)
    assert len(lines) == 3
    assert max(map(len, lines)) <= 92
    assert text.endswith(finding.sentence)
    assert "AP that scores equal to the IoU would add: DSLA 20.5, FCOS 29.5" in text


def test_nothing_known_is_said_so():
    empty = pd.DataFrame(columns=["method", "seed", "analysis", "name", "value"])
    row = effects([judge(AP, empty)]).iloc[0]
    assert row["verdict"] == "n/a"
    assert np.isnan(row["difference"])
