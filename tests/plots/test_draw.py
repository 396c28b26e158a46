"""Pictures of detections: what counts as hit, duplicate, false and missed, and that tags keep apart."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from dsla.plots import draw, draw_detections
from dsla.plots.style import VERDICTS

TARGET = {
    "boxes": torch.tensor([[0.0, 0.0, 40.0, 40.0], [50.0, 0.0, 90.0, 40.0], [0.0, 50.0, 30.0, 90.0]]),
    "labels": torch.tensor([0, 1, 0]),
    "crowd_boxes": torch.tensor([[60.0, 60.0, 100.0, 100.0]]),
}
FOUND = {
    "boxes": torch.tensor(
        [
            [0.0, 0.0, 40.0, 38.0],  # object 0
            [2.0, 0.0, 40.0, 40.0],  # object 0 again, lower score
            [50.0, 0.0, 90.0, 40.0],  # object 1, wrong class
            [0.0, 50.0, 30.0, 60.0],  # object 2, IoU 0.25
            [62.0, 62.0, 90.0, 90.0],  # in the crowd
            [0.0, 50.0, 30.0, 90.0],  # object 2, but below the score threshold
        ]
    ),
    "scores": torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.1]),
    "labels": torch.tensor([0, 0, 0, 0, 1, 0]),
}


def test_verdicts():
    table, missed = draw.judged(FOUND, TARGET, 0.5, 0.2)
    assert table["verdict"].tolist() == ["hit", "duplicate", "false", "false"]
    assert missed.tolist() == [False, True, True]


def test_the_picture_says_what_it_shows():
    figure = draw_detections(np.zeros((100, 100, 3)), FOUND, ("cat", "dog"), TARGET, score_threshold=0.2)
    left, right = figure.axes
    assert left.get_title(loc="left") == "ground truth: 3 objects, 2 missed"
    assert right.get_title(loc="left") == "detections: 1 hit, 1 duplicate, 2 false"
    assert {t.get_text() for t in left.texts} == {"cat", "dog missed", "cat missed"}
    assert "cat 0.90" in {t.get_text() for t in right.texts}
    assert "cat 0.80 again" in {t.get_text() for t in right.texts}
    drawn = dict.fromkeys(VERDICTS, 0)
    for collection in right.collections:
        for name, verdict in VERDICTS.items():
            rgb = [int(verdict.colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
            if len(collection.get_paths()) and np.allclose(collection.get_color()[0][:3], rgb):
                drawn[name] += len(collection.get_paths())
    assert drawn == {"hit": 1, "duplicate": 1, "false": 2, "missed": 0}


def test_without_a_target_all_above_the_threshold_are_drawn():
    figure = draw_detections(torch.zeros(3, 100, 100), FOUND, score_threshold=0.55)
    assert figure.axes[0].get_title(loc="left") == "4 detections"
    assert [t.get_text() for t in figure.axes[0].texts][:2] == ["0 0.90", "0 0.80"]
    none = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0).long()}
    assert draw_detections(torch.zeros(3, 50, 50), none).axes[0].get_title(loc="left") == "0 detections"


@pytest.mark.robustness("wrong: detections whose scores are raw logits are drawn, negative ones too")
def test_negative_scores_are_drawn():
    logits = FOUND | {"scores": FOUND["scores"] - 2}
    figure = draw_detections(np.zeros((100, 100, 3)), logits, None, TARGET)
    assert figure.axes[1].get_title(loc="left") == "detections: 2 hits, 1 duplicate, 2 false"
    assert figure.caption.startswith("Left the ground truth, right the detections. A hit")
    figure = draw_detections(np.zeros((100, 100, 3)), logits, None, TARGET, score_threshold=-1.5)
    assert figure.axes[1].get_title(loc="left") == "detections: 1 hit, 1 duplicate, 2 false"
    assert "right the detections with a score of at least -1.5. A hit" in figure.caption


@pytest.mark.robustness("wrong: torchvision's iscrowd is a crowd in pictures of detections, as in training")
@pytest.mark.parametrize("kind", [torch.tensor, np.array, list])
def test_iscrowd_is_drawn_as_crowd_boxes(kind):
    boxes = torch.cat([TARGET["boxes"][:1], TARGET["crowd_boxes"], TARGET["boxes"][1:]]).tolist()
    flagged = {"boxes": kind(boxes), "labels": kind([0, 1, 1, 0]), "iscrowd": kind([0, 1, 0, 0])}
    (table, missed), (same, expected) = (draw.judged(FOUND, target, 0.5, 0.2) for target in (flagged, TARGET))
    assert missed.tolist() == expected.tolist() == [False, True, True]
    pd.testing.assert_frame_equal(table, same)
    figure = draw_detections(np.zeros((100, 100, 3)), FOUND, ("cat", "dog"), flagged, score_threshold=0.2)
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "ground truth: 3 objects, 2 missed", "detections: 1 hit, 1 duplicate, 2 false"
    ]  # fmt: skip


def test_tags_do_not_cover_each_other():
    boxes = torch.tensor([[10.0 + i, 10.0 + i, 60.0 + i, 50.0 + i] for i in range(12)])
    detections = {"boxes": boxes, "scores": torch.linspace(0.9, 0.5, 12), "labels": torch.zeros(12).long()}
    figure = draw_detections(np.zeros((100, 100, 3)), detections, ("bicycle",))
    figure.canvas.draw()
    extents = [t.get_window_extent() for t in figure.axes[0].texts]
    assert len(extents) >= 4
    for a, b in itertools.combinations(extents, 2):
        assert not a.overlaps(b)


def test_pictures_of_all_kinds():
    grey = np.array([[0, 255]], dtype=np.uint8)
    assert draw.as_image(grey).tolist() == [[[0, 0, 0], [1, 1, 1]]]
    clear = np.zeros((1, 1, 4), dtype=np.uint8)
    assert draw.as_image(clear).tolist() == [[[1, 1, 1]]]  # transparent lies on white
    assert draw.as_image(torch.ones(1, 2, 5)).shape == (2, 5, 3)
    assert draw.as_image(np.array([[True, False]])).max() == pytest.approx(1)


def test_backdrop_is_small_and_dim():
    colour, dim = draw.backdrop(np.ones((900, 1200, 3), dtype=np.float32))
    assert colour.shape == (300, 400, 3)
    assert dim.shape == (300, 400)
    assert colour.min() == 255
    assert dim.max() < 140
