"""A training watched from a notebook: one display, the log as its only source, runs in other processes."""

import json
import time
import warnings

import pytest

import dsla
from dsla.errors import DataError
from dsla.paper import published
from dsla.plots import curves
from dsla.training.loop import read_log, train
from dsla.widgets.live import OUTPUT, LiveTraining, cause, command, start

pytest.importorskip("IPython")


class Display:
    """Stands for IPython's display: what was shown, and what replaced it."""

    def __init__(self):
        self.shown, self.updates = [], []

    def __call__(self, what, display_id=None):
        assert display_id
        self.shown.append(what)
        return self

    def update(self, what):
        self.updates.append(what)


@pytest.fixture
def display(monkeypatch):
    stand_in = Display()
    monkeypatch.setattr("IPython.display.display", stand_in)
    return stand_in


@pytest.fixture(scope="module")
def data():
    return dsla.Scenes("train", size=8).prepare(), dsla.Scenes("val", size=4).prepare()


def tiny(**changes):
    return dsla.recipe("scenes-dsla", **{"steps": 6, "warmup_steps": 2, "batch_size": 4, **changes})


def test_a_run_has_one_display_that_ends_with_the_whole_log(display, data, tmp_path):
    live = LiveTraining(["DSLA", "later"], every=0)
    with live.run("DSLA", tmp_path) as on_step:
        train(tiny(), data[0], val=data[1], out=tmp_path, eval_every=1, log_every=2, progress=False, on_step=on_step)
    assert len(display.shown) == 1
    assert display.updates
    log = live.logs()["DSLA"]
    assert log == read_log(tmp_path / "log.jsonl")
    assert live.logs()["later"] == []
    assert curves.losses_of(log)["step"].tolist() == [2, 4, 6]
    # Two steps of four images are the eight of the set.
    assert curves.evaluations_of(log)["epoch"].tolist() == [1, 2, 3]
    bars = [text.get_text() for text in display.updates[-1].axes[0].texts]
    assert bars[0].startswith("6 of 6 steps, ")
    assert "left" not in bars[0]
    assert bars[1] == "waiting"


def test_it_draws_at_most_as_often_as_asked(display, data, tmp_path):
    live = LiveTraining(every=3600)
    with live.run("DSLA", tmp_path) as on_step:
        train(tiny(), data[0], out=tmp_path, progress=False, on_step=on_step)
    assert len(display.shown) == 1  # at the first step
    assert len(display.updates) == 1  # at the end


@pytest.mark.slow
def test_no_figures_pile_up_and_none_warns(display, data, tmp_path):
    plt = pytest.importorskip("matplotlib.pyplot")
    open_before = plt.get_fignums()
    live = LiveTraining(["DSLA"], every=0)
    with live.run("DSLA", tmp_path) as on_step:
        train(tiny(), data[0], val=data[1], out=tmp_path, eval_every=1, log_every=2, progress=False, on_step=on_step)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(40):
            live.refresh(now=True)
        assert display.updates[-1]._repr_png_()[:4] == b"\x89PNG"
    assert plt.get_fignums() == open_before
    assert len(display.shown) == 1


def test_a_failed_training_leaves_what_was_drawn_and_its_error(display, tmp_path):
    live = LiveTraining(["DSLA"])
    with pytest.raises(ZeroDivisionError), live.run("DSLA", tmp_path):
        raise ZeroDivisionError
    assert len(display.shown) == 1


@pytest.mark.slow
def test_training_with_the_view_gives_the_same_weights(display, data, tmp_path):
    alone = train(tiny(), data[0], progress=False).model.state_dict()
    live = LiveTraining(every=0)
    with live.run("DSLA", tmp_path) as on_step:
        seen = train(tiny(), data[0], out=tmp_path, progress=False, on_step=on_step).model.state_dict()
    assert all((alone[k] == seen[k]).all() for k in alone)


def test_the_command_for_one_device_and_for_several():
    assert command("r50-1x", "runs/a") == ["python", "-m", "dsla", "train", "r50-1x", "--out", "runs/a"]
    many = command("r50-1x", "runs/a", data="/data/coco", gpus=4, options=["lr=0.01"])
    assert many[:5] == ["torchrun", "--standalone", "--nproc-per-node=4", "-m", "dsla"]
    assert many[5:] == ["train", "r50-1x", "lr=0.01", "--data", "/data/coco", "--out", "runs/a"]
    with pytest.raises(DataError, match="gpus=0"):
        command("r50-1x", "runs/a", gpus=0)


@pytest.mark.slow
def test_a_run_in_another_process_is_followed_to_its_end(display, tmp_path):
    options = ["steps=3", "batch_size=2", "warmup_steps=1", "--size", "6", "--device", "cpu"]
    process = start(command("scenes-dsla", tmp_path, options=options), tmp_path)
    live = LiveTraining(["DSLA"], every=0.2)
    live.follow("DSLA", tmp_path, process)
    assert process.poll() == 0
    assert len(display.shown) == 1
    assert curves.losses_of(live.logs()["DSLA"])["step"].iloc[-1] == 3
    assert (tmp_path / "model.safetensors").exists()


@pytest.mark.slow
def test_a_run_that_fails_says_what_it_said(display, tmp_path):
    process = start(command("no-such-recipe", tmp_path), tmp_path)
    with pytest.raises(RuntimeError, match="code 2") as error:
        LiveTraining(every=0.2).follow("x", tmp_path, process)
    assert "no recipe 'no-such-recipe'" in str(error.value)
    assert "no-such-recipe" in (tmp_path / OUTPUT).read_text(encoding="utf-8")


def test_of_several_processes_the_cause_is_told_not_torchruns_report():
    """As torchrun prints: bars, the line of each process, then twenty about processes."""
    report = ["Traceback (most recent call last):", *["  File ..."] * 20, "Root Cause (first observed failure):"]
    bar = "scenes-dsla:  50%|#####     | 2/4\r" + " " * 40 + "\r"
    fit = "dsla train: x.pth does not fit the model:\n  missing: a [3]\n  missing: b [4]"
    assert cause("\n".join(["1 steps", bar + "dsla train: step 2: loss", *report])) == "dsla train: step 2: loss"
    assert cause("\n".join([fit, fit, *report])) == fit
    trace = [f"[rank{n}]: {word}" for word in ("Traceback", "KeyError: 3") for n in (0, 1)]
    assert cause("\n".join([*trace, *report])) == "[rank0]: Traceback\n[rank0]: KeyError: 3"
    assert cause("\n".join(f"line {n}" for n in range(40))).splitlines() == [f"line {n}" for n in range(25, 40)]


@pytest.mark.slow
def test_starting_touches_nothing_of_an_earlier_run(display, tmp_path):
    """`dsla train` itself refuses the folder; what it says is told, not what an earlier run said."""
    row = {"step": 0, "event": "start", "recipe": tiny().to_dict(), "images": 8}
    log, output = tmp_path / "log.jsonl", tmp_path / OUTPUT
    log.write_text(json.dumps(row) + "\n", encoding="utf-8")
    output.write_text("dsla train: step 2: the loss is not finite\n", encoding="utf-8")
    process = start(command("scenes-dsla", tmp_path, options=["steps=1", "--size", "2"]), tmp_path)
    with pytest.raises(RuntimeError, match=f"code 2.*\ndsla train: .*{tmp_path.name}") as error:
        LiveTraining(every=0.2).follow("x", tmp_path, process)
    assert "not finite" not in str(error.value)
    assert json.loads(log.read_text(encoding="utf-8")) == json.loads(json.dumps(row))
    assert output.read_text(encoding="utf-8").startswith("dsla train: step 2: the loss is not finite\n")


def test_half_a_line_is_left_for_the_next_look(display, tmp_path):
    row = {"step": 0, "event": "start", "recipe": tiny().to_dict(), "images": 8}
    (tmp_path / "log.jsonl").write_text(json.dumps(row) + '\n{"step": 1, "lo', encoding="utf-8")
    live = LiveTraining(every=0)
    began = time.monotonic()
    live.follow("DSLA", tmp_path)
    assert time.monotonic() - began < 60
    assert live.logs() == {"DSLA": [json.loads(json.dumps(row))]}
    assert curves.progress_of(live.logs()["DSLA"]) == "0 of 6 steps"


def test_steps_by_epochs_and_the_time_that_is_left():
    log = [
        {"step": 0, "recipe": dsla.recipe("r50-1x").to_dict(), "images": 118_287},
        {"step": 8000, "epoch": 1.1, "loss": 1.0, "loss_cls": 0.5, "loss_box": 0.5, "images_per_s": 20.0},
    ]
    assert curves.steps_of(log) == 88_716  # ⌈12 · 118287 / 16⌉
    # 80,716 steps of 16 images at 20 images a second: 64,573 s
    assert curves.progress_of(log) == "8,000 of 88,716 steps, 20 images/s, 17.9 h left"
    assert curves.steps_of([]) == 0
    assert curves.progress_of([]) == "waiting"
    assert list(curves.evaluations_of(log).columns) == ["step", "epoch", "AP"]


def test_published_curves_share_axes_only_where_they_compare():
    recipe = dsla.recipe("r50-1x").to_dict()
    log = [
        {"step": 0, "recipe": recipe, "images": 160},
        {"step": 10, "event": "evaluate", "AP": 0.2},
        {"step": 20, "event": "evaluate", "AP": None},
    ]
    release = {"r50-1x": published.release_ap().query("recipe == 'r50-1x'")}
    apart = curves.beside_published({"DSLA": log}, release, together=False, note="elsewhere")
    assert [len(ax.lines) for ax in apart.axes] == [1, 1]
    assert apart.axes[0].lines[0].get_ydata().tolist() == [20.0]  # an undefined AP is not drawn
    assert apart.axes[1].get_title(loc="left") == "elsewhere"
    (both,) = curves.beside_published({"DSLA": log}, release, together=True).axes
    assert [len(line.get_xdata()) for line in both.lines] == [1, 12]


IN_A_NOTEBOOK = """
import json, warnings
warnings.simplefilter("error")
import dsla
from dsla.widgets.live import LiveTraining
live = LiveTraining(["DSLA"], every=0)
with open("log.jsonl", "w") as file:
    start = {"step": 0, "event": "start", "recipe": dsla.recipe("scenes-dsla", steps=40).to_dict(), "images": 16}
    for step in range(1, 41):
        row = {"step": step, "epoch": step, "loss": 1.0, "loss_cls": 0.5, "loss_box": 0.5, "images_per_s": 9.0}
        print(json.dumps(row if step > 1 else start), file=file, flush=True)
        live.follow("DSLA", ".")
import matplotlib.pyplot
assert not matplotlib.pyplot.get_fignums()
"""


@pytest.mark.slow
def test_a_cell_holds_one_picture_the_last_one(tmp_path):
    """Kind of B58: forty drawings leave one output, no figure stays open, nothing warns."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    code = nbformat.v4.new_code_cell(IN_A_NOTEBOOK.strip())
    last = nbformat.v4.new_code_cell("live.picture()")
    notebook = nbformat.v4.new_notebook(cells=[code, last])
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    (output,) = [o for o in code.outputs if o.output_type == "display_data"]
    assert not [o for o in code.outputs if o.output_type == "stream"]
    assert output.data["image/png"] == last.outputs[0].data["image/png"]  # that of the fortieth row
