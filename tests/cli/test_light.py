"""What needs no network answers without loading one: helps, errors of arguments, recipes and their fields."""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys

import pytest

from dsla.cli.arguments import _OPTIONS as OPTIONS
from dsla.cli.arguments import add_options
from dsla.cli.main import COMMANDS, command

HEAVY = {"torch", "torchvision", "pandas", "scipy", "matplotlib", "PIL", "pycocotools"}
CODE = """
import sys
from dsla.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as stopped:
    code = stopped.code
print("heavy:", *sorted(sys.modules.keys() & {HEAVY}), file=sys.stderr)
sys.exit(code)
"""


def light(*words):
    """Code, both outputs, heavy modules and seconds of CPU of a command in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", CODE.replace("{HEAVY}", repr(HEAVY)), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    text, _, modules = (done.stdout + done.stderr).rpartition("heavy:")
    return done.returncode, text, modules.split(), seconds


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 0, "commands:"),
        (["--help"], 0, "commands:"),
        (["--version"], 0, "dsla 0."),
        (["tarin"], 2, "did you mean 'train'?"),
        (["train"], 2, "required: recipe"),
        (["train", "list"], 0, "r50-1x"),
        (["train", "nothing"], 2, "no recipe 'nothing'"),
        (["train", "r50-1x", "lrr=1"], 2, "did you mean 'lr'?"),
        (["train", "r50-1x", "lr=fast"], 2, "lr=fast"),
        (["train", "r50-1x", "--seed", "x"], 2, "argument --seed"),
        (["reproduce", "--steps", "3"], 2, "--steps needs --train"),
        (["predict", "no.jpg"], 2, "no.jpg"),
        (["data", "tset", "--to", "x"], 2, "invalid choice: 'tset'"),
    ],
)
def test_answers_come_without_torch(words, code, message):
    status, text, modules, seconds = light(*words)
    assert (status, modules) == (code, [])
    assert message in text
    assert seconds < 0.6  # 0.1 to 0.2 on the slow machine this was written on, torch alone takes 1.5


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_says_what_the_command_is_for_and_shows_an_example(name):
    status, text, modules, _ = light(name, "--help")
    assert (status, modules) == (0, [])
    words = re.sub(r"\s+", " ", text)
    assert re.sub(r"\s+", " ", command(name)[1]) in words
    assert f"Example: dsla {name}" in words


@pytest.mark.parametrize("name", COMMANDS)
def test_what_options_need_are_arguments_of_their_command(name):
    parser = argparse.ArgumentParser()
    add_options(parser, name)
    for options, needed, _ in OPTIONS["needs"].get(name, ()):
        words = [word.partition("=")[0] for word in re.sub(r"\b(not|and|or)\b", " ", needed).split()]
        assert {*options.split(), *words} <= {action.dest for action in parser._actions}


def test_importing_the_package_loads_nothing():
    code = f"import sys, dsla; print(sys.modules.keys() & {HEAVY})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
