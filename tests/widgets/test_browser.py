"""`DetectionBrowser` without a browser: suppression and verdicts, by hand and against the analyses."""

import gc

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from ipywidgets.widgets.widget import _instances
from test_labels import needs_node, node
from torchvision.ops import box_iou, nms
from two_images import FAR, FOUND, OBJECT, SHIFTED, WIDE, Two

import dsla
from dsla.analysis import match, suppression
from dsla.errors import DataError
from dsla.widgets import DetectionBrowser, RankingExplorer
from dsla.widgets.browser import judge


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


@pytest.mark.robustness("wrong: torchvision's iscrowd is a crowd in the browser, as in training")
def test_iscrowd_is_a_crowd():
    class Flagged(Two):
        def __getitem__(self, i):
            image, target = super().__getitem__(i)
            del target["crowd_boxes"]
            boxes = torch.cat([torch.tensor([FAR]), target["boxes"]])
            labels = torch.cat([torch.tensor([1]), target["labels"]])
            return image, {**target, "boxes": boxes, "labels": labels, "iscrowd": torch.arange(len(boxes)) == 0}

    browser = DetectionBrowser(Flagged(), {"ours": FOUND})
    assert [o["box"] for o in browser.surface.frame["objects"]] == [OBJECT]
    table = browser.tables["ours"]
    assert table["verdict"].tolist() == ["hit", "", ""]  # the third lies in the crowd
    assert table["object"].tolist() == [0, 0, -1]
    assert browser.survey()[["hit", "false", "missed"]].to_numpy().tolist() == [[1, 0, 0], [0, 0, 0]]
    browser.close()


def test_the_object_of_a_box_is_of_its_class_where_it_overlaps_one():
    g = torch.Generator().manual_seed(0)
    corner, side = torch.rand(400, 2, generator=g) * 60, torch.rand(400, 2, generator=g) * 30 + 1
    boxes, labels = torch.cat((corner, corner + side), 1), torch.randint(0, 3, (400,), generator=g)
    candidates = {"boxes": boxes, "scores": torch.linspace(1, 0.5, 400), "labels": labels}
    table = judge(candidates, {"boxes": boxes[:50] + 2, "labels": labels[:50]}, 0.0, 0.6, 0.5)
    best, value = table["object"].to_numpy(), table["iou"].to_numpy()
    overlaps = box_iou(boxes.double(), (boxes[:50] + 2).double()).numpy()
    assert np.array_equal(best < 0, overlaps.max(1) == 0)
    same_class = np.where(labels.numpy()[:, None] == labels[:50].numpy(), overlaps, 0)  # of its class first
    assert np.allclose(value, np.where(same_class.max(1) > 0, same_class.max(1), overlaps.max(1)))
    assert np.allclose(overlaps[np.arange(400), best][best >= 0], value[best >= 0])
    by = table["by"].to_numpy()
    gone = (by >= 0) & (best >= 0)
    assert np.allclose(table["by_iou"][gone], overlaps[by[gone], best[gone]])
    nothing = judge(candidates, {"boxes": torch.zeros(0, 4), "labels": labels[:0]}, 0.0, 0.6, 0.5)
    assert (nothing["object"].tolist(), nothing["iou"].tolist()) == ([-1] * 400, [0.0] * 400)


def words(browser, **filter_):
    """What the browser says of the first detector's boxes."""
    return node("verdicts.mjs", [{**browser.surface.frame, "filter": filter_}])["columns"][0]


@needs_node
def test_what_is_said_of_a_box(browser):
    column = words(browser)
    assert column["note"] == "1 hit, 0 duplicates, 1 false, 0 of 1 missed · NMS removed 1"
    assert column["counts"] == {"hit": 1, "duplicate": 0, "false": 1, "missed": 0, "removed": 1}
    text = " ".join(column["lines"][1])
    for part in (
        "removed by the box of score 0.900",
        "IoU 0.643 with it",
        "object 0: 0.900",
        "0.714",
        "better box went (−0.186)",
    ):
        assert part in text
    assert column["lines"][2] == ["dog, score 0.500: kept, false", "overlaps no object"]


@needs_node
def test_a_box_of_the_wrong_class_says_so():
    right_place = {**FOUND[0], "labels": torch.tensor([1, 1, 1, 1])}
    browser = DetectionBrowser(Two(), [right_place], score_threshold=0.5)
    assert browser.tables["detections"]["verdict"].tolist() == ["false", "", "false"]
    assert words(browser)["lines"][0][1] == "IoU with object 0: 0.714, a cat: the class is wrong"
    browser.close()


@needs_node
def test_filters_by_kind_class_and_size(browser):
    assert words(browser)["passes"] == [True, True, True]
    assert words(browser, hidden=["removed", "false"])["passes"] == [True, False, False]
    assert words(browser, name="dog")["passes"] == [False, False, True]
    assert words(browser, small=True)["passes"] == [False, False, True]  # 20 × 20 pixels


def test_images_in_the_order_of_what_is_wrong():
    class Turned(Two):
        def __getitem__(self, i):
            return super().__getitem__(1 - i)

    empty = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0).long()}
    browser = DetectionBrowser(Turned(), [FOUND[0], empty], score_threshold=0.45)
    survey = browser.survey()
    assert survey[["hit", "duplicate", "false", "missed", "missed_small"]].to_numpy().tolist() == [
        [0, 0, 2, 0, 0],  # no object there: all that NMS keeps is false
        [0, 0, 0, 1, 0],
    ]
    browser.controls["order"].value = "most missed"
    assert (browser.index, browser.surface.frame["title"]) == (1, "image 1")
    browser.controls["order"].value = "most false"
    assert browser.index == 0
    browser.controls["image"].value = 1
    assert browser.index == 1
    browser.controls["score"].value = 0.3
    assert browser.surface.frame["title"] == "image 1 · order of score threshold 0.45 and NMS IoU 0.60"
    browser.controls["order"].value = "as stored"
    assert (browser.index, browser.surface.frame["title"]) == (0, "image 0")
    assert browser.error == ""
    browser.close()


def test_the_table_leaves_as_csv(browser, monkeypatch):
    sent = []
    monkeypatch.setattr(browser.surface, "send", lambda content, buffers=None: sent.append((content, buffers)))
    browser.surface._handle_custom_msg({"type": "csv"}, [])
    ((content, (data,)),) = sent
    assert content["name"] == "detections.csv"
    lines = data.decode().splitlines()
    assert lines[0].startswith("detector,image,x1,y1,x2,y2,category,score")
    assert len(lines) == 4
    assert lines[1].startswith("ours,image 0,10.0,10.0,66.0,50.0,0,0.9")


def test_looking_at_a_model_leaves_it_in_training_mode():
    model = dsla.load("scenes-fcos").train()
    modes = [module.training for module in model.modules()]
    browser = DetectionBrowser(dsla.Scenes("test", size=2), model)
    assert [module.training for module in model.modules()] == modes
    browser.close()


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
            candidates = model.candidates([image])[0]
        table = browser.tables["FCOS"]
        kept = [
            nms(candidates["boxes"][k], candidates["scores"][k], 0.5)
            for c in range(5)
            for k in [candidates["labels"] == c]
        ]
        assert table["kept"].sum() == sum(len(k) for k in kept)
        lost = suppression([candidates], [target], nms_threshold=0.5)
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
    with pytest.raises(DataError, match="no detections to show"):
        DetectionBrowser(Two(), {})
    with pytest.raises(DataError, match="one or two detectors are shown, got 3"):
        DetectionBrowser(Two(), dict.fromkeys("abc", FOUND))
    with pytest.raises(DataError, match="a data set comes first, then detections: got list and dict"):
        DetectionBrowser(FOUND, {"x": FOUND})
    with pytest.raises(DataError, match="image 0: class 5, but the given dict has the classes 0…1"):
        DetectionBrowser(Two(), {"x": [{**FOUND[0], "labels": torch.tensor([0, 0, 5, 0])}]})


@pytest.mark.slow
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


@pytest.mark.robustness("wrong: a model of other classes is refused by the views of detections")
@pytest.mark.parametrize("view", [DetectionBrowser, RankingExplorer])
def test_a_model_of_other_classes_is_refused(view):
    model = dsla.build("scenes-dsla", class_names=["dog", "cat"])
    with pytest.raises(DataError, match="the model knows the classes dog, cat, but two has cat, dog: give data, or"):
        view(Two(), {"ours": model})
