"""Figures of the report: what is drawn are the numbers of the table."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from dsla.plots import figures
from dsla.plots.style import looks, picture_bytes


def test_binned_counts_every_detection_once():
    score, iou = np.array([0.01, 0.02, 0.51, 1.0]), np.array([0.99, 0.98, 0.5, 1.0])
    table = figures.binned(score, iou, "DSLA")
    assert table["count"].sum() == 4
    assert table.values.tolist() == [  # cells of 1/40
        ["DSLA", 0.0125, 0.9875, 2],
        ["DSLA", 0.5125, 0.5125, 1],
        ["DSLA", 0.9875, 0.9875, 1],
    ]


def test_score_iou_draws_counts_where_they_are():
    cells = pd.concat(
        [figures.binned([0.51, 0.51, 0.9], [0.71, 0.71, 0.11], "DSLA"), figures.binned([0.3], [0.2], "FCOS")]
    )
    numbers = pd.DataFrame(
        {"method": ["FCOS", "DSLA"], "spearman": [np.nan, 0.25], "pearson": [0.5, -0.125], "boxes": [0, 1234]}
    ).assign(iou_threshold=0.5)
    figure = figures.score_iou(cells, numbers)
    titles = [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]
    assert titles == ["FCOS", "DSLA"]  # the order of all figures, not of the table
    mains = [ax for ax in figure.axes if ax.get_xlabel() == "score"]
    values = np.ma.filled(mains[1].collections[0].get_array(), 0)
    assert values.shape == (40, 40)
    assert values[28, 20] == 2  # row by IoU 0.71, column by score 0.51
    assert values[4, 36] == 1
    assert values.sum() == 3
    assert "Spearman n/a" in mains[0].texts[0].get_text()
    assert "Spearman 0.25\nPearson −0.12\n1,234 boxes" in mains[1].texts[0].get_text()
    margins = [p for ax in figure.axes for p in ax.patches if hasattr(p, "get_data")]
    assert [float(m.get_data().values.sum()) for m in margins] == [0, 0, 2, 2]  # above IoU 0.5 only


def test_margins_are_of_the_boxes_above_the_line():
    cells = figures.binned([0.3, 0.7], [0.59, 0.61], "DSLA")  # 24/40 is a little more than 0.6
    about = {"method": ["DSLA"], "spearman": 0.5, "pearson": 0.5, "boxes": 1, "iou_threshold": 0.6}
    figure = figures.score_iou(cells, pd.DataFrame(about))
    margins = [p.get_data().values for ax in figure.axes for p in ax.patches if hasattr(p, "get_data")]
    assert [float(m.sum()) for m in margins] == [1, 1]


def test_labels_and_scores_marks_the_row_of_the_best_point():
    rows = [
        (0, r, c, 8 * c, 8 * r, 8.0, label, score, 0.5, best)
        for r, c, label, score, best in [
            (1, 1, 0.5, 0.30, False),
            (1, 2, 1.0, 0.62, True),
            (1, 3, 0.0, 0.11, False),
            (2, 2, 0.4, 0.20, False),
        ]
    ]
    columns = ["level", "row", "column", "x", "y", "stride", "label", "score", "iou", "best"]
    points = pd.DataFrame(rows, columns=columns).assign(method="DSLA")
    figure = figures.labels_and_scores(np.zeros((32, 32, 3)), [6.0, 2.0, 26.0, 18.0], points)
    _, upper, lower, _ = figure.axes  # after the object itself, before what the signs mean
    assert upper.get_xlabel() == "2 label steps over 0.5\nscores: +0.46 on average"  # up to 0.62 from 0.11 and 0.20
    assert {t.get_text() for t in upper.texts} == {".30", ".62", ".11", ".20"}
    (line,) = lower.lines
    assert line.get_xdata().tolist() == [-1, 0, 1]
    assert line.get_ydata().tolist() == [0.30, 0.62, 0.11]
    assert [b.get_height() for b in lower.patches] == [0.5, 1.0, 0.0]
    dots = [c for c in upper.collections if c.get_array() is not None]
    assert dots[0].get_array().tolist() == [0.5, 1.0, 0.0, 0.4]


def test_profiles_and_steps():
    profiles = pd.DataFrame(
        {"method": "FCOS", "image": 3, "gt": [0, 0, 0, 1, 1], "place": [0.5, 0.1, 0.9, 0.4, 0.8],
         "label": [1, 1, 0, 1, 0], "score": [0.5, 0.2, 0.3, 0.6, 0.1]}
    )  # fmt: skip
    steps = pd.DataFrame({"method": "FCOS", "difference": [0.0, 0.5, 1.0], "share": [0.1, 0.6, 1.0]})
    figure = figures.adjacency_profiles(profiles, steps, 0.1)
    labels, scores, below = figure.axes
    assert [line.get_xdata().tolist() for line in labels.lines[:2]] == [[0.1, 0.5, 0.9], [0.4, 0.8]]  # single objects
    assert [line.get_ydata().tolist() for line in labels.lines[:2]] == [[1, 1, 0], [1, 0]]
    assert [line.get_ydata().tolist() for line in scores.lines[:2]] == [[0.2, 0.5, 0.3], [0.6, 0.1]]
    assert "each of 2 objects" in figure.caption
    assert below.lines[0].get_ydata().tolist() == [0.1, 0.6, 1.0]
    assert to_hex(below.lines[0].get_color()) == looks()["FCOS"].colour
    assert below.lines[1].get_xdata() == [0.1, 0.1]


def test_reliability_leaves_out_empty_bins():
    curve = pd.DataFrame(
        {"method": "DSLA", "low": [0.0, 0.1, 0.2], "high": [0.1, 0.2, 0.3], "count": [5, 0, 2],
         "score": [0.05, np.nan, 0.25], "iou": [0.1, np.nan, 0.6]}
    )  # fmt: skip
    upper, lower = figures.reliability_curves(curve).axes
    assert upper.lines[1].get_xdata().tolist() == [0.05, 0.25]
    assert upper.lines[1].get_ydata().tolist() == [0.1, 0.6]
    assert [b.get_height() for b in lower.patches] == [5, 2]


def test_oracles_in_points_with_intervals():
    table = pd.DataFrame(
        {"method": ["DSLA", "DSLA"], "variant": ["iou", "score"], "AP": [0.6, 0.35], "low": [0.58, np.nan],
         "high": [0.62, np.nan]}
    )  # fmt: skip
    ax = figures.oracle_scores(table).axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["as it is", "score := IoU"]
    assert [t.get_text() for t in ax.texts] == ["35.0", "60.0"]
    ((_, _, (bars,)),) = ax.containers
    (first, second) = bars.get_segments()
    assert first[:, 0].tolist() == [35, 35]
    assert second[:, 0] == pytest.approx([58, 62])


def test_lost_to_nms_and_suppressed():
    losses = pd.DataFrame({"method": "FCOS", "loss": [0.0, 0.05, 0.1], "share": [0.8, 0.5, 0.2]})
    assert figures.lost_to_nms(losses).axes[0].lines[0].get_ydata().tolist() == [0.8, 0.5, 0.2]
    boxes = pd.DataFrame(
        [
            ["object", 4, 4, 20, 20, np.nan, np.nan],
            ["best", 4, 4, 20, 19, 0.25, 0.94],
            ["suppressor", 8, 4, 24, 20, 0.5, 0.6],
        ],
        columns=["kind", "x1", "y1", "x2", "y2", "score", "iou"],
    )
    figure = figures.suppressed([("FCOS", np.zeros((32, 32, 3)), boxes)])
    assert figure.axes[0].get_xlabel() == "removed: score 0.25, IoU 0.94\nkept: score 0.50, IoU 0.60"
    assert picture_bytes(figure, "png") == picture_bytes(figure, "png")
    assert plt.get_fignums() == []


def test_method_rows_are_in_the_order_of_all_figures():
    table = pd.DataFrame({"a": [1]})
    joined = figures.method_rows({"scenes-dsla": table, "scenes-fcos-plain": table, "scenes-fcos": table})
    assert joined["method"].tolist() == ["FCOS", "FCOS + centerness", "DSLA"]
