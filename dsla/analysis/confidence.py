"""Ranking (inconsistency 2): does a higher score mean a better box?"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ..errors import DataError, within
from .matching import match
from .tables import Measured, Table, summarises

FLAT = 1e-6  # values whose spread is below this part of their size are taken as constant (float32 boxes)
FEW = 64  # boxes of a group whose pairs are counted one by one
KINDS = ("pearson", "spearman", "kendall")


def ranking(detections: Any, truth: Any = None, **options: Any) -> Table:
    """Score against IoU, one row a detection: `matching.match` with its columns, arguments and defaults.

    In the summary an IoU at or above `iou_threshold` makes a detection a box *of* its best object; background
    and ignored detections count in the reliability curve only (background) or nowhere (ignored). The default
    0.5 is the one of IoU-Net's figure (Jiang et al., "Acquisition of localization confidence", ECCV 2018);
    0 takes every detection.

    Without `truth`, `detections` is a table with the columns score and iou (and image, gt where there are),
    and the only option is iou_threshold.

    Raises:
        DataError: without `truth`, no such table, numbers that are not finite, or another option.
    """
    if truth is not None:
        table = match(detections, truth, **options)
    else:
        given = set(detections) if isinstance(detections, pd.DataFrame | Mapping) else set()
        if not {"score", "iou"} <= given or options.keys() - {"iou_threshold"}:
            raise DataError(
                "ranking needs the ground truth, too, or a table of score and iou, and at most iou_threshold"
            )
        within(**options)
        table = _numbers(detections)
        columns = {"image": 0, "gt": pd.NA, "ignored": False}
        table = table.assign(**{k: v for k, v in columns.items() if k not in table})
        table.attrs = {"iou_threshold": 0.5} | options
    table.attrs["analysis"] = "ranking"
    return table


def _numbers(detections: Any) -> Table:
    """A table of score and iou, both finite numbers."""
    try:
        table = Table(detections).copy()
        values = table[["score", "iou"]].to_numpy(dtype=float)
    except (TypeError, ValueError) as error:
        raise DataError(f"ranking needs columns of numbers, score and iou, of one length: {error}") from None
    if (bad := ~np.isfinite(values).all(axis=1)).any():
        score, iou = values[row := int(bad.argmax())]
        raise DataError(f"row {row}: score {score}, iou {iou}; both must be finite: mend the row or leave it out")
    return table


def correlations(score: np.ndarray, iou: np.ndarray, group: np.ndarray) -> pd.DataFrame:
    """Rank and linear correlation within each group, exact, O(N log N).

    Args:
        score, iou: [N].  group: [N] anything that can be sorted.

    Returns:
        index group; n, pearson, spearman (average ranks), kendall (τ-b), NaN where score or IoU is constant
        or n < 2; pairs (with different score and IoU) and wrong (those of them ranked the wrong way).
    """
    names, code = np.unique(group, return_inverse=True)
    frame, size = pd.DataFrame({"score": score, "iou": iou}, dtype=float), len(names)
    by = frame.groupby(code)
    ranked, low, high = by.rank().assign(group=code), by.min(), by.max()
    varying = (high - low > FLAT * np.maximum(low.abs(), high.abs())).all(axis=1).to_numpy()

    def tied(*columns: str) -> np.ndarray:
        """[groups] pairs of a group that are equal in all these columns."""
        count = ranked.groupby(["group", *columns]).size()
        return (count * (count - 1) / 2).groupby(level="group").sum().to_numpy()

    ties, n = [tied("score"), tied("iou"), tied("score", "iou")], np.bincount(code, minlength=size)
    every = n * (n - 1) / 2
    pairs, scale = every - ties[0] - ties[1] + ties[2], np.sqrt((every - ties[0]) * (every - ties[1]))
    groups = np.split(frame.to_numpy()[code.argsort(kind="stable")].T, n.cumsum(), axis=1)[:-1]
    wrong = np.array([_wrong(*g, *of) for g, *of in zip(groups, pairs, scale, strict=True)], dtype=np.int64)
    kendall = np.divide(pairs - 2 * wrong, scale, out=np.zeros(size), where=scale > 0)
    linear, by_rank = (
        _pearson(table["score"].to_numpy(), table["iou"].to_numpy(), code, size) for table in (frame, ranked)
    )
    kinds = dict(zip(KINDS, (linear, by_rank, kendall), strict=True))
    table = pd.DataFrame({"n": n} | kinds, index=pd.Index(names, name="group"))
    table.loc[~varying, list(KINDS)] = np.nan
    return table.assign(pairs=pairs.astype(np.int64), wrong=wrong)


def _pearson(x: np.ndarray, y: np.ndarray, code: np.ndarray, size: int) -> np.ndarray:
    n = np.maximum(np.bincount(code, minlength=size), 1)
    dx, dy = (v - (np.bincount(code, v, size) / n)[code] for v in (x, y))
    xy, xx, yy = (np.bincount(code, v, size) for v in (dx * dy, dx * dx, dy * dy))
    scale = np.sqrt(xx * yy)
    return np.clip(np.divide(xy, scale, out=np.zeros(size), where=scale > 0), -1, 1)


def _wrong(x: np.ndarray, y: np.ndarray, pairs: float, scale: float) -> int:
    """Pairs with x_i < x_j and y_i > y_j: counted one by one if there are few, else from scipy's τ-b in O(N log N).

    Args:
        x, y: [N] of one group.
        pairs: those that differ in both.
        scale: the denominator of τ-b, which is (right − wrong) / scale; 0 if x or y is constant.
    """
    if len(x) <= FEW:
        return int(np.count_nonzero((x[:, None] < x) & (y[:, None] > y)))
    return round((pairs - scale * stats.kendalltau(x, y, method="asymptotic").statistic) / 2) if scale else 0


def reliability(frame: pd.DataFrame, bins: int = 10) -> pd.DataFrame:
    """Score as a predictor of IoU: detections (not ignored) in equal bins of score.

    Returns:
        low, high (score), count, score (mean), iou (mean; NaN in an empty bin). The last bin holds score 1.
    """
    counted = ~frame["ignored"].to_numpy(dtype=bool)
    score, iou = (frame[name].to_numpy(dtype=float)[counted] for name in ("score", "iou"))
    bin_of = (score * bins).clip(0, bins - 1).astype(np.int64)
    count = np.bincount(bin_of, minlength=bins)
    means = [
        np.divide(np.bincount(bin_of, v, bins), count, out=np.full(bins, np.nan), where=count > 0) for v in (score, iou)
    ]
    edges = np.arange(bins + 1) / bins
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "count": count, "score": means[0], "iou": means[1]})


@summarises("ranking", iou_threshold=0.5)
def ranking_summary(frame: pd.DataFrame, iou_threshold: float) -> Measured:
    """Correlations over all, per image and per object; wrong pairs; reliability."""
    counted = ~frame["ignored"].to_numpy(dtype=bool)
    near = frame["iou"].to_numpy(dtype=float) >= iou_threshold
    rows = frame.loc[counted & near, ["image", "gt", "score", "iou"]]
    few = "no such detection" if not len(rows) else "fewer than two" if len(rows) < 2 else "score or IoU is constant"
    reasons = dict.fromkeys(KINDS, few) | {"wrong_pairs": "no such pair", "reliability_gap": "no detection"}
    score, iou = (rows[name].to_numpy(dtype=float) for name in ("score", "iou"))
    over_all = correlations(score, iou, np.zeros(len(rows)))
    values: dict[str, Any] = {"detections": counted.sum(), "boxes": len(rows)} | {k: over_all[k] for k in KINDS}
    matched = rows["gt"].notna().to_numpy()
    within = {"image": pd.factorize(rows["image"])[0], "object": rows[matched].groupby(["image", "gt"]).ngroup()}
    scopes = {"image": correlations(score, iou, within["image"])}
    scopes["object"] = correlations(score[matched], iou[matched], within["object"].to_numpy())
    for scope, table in scopes.items():
        defined = table[table["pearson"].notna()]
        values |= {f"{scope}s": len(defined)} | {f"{kind}_{scope}": defined[kind] for kind in KINDS}
        reasons |= {f"{kind}_{scope}": f"no {scope} with two varying pairs" for kind in KINDS}
    pairs, wrong = (int(scopes["object"][name].sum()) for name in ("pairs", "wrong"))
    curve = reliability(frame)
    total, gap = curve["count"].sum(), (curve["iou"] - curve["score"]).abs() * curve["count"]
    values |= {"pairs": pairs, "wrong_pairs": wrong / pairs if pairs else np.nan}
    return values | {"reliability_gap": gap.sum() / total if total else np.nan}, reasons
