"""Findings as people read them: a table of effects with their intervals, and one plain sentence each."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from .claims import CONTRADICTED, NOT_SEEN, SEEN, UNDEFINED, Finding, shown

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
    """Two lines: whether the claim holds, and what was measured."""
    words = WORDS[finding.verdict]
    if finding.verdict == NOT_SEEN and not np.isfinite(finding.low):
        words = "NOT SEEN HERE, in one seed"
    return f"{words}. {finding.claim.text}.\n    {finding.sentence}"
