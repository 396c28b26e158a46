"""A training under way, watched from a notebook: one picture with progress and curves, drawn anew in its place.

What is drawn is the run's log.jsonl, so that a run in this process (`LiveTraining.run`) and one that torchrun
started on several GPUs (`start`, `LiveTraining.follow`) look the same.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..plots.curves import training
from ..plots.style import Picture
from ..training.folder import LOG, read_log

OUTPUT = "output.txt"  # what started runs print
START = "\n== started: "  # before what each prints
SHARE = 0.04  # of the time may go into drawing


class LiveTraining:
    """Progress and curves of one run or several, in one display that is updated.

        live = LiveTraining(["DSLA"])
        with live.run("DSLA", "runs/dsla") as on_step:
            train(recipe, data, out="runs/dsla", on_step=on_step, progress=False)

    Args:
        names: of the runs to come, for which there is a bar from the start.
        every: seconds between two pictures, at least; more where drawing one takes long.
    """

    def __init__(self, names: Sequence[str] = (), *, every: float = 2.0) -> None:
        self.every, self.steps = every, dict[str, int]()
        self.folders: dict[str, Path | None] = dict.fromkeys(names)
        self._display: Any = None
        self._next = 0.0

    @contextmanager
    def run(self, name: str, out: str | Path) -> Iterator[Any]:
        """Gives the `on_step` of a `train` into folder `out`; draws the whole run at the end, whatever happens."""
        self.folders[name], self.steps[name] = Path(out), 0

        def on_step(step: int, *_: Any) -> None:
            self.steps[name] = step
            self.refresh()

        try:
            yield on_step
        finally:
            self.refresh(now=True)

    def follow(self, name: str, out: str | Path, process: subprocess.Popen[bytes] | None = None) -> None:
        """Watch the log of a run that goes on elsewhere, until it has ended; an interrupt ends the watching only.

        process: as `start` returned it. Without it, the log is drawn once, as it is.
        Raises:
            RuntimeError: the process failed; says what it printed last.
        """
        self.folders[name] = Path(out)
        while process is not None and process.poll() is None:
            self.refresh()
            time.sleep(min(self.every, 0.5))
        self.refresh(now=True)
        if process is not None and process.returncode:
            text = (Path(out) / OUTPUT).read_text(encoding="utf-8", errors="replace").rpartition(START)[2]
            raise RuntimeError(f"the run ended with code {process.returncode}; it said last:\n{cause(text)}")

    def logs(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of each run's log.jsonl so far."""
        return {name: read_log(out / LOG, "step") if out else [] for name, out in self.folders.items()}

    def picture(self) -> Picture:
        return training(self.logs(), self.steps)

    def refresh(self, now: bool = False) -> None:
        """Draw, if it is time to; the first call makes the display, each later one replaces its picture."""
        began = time.monotonic()
        if not now and began < self._next:
            return
        if self._display is None:
            from IPython.display import display

            self._display = display(self.picture(), display_id=True)
        else:
            self._display.update(self.picture())
        ended = time.monotonic()
        self._next = ended + max(self.every, (ended - began) / SHARE)


def cause(output: str, lines: int = 15) -> str:
    """Why a run failed, of all that it printed: its own last words, not torchrun's report of processes after them."""
    rows = [row for row in output.replace("\r", "\n").splitlines() if row.strip()]
    for i, row in enumerate(rows):
        if row.lstrip().startswith("dsla train: "):
            return "\n".join([row.strip(), *takewhile(lambda more: more.startswith("  "), rows[i + 1 :])])
    return "\n".join([row for row in rows if row.startswith("[rank0]:")][-lines:] or rows[-lines:])


def command(
    recipe: str, out: str | Path, *, data: str | Path | None = None, gpus: int = 1, options: Sequence[str] = ()
) -> list[str]:
    """The words of the shell command that trains a recipe: on one device, or on several GPUs by torchrun.

    options: more words of ``dsla train``, fields of the recipe first: ``steps=200``, …, ``--seed``, ``1``, ….
    """
    if gpus < 1:
        raise DataError(f"gpus={gpus}: at least one process trains")
    many = ["torchrun", "--standalone", f"--nproc-per-node={gpus}", "-m", "dsla"]
    words = [*(many if gpus > 1 else ["python", "-m", "dsla"]), "train", recipe, *options]
    return [*words, *(["--data", str(data)] if data is not None else []), "--out", str(out)]


def start(words: Sequence[str], out: str | Path) -> subprocess.Popen[bytes]:
    """Starts what `command` returned, with this Python; what it prints is added to output.txt in `out`.

    Of an earlier run nothing is touched: `dsla train` itself refuses a folder that holds one. The run does not end with
    the notebook or an interrupt of it; `.terminate()` ends it.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    heads = {"torchrun": [sys.executable, "-m", "torch.distributed.run"], "python": [sys.executable]}
    with (folder / OUTPUT).open("ab") as output:
        output.write(f"{START}{' '.join(words)}\n".encode())
        output.flush()
        return subprocess.Popen(
            [*heads[words[0]], *words[1:]], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
