"""Adjacency and profiles: four points by hand, levels, ignored points, undefined cases."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from dsla.analysis import adjacency, profile, summary
from dsla.analysis.adjacent import neighbours
from dsla.assigners import DSLA, FCOS
from dsla.geometry import HeadOutputs, PointGrid

GRID = PointGrid.from_shapes([(2, 2)], (8,), offset=0.5)  # points (4,4) (12,4) (4,12) (12,12)
BOX = torch.tensor([[0.0, 0, 8, 8]])  # holds the first point only


def logit(p):
    return torch.logit(torch.tensor(p))


def outputs(boxes: list[list[float]], scores: list[list[float]], grid: PointGrid = GRID) -> HeadOutputs:
    boxes = torch.tensor(boxes)
    distances = torch.cat([grid.xy - boxes[:, :2], boxes[:, 2:] - grid.xy], 1)
    return HeadOutputs(logit(scores)[None], distances[None], grid)


FOUND = outputs([[0, 0, 8, 6], [0, 0, 16, 8], [0, 0, 8, 8], [0, 0, 1, 1]],
                [[0.1, 0.8], [0.2, 0.75], [0.3, 0.5], [0.4, 0.9]])  # fmt: skip
LABELS = torch.tensor([1])
FCOS_ONE = FCOS(((0, 64),))


def test_pairs_by_hand():
    table = adjacency(FOUND, FCOS_ONE(GRID, [BOX], [LABELS]), image_ids=[77])
    assert table["image"].tolist() == [77, 77]
    assert table["direction"].tolist() == ["right", "down"]
    assert (table["point_a"].tolist(), table["point_b"].tolist()) == ([0, 0], [1, 2])
    assert table[["x_b", "y_b"]].to_numpy().tolist() == [[12, 4], [4, 12]]
    assert table["category"].tolist() == [1, 1]
    for name, values in {
        "label_a": [1, 1], "label_b": [0, 0], "score_a": [0.8, 0.8], "score_b": [0.75, 0.5],
        "iou_a": [0.75, 0.75], "iou_b": [0.5, 1.0], "d_label": [1, 1], "d_score": [0.05, 0.3], "d_iou": [0.25, -0.25],
    }.items():  # fmt: skip
        np.testing.assert_allclose(table[name], values, atol=1e-6, err_msg=name)
    numbers = summary(table)
    expected = {"pairs": 2, "alike": 0.5, "d_label": 1.0, "d_score": 0.175, "mismatch": 0.825, "follows_iou": 0.5}
    # a scores 0.8 twice, b 0.75 and 0.5; the better box is once that of a, and once that of b, which scores lower
    expected |= {"told_apart": 1.0, "constant_rule": 0.5, "follows_iou_against": 0.0}
    assert numbers.to_dict() == pytest.approx(expected, abs=1e-6)
    assert adjacency(FOUND, FCOS_ONE(GRID, [BOX], [LABELS]), threshold=0.31).summary()["alike"] == 1.0
    assert "less than 0.31" in adjacency(FOUND, FCOS_ONE(GRID, [BOX], [LABELS]), threshold=0.31).summary().attrs[
        "definitions"]["alike"]  # fmt: skip


def test_labels_of_the_method_itself():
    reference = FCOS_ONE(GRID, [BOX], [LABELS])
    soft = replace(reference, label=torch.tensor([[0.6, 0.4, 0.2, 0.0]]), gt_index=torch.tensor([[0, 0, 0, -1]]),
                   category=torch.tensor([[1, 1, 0, -1]]))  # fmt: skip
    table = adjacency(FOUND, reference, own=soft)
    np.testing.assert_allclose(table["label_a"], [0.6, 0.6])
    np.testing.assert_allclose(table["label_b"], [0.4, 0.0])  # the other point is taught another class
    coupled = adjacency(FOUND, reference, own=replace(soft, coupling="on"))
    np.testing.assert_allclose(coupled["label_a"], [0.6 * 0.75] * 2, atol=1e-6)
    np.testing.assert_allclose(coupled["label_b"], [0.4 * 0.5, 0.0], atol=1e-6)


def test_quality_branch_counts():
    quality = logit([[0.5, 1 - 1e-7, 0.25, 0.5]])
    table = adjacency(replace(FOUND, quality=quality), FCOS_ONE(GRID, [BOX], [LABELS]))
    np.testing.assert_allclose(table["score_a"], [0.4, 0.4], atol=1e-6)
    np.testing.assert_allclose(table["score_b"], [0.75, 0.125], atol=1e-6)
    given = adjacency(FOUND, FCOS_ONE(GRID, [BOX], [LABELS]), scores=torch.full((1, 4, 2), 0.3))
    np.testing.assert_allclose(given["score_b"], 0.3)


def test_ignored_points_and_neighbouring_objects_form_no_pair():
    reference = FCOS_ONE(GRID, [BOX], [LABELS], image_sizes=[(16, 8)])  # the right column is padding
    assert adjacency(FOUND, reference)["direction"].tolist() == ["down"]
    two = torch.tensor([[0.0, 0, 8, 8], [8, 0, 16, 8]])
    table = adjacency(FOUND, FCOS_ONE(GRID, [two], [torch.tensor([0, 1])]))
    assert table[["point_a", "point_b", "gt", "category"]].to_numpy().tolist() == [[0, 2, 0, 0], [1, 3, 1, 1]]


def test_across_levels():
    grid = PointGrid.from_shapes([(2, 3), (1, 2)], (8, 16), offset=0.5)
    a, b, direction = neighbours(grid, across_levels=True)
    pairs = {(i, j) for i, j, d in zip(a.tolist(), b.tolist(), direction.tolist(), strict=True) if d == 2}
    assert pairs == {(0, 6), (1, 6), (3, 6), (4, 6), (2, 7), (5, 7)}
    right = {(i, j) for i, j, d in zip(a.tolist(), b.tolist(), direction.tolist(), strict=True) if d == 0}
    assert right == {(0, 1), (1, 2), (3, 4), (4, 5), (6, 7)}
    assert len(neighbours(grid)[0]) == 5 + 3
    predictions = HeadOutputs(torch.zeros(1, 8, 2), torch.ones(1, 8, 4), grid)
    reference = FCOS(((0, 64), (64, 1e8)))(grid, [BOX], [LABELS])
    assert adjacency(predictions, reference, across_levels=True)["direction"].tolist() == ["right", "down", "level"]


def test_neighbours_on_many_levels_lie_side_by_side():
    grid = PointGrid((100, 76), (8, 16, 32))
    a, b, direction = neighbours(grid, across_levels=True)
    step = (grid.xy[b] - grid.xy[a]) / grid.stride[a][:, None]
    assert (step[direction == 0] == torch.tensor([1.0, 0.0])).all()
    assert (step[direction == 1] == torch.tensor([0.0, 1.0])).all()
    jump = direction == 2
    assert (grid.level[b] - grid.level[a] == jump.long()).all()
    assert ((step[jump] <= 0) & (step[jump] > -2)).all()  # offset 0: a point starts its cell
    assert int(jump.sum()) == sum(grid.num_points[:-1])


def test_no_pairs_is_undefined():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        numbers = adjacency(FOUND, FCOS_ONE(GRID, [torch.zeros(0, 4)], [torch.zeros(0).long()])).summary()
    assert numbers["pairs"] == 0
    assert math.isnan(numbers["alike"])
    assert "no neighbouring points" in numbers.attrs["reasons"]["alike"]
    assert set(numbers.attrs["reasons"]) == set(numbers.index) - {"pairs"}


def test_batches_add_up():
    both = HeadOutputs(FOUND.logits.repeat(2, 1, 1), FOUND.distances.repeat(2, 1, 1), GRID)
    shifted = BOX + torch.tensor([8.0, 8, 8, 8])
    table = adjacency(both, FCOS_ONE(GRID, [BOX, shifted], [LABELS, LABELS]))
    parts = [adjacency(FOUND, FCOS_ONE(GRID, [b], [LABELS]), image_ids=[i]) for i, b in enumerate((BOX, shifted))]
    pd.testing.assert_frame_equal(table, pd.concat(parts, ignore_index=True))
    pd.testing.assert_series_equal(table.summary(), pd.concat(parts, ignore_index=True).summary())


def test_profile_by_hand():
    grid = PointGrid.from_shapes([(3, 3)], (8,), offset=0.5)
    box = torch.tensor([[0.0, 0, 24, 24]])
    assignment = DSLA(((0, 64),), relaxation=0.0, core_zone=False)(grid, [box], [torch.tensor([0])], coupling="off")
    predictions = HeadOutputs(logit([[[0.1 * (i + 1)] for i in range(9)]]), torch.full((1, 9, 4), 12.0), grid)
    table = profile(predictions, assignment, reach=2).set_index(["axis", "offset"])
    assert table.index.tolist() == [(axis, i) for axis in "xy" for i in (-1, 0, 1)]
    side = math.sqrt(1 / 5)  # centerness 8 px off the centre: sides 4 and 20
    np.testing.assert_allclose(table["label"], [side, 1, side] * 2, rtol=1e-6)
    np.testing.assert_allclose(table["score"], [0.4, 0.5, 0.6, 0.2, 0.5, 0.8], rtol=1e-6)
    np.testing.assert_allclose(table["iou"], [0.5, 1, 0.5] * 2, rtol=1e-6)  # 16·24 of 2·576 − 16·24
    np.testing.assert_allclose(table["place"], [1 / 6, 1 / 2, 5 / 6] * 2, rtol=1e-6)  # 4, 12 and 20 of 24 pixels
    coupled = profile(predictions, replace(assignment, coupling="on"), reach=1).set_index(["axis", "offset"])
    assert coupled.loc[("x", 1), "label"] == pytest.approx(side / 2)
    empty = DSLA(((0, 64),))(grid, [torch.zeros(0, 4)], [torch.zeros(0).long()])
    nothing = profile(predictions, empty)
    assert len(nothing) == 0
    numbers = nothing.summary()
    assert numbers["objects"] == 0
    assert set(numbers.attrs["reasons"].values()) == {"no such point"}
    numbers = profile(predictions, assignment, reach=2).summary()
    np.testing.assert_allclose(numbers[["score_best", "score_beside", "iou_beside"]], [0.5, 0.5, 0.5], rtol=1e-6)
