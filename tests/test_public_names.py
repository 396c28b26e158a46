"""The names and calls that notebooks, benchmarks and other people's code rely on."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

import dsla


def test_every_exported_name_is_there():
    for name in dsla.__all__:
        assert getattr(dsla, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        dsla.nothing  # noqa: B018


def test_assigning_as_documented():
    grid = dsla.PointGrid((800, 1344), strides=(8, 16, 32, 64, 128), offset=0.0)
    again = dsla.PointGrid.from_shapes([(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)], strides=grid.strides)
    assert torch.equal(grid.xy, again.xy)
    ranges = ((0, 64), (64, 128), (128, 256), (256, 512), (512, 1e8))
    assigner = dsla.assigners.DSLA(
        regress_ranges=ranges, relaxation=0.2, truncate=True, core_zone=True, center_sampling=None
    )
    boxes, labels = [torch.tensor([[100.0, 80, 420, 300]])], [torch.tensor([7])]
    for a in (
        assigner(grid, boxes=boxes, labels=labels),
        dsla.assigners.FCOS(regress_ranges=ranges, center_sampling=1.5)(grid, boxes=boxes, labels=labels),
    ):
        assert isinstance(a, dsla.Assignment)
        assert a.gt_index.shape == a.label.shape == a.category.shape == (1, len(grid))
        assert set(a.category[a.gt_index >= 0].tolist()) == {7}
        columns = "image level row column x y gt category l t r b centerness core_zone relaxation label"
        assert set(columns.split()) <= set(a.to_frame().columns)
    text = str(assigner.explain(grid, point=20 * 168 + 30, box=boxes[0][0]))
    assert "centerness" in text
    assert "label" in text


def test_building_training_and_evaluating_as_documented(tmp_path):
    model = dsla.build("r50-1x", num_classes=80, weights=None)
    assert isinstance(model, torch.nn.Module)
    images = [torch.rand(3, 96, 128), torch.rand(3, 80, 64)]
    model.transform.min_size, model.transform.max_size = (96,), 128  # a small picture is enough here
    targets = [
        {"boxes": torch.tensor([[10.0, 10, 60, 70]]), "labels": torch.tensor([3])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    losses = model.train()(images, targets)
    assert set(losses) == {"loss_cls", "loss_box"}
    assert all(torch.isfinite(v) and v.ndim == 0 for v in losses.values())
    with torch.no_grad():
        detections = model.eval()(images)
    assert [set(f) for f in detections] == [{"boxes", "scores", "labels"}] * 2

    small = dsla.build(dsla.recipe("scenes-dsla", channels=16, head_convs=1), num_classes=5)
    dsla.save(small, tmp_path / "m.safetensors")
    numbers = dsla.evaluate(dsla.load(tmp_path / "m.safetensors"), dsla.Scenes("val", size=4))
    assert isinstance(numbers, pd.Series)
    assert len(numbers) == 12


@pytest.mark.slow
def test_shipped_weights_say_what_they_are_and_reach_what_they_say():
    """Warm runs of the protocol, two seeds. The file says AP on its 400 validation scenes, others than these 60."""
    from dsla.models.weights import read, shipped
    from dsla.paper.protocol import PLAN
    from dsla.recipes import SHIPPED

    weights = {name + ending: (name, seed) for name in SHIPPED for seed, ending in enumerate(("", "-seed-1"))}
    assert set(shipped()) == set(weights)
    scenes = dsla.Scenes("val", size=60)
    for file, (name, seed) in weights.items():
        about, _ = read(file)
        assert shipped()[file].stat().st_size < 3_000_000
        taught = dsla.Recipe.from_dict(about["recipe"])
        assert taught.name in (f"{name}-warm-{stage}-{taught.lr:g}" for stage in ("main", "methods-main"))
        assert taught == dsla.recipe(name, lr=taught.lr, steps=PLAN["steps"]).replace(name=taught.name)
        assert (taught.box_bias, about["metric"]["steps"], about["metric"]["seed"]) == (0.7, PLAN["steps"], seed)
        assert tuple(about["class_names"]) == scenes.class_names
        ap = dsla.evaluate(dsla.load(file), scenes)["AP"]
        assert abs(ap - about["metric"]["AP"]) < 0.06
    assert about["metric"]["data"] == "scenes-val"
