"""Measures that neither the height of scores nor the number of candidates changes: they do not, where the others do."""

import numpy as np
import pytest
import torch

import dsla
from dsla.analysis import adjacency, ranking, suppression
from dsla.analysis.study import at_best
from dsla.assigners import FCOS
from dsla.geometry import HeadOutputs

SCENES, BEST = 6, 12
CHANGES = {"as they are": lambda s: s, "square root": torch.sqrt, "halved": lambda s: s / 2}


@pytest.fixture(scope="module")
def scenes():
    return dsla.Scenes("val", size=SCENES).prepare(workers=1)


def candidates(scenes, change, background=0):
    """Boxes near objects with scores near their IoU; and background, lower than all of them."""
    rng, images = np.random.default_rng(0), []
    for i in range(SCENES):
        target = scenes[i][1]
        boxes = target["boxes"].repeat(8, 1)
        boxes = boxes + torch.tensor(rng.normal(0, 3, boxes.shape)).float()
        far = torch.tensor([[0.0, 0.0, 4.0, 4.0]]).repeat(background, 1)
        scores = change(torch.tensor(rng.uniform(0.2, 1, len(boxes))))
        low = change(torch.tensor(np.linspace(0.05, 0.15, background)))
        labels = torch.cat([target["labels"].repeat(8), torch.zeros(background, dtype=torch.int64)])
        image = {"boxes": torch.cat([boxes, far]), "scores": torch.cat([scores, low]), "labels": labels}
        images.append({**image, "image_id": scenes.image_id(i)})
    return images


@pytest.mark.parametrize("background", [0, 40])
@pytest.mark.parametrize("name", CHANGES)
def test_ranking_and_suppression_at_the_best(scenes, name, background):
    expected = at_best(candidates(scenes, CHANGES["as they are"]), scenes, BEST)
    numbers = at_best(candidates(scenes, CHANGES[name], background), scenes, BEST)
    assert numbers.to_dict() == pytest.approx(expected.to_dict(), abs=1e-12)
    assert 0.3 < expected["iou"] < 0.95
    assert 0 < expected["found_share"] <= 1
    assert expected["iou_before"] - expected["iou_after"] == pytest.approx(expected["iou_lost"])


def test_they_are_what_the_analyses_say_of_the_candidates_that_are_left(scenes):
    images = candidates(scenes, CHANGES["as they are"], 40)
    order = [image["scores"].argsort(descending=True)[:BEST] for image in images]
    cut = [
        {k: v if k == "image_id" else v[best] for k, v in image.items()}
        for image, best in zip(images, order, strict=True)
    ]
    numbers, lost = at_best(images, scenes, BEST), suppression(cut, scenes).summary()
    assert numbers["lost_over_0.05"] == lost["lost_over_0.05"]
    assert numbers["iou_after"] == lost["iou_after"]
    assert numbers["found_share"] == lost["found"] / lost["objects"]
    assert numbers["spearman"] == pytest.approx(ranking(cut, scenes, iou_threshold=0.0).summary()["spearman_image"])
    assert "12 best candidates" in numbers.attrs["definitions"]["iou"]


def test_the_measures_at_a_threshold_do_change(scenes):
    """Which is why the others are there."""

    def iou_above_threshold(change, background):
        images = candidates(scenes, change, background)
        kept = [{k: v if k == "image_id" else v[i["scores"] > 0.3] for k, v in i.items()} for i in images]
        return suppression(kept, scenes).summary()["iou_before"]

    assert iou_above_threshold(CHANGES["halved"], 0) < iou_above_threshold(CHANGES["as they are"], 0)


@pytest.mark.parametrize("name", CHANGES)
def test_neighbours_by_rank(scenes, name):
    grid = dsla.PointGrid((128, 128), (8, 16, 32), 0.5)
    torch.manual_seed(0)
    logits, distances = torch.randn(1, len(grid), 5), torch.rand(1, len(grid), 4) * 30
    target = scenes[0][1]
    reference = FCOS(((0, 32), (32, 64), (64, 1e8)))(grid, [target["boxes"]], [target["labels"]])
    outputs = HeadOutputs(logits, distances, grid)
    plain = adjacency(outputs, reference).summary()
    scores = CHANGES[name](logits.double().sigmoid())
    numbers = adjacency(outputs, reference, scores=scores).summary()
    for number in ("told_apart", "follows_iou", "follows_iou_against", "constant_rule"):
        assert numbers[number] == pytest.approx(plain[number], abs=1e-7)  # single precision makes a few scores equal
    assert (numbers["alike"] == plain["alike"]) == (name == "as they are")


def test_told_apart_is_the_area_below_the_curve_counted_pair_by_pair(scenes):
    grid = dsla.PointGrid((128, 128), (8, 16, 32), 0.5)
    torch.manual_seed(1)
    outputs = HeadOutputs(torch.randn(1, len(grid), 5).round(decimals=1), torch.rand(1, len(grid), 4) * 30, grid)
    target = scenes[1][1]
    table = adjacency(outputs, FCOS(((0, 32), (32, 64), (64, 1e8)))(grid, [target["boxes"]], [target["labels"]]))
    a, b = table["score_a"].to_numpy()[:, None], table["score_b"].to_numpy()
    assert table.summary()["told_apart"] == pytest.approx(((a > b) + 0.5 * (a == b)).mean())
