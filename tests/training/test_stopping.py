"""Nothing of a run is lost: used folders, two at once, signals, kills, full disks, flipped bits, loading processes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from listed import Listed
from tiny import TINY, few_scenes, quiet

import dsla
from dsla.cli.main import main
from dsla.data.sampling import Order, Part
from dsla.errors import STOPS, DataError, Stopped
from dsla.files import LOCK, locked
from dsla.models.weights import read_about
from dsla.training import loading
from dsla.training.folder import BEST, CHECKPOINT, MODEL, default_folder, resume_from
from dsla.training.loop import read_log, train_anew_or_on

posix = pytest.mark.skipif(os.name != "posix", reason="signals and locks of POSIX")

# A training in a process of its own: 24 steps, a checkpoint each second one, an evaluation each fourth.
SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from tiny import TINY, few_scenes, quiet
import dsla.training.loop as loop
from dsla.errors import Stopped

out, resume, wait, workers = Path(sys.argv[1]), sys.argv[2] == "resume", float(sys.argv[3]), int(sys.argv[4])
evaluate = loop.evaluate_together

def slowly(model, val):
    (out / "evaluating").touch()
    time.sleep(wait)
    numbers = evaluate(model, val)
    numbers["AP"] = float(abs(next(model.parameters()).sum()) % 1)  # so that the best is not the last
    return numbers

def step(number, model, losses):
    (out / "step").write_text(str(number))
    time.sleep(wait)

loop.evaluate_together = slowly
data = few_scenes()
try:
    quiet(TINY.replace(steps=24), data, val=data, out=out, resume=resume, eval_every=2, checkpoint_every=1, log_every=3,
          on_step=step, workers=workers)
except Stopped as error:
    print(error)
    sys.exit(128 + error.signal)
"""


def heard():
    """Signals are no longer ignored, as they are under nohup."""
    for number in STOPS:
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope="module")
def scenes():
    return few_scenes()


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "training.py"
    path.write_text(SCRIPT.format(tests=os.path.dirname(os.path.dirname(__file__))))

    def start(out, resume="resume", wait=0.0, workers=0):
        words = [sys.executable, str(path), str(out), resume, str(wait), str(workers)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(words, **pipes, preexec_fn=heard if os.name == "posix" else None)

    return start


@pytest.fixture(scope="module")
def through(script, tmp_path_factory):
    """What a run leaves that never stopped."""
    folder = tmp_path_factory.mktemp("through")
    ended(script(folder))
    return left_by(folder)


def ended(process, code=0):
    out, err = process.communicate(timeout=200)
    assert process.returncode == code, err[-2000:]
    return out


def until(condition, seconds=100):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def left_by(folder):
    """What must not depend on interruptions: weights, the best ones, and the log but for its times."""
    times = {"images_per_s", "seconds_left"}
    rows = [{k: v for k, v in row.items() if k not in times} for row in read_log(folder / "log.jsonl")]
    return [read_about(folder / name)["sha256"] for name in (MODEL, BEST)], read_about(folder / BEST)["metric"], rows


@pytest.mark.slow
@pytest.mark.robustness("lost: a second training into a folder with a run is refused, which stays as it was")
def test_a_folder_with_a_run_is_refused_and_what_is_in_it_stays(scenes, tmp_path, capsys):
    quiet(TINY, scenes, val=scenes, out=tmp_path / "run")
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    for recipe in (TINY, TINY.replace(lr=0.01)):
        with pytest.raises(DataError, match=r"holds a run already \(checkpoint.*--resume.*another folder as out"):
            quiet(recipe, scenes, out=tmp_path / "run")
    assert main(["train", "scenes-dsla", "steps=1", "--size", "4", "--out", str(tmp_path / "run")]) == 2
    assert "--resume" in capsys.readouterr().err
    (tmp_path / "run" / CHECKPOINT).unlink()
    with pytest.raises(DataError, match="weights of a run, but no checkpoint"):
        quiet(TINY, scenes, out=tmp_path / "run", resume=True)
    del before[CHECKPOINT]
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before


@pytest.mark.robustness("lost: default folders differ by recipe, data and seed")
def test_default_folders_differ_by_recipe_data_and_seed(scenes):
    other = Part(scenes, range(4))
    other.name = "my set/train"
    folders = [
        default_folder(dsla.recipe("scenes-dsla"), scenes, 0),
        default_folder(dsla.recipe("scenes-dsla"), scenes, 1),
        default_folder(dsla.recipe("scenes-fcos"), scenes, 0),
        default_folder(dsla.recipe("scenes-dsla"), other, 0),
        default_folder(TINY, scenes, 0),
        default_folder(TINY.replace(lr=0.1), scenes, 0),
    ]
    assert len(set(folders)) == len(folders)
    assert str(folders[0]) == os.path.join("runs", "scenes-dsla-scenes-train-0")
    assert {len(f.parts) for f in folders} == {2}


@pytest.mark.robustness("lost: reproduce trains no finished run again and touches none of another recipe")
def test_runs_of_other_recipes_are_left_alone_and_finished_ones_are_not_trained_again(scenes, tmp_path):
    train_anew_or_on(TINY, scenes, tmp_path / "r", progress=False)
    weights = (tmp_path / "r" / MODEL).read_bytes()
    other = train_anew_or_on(TINY.replace(lr=1e-3), scenes, tmp_path / "r", progress=False)
    assert other.out == tmp_path / "r-2"
    assert other.model.recipe.lr == 1e-3
    assert (tmp_path / "r" / MODEL).read_bytes() == weights
    assert read_about(tmp_path / "r-2" / MODEL)["recipe"]["lr"] == 1e-3
    steps = []
    again = {"progress": False, "on_step": lambda step, *_: steps.append(step)}
    train_anew_or_on(TINY.replace(lr=1e-3), scenes, tmp_path / "r", **again)
    assert steps == []
    (tmp_path / "r" / CHECKPOINT).write_bytes(b"damaged")
    with pytest.raises(DataError, match="damaged"):
        train_anew_or_on(TINY, scenes, tmp_path / "r", progress=False)
    assert (tmp_path / "r" / MODEL).read_bytes() == weights


@pytest.mark.robustness("lost: the best weights are those of all attempts of a run")
def test_the_best_of_all_attempts_stays(scenes, tmp_path, monkeypatch):
    """An attempt that was stopped had its best after the last checkpoint that is left; the next one is worse there."""
    aps = iter((0.2, 0.9, 0.3, 0.4))
    metrics = dict.fromkeys(dsla.coco.evaluation.METRICS, 0.5)
    monkeypatch.setattr("dsla.training.loop.evaluate_together", lambda model, val: {**metrics, "AP": next(aps)})
    quiet(TINY, scenes, val=scenes, out=tmp_path, eval_every=1, stop_after=2)
    checkpoint = (tmp_path / CHECKPOINT).read_bytes()
    quiet(TINY, scenes, val=scenes, out=tmp_path, eval_every=1, resume=True, stop_after=4)
    (tmp_path / CHECKPOINT).write_bytes(checkpoint)
    quiet(TINY, scenes, val=scenes, out=tmp_path, eval_every=1, resume=True)
    assert read_about(tmp_path / BEST)["metric"]["AP"] == 0.9
    assert [r["AP"] for r in read_log(tmp_path / "log.jsonl") if r.get("event") == "evaluate"] == [0.2, 0.3, 0.4]


@pytest.mark.robustness("lost: of two trainings in one folder the second is refused; a dead one's lock is taken over")
@posix
@pytest.mark.slow
def test_two_at_once_are_refused_and_a_dead_ones_lock_is_taken_over(scenes, script, tmp_path):
    run = script(tmp_path / "run", wait=0.3)
    until(lambda: (tmp_path / "run" / "step").exists())
    with pytest.raises(DataError, match=rf"in use by process {run.pid}"):
        quiet(TINY, scenes, out=tmp_path / "run", resume=True)
    run.kill()
    run.wait()
    assert (tmp_path / "run" / LOCK).exists()
    with locked(tmp_path / "run"), pytest.raises(DataError, match=rf"in use by process {os.getpid()}"):
        quiet(TINY, scenes, out=tmp_path / "run", resume=True)
    with locked(tmp_path / "run"):
        pass
    assert not (tmp_path / "run" / LOCK).exists()


@pytest.mark.robustness("lost: SIGTERM, SIGHUP and Ctrl-C end with a checkpoint that leads to the same weights and log")
@posix
@pytest.mark.slow
@pytest.mark.parametrize("number", STOPS)
def test_signals_end_with_a_checkpoint_that_goes_on_to_the_same_weights(script, through, tmp_path, number):
    run = script(tmp_path / "run", wait=0.1)
    until(lambda: (tmp_path / "run" / "step").exists())
    run.send_signal(number)
    printed = ended(run, 128 + number)
    state = torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)
    assert f"stopped after step {state['step']} of 24; go on from {tmp_path / 'run' / CHECKPOINT} with" in printed
    ended(script(tmp_path / "run"))
    assert left_by(tmp_path / "run") == through


@pytest.mark.robustness("lost: a run stopped while it evaluates makes the evaluation up")
@posix
@pytest.mark.slow
def test_a_run_stopped_while_it_evaluates_makes_that_up(script, through, tmp_path):
    run = script(tmp_path / "run", wait=1.0)
    until(lambda: (tmp_path / "run" / "evaluating").exists())
    run.send_signal(signal.SIGTERM)
    assert "stopped after step 4 of 24" in ended(run, 128 + signal.SIGTERM)
    assert not any(r.get("event") == "evaluate" for r in read_log(tmp_path / "run" / "log.jsonl"))
    ended(script(tmp_path / "run"))
    assert left_by(tmp_path / "run") == through


@pytest.mark.robustness("lost: a run killed at random moments resumes to the same weights, log and best")
@posix
@pytest.mark.slow
def test_kills_at_random_moments_change_nothing(script, through, tmp_path):
    """Twenty of them, among them while a checkpoint is written and while it evaluates."""
    folder, chance, killed = tmp_path / "run", random.Random(3), 0
    for kill in range(20):
        run = script(folder, wait=0.05)
        if kill % 8 == 2:
            until(lambda run=run: any(folder.glob(f".{CHECKPOINT}.*.part")) or run.poll() is not None)
        elif kill % 8 == 4:
            (folder / "evaluating").unlink(missing_ok=True)
            until(lambda run=run: (folder / "evaluating").exists() or run.poll() is not None)
        else:
            before = (folder / "step").stat().st_mtime if (folder / "step").exists() else 0
            file = folder / "step"
            until(lambda b=before, f=file, run=run: (f.exists() and f.stat().st_mtime > b) or run.poll() is not None)
            time.sleep(chance.uniform(0, 0.06))  # a step or none: the run has 24
        killed += run.poll() is None
        run.kill()
        run.wait()
    assert killed >= 8  # a quick machine may come to the run's end before
    ended(script(folder))
    assert left_by(folder) == through


@pytest.mark.robustness("lost: loading processes end with a run that is interrupted")
@posix
def test_loading_processes_end_with_a_run_that_is_interrupted(scenes, tmp_path):
    """As in a notebook, where the exception and so the frames of the run stay alive."""

    def interrupt(step, model, losses):
        raise KeyboardInterrupt

    def children():
        lines = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "pid=,comm="], capture_output=True, text=True)
        return {line for line in lines.stdout.splitlines() if "python" in line}

    before = children()  # what other tests left in this process, such as Python's own resource tracker
    with pytest.raises(KeyboardInterrupt) as kept:
        quiet(TINY, scenes, out=tmp_path, workers=2, on_step=interrupt)
    assert kept.value is not None
    assert children() <= before


class Stops(Listed):
    """The second image is never there: its process is stopped, as a debugger or a full /dev/shm does."""

    def load(self, i):
        if torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGSTOP)
        return super().load(i)


class Dies(Listed):
    def load(self, i):
        os.kill(os.getpid(), signal.SIGBUS)


class Fails(Listed):
    def load(self, i):
        raise DataError(f"image {i} is broken")


ITEM = (torch.rand(3, 96, 96), torch.tensor([[20.0, 20, 80, 80]]), torch.tensor([1]))


@pytest.mark.robustness("strangers: a stopped or dead loading process is an error with both ways out")
@posix
@pytest.mark.parametrize("kind", [Stops, Dies])
def test_a_stopped_or_dead_loading_process_is_an_error_with_both_ways_out(kind, monkeypatch):
    monkeypatch.setattr(loading, "TIMEOUT", 3)
    began = time.monotonic()
    with pytest.raises(DataError, match=r"workers=0 .*--shm-size=8g for a larger /dev/shm") as error:
        quiet(TINY.replace(batch_size=1), kind(ITEM, ITEM), workers=1)
    assert "\n" not in str(error.value)
    assert time.monotonic() - began < 60


@pytest.mark.robustness("strangers: shared memory that is too small is an error at once, with both ways out")
def test_shared_memory_that_is_too_small_is_an_error_at_once(monkeypatch, capfd):
    def full(self, *args, **kwargs):
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", full)
    monkeypatch.setattr(torch.UntypedStorage, "_share_filename_cpu_", full)
    monkeypatch.setattr(loading, "TIMEOUT", 60)
    with pytest.raises(DataError, match=r"exited unexpectedly.*workers=0 .*--shm-size=8g for a larger /dev/shm"):
        quiet(TINY.replace(batch_size=1), Listed(ITEM, ITEM), workers=1)
    assert "Traceback" not in capfd.readouterr().err


def test_what_a_data_set_says_in_a_loading_process_comes_without_its_trace():
    with pytest.raises(DataError) as error:
        quiet(TINY.replace(batch_size=1), Fails(ITEM, ITEM), workers=1)
    assert str(error.value) in ("image 0 is broken", "image 1 is broken")


@pytest.mark.robustness("unclear: a transform that cannot be sent to another process says so")
def test_transforms_that_cannot_be_sent_to_another_process_say_so(monkeypatch):
    data = Listed(ITEM, ITEM)
    data.transform = lambda image, target: (image, target)
    loader = loading.DataLoader
    monkeypatch.setattr(loading, "DataLoader", lambda *a, **k: loader(*a, **k, multiprocessing_context="spawn"))
    with pytest.raises(DataError, match=r"listed cannot be sent to the processes that load images .*workers=0"):
        quiet(TINY.replace(batch_size=1), data, workers=1)


@pytest.mark.robustness("lost: a full disk keeps the last good checkpoint and is said in one line")
@posix
@pytest.mark.slow
def test_a_full_disk_keeps_the_last_good_checkpoint_and_is_one_line(scenes, tmp_path):
    """The system's limit of a file's size stands in for the disk's end; torch's writer fails in the middle."""
    quiet(TINY, scenes, out=tmp_path, stop_after=2)
    before = (tmp_path / CHECKPOINT).read_bytes()
    code = f"""
import resource, sys
sys.path.insert(0, {os.path.dirname(os.path.dirname(__file__))!r})
from tiny import TINY, few_scenes, quiet
data = few_scenes()
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    quiet(TINY, data, out={str(tmp_path)!r}, resume=True)
except OSError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(done.stdout.strip().splitlines()) == 1
    assert "checkpoint of step 6 could not be written" in done.stdout
    assert f"the last good one stays: {tmp_path / CHECKPOINT}" in done.stdout
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    assert not list(tmp_path.glob("*.part")) + list(tmp_path.glob(".*.part"))
    quiet(TINY, scenes, out=tmp_path, resume=True)


@pytest.mark.robustness("lost: a disk that is really full keeps the last good checkpoint, and is called so")
@pytest.mark.slow
def test_a_disk_that_is_really_full_keeps_the_last_good_checkpoint(scenes, tmp_path):
    """A small tmpfs, with room for one checkpoint and not for the next one beside it."""
    quiet(TINY, scenes, out=tmp_path / "run", stop_after=2)
    before = (tmp_path / "run" / CHECKPOINT).read_bytes()
    disk = tmp_path / "disk"
    disk.mkdir()
    code = f"""
import sys
sys.path.insert(0, {os.path.dirname(os.path.dirname(__file__))!r})
from tiny import TINY, few_scenes, quiet
try:
    quiet(TINY, few_scenes(), out={str(disk)!r}, resume=True)
except OSError as error:
    print(error)
print(open({str(disk / CHECKPOINT)!r}, "rb").read() == open({str(tmp_path / "run" / CHECKPOINT)!r}, "rb").read())
"""
    size = int(1.5 * len(before))
    run = tmp_path / "run"
    mount = f"mount -t tmpfs -o size={size} tmpfs {disk} && cp {run}/checkpoint.pt {run}/log.jsonl {disk}"
    words = ["unshare", "-m", "sh", "-c", f'{mount} || exit 77; exec "$0" -c "$1"', sys.executable, code]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare")
    if done.returncode in (1, 77):
        pytest.skip(f"no tmpfs can be mounted: {done.stderr}")
    message, same = done.stdout.strip().splitlines()
    assert "of step 6 could not be written" in message
    assert "(No space left on device); the last good one stays" in message
    assert same == "True"


@pytest.mark.robustness("strangers: flipped bits and missing parts of a checkpoint are refused")
def test_flipped_bits_and_missing_parts_of_a_checkpoint_are_refused(scenes, tmp_path):
    quiet(TINY, scenes, out=tmp_path, stop_after=2)
    path = tmp_path / CHECKPOINT
    whole, chance, refused = path.read_bytes(), random.Random(0), list[str]()
    stored = torch.load(path, weights_only=True)
    weights, identity = stored["model"], stored["identity"]
    for _ in range(40):
        place = chance.randrange(len(whole))
        flipped = bytearray(whole)
        flipped[place] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        try:
            parts = {"model": dsla.build(TINY, class_names=scenes.class_names)}
            resume_from(tmp_path, identity, torch.device("cpu"), parts)
        except DataError as error:
            refused.append(str(error))
        else:  # in the padding of the archive, where nothing is stored
            assert all(torch.equal(v, weights[k]) for k, v in parts["model"].state_dict().items())
    assert len(refused) > 20
    assert all(str(path) in message for message in refused)
    path.write_bytes(whole)
    state = torch.load(path, weights_only=True)
    for missing in ("optimizer", "model", "scaler"):
        torch.save({k: v for k, v in state.items() if k != missing}, path)
        with pytest.raises(DataError, match="no checkpoint of a run, or a damaged one"):
            quiet(TINY, scenes, out=tmp_path, resume=True)


class Held:
    """Something with a state, in place of a model."""

    def __init__(self, state):
        self.state = state

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


@pytest.mark.slow
def test_no_bit_of_a_checkpoint_changes_what_is_resumed(tmp_path):
    """Every byte of a small one in turn, one bit each: values, their names, the archive's own tables."""
    path, chance = tmp_path / CHECKPOINT, random.Random(0)
    state = {"step": 3, "identity": {"seed": 0}, "part": {"a": torch.tensor([0.0, -0.0]), "b": [1.5, torch.ones(2)]}}
    torch.save(state, path)
    whole, refused = path.read_bytes(), 0
    attributes = [i + 38 for i in range(len(whole)) if whole.startswith(b"PK\x01\x02", i)]
    assert len(attributes) > 3
    bits = [(place, chance.randrange(8)) for place in range(len(whole))] + [(place, 4) for place in attributes]
    for place, bit in bits:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        held = Held(None)
        try:
            start = resume_from(tmp_path, {"seed": 0}, torch.device("cpu"), {"part": held})
        except DataError:
            refused += 1
        else:
            assert start.step == 3
            assert str(held.state) == str(state["part"])
            assert torch.equal(held.state["a"].signbit(), torch.tensor([False, True]))
    assert refused > len(whole) // 2


def test_a_checkpoint_of_version_1_goes_on_in_its_order(tmp_path):
    """One that says no version and has no window, as they were; 3 of 7 images are upright."""
    sizes = [(96, 128), (128, 96), (96, 128), (96, 128), (128, 96), (96, 128), (128, 96)]
    data = Listed(*((torch.rand(3, *s), ITEM[1], ITEM[2]) for s in sizes))
    recipe, seen = TINY.replace(batch_size=2, steps=9), []

    class Watched(Listed):
        def load(self, i):
            seen.append(i)
            return super().load(i)

    groups = [int(w > h) for h, w in sizes]
    quiet(recipe, data, out=tmp_path, stop_after=2)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    new = ("order", "window", "since")
    torch.save({k: v for k, v in state.items() if k not in new}, tmp_path / CHECKPOINT)
    quiet(recipe, Watched(*data.items), out=tmp_path, resume=True, stop_after=5)
    quiet(recipe, Watched(*data.items), out=tmp_path, resume=True)
    first, second = ([i for b in Order(7, 2, 2, 9, 0, groups=groups, version=v) for i, _ in b] for v in (1, 2))
    assert seen == first != second
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["order"] == 1


@pytest.mark.robustness("unclear: a data set of which nothing is left says why")
def test_all_images_left_out_say_why(tmp_path):
    data = {"images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 9}], "annotations": []}
    (tmp_path / "ann.json").write_text(json.dumps({**data, "categories": [{"id": 1, "name": "cat"}]}))
    with pytest.raises(DataError, match=r"ann\.json: .*keep_empty=False"):
        quiet(TINY, dsla.CocoDataset(tmp_path, tmp_path / "ann.json", keep_empty=False))


@pytest.mark.robustness("unclear: images of a single value a channel under batch norm get one message")
def test_images_of_one_value_a_channel_get_one_message():
    tiny = Listed((torch.rand(3, 1, 1), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)))
    with pytest.raises(DataError, match=r"batch normalisation.*min_size.*batch_size"):
        quiet(TINY.replace(batch_size=1, min_size=(8,)), tiny)
    quiet(TINY.replace(batch_size=2, min_size=(8,), steps=1), Listed(*tiny.items * 2))


@pytest.mark.robustness("unclear: a loss that is not finite is said with the rate")
def test_the_message_of_a_loss_that_is_not_finite_names_the_rate():
    recipe = TINY.replace(lr=1e12, clip=None, warmup_steps=0, steps=9, schedule="step")
    with pytest.raises(dsla.errors.NotFinite, match=r"at learning rate 1e\+12"):
        quiet(recipe, few_scenes())


def test_stopped_is_an_interruption_with_a_number():
    assert issubclass(Stopped, KeyboardInterrupt)
    assert (str(Stopped("here", 15)), Stopped("here", 15).signal) == ("here", 15)
