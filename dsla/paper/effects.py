"""Findings as people read them: a table of effects with their intervals, and one plain sentence each."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import wrap

import numpy as np
import pandas as pd

from .claims import CONTRADICTED, NOT_SEEN, SEEN, UNDEFINED, Finding, shown

WIDTH = 92  # characters of a line
WORDS = {
    SEEN: "HOLDS HERE",
    NOT_SEEN: "NOT SEEN HERE, the interval holds 0",
    CONTRADICTED: "THE OPPOSITE HOLDS HERE",
    UNDEFINED: "N/A",
}


def effects(findings: Iterable[Finding]) -> pd.DataFrame:
    """One row a finding: claim, means (of both methods), difference, its 95 % interval, seeds, verdict.

    The difference is `better` − `other` in the number's own unit, AP in points of 100; NaN where undefined.
    """
    rows = []
    for f in findings:
        scale = 100 if shown(f.claim.name, 0.0) == "0.0" else 1
        means = {f.claim.better: f.better, f.claim.other: f.other}
        rows.append(
            {
                "claim": f.claim.text,
                "means": ", ".join(f"{name} {shown(f.claim.name, mean)}" for name, mean in means.items()),
                "difference": scale * f.difference,
                "low": scale * f.low,
                "high": scale * f.high,
                "seeds": f.seeds,
                "verdict": f.verdict,
            }
        )
    return pd.DataFrame(rows).set_index("claim")


def plainly(finding: Finding) -> str:
    """Whether the claim holds, and below it what was measured, in lines no longer than notebooks show."""
    words = WORDS[finding.verdict]
    if finding.verdict == NOT_SEEN and not np.isfinite(finding.low):
        words = "NOT SEEN HERE, in one seed"
    measured = wrap(finding.sentence, WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 4)
    return "\n".join((*wrap(f"{words}. {finding.claim.text}.", WIDTH, subsequent_indent=" " * 4), *measured))
