"""`DetectionBrowser` without a browser: suppression and verdicts, by hand and against the analyses."""

import gc

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from ipywidgets.widgets.widget import _instances
from torchvision.ops import nms
from two_images import FAR, FOUND, OBJECT, SHIFTED, WIDE, Two

import dsla
from dsla.analysis import match, suppression
from dsla.errors import DataError
from dsla.widgets import DetectionBrowser


@pytest.fixture
def browser():
    made = DetectionBrowser(Two(), {"ours": FOUND})
    yield made
    made.close()


def test_which_box_removed_which_and_both_overlaps(browser):
    table = browser.tables["ours"]
    assert table["score"].tolist() == pytest.approx([0.9, 0.6, 0.5])  # 0.1 is below the threshold of 0.2
    assert table["kept"].tolist() == [True, False, True]
    assert table["by"].tolist() == [-1, 0, -1]
    assert table["overlap"][1] == pytest.approx(9 / 14)
    assert table["object"].tolist() == [0, 0, -1]
    assert table["iou"].tolist() == pytest.approx([5 / 7, 0.9, 0])
    assert table["by_iou"][1] == pytest.approx(5 / 7)
    assert table["verdict"].tolist() == ["hit", "", "false"]
    (column,) = browser.surface.frame["columns"]
    assert column["note"] == "1 hit, 0 duplicates, 1 false, 0 of 1 missed · NMS removed 1"
    text = column["boxes"][1]["text"]
    for part in (
        "removed by the box of score 0.900",
        "IoU 0.643 with it",
        "object 0: 0.900",
        "0.714",
        "better box went",
    ):
        assert part in text
    assert column["boxes"][2]["text"].endswith("<p>overlaps no object</p>")


def test_sliders(browser):
    browser.controls["nms"].value = 0.65  # above 9/14: nothing is removed, the second box is a duplicate
    assert browser.tables["ours"]["verdict"].tolist() == ["hit", "duplicate", "false"]
    browser.controls["score"].value = 0.05
    assert browser.tables["ours"]["kept"].tolist() == [True, True, True, False]  # OBJECT goes for WIDE
    assert browser.tables["ours"]["by"].tolist() == [-1, -1, -1, 0]
    browser.controls["score"].value = 0.95
    assert len(browser.tables["ours"]) == 0
    assert browser.surface.frame["columns"][0]["missed"] == [0]
    browser.controls["image"].value = 1
    assert browser.surface.frame["objects"] == []
    assert browser.error == ""


def test_one_image_after_the_other_agrees_with_the_analyses():
    scenes = dsla.Scenes("test", size=6)
    model = dsla.load("scenes-fcos")
    browser = DetectionBrowser(scenes, {"FCOS": model, "same": model}, score_threshold=0.05, nms_iou=0.5)
    for i in range(len(scenes)):
        browser.controls["image"].value = i
        image, target = scenes[i]
        with torch.no_grad():
            found = model.candidates([image])[0]
        table = browser.tables["FCOS"]
        kept = [nms(found["boxes"][k], found["scores"][k], 0.5) for c in range(5) for k in [found["labels"] == c]]
        assert table["kept"].sum() == sum(len(k) for k in kept)
        lost = suppression([found], [target], nms_threshold=0.5)
        for _, row in lost[lost["suppressor"].notna()].iterrows():
            same = table[np.isclose(table["score"], row["best_score"]) & np.isclose(table["iou"], row["iou_before"])]
            assert len(same) == 1
            by = table.loc[same["by"].iloc[0]]
            assert by["score"] == pytest.approx(row["suppressor_score"])
            assert same["overlap"].iloc[0] == pytest.approx(row["suppressor_overlap"])
            assert same["by_iou"].iloc[0] == pytest.approx(row["suppressor_iou"])
        stay = table[table["kept"]]
        result = {
            "boxes": stay[["x1", "y1", "x2", "y2"]].to_numpy(),
            "scores": stay["score"],
            "labels": stay["category"],
        }
        hits = match([result], [target])["match"].notna().sum()
        assert (table["verdict"] == "hit").sum() == hits
        assert browser.tables["same"].equals(table)
    assert browser.error == ""
    browser.close()


def test_detections_in_coco_form_are_the_same():
    boxes = [[b[0], b[1], b[2] - b[0], b[3] - b[1]] for b in (SHIFTED, WIDE, FAR, OBJECT)]
    scores, ids = (0.6, 0.9, 0.5, 0.1), (7, 7, 3, 7)
    listed = [
        {"image_id": 0, "category_id": c, "bbox": b, "score": s} for b, s, c in zip(boxes, scores, ids, strict=True)
    ]
    one, two = (DetectionBrowser(Two(), d).tables["detections"] for d in (FOUND, listed))
    columns = ["category", "x1", "y1", "x2", "y2", "kept", "by", "verdict", "object"]
    assert one[columns].astype(str).equals(two[columns].astype(str))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="one or two"):
        DetectionBrowser(Two(), {})
    with pytest.raises(DataError, match="label outside"):
        DetectionBrowser(Two(), {"x": [{**FOUND[0], "labels": torch.tensor([0, 0, 5, 0])}]})


def test_forty_slider_values_leave_nothing_behind_and_closing_frees():
    gc.collect()
    before, figures = set(_instances), plt.get_fignums()
    browser = DetectionBrowser(Two(), {"ours": FOUND})
    there = len(_instances)
    for i in range(40):
        browser.controls["score"].value = 0.025 * i
    assert len(_instances) == there
    assert plt.get_fignums() == figures
    assert "image/png" in browser._repr_mimebundle_()
    browser.close()
    assert set(_instances) == before
