"""Our training step and inference against torchvision's FCOS, in turn in one process; both ResNet-50.

    python benchmarks/training_step.py [--threads 1] [--rounds 7] [--size 320 480] [--images 2]

Both with conv1 and stage 1 frozen and frozen batch norm, on the same images, with the same optimiser and clipping.
Each round runs every candidate once, so that what else the machine does falls on all of them; seconds of the
processor, medians, and the median of the ratios of a round. "network" is ours without images, assignment and losses:
what a step cannot go below.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from gpu_speed import LIKE_FOR_LIKE, OURS, ours, pictures, torchvisions
from torch import nn


def stepping(model: nn.Module, losses: Callable[[nn.Module], torch.Tensor]) -> Callable[[], None]:
    """A training step as a function without arguments."""
    parameters = [p for p in model.train().parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-5, momentum=0.9, weight_decay=1e-4)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        losses(model).backward()
        nn.utils.clip_grad_norm_(parameters, 35.0)
        optimizer.step()

    return step


def detecting(model: nn.Module, images: list[torch.Tensor]) -> Callable[[], Any]:
    def detect() -> Any:
        model.eval()
        with torch.inference_mode():
            return model(images)

    return detect


def in_turn(works: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of the processor for each work in each round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for count in range(rounds + 1):
        for name, work in works.items():
            began = time.process_time()
            work()
            if count:
                seconds[name].append(time.process_time() - began)
    return seconds


def table(title: str, seconds: dict[str, list[float]], peer: str = "torchvision") -> None:
    print(f"\n{title:<34} median s   of {peer}'s time")
    for name, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(times, seconds[peer], strict=True))
        print(f"{name:<34} {statistics.median(times):8.3f}   {ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--size", type=int, nargs=2, default=(320, 480), metavar=("HEIGHT", "WIDTH"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    report = SimpleNamespace(device=torch.device("cpu"), small=True, frame=(args.images, *args.size))
    images, targets = pictures(report)
    models = {"torchvision": torchvisions(report), OURS: ours(OURS, report), LIKE_FOR_LIKE: ours(LIKE_FOR_LIKE, report)}

    def whole(model: nn.Module) -> torch.Tensor:
        return torch.stack(tuple(model(images, targets).values())).sum()

    alone = ours(OURS, report)
    batch = alone.transform(images)[0]

    def network(model: Any) -> torch.Tensor:
        logits, distances, _, _ = model.network(batch)
        return logits.mean() + distances.mean()

    steps = {name: stepping(model, whole) for name, model in models.items()}
    seconds = in_turn({**steps, "network and optimiser alone": stepping(alone, network)}, args.rounds)
    table(f"training step, {args.images} × {args.size[0]} × {args.size[1]}", seconds)
    detections = {name: detecting(model, images) for name, model in models.items()}
    table("inference", in_turn(detections, args.rounds))


if __name__ == "__main__":
    main()
