"""`RankingExplorer` without a browser: what a choice in the scatter shows, by hand and against the analysis."""

import gc
import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from ipywidgets.widgets.widget import _instances
from matplotlib.text import Text
from test_labels import needs_node, node
from two_images import FOUND, OBJECT, Two

import dsla
from dsla.analysis import ranking, summary
from dsla.errors import DataError
from dsla.models.evaluation import predict_dataset
from dsla.widgets import RankingExplorer


@pytest.fixture
def explorer():
    made = RankingExplorer(Two(), {"ours": FOUND})
    yield made
    made.close()


def numbers(view, kind=np.float32):
    return np.frombuffer(view, dtype=kind)


def test_the_scatter_is_the_ranking(explorer):
    (series,) = explorer.surface.series
    assert numbers(series["score"]).tolist() == pytest.approx([0.6, 0.9, 0.5, 0.1])
    assert numbers(series["iou"]).tolist() == pytest.approx([0.9, 5 / 7, 0, 1])
    assert numbers(series["row"], np.int32).tolist() == [0, 1, 2, 3]
    # Of the pairs of 0.6, 0.9, 0.1 with 0.9, 5/7, 1 every one is ranked the wrong way round.
    assert series["note"] == ("4 detections · of the 3 with IoU ≥ 0.5: Spearman −1.00, wrong pairs of one object 100 %")
    assert explorer.surface.least == 0.5


def test_scores_beyond_the_scatter_lie_at_its_ends():
    boxes = {"boxes": FOUND[0]["boxes"], "labels": FOUND[0]["labels"]}
    logits = torch.linspace(7, -7, len(boxes["boxes"]))
    explorer = RankingExplorer(Two(), {"raw": [boxes | {"scores": logits}, *FOUND[1:]]})
    assert set(numbers(explorer.surface.series[0]["score"]).tolist()) >= {0.0, 1.0}
    explorer.choose()
    assert len(explorer.chosen) == len(explorer.tables["raw"])
    assert {7, -7} <= set(explorer.chosen["score"])  # as they are
    explorer.close()


def test_a_region_shows_its_boxes_on_their_images(explorer):
    explorer.surface.region = [0.55, 1.0, 0.5, 1.0]
    assert explorer.chosen["score"].tolist() == pytest.approx([0.9, 0.6])  # largest score − IoU first
    assert explorer.surface.frame["note"] == "2 detections chosen, on 1 image · mean score 0.75, mean IoU 0.81"
    (card,) = explorer.surface.frame["cards"]
    assert card["title"] == "image 0"
    assert card["size"] == [120, 120]
    assert card["photo"].startswith(b"\x89PNG")
    assert card["objects"] == [{"box": OBJECT, "name": "cat"}]
    assert [(b["series"], b["row"]) for b in card["boxes"]] == [(0, 1), (0, 0)]
    assert card["boxes"][0]["box"] == [10, 10, 66, 50]
    first = card["boxes"][0]
    assert (first["name"], first["score"], first["iou"]) == ("cat", pytest.approx(0.9), pytest.approx(5 / 7))
    explorer.surface.region = []
    assert len(explorer.chosen) == 0
    assert explorer.surface.frame["cards"] == []


def test_single_points_go_before_the_region(explorer):
    explorer.choose(score=(0, 1), iou=(0, 0.2))
    assert explorer.chosen["score"].tolist() == [0.5]
    explorer.surface.picked = [[0, 3], [0, 2]]
    assert explorer.chosen["score"].tolist() == pytest.approx([0.5, 0.1])
    assert explorer.chosen["detector"].tolist() == ["ours"] * 2
    explorer.choose()  # everything
    assert len(explorer.chosen) == 4
    assert explorer.error == ""


def test_it_opens_on_what_is_scored_too_high(explorer):
    # Of an object are scores 0.6, 0.9, 0.1 with IoU 0.9, 5/7, 1; medians 0.6 and 0.9.
    assert explorer.surface.region == pytest.approx([0.6, 1, 0.5, 0.9])
    assert explorer.chosen["score"].tolist() == pytest.approx([0.9, 0.6])


def test_titles_of_a_picture_stand_beside_each_other():
    scenes = dsla.Scenes("val", size=2)
    boxes = [{"boxes": t["boxes"], "labels": t["labels"], "scores": torch.ones(len(t["boxes"]))} for _, t in scenes]
    explorer = RankingExplorer(scenes, {"ours": boxes})
    explorer.choose()  # everything: both images
    explorer._titles = [f"image {n} · a-camera-in-the-north-2024-05-{n:02}.jpg" for n in (1, 2)]
    figure = explorer.static()
    figure.canvas.draw()
    titles = [ax.get_title(loc="left") for ax in figure.axes[1:]]
    assert titles[1] == "image 2 · a-camera-in-the-nort…\nscore / IoU"
    texts = {text.get_text(): text.get_window_extent() for text in figure.findobj(Text)}
    first, second = (texts[title] for title in titles)
    assert 0 < first.x0 < first.x1 < second.x0 < second.x1 < figure.bbox.x1
    explorer.close()


def test_classes(explorer):
    explorer.controls["class"].value = 3
    assert numbers(explorer.surface.series[0]["score"]).tolist() == [0.5]
    assert "n/a" in explorer.surface.series[0]["note"]
    explorer.choose()
    first = explorer.surface.frame["cards"][0]["boxes"][0]
    assert (first["name"], first["score"], first["iou"]) == ("dog", 0.5, 0)
    explorer.controls["class"].value = "all"
    assert len(explorer.tables["ours"]) == 4
    assert explorer.error == ""


def test_kinds_orders_and_both_orders_of_the_arguments(explorer):
    explorer.controls["show"].value = "false"
    assert explorer.tables["ours"]["score"].tolist() == [0.5]
    explorer.controls["show"].value = "small"  # 20 × 20 pixels
    assert explorer.tables["ours"]["score"].tolist() == [0.5]
    explorer.controls["show"].value = "hit"
    explorer.choose()
    assert explorer.chosen["score"].tolist() == pytest.approx([0.9, 0.6, 0.1])  # score above IoU first
    explorer.controls["order"].value = "iou"
    assert explorer.chosen["iou"].tolist() == pytest.approx([5 / 7, 0.9, 1])
    swapped = RankingExplorer(FOUND, Two())
    assert swapped.tables["detections"].equals(RankingExplorer(Two(), FOUND).tables["detections"])
    swapped.close()
    with pytest.raises(DataError, match="a data set comes first, then detections: got list and dict"):
        RankingExplorer(FOUND, {"x": FOUND})


@needs_node
def test_a_perfect_box_of_the_wrong_class_is_told():
    box = {"box": OBJECT, "name": "dog", "iou": 0.0}
    other = [{"box": [10, 10, 50, 46], "name": "cat"}]
    cards = [{"box": box, "others": other, "least": least} for least in (0.5, 0.95)]
    cards.append({"box": {**box, "iou": 0.6}, "others": other, "least": 0.5})  # it has an object of its own
    answers = node("verdicts.mjs", [{"cards": cards}])["wrong"]
    assert [a["name"] for a in answers] == ["cat", None, None]
    assert answers[0]["overlap"] == pytest.approx(0.9)


def test_models_and_files_are_the_same_and_agree_with_the_analysis(tmp_path):
    scenes, model = dsla.Scenes("test", size=12), dsla.load("scenes-fcos")
    file = tmp_path / "theirs_results.json"
    rows = predict_dataset(model, scenes)
    file.write_text(json.dumps(rows))
    explorer = RankingExplorer(scenes, {"run": model, "file": file})
    alone = RankingExplorer(file, scenes)
    assert list(alone.tables) == ["theirs"]
    wanted = ranking(model, scenes)
    assert len(wanted) > 100
    for table in explorer.tables.values():
        assert np.allclose(np.sort(table["score"]), np.sort(wanted["score"]), atol=1e-6)
        assert np.allclose(np.sort(table["iou"]), np.sort(wanted["iou"]), atol=1e-5)
    assert f"Spearman {summary(wanted)['spearman']:.2f}" in explorer.surface.series[0]["note"]
    assert len({s["colour"] for s in explorer.surface.series}) == 2
    # Every chosen row's page shows its box; pages together show them all.
    explorer.choose((0.2, 1), (0.3, 1))
    seen = []
    for page in range(1, explorer.controls["page"].max + 1):
        explorer.controls["page"].value = page
        seen += [(b["series"], b["row"]) for c in explorer.surface.frame["cards"] for b in c["boxes"]]
        assert len(explorer.surface.frame["cards"]) <= 6
    assert len(set(seen)) == len(seen) == len(explorer.chosen) > 12
    explorer.surface.region = [0.2, 1, 0.5, 1]  # another choice starts at its first page
    assert explorer.controls["page"].value == 1
    assert explorer.error == alone.error == ""
    explorer.close(), alone.close()


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match="no detections"):
        RankingExplorer(Two(), {})
    with pytest.raises(DataError, match="image 0: class 5, but the given dict has the classes 0…1"):
        RankingExplorer([{**FOUND[0], "labels": torch.tensor([0, 0, 5, 0])}], Two())


def test_an_exception_of_a_callback_is_shown(explorer):
    explorer.surface.picked = [[0, 99]]
    assert explorer.error.startswith("IndexError")
    assert "dsla-error" in explorer._banner.value
    explorer.surface.picked = []
    assert explorer.error == ""


@pytest.mark.slow
def test_nothing_piles_up_and_closing_frees():
    gc.collect()
    before, figures = set(_instances), plt.get_fignums()
    explorer = RankingExplorer(Two(), FOUND)
    assert list(explorer.tables) == ["detections"]
    there = len(_instances)
    for i in range(40):
        explorer.choose((0.02 * i, 1), (0, 1))
    assert len(_instances) == there
    assert plt.get_fignums() == figures
    bundle = explorer._repr_mimebundle_()
    assert bundle["image/png"].startswith("iVBOR")
    assert len(bundle["image/png"]) < 150_000
    explorer.close()
    assert set(_instances) == before
