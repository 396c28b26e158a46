"""Everything that one card can say about the package in five minutes: right, without waits, and how fast.

    python benchmarks/gpu.py [--out FOLDER] [--only SECTION ...] [--device cuda] [--minutes 8]
    python benchmarks/gpu.py --small         # the same on a CPU, in a minute: that all of it runs

From a checkout that is not installed: PYTHONPATH=. in front. Needs PyTorch, torchvision and what `dsla.train` imports.
Prints each row as it comes and writes gpu.json after each section, to --out, else to $OUT, else to benchmarks/results.
A section that fails is one row with its error; the others go on.

equality     labels, losses and gradients of every recipe of the scenes, on the CPU and on the card
waits        `torch.cuda.set_sync_debug_mode` around ten training steps of each method: which line makes the host wait
assignment   DSLA and FCOS against the dense form; the losses with their gradients; floors beside each
step         training step of R-50 at 16 × (800 × 1333), against torchvision's FCOS, in several precisions
compiled     the same with a compiled network
inference    against torchvision's FCOS at 1 and 16 images; NMS alone
kernels      where the time of one such step goes
training     200 steps on scenes on both devices from one seed: losses, and what the detector then finds
processes    NCCL, where there are two cards: two processes end with the weights of one
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from floors import Rates
from gpu_checks import SECTIONS as CHECKS
from gpu_speed import SECTIONS as SPEED


class Report:
    """Rows by section, printed as they come; the file is whole after each of them."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.device, self.small = torch.device(args.device), args.small
        self.began, self.seconds, self.settings = time.perf_counter(), args.minutes * 60, args.settings
        self.path = Path(args.out or os.environ.get("OUT") or Path(__file__).parent / "results") / "gpu.json"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.content: dict[str, Any] = {"about": self._about(), "rows": []}
        self.rates = Rates.of(self.device, self.small)
        self.content["about"]["measured"] = {"bytes_per_s": self.rates.bytes, "flops_per_s": self.rates.flops}
        print(json.dumps(self.content["about"], indent=1), flush=True)

    def _about(self) -> dict[str, Any]:
        import torchvision

        about: dict[str, Any] = {
            "date": time.strftime("%Y-%m-%d %H:%M"),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "small": self.small,
            "cores": os.cpu_count(),
        }
        if self.device.type == "cuda":
            card = torch.cuda.get_device_properties(self.device)
            about |= {"card": card.name, "cards": torch.cuda.device_count(), "memory_gb": card.total_memory / 1e9}
            about |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        return about

    @property
    def left(self) -> float:
        """Seconds of the time that was given."""
        return self.seconds - (time.perf_counter() - self.began)

    def row(self, section: str, name: str, **values: Any) -> None:
        short = {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in values.items()}
        self.content["rows"].append({"section": section, "name": name, **short})
        print(f"{section:<11} {name:<44} " + "  ".join(f"{k}={v}" for k, v in short.items()), flush=True)

    def save(self) -> None:
        self.content["about"]["seconds"] = round(time.perf_counter() - self.began, 1)
        self.path.write_text(json.dumps(self.content, indent=1), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", help="folder for gpu.json")
    parser.add_argument("--only", nargs="+", help="sections, in the order given")
    parser.add_argument("--settings", nargs="+", help="precisions of steps and inference: fp32, tf32, …")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=8.0, help="sections that would begin later are left out")
    parser.add_argument("--small", action="store_true", help="small images and few runs")
    args = parser.parse_args()
    if args.device == "cpu" and not args.small:
        parser.error("no GPU is here: --small runs everything at a size that a CPU can do")
    torch.backends.cudnn.benchmark = True  # for both detectors: all shapes come again
    report = Report(args)
    sections = {**CHECKS, **SPEED}
    order = ["equality", "waits", "assignment", "step", "compiled", "inference", "kernels", "training", "processes"]
    for name in args.only or order:
        began = time.perf_counter()
        if report.left < 20:
            report.row(name, "left out", reason="no time left")
            continue
        try:
            sections[name](report)
        except Exception as error:
            report.row(name, "FAILED", error=f"{type(error).__name__}: {error}"[:600])
            traceback.print_exc()
        report.row(name, "section", seconds=time.perf_counter() - began)
        report.save()
        if report.device.type == "cuda":
            torch.cuda.empty_cache()
    print(f"written to {report.path}")


if __name__ == "__main__":
    main()
