"""What a person types: ``dsla COMMAND …``. A command is a module of this folder and a line of `COMMANDS`.

The module of a command has ``options(parser)``, ``run(args) -> int | None`` and, where options only have an effect
beside others, ``NEEDS``. It imports what is heavy inside `run`, so that help and errors of arguments come at once.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from .. import __version__
from ..assigners.registry import load_plugin
from ..errors import DataError, NotFinite
from .arguments import refuse_ignored
from .terminal import close_quietly, terminal

DESCRIPTION = "Understand, train and question label assignment in object detection."


class Command(NamedTuple):
    """What a command is for, in a sentence, and one example of it."""

    purpose: str
    example: str


COMMANDS = {  # name, also of the module → what its help says
    "reproduce": Command(
        "Compare FCOS and DSLA on the embedded set: figures and a report.",
        "dsla reproduce --out report",
    ),
    "train": Command(
        "Train a recipe on the embedded set, on COCO or on images of your own.",
        "dsla train scenes-dsla steps=500 lr=0.002 --seed 3      (8 GPUs: torchrun --nproc-per-node 8 -m dsla train …)",
    ),
    "evaluate": Command(
        "Give the 12 COCO numbers of a model.",
        "dsla evaluate runs/r50/model.safetensors --data /data/coco --split val",
    ),
    "predict": Command(
        "Detect objects on images: a picture of each, and all detections as a COCO results file.",
        "dsla predict photo.jpg folder/ --weights scenes-dsla --out predictions",
    ),
    "analyze": Command(
        "Show errors, ranking and suppression of any detector by its COCO results files.",
        "dsla analyze yolox.json nanodet.json --annotations instances.json --html report.html",
    ),
    "why": Command(
        "Say of every object whether a detector found it, and if not, where the right box was lost.",
        "dsla why yolox.json --annotations instances.json --method fcos --input-size 640",
    ),
    "methods": Command(
        "List the methods: who is positive, what they are taught, their options.",
        "dsla methods atss --plugin ellipse.py",
    ),
    "explore": Command(
        "Make a page on which to draw boxes and see which points learn them, with any photographs.",
        "dsla explore photo.jpg --html explorer.html",
    ),
    "figures": Command("Make everything in figures/ anew.", "dsla figures --out figures"),
    "convert": Command(
        "Turn a checkpoint of mmdetection or torchvision into a weights file with its recipe inside.",
        "dsla convert dsla_r50.pth --out r50.safetensors",
    ),
    "export": Command(
        "Write the raw head of a model as ONNX; decoding and NMS stay outside.",
        "dsla export r50.safetensors --out r50.onnx",
    ),
    "data": Command(
        "Write the embedded set as a COCO data set, fetch COCO, or check COCO files of your own.",
        "dsla data check instances.json results.json --images photos",
    ),
    "doctor": Command("Check the environment, a line a requirement.", "dsla doctor"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. What went wrong outside the program is said on standard error, without a trace; code 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with terminal():
            code = _run(words)
            sys.stdout.flush()
            return code
    except BrokenPipeError:
        close_quietly()
        return 141  # as a shell has it for a command that ended with its pipe


def _run(words: list[str]) -> int:
    name = words[0] if words else ""
    if name not in COMMANDS:
        return _without_command(words)
    module, command = importlib.import_module(f".{name}", __package__), COMMANDS[name]
    parser = argparse.ArgumentParser(
        prog=f"dsla {name}", description=command.purpose, epilog=f"Example: {command.example}"
    )
    module.options(parser)
    args = parser.parse_intermixed_args(words[1:])
    try:
        refuse_ignored(parser, args, getattr(module, "NEEDS", ()))
        for file in getattr(args, "plugin", None) or ():
            load_plugin(file)
        return int(module.run(args) or 0)
    except BrokenPipeError:
        raise
    except (DataError, NotFinite, OSError) as error:
        print(f"dsla {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:  # a training that a signal stopped says where it goes on
        print(f"\ndsla {name}: {error}" if str(error) else "\ninterrupted", file=sys.stderr)
        return 128 + getattr(error, "signal", 2)


def _without_command(words: list[str]) -> int:
    lines = [f"  {name:<10} {command.purpose}" for name, command in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="dsla",
        usage="dsla COMMAND …",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(["commands:", *lines, "", "dsla COMMAND --help says more.  Example: dsla predict photo.jpg"]),
    )
    parser.add_argument("--version", action="version", version=f"dsla {__version__}")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    args = parser.parse_known_args(words)[0]
    if args.command is None:
        parser.print_help()
        return 0
    near = difflib.get_close_matches(args.command, COMMANDS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(COMMANDS)}"
    parser.error(f"no command {args.command!r}: {hint}")


if __name__ == "__main__":
    sys.exit(main())
