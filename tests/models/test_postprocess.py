"""Detections from head outputs, against plain Python that is written for reading."""

import pytest
import torch

import dsla
from dsla import HeadOutputs, PointGrid
from dsla.cli.main import main
from dsla.errors import DataError
from dsla.geometry import pairwise_iou
from dsla.models import Postprocess

SHAPES, STRIDES, CLASSES = ((6, 8), (3, 4)), (8, 16), 3
SIZE = (41, 55)  # smaller than the 48 × 64 that the maps cover


def outputs(seed, quality=False):
    generator = torch.Generator().manual_seed(seed)
    grid = PointGrid.from_shapes(SHAPES, STRIDES, offset=0.5)
    return HeadOutputs(
        torch.randn(2, len(grid), CLASSES, generator=generator),
        4 + 25 * torch.rand(2, len(grid), 4, generator=generator),
        grid,
        torch.randn(2, len(grid), generator=generator) if quality else None,
    )


def reference(out, image, options):
    """One pair after the other; NMS by looking back at everything kept."""
    grid, candidates = out.grid, []
    for level in range(len(SHAPES)):
        pairs = []
        for p in (grid.level == level).nonzero().flatten().tolist():
            x, y = grid.xy[p].tolist()
            if not options.keep_padding and (x >= SIZE[1] or y >= SIZE[0]):
                continue
            for c in range(CLASSES):
                chance = score = out.logits[image, p, c].sigmoid().item()
                if out.quality is not None:
                    score = chance * out.quality[image, p].sigmoid().item()
                    score = score**0.5 if options.score == "sqrt" else score
                pairs.append((score if options.select_by == "score" else chance, score, p, c))
        if options.top_k_over == "points":
            best = {p: max(s for s, _, q, _ in pairs if q == p) for _, _, p, _ in pairs}
            kept = sorted(best, key=best.get, reverse=True)[: options.top_k]
            pairs = [pair for pair in pairs if pair[2] in kept]
        else:
            pairs = sorted(pairs, reverse=True)[: options.top_k]
        candidates += [pair[1:] for pair in pairs if pair[0] > options.score_threshold]
    kept = []
    for score, p, c in sorted(candidates, reverse=True):
        box = out.boxes[image, p].clone()
        box[0::2] = box[0::2].clamp(0, SIZE[1])
        box[1::2] = box[1::2].clamp(0, SIZE[0])
        if all(c != d or pairwise_iou(box[None], b[None]) <= options.nms_iou for _, b, d in kept):
            kept.append((score, box, c))
    return kept[: options.max_detections]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "options",
    [
        Postprocess(),
        Postprocess(score_threshold=0.3, nms_iou=0.3, max_detections=5),
        Postprocess(top_k=7, keep_padding=True, max_detections=None),
        Postprocess(top_k=7, top_k_over="pairs"),
        Postprocess(top_k=9, top_k_over="pairs", select_by="class", score_threshold=0.5),
        Postprocess(score="sqrt", score_threshold=0.2),
    ],
)
def test_equals_reference(options, seed):
    out = outputs(seed, quality=options != Postprocess())
    for i, candidates in enumerate(options.candidates(out, [SIZE, SIZE])):
        got, expected = options.suppress(candidates), reference(out, i, options)
        assert len(expected) > 3
        torch.testing.assert_close(got["scores"], torch.tensor([s for s, _, _ in expected]))
        torch.testing.assert_close(got["boxes"], torch.stack([b for _, b, _ in expected]))
        assert got["labels"].tolist() == [c for _, _, c in expected]


def test_threshold_is_strict():
    out = outputs(0)
    out.logits[:] = -9.0
    out.logits[0, 0, 1] = 0.0
    assert len(Postprocess(score_threshold=0.5).candidates(out, [SIZE, SIZE])[0]["scores"]) == 0
    assert len(Postprocess(score_threshold=0.499).candidates(out, [SIZE, SIZE])[0]["scores"]) == 1


def test_original_sizes_and_points():
    out, options = outputs(3), Postprocess()
    here = options.candidates(out, [SIZE, SIZE])[1]
    there = options.candidates(out, [SIZE, SIZE], [SIZE, (82, 220)])[1]
    torch.testing.assert_close(there["boxes"], here["boxes"] * torch.tensor([4.0, 2.0, 4.0, 2.0]))
    scores = out.logits[1].sigmoid()
    torch.testing.assert_close(here["scores"], scores[here["points"], here["labels"]])
    assert (out.grid.xy[here["points"]] < torch.tensor([SIZE[1], SIZE[0]])).all()


def test_nothing_found():
    out = outputs(0)
    out.logits[:] = -30.0
    detections = [Postprocess().suppress(c) for c in Postprocess().candidates(out, [SIZE, SIZE])]
    assert [tuple(d["boxes"].shape) for d in detections] == [(0, 4), (0, 4)]
    assert detections[0]["labels"].dtype == torch.int64


def crowded(seed, count, classes=3, corner=250.0):
    """Candidates of an image, many of them over each other and some outside it."""
    g = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=g) * corner - 50
    return {
        "boxes": torch.cat((corners, corners + 5 + torch.rand(count, 2, generator=g) * 60), 1),
        "scores": torch.randint(1, 400, (count,), generator=g) / 400,  # with ties
        "labels": torch.randint(0, classes, (count,), generator=g),
        "points": torch.arange(count),
    }


@pytest.mark.parametrize("limit", [1, 7, 20, 60, 300])
@pytest.mark.parametrize("corner", [20.0, 250.0, 2000.0])  # few detections are left, or nearly all candidates
def test_the_best_of_all_are_kept_however_few_are_looked_at_first(limit, corner):
    for seed, count in enumerate((0, 1, 90, 3000)):
        candidates = crowded(seed, count, corner=corner)
        limited = Postprocess(max_detections=limit, nms_iou=0.3).suppress(candidates)
        whole = Postprocess(max_detections=None, nms_iou=0.3).suppress(candidates)
        assert limited["points"].tolist() == whole["points"].tolist()[:limit]
        assert (limited["scores"].diff() <= 0).all()


@pytest.mark.parametrize("wrong", [{"score": "mean"}, {"top_k_over": "boxes"}, {"select_by": "iou"}])
def test_unknown_options(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Postprocess(**wrong)


@pytest.mark.robustness("wrong: weights that give NaN are refused, where they found nothing and had an AP of 0")
@pytest.mark.parametrize("options", [{}, {"top_k_over": "pairs"}, {"select_by": "class"}, {"keep_padding": True}])
@pytest.mark.parametrize("branch", ["logits", "quality", "distances"])
def test_scores_that_are_no_numbers_are_refused(options, branch):
    assert len(Postprocess(**options).candidates(outputs(0, quality=True), [SIZE, SIZE])) == 2
    out = outputs(0, quality=True)
    getattr(out, branch)[1, 0] = torch.nan  # of a point inside the second image
    with pytest.raises(DataError, match=r"image 1 of the batch: scores or boxes that are no numbers \(NaN\)"):
        Postprocess(**options).candidates(out, [SIZE, SIZE])


def test_a_model_with_broken_weights_is_refused_however_it_is_asked(tmp_path, capsys):
    scenes = dsla.Scenes("val", size=2)
    model = dsla.build("scenes-dsla", class_names=scenes.class_names)
    model.head.class_logits.bias.data[2] = torch.nan
    asks = [dsla.evaluate, dsla.analysis.match, dsla.why, lambda model, scenes: dsla.predict(model, scenes[0][0])]
    file = scenes.to_coco(tmp_path / "set").parent / "images" / "000000.png"
    weights = dsla.save(model, tmp_path / "broken.safetensors")
    for ask in asks:
        with pytest.raises(DataError, match="the weights are broken"):
            ask(model, scenes)
    assert main(["predict", str(file), "--weights", str(weights), "--out", str(tmp_path / "out")]) == 2
    assert "the weights are broken" in capsys.readouterr().err
