"""The loop: losses fall, resuming changes nothing, rates and order are functions of the step, bad losses stop it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from listed import Listed
from tiny import TINY, few_scenes, quiet

import dsla
from dsla.data.sampling import Order, Part
from dsla.errors import DataError
from dsla.models.build import OF_THE_RUN
from dsla.recipes.recipe import BACKBONES, Recipe
from dsla.training.folder import BEST
from dsla.training.loop import NotFinite, read_log, train_anew_or_on
from dsla.training.schedule import due, learning_rate, optimizer_of, plan, rates, scaled
from dsla.training.step import _reseed, losses_of


@pytest.fixture(scope="module")
def scenes():
    return few_scenes()


@pytest.mark.parametrize("every", [0, -5, 2.5, "20", None])
def test_rows_of_the_log_are_whole_steps_apart(scenes, every):
    with pytest.raises(DataError, match="log_every is 1 or more, a whole number, got"):
        quiet(TINY, scenes, log_every=every)


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_network_learns_the_same_and_is_left_as_it_was(scenes, monkeypatch, backend):
    plain = quiet(TINY.replace(steps=3), scenes, log_every=1)
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda work: compile_(work, backend=backend, fullgraph=True))
    result = quiet(TINY.replace(steps=3), scenes, log_every=1, compiled=True)
    losses = [[r["loss"] for r in run.log if "loss" in r] for run in (plain, result)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert "network" not in vars(result.model)


@pytest.mark.slow
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


def test_a_loss_that_is_not_finite_stops_with_the_images_and_the_last_checkpoint(tmp_path, monkeypatch):
    """The image of step 6 is broken, and nobody looks, as on a GPU; checkpoints are written each epoch of 2 steps."""
    monkeypatch.setattr("dsla.models.transform.check_range", lambda *_: None)
    torch.manual_seed(0)
    item = (torch.rand(3, 96, 96), torch.tensor([[20.0, 20, 80, 80]]), torch.tensor([1]))
    r = TINY.replace(batch_size=1, steps=10)

    class Breaks(Listed):
        def load(self, i):
            image, target = super().load(i)
            return (image * float("nan") if self.asked == 5 else image), target

        def __getitem__(self, i):
            self.asked = getattr(self, "asked", -1) + 1
            return super().__getitem__(i)

    with pytest.raises(NotFinite, match=r"step 6: loss_cls.*images \[10[01]\]") as error:
        quiet(r, Breaks(item, item), out=tmp_path, log_every=1, checkpoint_every=1)
    assert "learning rate" in str(error.value)
    assert str(tmp_path / "checkpoint.pt") in str(error.value)
    assert not (tmp_path / "model.safetensors").exists()
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 4
    assert all(v.isfinite().all() for v in state["model"].values() if v.is_floating_point())
    with pytest.raises(NotFinite) as error:
        quiet(r, Breaks(item, item), out=tmp_path / "none", log_every=1)  # stops before the first checkpoint
    assert "checkpoint" not in str(error.value)


def test_the_best_weights_stay(scenes, tmp_path, monkeypatch):
    """APs of three evaluations 0.2, 0.3, 0.1, then of a fourth after resuming, 0.25."""
    aps = iter((0.2, 0.3, 0.1, 0.25))
    metrics = dict.fromkeys(dsla.coco.evaluation.METRICS, 0.5)
    monkeypatch.setattr("dsla.training.loop.evaluate_together", lambda model, val: {**metrics, "AP": next(aps)})
    r = TINY.replace(steps=8)
    quiet(r, scenes, val=scenes, out=tmp_path, eval_every=1, stop_after=6)
    quiet(r, scenes, val=scenes, out=tmp_path, eval_every=1, resume=True)
    assert [x["step"] for x in read_log(tmp_path / "log.jsonl") if x.get("event") == "evaluate"] == [2, 4, 6, 8]
    about = dsla.models.weights.read(tmp_path / BEST)[0]["metric"]
    assert (about["AP"], about["steps"]) == (0.3, 4)
    assert dsla.models.weights.read(tmp_path / "model.safetensors")[0]["metric"]["AP"] == 0.25


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


def test_evaluations_are_due_where_another_period_ends():
    r = TINY.replace(batch_size=4)
    assert [s for s in range(1, 13) if due(1, s, r, 8)] == [2, 4, 6, 8, 10, 12]
    assert [s for s in range(1, 13) if due(1.5, s, r, 8)] == [3, 6, 9, 12]
    assert [s for s in range(1, 10) if due(1, s, r, 10)] == [3, 5, 8]
    sixteen = TINY.replace(batch_size=16)
    assert [s for s in range(1, 2001) if due(2000 * 16 / 6000 / 8, s, sixteen, 6000)] == [*range(250, 2001, 250)]
    assert not due(None, 4, r, 8)


def test_evaluating_on_other_classes_than_those_taught_is_refused(scenes):
    other = Listed((torch.rand(3, 64, 64), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)))
    with pytest.raises(DataError, match=r"triangle.*but listed has a, b, c, d, e: give data, or a model,"):
        quiet(TINY, scenes, val=other)


@pytest.mark.robustness("wrong: a model of another recipe or other classes is not trained as if it were of these")
def test_a_model_of_another_recipe_or_of_other_classes_is_refused(scenes, tmp_path):
    def trained(model, **options):
        return quiet(TINY, scenes, model=model, out=tmp_path / "run", **options)

    fcos = dsla.recipe("scenes-fcos-plain", channels=16, head_convs=1)
    with pytest.raises(DataError, match=r"another recipe than scenes-dsla \(.*method: fcos there, dsla here") as error:
        trained(dsla.build(fcos, class_names=scenes.class_names))
    assert "lr" not in str(error.value).partition(")")[0]  # the schedule is not what is wrong
    for field in ({"score_threshold": 0.5}, {"min_size": (64,)}, {"relaxation": 0.5}):
        with pytest.raises(DataError, match=f"{next(iter(field))}: "):
            trained(dsla.build(TINY.replace(**field), class_names=scenes.class_names))
    with pytest.raises(DataError, match=r"the model knows the classes bar, ring, .*, but scenes-train has disc, box"):
        trained(dsla.build(TINY, class_names=scenes.class_names[::-1]))
    with pytest.raises(DataError, match=r"the model knows the classes class 0, class 1, but scenes-train has"):
        trained(dsla.build(TINY, 2))
    assert not (tmp_path / "run").exists()


def test_a_model_is_tuned_further_by_another_schedule_and_is_then_one_of_it(scenes, tmp_path):
    first = dsla.build(TINY, class_names=scenes.class_names)
    further = TINY.replace(lr=1e-4, steps=1, batch_size=2, flip=0, schedule="step", amp="bf16")
    result = quiet(further, scenes, model=first, out=tmp_path)
    assert result.model is first
    assert result.log[0]["recipe"]["lr"] == dsla.load(tmp_path / "model.safetensors").recipe.lr == 1e-4


def test_the_fields_that_a_model_must_share_are_those_that_build_reads():
    asked_for = set()

    class Watched(Recipe):
        def __getattribute__(self, name):
            asked_for.add(name)
            return super().__getattribute__(name)

    fields = set(TINY.to_dict())
    left_out = ("resnet101", *(b for b in BACKBONES if "efficientnet" in b))  # as resnet50; asks for another package
    for name, backbone in (("scenes-fcos", "small"), *(("scenes-dsla", b) for b in BACKBONES if b not in left_out)):
        watched = Watched.from_dict(dsla.recipe(name).to_dict() | {"backbone": backbone})
        asked_for.clear()  # of what checks the values
        with torch.device("meta"):
            dsla.build(watched, 2)
        fields -= asked_for
    assert fields == OF_THE_RUN


def test_the_rate_scales_with_the_images_a_step_and_the_plan_says_it():
    r = scaled(dsla.recipe("r50-1x"), 64)
    assert (r.batch_size, r.lr) == (64, pytest.approx(0.04))
    assert plan(r, 64000, ranks=8, accumulate=2) == (
        "12000 steps (12 epochs) of 64 images, spread over 8 processes and 2 parts one after another; "
        "sgd, learning rate 0.04 after 500 steps of warm-up"
    )
    with pytest.raises(DataError, match="batch_size=0; from 1 to"):
        scaled(r, 0)
    assert rates(r, 64000) == {0: 0.0133333, 500: 0.04, 8000: 0.004, 11000: 0.0004, 11999: 0.0004}
    assert "500 steps of warm-up, which the run does not reach: set warmup_steps lower" in plan(r, 640)


def test_accumulated_parts_give_the_mean_of_their_gradients(scenes):
    """One step of 4 images in 2 parts against the mean of two steps of 2, without batch norm in the way."""
    r = TINY.replace(optimizer="sgd", momentum=0, weight_decay=0, steps=1, warmup_steps=0, clip=None, lr=0.1, flip=0)
    r = r.replace(schedule="step", milestones=(9.0,))

    def moved(recipe, start, **options):
        torch.manual_seed(1)
        model = dsla.build(recipe, class_names=start.class_names)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.train = lambda mode=True: None
                module.training = False
        before = {k: v.clone() for k, v in model.named_parameters()}
        quiet(recipe, start, model=model, **options)
        return {k: (v - before[k]).detach() for k, v in model.named_parameters()}

    order = [i for i, _ in next(iter(Order(len(scenes), 4, 0, 1, seed=0)))]
    halves = [
        Listed(*((scenes[i][0], scenes[i][1]["boxes"], scenes[i][1]["labels"]) for i in order[k : k + 2]))
        for k in (0, 2)
    ]
    whole = moved(r, scenes, accumulate=2)
    one, two = (moved(r.replace(batch_size=2), half) for half in halves)
    assert max(v.abs().max().item() for v in whole.values()) > 1e-3
    for k, v in whole.items():
        torch.testing.assert_close(v, (one[k] + two[k]) / 2, atol=1e-6, rtol=1e-4)


def test_a_finished_run_that_is_resumed_keeps_its_weights_and_gets_an_evaluation(scenes, tmp_path):
    first = quiet(TINY, scenes, out=tmp_path)
    again = quiet(TINY, scenes, val=scenes, out=tmp_path, resume=True)
    for a, b in zip(first.model.state_dict().values(), again.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert [(r["step"], r.get("event")) for r in again.log] == [(0, "start"), (6, None), (6, "evaluate")]


def test_a_finished_run_with_its_evaluation_gets_no_second_one(scenes, tmp_path):
    quiet(TINY, scenes, val=scenes, out=tmp_path)
    before = (tmp_path / "log.jsonl").read_text()
    quiet(TINY, scenes, val=scenes, out=tmp_path, resume=True)
    assert (tmp_path / "log.jsonl").read_text() == before


@pytest.mark.slow
def test_a_run_of_another_recipe_begins_anew_and_the_same_one_goes_on(scenes, tmp_path):
    quiet(TINY, scenes, out=tmp_path, stop_after=4)
    whole = train_anew_or_on(TINY, scenes, tmp_path, progress=False, log_every=1).model
    assert [r["step"] for r in read_log(tmp_path / "log.jsonl") if "loss" in r] == [5, 6]
    expected = quiet(TINY, scenes).model
    for x, y in zip(expected.state_dict().values(), whole.state_dict().values(), strict=True):
        assert torch.equal(x, y)
    other = train_anew_or_on(TINY.replace(lr=1e-3), scenes, tmp_path, progress=False)
    assert other.model.recipe.lr == 1e-3
    assert read_log(tmp_path / "log.jsonl")[-1]["step"] == 6


def test_a_part_without_images_has_no_loss_and_leaves_the_statistics(scenes):
    model = dsla.build(TINY, class_names=scenes.class_names).train()
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    before = [m.running_mean.clone() for m in norms]
    losses = losses_of(model, [], [], torch.device("cpu"), 1)
    assert [v.item() for v in losses.values()] == [0.0] * len(losses)
    assert len(losses) == 2
    torch.stack(tuple(losses.values())).sum().backward()  # every process must take part in the exchange
    assert all(torch.equal(m.running_mean, old) for m, old in zip(norms, before, strict=True))
    assert all(m.training for m in norms)
    losses_of(model, [scenes[0][0]], [scenes[0][1]], torch.device("cpu"), 1)
    assert not torch.equal(norms[0].running_mean, before[0])


def test_random_numbers_of_a_step_depend_on_the_seed_and_the_step_alone(scenes, tmp_path):
    seen = {}

    def look(step, model, losses):
        seen.setdefault(step, []).append(float(torch.rand(())))

    quiet(TINY, scenes, out=tmp_path / "through", on_step=look)
    torch.rand(7)
    quiet(TINY, scenes, out=tmp_path / "resumed", on_step=look, stop_after=2)
    quiet(TINY, scenes, out=tmp_path / "resumed", on_step=look, resume=True)
    assert [len(v) for v in seen.values()] == [2] * 6
    assert all(a == b for a, b in seen.values())
    assert len({a for a, _ in seen.values()}) == 6


def test_tensorboard_has_the_rows_of_the_log(scenes, tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    quiet(TINY, scenes, val=scenes, out=tmp_path, log_every=2, tensorboard=True)
    events = reader.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    rows = [r for r in read_log(tmp_path / "log.jsonl") if "loss" in r]
    scalars = events.Scalars("training/loss")
    assert [(e.step, pytest.approx(e.value, rel=1e-5)) for e in scalars] == [(r["step"], r["loss"]) for r in rows]
    with pytest.raises(DataError, match="folder"):
        quiet(TINY, scenes, tensorboard=True)


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
    with pytest.raises(DataError, match=r"strides=\(4, 8, 16\); every backbone's pyramid has maps of \(8, 16, 32\)"):
        TINY.replace(strides="4,8,16")
    finer = {"ranges": "0-16,16-32,32-1e8", "strides": "8,16,32"}
    read = TINY.replace(**finer, core_zone="false", clip="none", lr="1e-3", steps="7")
    assert read.ranges == ((0.0, 16.0), (16.0, 32.0), (32.0, 1e8))
    assert (read.strides, read.core_zone, read.clip, read.lr, read.steps) == ((8, 16, 32), False, None, 1e-3, 7)
    for r in dsla.RECIPES.values():
        assert Recipe.from_dict(json.loads(json.dumps(r.to_dict()))) == r


def test_the_plan_says_a_rate_that_milestones_or_a_short_run_keep_it_from():
    """By hand: 20 and 27 epochs of 300 images in batches of 16 end at steps 375 and 507; the warm-up takes 500."""
    r = dsla.recipe("r50-1x-torchvision", epochs=48, batch_size=16, milestones=(20, 27), warmup_steps=500)
    highest = max(learning_rate(r, s, 900, 300) for s in range(900))
    assert highest < 0.8 * r.lr
    note = f"but milestones divide it at 375, before that: it is at most {highest:.4g}; set warmup_steps lower"
    assert plan(r, 300).endswith(f"after 500 steps of warm-up, {note}")
    short = plan(r.replace(epochs=21, warmup_steps=10), 300)
    assert short.endswith("after 10 steps of warm-up; milestones at 507 lie behind the last step")
    assert plan(r.replace(warmup_steps=10), 300).endswith("after 10 steps of warm-up")


def test_parts_of_a_step_are_no_more_than_the_images_of_a_process(scenes, monkeypatch):
    """Parts without images would scale losses and gradients down."""
    with pytest.raises(DataError, match="accumulate 5: parts of a step, from 1 to its 4 images in each process"):
        quiet(TINY, scenes, accumulate=5)
    monkeypatch.setattr("dsla.training.loop.world", lambda: 2)
    with pytest.raises(DataError, match="accumulate 3: parts of a step, from 1 to its 2 images in each process"):
        quiet(TINY, scenes, accumulate=3)


def test_a_model_without_a_recipe_is_refused_before_the_first_step_where_weights_are_to_be_written(scenes, tmp_path):
    built = dsla.build(TINY, class_names=scenes.class_names)
    parts = {k: getattr(built, k) for k in ("assigner", "criterion", "transform", "class_names")}
    model = dsla.models.Detector(built.backbone, built.pyramid, built.head, **parts)
    with pytest.raises(DataError, match=r"this model has no recipe, so that .*own could not hold its weights"):
        quiet(TINY, scenes, model=model, out=tmp_path / "own")
    assert not (tmp_path / "own").exists()
    assert len(quiet(TINY.replace(steps=1), scenes, model=model, log_every=1).log) > 0


def test_a_model_without_names_of_classes_gets_those_of_what_it_learns(scenes, tmp_path):
    model = dsla.build(TINY, num_classes=len(scenes.class_names))
    quiet(TINY.replace(steps=1), scenes, model=model, out=tmp_path)
    assert dsla.load(tmp_path / "model.safetensors").class_names == tuple(scenes.class_names)


def test_a_seed_of_many_digits_trains(scenes):
    """As people make them of a date; those that fitted before give what they gave."""
    loss = quiet(TINY.replace(steps=1), scenes, seed=2**62 + 5, log_every=1).log[-1]["loss"]
    assert 0 < loss < 100
    _reseed(7, 5, torch.device("cpu"))
    one = torch.rand(3)
    torch.manual_seed((7 * 1_000_003 + 5) * 1024)
    assert torch.equal(one, torch.rand(3))


def test_a_data_set_whose_ids_are_not_one_a_class_is_refused_before_the_first_step(scenes):
    """Weights that keep them could not be read again."""
    for ids in ((1, 2, 3), (1, 2, 3, 4, 4), ()):
        data = Part(scenes, range(4))
        data.category_ids = ids
        with pytest.raises(DataError, match=r"scenes-train: 5 classes, but category_ids \("):
            quiet(TINY, data)
