"""What a person types: ``dsla COMMAND …``. A command is a module of this folder, named in `COMMANDS`.

Its docstring is its help: a sentence on what it is for, and an example. It has ``run(args) -> int | None``. What may be
typed, and which options only have an effect beside others, lies in `options.toml`. It imports what is heavy
inside `run`, so that help and errors of arguments come at once.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from .. import __version__
from ..assigners.registry import load_plugin
from ..errors import DataError, NotFinite, unknown
from .arguments import add_options, refuse_ignored
from .terminal import close_quietly, terminal

DESCRIPTION = "Understand, train and question label assignment in object detection."


COMMANDS = (
    "reproduce", "train", "evaluate", "predict", "analyze", "why", "methods", "explore", "figures", "convert", "export",
    "data", "doctor",
)  # fmt: skip


def command(name: str) -> tuple[ModuleType, str, str]:
    """A command's module, and what its docstring says: what it is for, and an example."""
    module = importlib.import_module(f".{name}", __package__)
    purpose, _, example = (module.__doc__ or "").strip().partition("\n\n")
    return module, purpose, example


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
    module, purpose, example = command(name)
    parser = argparse.ArgumentParser(prog=f"dsla {name}", description=purpose, epilog=example)
    add_options(parser, name)
    args = parser.parse_intermixed_args(list(map(_at_home, words[1:])))
    try:
        refuse_ignored(parser, args, name)
        for file in getattr(args, "plugin", None) or ():
            load_plugin(file)
        return int(module.run(args) or 0)
    except BrokenPipeError:
        raise
    except (DataError, NotFinite, OSError) as error:
        file, reason = (getattr(error, key, None) for key in ("filename", "strerror"))
        print(f"dsla {name}: {f'{file}: {reason}' if file and reason else error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:  # a training that a signal stopped says where it goes on
        print(f"\ndsla {name}: {error}" if str(error) else "\ninterrupted", file=sys.stderr)
        return 128 + getattr(error, "signal", 2)


def _at_home(word: str) -> str:
    """A ``~`` that the shell has left, as in ``--out=~/runs``, is the home folder and not one of that name here."""
    option, equals, path = word.partition("=") if word.startswith("--") else ("", "", word)
    return option + equals + os.path.expanduser(path)


def _without_command(words: list[str]) -> int:
    lines = [f"  {name:<10} {command(name)[1]}" for name in COMMANDS]
    parser = argparse.ArgumentParser(
        *("dsla", "dsla COMMAND …", DESCRIPTION),
        epilog="\n".join(["commands:", *lines, "", "dsla COMMAND --help says more.  Example: dsla predict photo.jpg"]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dsla {__version__}")
    if rest := parser.parse_known_args(words)[1]:
        parser.error(str(unknown("command", rest[0], COMMANDS)))
    parser.print_help()
    return 0


if __name__ == "__main__":
    sys.exit(main())
