"""--plugin FILE.py: a method of one's own in every command and every process that a command starts."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

import dsla
from dsla.assigners import METHODS, load_plugin, method
from dsla.assigners.registry import VARIABLE
from dsla.cli.main import main
from dsla.training.folder import read_log

ELLIPSE = """
import torch

import dsla


class Ellipse(dsla.assigners.PairAssigner):
    '''1 at the centre, 0 at the ellipse within the box.

    Args:
        power: of the fall.
    '''

    name = "Ellipse"

    def __init__(self, regress_ranges=None, power: float = 1.0):
        super().__init__(regress_ranges)
        self.power = power

    def factors(self, pairs):
        x1, y1, x2, y2 = pairs.boxes
        dx, dy = pairs.from_centre
        off = (2 * dx / (x2 - x1)) ** 2 + (2 * dy / (y2 - y1)) ** 2
        return {"label": (1 - off).clamp(min=0) ** self.power}


dsla.register("ellipse", Ellipse, labels="soft", colour="#123456", coupling="on", options={"power": (0.1, 8)})
"""
SMALL = ("channels=16", "head_convs=1", "batch_size=2", "warmup_steps=0", "offset=0.5")


@pytest.fixture(autouse=True)
def nothing_stays(monkeypatch):
    """Methods and environment as they were."""
    before = dict(METHODS)
    monkeypatch.setenv(VARIABLE, "")
    yield
    METHODS.clear()
    METHODS.update(before)


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "ellipse.py"
    path.write_text(ELLIPSE)
    return path


@pytest.mark.slow
def test_train_evaluate_and_weights_that_need_the_plugin(plugin, tmp_path, capsys):
    out = tmp_path / "run"
    words = ["scenes-dsla", "method=ellipse", "options=power:2", "steps=2", "--size", "6", "--out", str(out), *SMALL]
    assert main(["train", *words, "--plugin", str(plugin), "--seed", "1"]) == 0
    weights = out / "model.safetensors"
    assert repr(dsla.load(weights).assigner).endswith("power=2.0)")
    assert main(["evaluate", str(weights), "--size", "4", "--plugin", str(plugin)]) == 0
    del METHODS["ellipse"]
    os.environ[VARIABLE] = ""
    capsys.readouterr()
    assert main(["evaluate", str(weights), "--size", "4"]) == 2
    err = capsys.readouterr().err
    assert str(weights) in err
    assert "'ellipse'" in err
    assert "--plugin FILE.py" in err
    assert main(["train", "scenes-dsla", "method=ellipse", "--size", "4"]) == 2
    assert "no method 'ellipse'" in capsys.readouterr().err


def test_every_command_that_loads_weights_takes_a_plugin():
    """Since that is what weights of a method of one's own ask for."""
    options = tomllib.loads((Path(dsla.__file__).parent / "cli" / "options.toml").read_text(encoding="utf-8"))
    commands = {name for name, given in options.items() if {"weights", "--weights"} & set(given)}
    assert commands == {"train", "evaluate", "predict", "export"}
    assert all("--plugin" in options[name] for name in commands)


def test_methods_lists_it_with_its_options(plugin, capsys):
    assert main(["methods", "--json", "--plugin", str(plugin)]) == 0
    entries = {e["name"]: e for e in json.loads(capsys.readouterr().out)}
    assert set(entries) == {*METHODS}
    assert entries["ellipse"]["title"] == "Ellipse"
    assert entries["ellipse"]["colour"] == "#123456"
    assert entries["ellipse"]["summary"] == "1 at the centre, 0 at the ellipse within the box."
    assert entries["ellipse"]["uses"] == ["ranges", "options", "coupling"]
    (option,) = entries["ellipse"]["options"]
    assert option == {
        "name": "power",
        "kind": "float",
        "default": 1.0,
        "meaning": "of the fall",
        "optional": False,
        "range": "a number from 0.1 to 8",
    }
    assert entries["ellipse"]["where"] == f"{plugin}, line 27"
    with pytest.raises(dsla.DataError, match=r"power=9: a number from 0.1 to 8 is needed"):
        method("ellipse").assigner(power=9)


@pytest.mark.slow
def test_processes_that_this_one_starts_have_it(plugin):
    load_plugin(plugin)
    code = "from dsla.assigners import method; print(method('ellipse').title, method('ellipse').assigner(power=3))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "Ellipse Ellipse(regress_ranges=None, power=3.0)"


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_under_torchrun_and_with_workers(plugin, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29431"]
    words = ["scenes-dsla", "method=ellipse", "steps=2", "--size", "4", "--workers", "1", "--device", "cpu", *SMALL]
    command += ["-m", "dsla", "train", *words, "--out", str(tmp_path / "run"), "--plugin", str(plugin)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert any("loss_cls" in row for row in read_log(tmp_path / "run" / "log.jsonl"))
    load_plugin(plugin)
    assert dsla.load(tmp_path / "run" / "model.safetensors").recipe.method == "ellipse"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import dsla\n\nthis is no Python\n", "line 3: SyntaxError: invalid syntax"),
        ("import dsla\nimport no_such_module\n", "line 2: ModuleNotFoundError: No module named 'no_such_module'"),
        ("import dsla\n\n\ndef f():\n    return 1 / 0\n\n\nf()\n", "line 5: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)\n", "line 2: SystemExit: 3"),
        ("x = 1\n", "it registers no method: call dsla.register"),
        ("", "it registers no method"),
        ("import dsla\ndsla.register('mine', int)\n", "line 2: <class 'int'> is no class of assigners"),
        ("import dsla\ndsla.register('dsla', dsla.assigners.FCOS)\n", "line 2: there is a method 'dsla' already"),
    ],
)
def test_a_broken_file_is_named_with_its_line_and_leaves_nothing(text, message, tmp_path, capsys):
    path = tmp_path / "broken.py"
    path.write_text(text)
    before = dict(METHODS)
    assert main(["methods", "--plugin", str(path)]) == 2
    err = capsys.readouterr().err
    assert f"plugin {path}" in err
    assert message in err
    assert before == METHODS
    assert os.environ[VARIABLE] == ""


def test_files_that_are_not_there_or_no_text(tmp_path, capsys):
    assert main(["methods", "--plugin", str(tmp_path / "no.py")]) == 2
    assert f"--plugin {tmp_path / 'no.py'}: there is no such file" in capsys.readouterr().err
    (tmp_path / "picture.py").write_bytes(b"\x89PNG\x00\x00")
    assert main(["methods", "--plugin", str(tmp_path / "picture.py")]) == 2
    assert "picture.py" in capsys.readouterr().err


def test_two_of_one_name_name_both_places(plugin, tmp_path, capsys):
    other = tmp_path / "other.py"
    other.write_text(ELLIPSE)
    assert main(["methods", "--plugin", str(plugin), "--plugin", str(other)]) == 2
    err = capsys.readouterr().err
    assert f"plugin {other}, line 27: there is a method 'ellipse' already ({plugin}, line 27)" in err
    twice = tmp_path / "twice.py"
    twice.write_text(ELLIPSE.replace('"ellipse"', '"one"') + "\n\nclass B(Ellipse): ...\n\n\ndsla.register('one', B)\n")
    assert main(["methods", "--plugin", str(twice)]) == 2
    assert f"{twice}, line 33: there is a method 'one' already ({twice}, line 27)" in capsys.readouterr().err
    assert main(["methods", "--plugin", str(plugin), "--plugin", str(plugin)]) == 0  # the same file twice
