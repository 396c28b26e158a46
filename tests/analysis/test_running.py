"""The analyses on a detector of the package: same numbers as from its recorded outputs, modes as before."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

import dsla
from dsla.analysis import adjacency, errors, match, oracle, profile, ranking, suppression
from dsla.analysis.running import run, run_raw
from dsla.analysis.study import study
from dsla.data import Scenes
from dsla.errors import DataError


@pytest.fixture(scope="module")
def scenes():
    return Scenes("val", 6)


@pytest.fixture(params=["scenes-dsla", "scenes-fcos"])
def model(request, scenes):
    torch.manual_seed(0)
    model = dsla.build(request.param, class_names=scenes.class_names)
    with torch.no_grad():
        model.head.class_logits.weight.mul_(30)  # untrained, but with scores that differ
        model.head.class_logits.bias.fill_(-2.0)
    return model.train()


def test_detections_are_those_of_the_model(model, scenes):
    detections = list(run(model, scenes, batch_size=4))
    assert model.training
    model.eval()
    with torch.no_grad():
        expected = model([scenes[i][0] for i in range(4)])
    assert [f["image_id"] for f in detections] == [scenes.image_id(i) for i in range(6)]
    for one, other in zip(detections, expected, strict=False):
        torch.testing.assert_close(one["boxes"], other["boxes"])
        torch.testing.assert_close(one["scores"], other["scores"])


def test_candidates_carry_the_static_labels(model, scenes):
    candidates = list(run(model, scenes, before_nms=True, batch_size=6))
    raw, images, _ = next(run_raw(model, scenes, batch_size=6))
    assert len(images) == 6
    assignment = model.assign(raw)
    for i, one in enumerate(candidates):
        for point, label, taught in zip(*(one[k].tolist() for k in ("points", "labels", "label")), strict=True):
            same = int(assignment.category[i, point]) == label
            assert taught == (float(assignment.label[i, point]) if same else 0.0)
    assert sum(float(one["label"].sum()) for one in candidates) > 0


def test_every_analysis_runs_on_a_model(model, scenes):
    recorded = list(run(model, scenes, before_nms=True, batch_size=4))
    pd.testing.assert_frame_equal(
        pd.DataFrame(suppression(model, scenes, batch_size=4)), pd.DataFrame(suppression(recorded, scenes))
    )
    assert oracle(model, scenes, batch_size=4)["variant"].tolist() == [
        *("score", "iou", "centerness", "label", "dynamic", "box")
    ]
    before, after = (len(match(model, scenes, before_nms=b)) for b in (True, False))
    assert before == sum(len(one["scores"]) for one in recorded) > after > 0
    seen = []
    numbers = ranking(model, scenes, max_images=3, progress=lambda *p: seen.append(p)).summary()
    assert seen == [(3, 3)]
    assert numbers["detections"] <= 3 * 100
    assert model.training


def test_adjacency_of_a_model(model, scenes):
    table = adjacency(model, scenes, batch_size=4, threshold=0.2, across_levels=True)
    assert table["image"].isin([scenes.image_id(i) for i in range(6)]).all()
    assert set(table["direction"]) == {"right", "down", "level"}
    assert table.attrs["threshold"] == 0.2
    coupled = model.recipe.method == "dsla"
    assert table.attrs["coupling"] == ("on" if coupled else "off")
    assert set(np.sign(table["d_label"])) <= ({-1, 0, 1} if coupled else {1})
    numbers = table.summary()
    assert not numbers.isna().any()
    fewer = adjacency(model, scenes, reference=model.assigner, batch_size=6)
    assert (fewer["label_b"] == 0).all()  # negative under the model's own assigner
    raw, _, _ = next(run_raw(model, scenes))
    lines = profile(raw.outputs, model.assign(raw))
    centre = lines[lines["offset"] == 0]
    assert (centre["label"] > 0).all()
    assert centre["label"].mean() >= lines["label"].mean()
    assert not math.isnan(lines["iou"].mean())


def test_a_model_needs_a_data_set(model):
    with pytest.raises(DataError, match="needs a data set"):
        ranking(model, {"images": [], "annotations": [], "categories": []})


OTHERS = (adjacency, errors, match, oracle, profile, ranking, suppression, study, dsla.why)


@pytest.mark.robustness("wrong: a model of other classes, or of these in another order, is refused by the analyses")
@pytest.mark.parametrize("analysis", OTHERS, ids=[f.__name__ for f in OTHERS])
def test_a_model_of_other_classes_is_refused(model, scenes, analysis):
    other = Scenes("val", 6)
    other.class_names = scenes.class_names[::-1]
    with pytest.raises(DataError, match=r"the model knows the classes disc, .*, but scenes-val has bar, ring"):
        analysis(model, other)


def test_profile_of_a_model(model, scenes):
    one, all_ = (profile(model, scenes, batch_size=size, reach=2) for size in (1, 6))
    pd.testing.assert_frame_equal(
        *(pd.DataFrame(t.sort_values(["image", "gt", "axis", "offset"], ignore_index=True)) for t in (one, all_)),
        check_exact=False, atol=1e-5,
    )  # fmt: skip
    assert set(one["image"]) == {scenes.image_id(i) for i in range(6)}
    assert sorted(set(one["offset"])) == [-2, -1, 0, 1, 2]
    assert one.attrs["coupling"] == ("on" if model.recipe.method == "dsla" else "off")
    raw, _, ids = next(run_raw(model, scenes, batch_size=6))
    scores = model.postprocess.scores(raw.outputs)
    by_hand = profile(raw.outputs, model.assign(raw), reach=2, image_ids=ids, scores=scores)
    pd.testing.assert_frame_equal(pd.DataFrame(all_), pd.DataFrame(by_hand))
    numbers = all_.summary()
    assert numbers["objects"] == len(one[["image", "gt"]].drop_duplicates())
    assert numbers["label_best"] >= numbers["label_beside"]
    centre = by_hand[(by_hand["offset"] == 0) & (by_hand["axis"] == "y")]
    assert numbers["iou_best"] == pytest.approx(centre["iou"].mean())
    assert model.training


def test_one_run_serves_several_analyses(model, scenes):
    studied = study(model.eval(), scenes, batch_size=4)
    pairs, lines = adjacency(model, scenes, batch_size=4), profile(model, scenes, batch_size=4)
    pd.testing.assert_frame_equal(pd.DataFrame(studied.tables["adjacency"]), pd.DataFrame(pairs))
    pd.testing.assert_frame_equal(pd.DataFrame(studied.tables["profile"]), pd.DataFrame(lines))


def test_no_image_is_an_error(model):
    with pytest.raises(DataError, match="has no images"):
        profile(model, [])
