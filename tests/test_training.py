"""The loop: losses fall, resuming changes nothing, rates and order are functions of the step, bad losses stop it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

import dsla
from dsla.config import Recipe
from dsla.data import DetectionDataset
from dsla.errors import DataError
from dsla.training import NotFinite, Order, learning_rate, optimizer_of, read_log, train

TINY = dsla.recipe("scenes-dsla", channels=16, head_convs=1, batch_size=4, steps=6, warmup_steps=2)


@pytest.fixture(scope="module")
def scenes():
    return dsla.Scenes("train", size=8).prepare(workers=1)


class Listed(DetectionDataset):
    """A data set of given (image, boxes, labels)."""

    name, class_names, category_ids = "listed", ("a", "b", "c", "d", "e"), (1, 2, 3, 4, 5)

    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def image_id(self, i):
        return 100 + i

    def load(self, i):
        image, boxes, labels = self.items[i]
        rest = {"crowd_boxes": torch.zeros(0, 4), "image_id": self.image_id(i)}
        return image, {"boxes": boxes, "labels": labels, **rest}


def quiet(*args, **kwargs):
    return train(*args, progress=False, **kwargs)


def test_the_loss_falls_and_the_log_says_so(scenes, tmp_path):
    recipe = TINY.replace(steps=30, lr=2e-3)
    result = quiet(recipe, scenes, out=tmp_path, log_every=5)
    rows = read_log(tmp_path / "log.jsonl")
    assert rows[0]["recipe"]["name"] == "scenes-dsla"
    steps = [r for r in rows if "loss" in r]
    assert [r["step"] for r in steps] == [5, 10, 15, 20, 25, 30]
    assert steps[-1]["loss"] < 0.8 * steps[0]["loss"]
    assert steps[-1]["loss"] == pytest.approx(steps[-1]["loss_cls"] + steps[-1]["loss_box"], abs=1e-5)
    assert steps[-1]["epoch"] == 30 * 4 / 8
    assert not result.model.training
    again = dsla.load(tmp_path / "model.safetensors")
    assert again.recipe == recipe


def test_resuming_gives_the_weights_and_rates_of_a_run_that_never_stopped(scenes, tmp_path):
    """4 epochs of 2 steps, a tenth of the rate after epoch 3, 2 warm-up steps; stopped after epoch 2."""
    recipe = TINY.replace(
        steps=None, epochs=4, schedule="step", milestones=(3,), lr=0.01, warmup_steps=2, optimizer="sgd"
    )
    through = quiet(recipe, scenes, out=tmp_path / "a", log_every=1)
    quiet(recipe, scenes, out=tmp_path / "b", log_every=1, stop_after=4)
    resumed = quiet(recipe, scenes, out=tmp_path / "b", log_every=1, resume=True)
    a, b = (read_log(tmp_path / n / "log.jsonl") for n in "ab")
    keep = ("step", "epoch", "lr", "loss", "grad_norm")
    assert [[r.get(k) for k in keep] for r in a] == [[r.get(k) for k in keep] for r in b]
    assert [r["lr"] for r in a[1:]] == pytest.approx([0.0001, 0.00505, *[0.01] * 4, 0.001, 0.001])
    for x, y in zip(through.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(x, y)


def test_a_checkpoint_is_read_with_weights_only_and_of_one_recipe(scenes, tmp_path):
    quiet(TINY, scenes, val=scenes, out=tmp_path, stop_after=3, eval_every=1)
    code = f"import torch; s = torch.load({str(tmp_path / 'checkpoint.pt')!r}); print(type(s['step']).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "int"
    with pytest.raises(DataError, match="another recipe"):
        quiet(TINY.replace(lr=1.0), scenes, out=tmp_path, resume=True)
    with pytest.raises(DataError, match="another seed"):
        quiet(TINY, scenes, out=tmp_path, resume=True, seed=5)


def test_evaluations_stand_in_the_log_as_plain_numbers(scenes, tmp_path):
    quiet(TINY, scenes, val=scenes, out=tmp_path)
    last = read_log(tmp_path / "log.jsonl")[-1]
    assert last["event"] == "evaluate"
    assert last["AP"] is None or 0 <= last["AP"] <= 1
    assert json.loads(json.dumps(last)) == last


def test_images_without_objects_train(tmp_path):
    image = torch.rand(3, 96, 128)
    empty = (image, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    full = (image, torch.tensor([[20.0, 20, 80, 80]]), torch.tensor([1]))
    for items in ((empty,), (empty, full)):
        result = quiet(TINY.replace(steps=2, batch_size=2), Listed(*items), log_every=1)
        for row in result.log[1:]:
            assert row["loss_cls"] > 0
            assert (row["loss_box"] == 0) == (items == (empty,))
            assert row["grad_norm"] > 0
    with pytest.raises(DataError, match="no images"):
        quiet(TINY, Listed())


def test_a_loss_that_is_not_finite_stops_with_the_images_and_the_last_checkpoint(scenes, tmp_path):
    def poison(step, model, losses):
        if step == 2:
            next(model.parameters()).data.fill_(float("nan"))

    with pytest.raises(NotFinite, match=r"step 2: loss_cls.*images \[") as error:
        quiet(TINY, scenes, out=tmp_path, on_step=poison, log_every=1)
    assert "learning rate" in str(error.value)
    assert not (tmp_path / "model.safetensors").exists()


def test_learning_rate_is_a_function_of_the_step():
    r = Recipe(name="r", lr=1.0, schedule="cosine", warmup="linear", warmup_steps=10, warmup_from=0.0)
    assert learning_rate(r, 0, 100, 16) == 0
    assert learning_rate(r, 50, 100, 16) == pytest.approx(0.5)
    assert learning_rate(r, 100, 100, 16) == pytest.approx(0, abs=1e-12)
    s = Recipe(name="s", lr=0.01, milestones=(8, 11), batch_size=16, warmup_steps=500)
    per_epoch = 100
    assert learning_rate(s, 0, 0, 1600) == pytest.approx(0.01 / 3)
    assert learning_rate(s, 500, 0, 1600) == pytest.approx(0.01)
    assert learning_rate(s, 8 * per_epoch, 0, 1600) == pytest.approx(0.001)
    assert learning_rate(s, 11 * per_epoch, 0, 1600) == pytest.approx(0.0001)


def test_every_image_is_seen_once_an_epoch_in_an_order_of_its_own():
    batches = list(Order(10, 4, 0, 5, seed=3))
    seen = [i for b in batches for i, _ in b]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]
    assert list(Order(10, 4, 2, 5, seed=3)) == batches[2:]
    assert list(Order(10, 4, 0, 5, seed=4)) != batches
    assert len({s for b in batches for _, s in b}) == 20


def test_the_bias_rule_of_the_published_recipes():
    model = dsla.build(TINY, num_classes=5)
    rule = TINY.replace(optimizer="sgd", bias_lr_factor=2.0, bias_decay=False, norm_decay=True, weight_decay=0.1)
    groups = optimizer_of(model, rule).param_groups
    names = {id(p): n for n, p in model.named_parameters()}
    for group in groups:
        for p in group["params"]:
            bias_of_conv = names[id(p)].endswith("bias") and (p.ndim, group["weight_decay"]) == (1, 0.0)
            assert (group["factor"] == 2.0) == bias_of_conv
    assert sum(len(g["params"]) for g in groups) == len(names)


def test_flips_move_boxes_with_their_pixels_and_are_the_same_for_any_number_of_workers():
    from dsla.training import Augmented

    image = torch.zeros(3, 64, 96)
    image[:, 10:30, 5:25] = 1
    data = Augmented(Listed((image, torch.tensor([[5.0, 10, 25, 30]]), torch.tensor([0]))), TINY)
    flipped = 0
    for seed in range(12):
        picture, target = data[0, seed]
        x1, y1, x2, y2 = target["boxes"][0].int().tolist()
        assert picture[:, y1:y2, x1:x2].min() == 1
        assert picture.sum() == image.sum()
        assert torch.equal(data[0, seed][0], picture)
        flipped += x1 != 5
    assert 0 < flipped < 12


def test_recipes_refuse_what_they_do_not_know():
    with pytest.raises(DataError, match="did you mean 'batch_size'"):
        TINY.replace(bach_size=3)
    with pytest.raises(DataError, match="steps=many"):
        TINY.replace(steps="many")
    with pytest.raises(DataError, match="scenes-dsla"):
        dsla.recipe("scenes-dlsa")
    for wrong in ({"coupling": "sometimes"}, {"box_loss": "l1"}, {"optimizer": "adam"}, {"amp": "fp8"}):
        with pytest.raises(DataError, match=rf"scenes-dsla: {next(iter(wrong))}=.*choose one of"):
            TINY.replace(**wrong)
    with pytest.raises(DataError, match="2 strides for the 3 levels"):
        TINY.replace(strides="8,16")
    finer = {"ranges": "0-16,16-32,32-1e8", "strides": "4,8,16"}
    read = TINY.replace(**finer, core_zone="false", clip="none", lr="1e-3", steps="7")
    assert read.ranges == ((0.0, 16.0), (16.0, 32.0), (32.0, 1e8))
    assert (read.strides, read.core_zone, read.clip, read.lr, read.steps) == ((4, 8, 16), False, None, 1e-3, 7)
    for r in dsla.RECIPES.values():
        assert Recipe.from_dict(json.loads(json.dumps(r.to_dict()))) == r
