"""Targets with `iscrowd`, as torchvision's references and torchmetrics write them."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
from listed import Listed
from tiny import TINY, quiet
from torchvision import tv_tensors

import dsla
from dsla.analysis import oracle
from dsla.coco.evaluation import evaluate_detections
from dsla.errors import DataError
from dsla.plots import draw_detections

BOXES, CROWD = [[20.0, 20, 60, 60]], [[100.0, 0, 120, 120]]


def losses(target):
    torch.manual_seed(0)
    model = dsla.build("scenes-dsla", 5).train()
    return {k: v.item() for k, v in model([torch.zeros(3, 128, 128)], [target]).items()}


@pytest.mark.robustness("wrong: iscrowd in targets trains as crowd_boxes")
def test_iscrowd_trains_as_crowd_boxes():
    flagged = {"boxes": torch.tensor(BOXES + CROWD), "labels": torch.tensor([0, 3]), "iscrowd": torch.tensor([0, 1]),
               "area": torch.ones(2), "image_id": torch.tensor([7])}  # fmt: skip
    apart = {"boxes": torch.tensor(BOXES), "labels": torch.tensor([0]), "crowd_boxes": torch.tensor(CROWD)}
    assert losses(flagged) == losses(apart)
    assert losses({**flagged, "iscrowd": torch.zeros(2)}) != losses(apart)


@pytest.mark.robustness("wrong: unknown keys of targets that would change what is taught or counted are refused")
@pytest.mark.parametrize("key", ["ignore", "difficult", "is_crowd", "gt_bboxes_ignore", "weights"])
def test_keys_that_would_change_which_objects_count_are_refused(key):
    target = {"boxes": torch.tensor(BOXES), "labels": torch.tensor([0]), key: torch.ones(1)}
    detections = {"boxes": torch.tensor(BOXES), "labels": torch.tensor([0]), "scores": torch.ones(1)}
    for use, where in (
        (lambda: losses(target), "image 0 of the batch"),
        (lambda: evaluate_detections([target], [detections]), "the given list, image 0"),
        (lambda: oracle([detections], [target]), "the given list, image 0"),
        (lambda: draw_detections(torch.zeros(3, 128, 128), detections, target={**target, "image_id": 7}), "image 7"),
    ):
        with pytest.raises(DataError, match=rf"^{where}: the keys \['{key}'\] would change which objects count"):
            use()


class Written(Listed):
    """One picture whose target is as its author writes it."""

    def load(self, i):
        return self.items[0]

    def image_size(self, i):
        return 128, 128


@pytest.mark.robustness("wrong: a data set whose targets are torchvision's trains as one with crowd_boxes")
def test_targets_of_a_data_set_may_be_torchvisions():
    def trained(**target):
        data = Written((torch.zeros(3, 128, 128), {"image_id": 7, **target}))
        return quiet(TINY.replace(steps=1, batch_size=1), data, log_every=1).log[-1]["loss"]

    one = {"boxes": torch.tensor(BOXES), "labels": torch.tensor([0])}
    two = {"boxes": torch.tensor(BOXES + CROWD), "labels": torch.tensor([0, 3])}
    plain, crowded = trained(**one, crowd_boxes=torch.zeros(0, 4)), trained(**one, crowd_boxes=torch.tensor(CROWD))
    assert trained(**one) == trained(**one, iscrowd=torch.tensor([0]), area=torch.ones(1)) == plain
    assert trained(**two, iscrowd=torch.tensor([0, 1]), area=torch.ones(2)) == crowded
    assert crowded != plain
    for wrong, message in (
        ({**one, "iscrowd": torch.zeros(2)}, "image 7: boxes, labels and iscrowd need one entry .* got 1, 1 and 2"),
        ({**one, "difficult": torch.ones(1)}, r"image 7: the keys \['difficult'\] would change"),
        ({**one, "boxes": tv_tensors.BoundingBoxes(torch.tensor(BOXES), format="XYWH", canvas_size=(128, 128))},
         "image 7: x1, y1, x2, y2 are needed, but torchvision says XYWH"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message):
            trained(**wrong)


def test_iscrowd_of_another_length_is_refused():
    with pytest.raises(DataError, match=r"expected iscrowd \[M\] beside labels \[1\], got \[2\]"):
        losses({"boxes": torch.tensor(BOXES), "labels": torch.tensor([0]), "iscrowd": torch.zeros(2)})


def test_analyses_of_targets_with_iscrowd():
    """By hand: the two detections in the crowd are ignored, the third finds the object."""
    target = {"boxes": torch.tensor([*BOXES, [100.0, 0, 200, 200]]), "labels": torch.tensor([0, 0]),
              "iscrowd": torch.tensor([0, 1])}  # fmt: skip
    boxes = torch.tensor([[110.0, 10, 150, 60], [150, 100, 190, 160], *BOXES])
    detections = {"boxes": boxes, "scores": torch.tensor([0.95, 0.9, 0.8]), "labels": torch.zeros(3, dtype=torch.int64)}
    table = oracle([detections], [target], nms_threshold=1.0).set_index("variant")
    assert table.loc["score", "AP"] == pytest.approx(1.0)


@pytest.mark.robustness("wrong: torchvision's BoundingBoxes of another form than x1, y1, x2, y2 are refused everywhere")
@pytest.mark.parametrize("form", ["XYWH", "CXCYWH"])
def test_boxes_of_another_form_are_refused_everywhere(form, tmp_path):
    def boxes(form):
        return tv_tensors.BoundingBoxes(torch.tensor([[20.0, 20, 60, 60]]), format=form, canvas_size=(128, 128))

    picture, label = torch.zeros(3, 128, 128), torch.tensor([0])
    grid = dsla.PointGrid((128, 128), (8, 16, 32, 64, 128))
    detections = {"boxes": torch.tensor(BOXES), "labels": label, "scores": torch.ones(1)}
    folder = dsla.Scenes("val", size=1).to_coco(tmp_path)
    ways = [
        lambda b: losses({"boxes": b, "labels": label}),
        lambda b: losses({"boxes": torch.tensor(BOXES), "labels": label, "crowd_boxes": b}),
        lambda b: dsla.assigners.FCOS()(grid, [b], [label]),
        lambda b: dsla.compare(picture, b, label),
        lambda b: dsla.analysis.errors([{**detections, "boxes": b}], [{"boxes": torch.tensor(BOXES), "labels": label}]),
        lambda b: dsla.analysis.errors([detections], [{"boxes": b, "labels": label}]),
        lambda b: dsla.CocoDataset(tmp_path / "images", folder, transforms=lambda i, t: (i, {**t, "boxes": b}))[0],
    ]
    for way in ways:
        with suppress(IndexError):  # more boxes than labels come from the data set's transform
            way(boxes("XYXY"))
        with pytest.raises(DataError, match=f"x1, y1, x2, y2 are needed, but torchvision says {form}; convert them"):
            way(boxes(form))
