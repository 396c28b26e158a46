"""Images a second of one core, from files to a batch, against torchvision's reference transforms, in turn.

    python benchmarks/loading.py IMAGES_DIR ANNOTATIONS.json [--images 64] [--rounds 5] [--batch 8]

worker    what a loading process does: read, decode, flip, hand out. torchvision's: `CocoDetection` with the transforms
          of its references/detection (flip of the PIL image, to a tensor, to floats); ours: what `dsla.train` reads
batch     what happens then, on a CPU: resize to 800/1333, normalise, pad (on a GPU both do it there)

Seconds of the processor, not of the clock, so that other work on the machine counts little; one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import v2

import dsla
from dsla.data.sampling import Augmented
from dsla.models.transform import Transform

Item = tuple[torch.Tensor, dict[str, Any]]


def references(images_dir: str, annotations: str) -> Any:
    """torchvision's preset "hflip" with boxes alone."""
    flip = v2.RandomHorizontalFlip(0.5)
    steps = [flip, v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.SanitizeBoundingBoxes()]
    data = CocoDetection(images_dir, annotations, transforms=v2.Compose([*steps, v2.ToPureTensor()]))
    return wrap_dataset_for_transforms_v2(data, target_keys=("boxes", "labels", "image_id"))


def in_turn(works: dict[str, Callable[[], Any]], images: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of the processor for an image in each round, after one that does not count."""
    ms: dict[str, list[float]] = {name: [] for name in works}
    for count in range(rounds + 1):
        for name, work in works.items():
            began = time.process_time()
            work()
            if count:
                ms[name].append((time.process_time() - began) / images * 1e3)
    return ms


def table(title: str, ms: dict[str, list[float]]) -> None:
    theirs, ours = ms["torchvision"], ms["dsla"]
    ratio = statistics.median(a / b for a, b in zip(theirs, ours, strict=True))
    print(f"{title:<8}" + "".join(f"{name} {statistics.median(v):.2f} ms an image, " for name, v in ms.items()), end="")
    print(f"{ratio:.2f} × torchvision's images a second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images_dir")
    parser.add_argument("annotations")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dataset = dsla.CocoDataset(args.images_dir, args.annotations)
    count = min(args.images, len(dataset))
    peer, ours = references(args.images_dir, args.annotations), Augmented(dataset)
    works = {"torchvision": lambda: [peer[i] for i in range(count)], "dsla": lambda: [ours[i, i] for i in range(count)]}
    table("worker", in_turn(works, count, args.rounds))

    kinds = {
        "torchvision": (
            GeneralizedRCNNTransform(800, 1333, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]).train(),
            [peer[i] for i in range(count)],
        ),
        "dsla": (Transform().train(), [ours[i, i] for i in range(count)]),
    }

    def batches(transform: Any, items: list[Item]) -> None:
        for first in range(0, count, args.batch):
            images, targets = zip(*items[first : first + args.batch], strict=True)
            transform(list(images), list(targets))

    works = {name: lambda k=kind: batches(*k) for name, kind in kinds.items()}
    table("batch", in_turn(works, count, args.rounds))


if __name__ == "__main__":
    main()
