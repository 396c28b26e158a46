"""Several processes as one: PyTorch's process group as torchrun starts it, and what is asked of all ranks.

Everything here is also right in a single process, where it asks nobody.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import pandas as pd
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..coco.detections import Results
from ..coco.evaluation import evaluate_detections
from ..coco.ground_truth import GroundTruth
from ..data import DetectionDataset
from ..data.sampling import Part
from ..errors import DataError
from ..models.criteria import mean_over_ranks, together
from ..models.evaluation import predict_dataset, usable

T = TypeVar("T")
TIMEOUT = timedelta(minutes=30)  # the others wait so long while rank 0 evaluates or saves


def rank() -> int:
    """This process' number; 0 is the one that writes and prints. Before the group starts, as torchrun says."""
    return dist.get_rank() if together() else int(os.environ.get("RANK", 0))


def world() -> int:
    """Processes in all."""
    return dist.get_world_size() if together() else 1


@contextmanager
def process_group(device: torch.device | str | None = None) -> Iterator[torch.device]:
    """Joins the processes that torchrun started, if it did, and gives the device of this one.

    device: by default a GPU of its own where there is one; "cuda" is that, too.
    """
    kind = usable(device)
    started = int(os.environ.get("WORLD_SIZE", 1)) > 1 and "RANK" in os.environ
    if kind.type == "cuda" and (started or together()):
        kind = usable(f"cuda:{os.environ.get('LOCAL_RANK', rank())}")
        torch.cuda.set_device(kind)
    if not started or dist.is_initialized():
        yield kind
        return
    dist.init_process_group("nccl" if kind.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield kind
    finally:
        dist.destroy_process_group()


def parallel(model: nn.Module) -> nn.Module:
    """The model as the loop calls it: gradients are averaged over ranks."""
    return DistributedDataParallel(model) if together() else model


def averaged(values: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Scalars by name → their means over ranks."""
    stacked = torch.stack([torch.as_tensor(v).double() for v in values.values()])
    return dict(zip(values, mean_over_ranks(stacked).tolist(), strict=True))


def everyones(value: T) -> list[T]:
    """The value of each rank."""
    if not together():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def gathered(value: T) -> list[T]:
    """The value of each rank, on rank 0; nothing on the others."""
    if not together():
        return [value]
    values: list[Any] | None = [None] * dist.get_world_size() if rank() == 0 else None
    dist.gather_object(value, values)
    return values or []


def agree(value: Any, what: str) -> None:
    """Raises a DataError on every rank unless all have the same value."""
    values = everyones(value)
    if any(v != values[0] for v in values):
        raise DataError(f"the processes have different {what}: {values}; they must see the same files")


def first_does(action: Callable[[], object]) -> None:
    """Rank 0 does it; where it raises a DataError, so do all."""
    message = None
    try:
        if rank() == 0:
            action()
    except DataError as error:
        message = str(error)
    if (message := everyones(message)[0]) is not None:
        raise DataError(message)


def wait() -> None:
    """Until all ranks are here: what rank 0 has written is there for the others."""
    if together():
        dist.barrier()


def evaluate_together(model: nn.Module, dataset: DetectionDataset) -> pd.Series:
    """`evaluate`, its images shared out to the ranks; all get the numbers, rank 0 computes them.

    They are of rank 0's model, which is the one that is saved: each has seen other images, and batch norm has them.
    """
    for buffer in model.buffers() if together() else ():
        dist.broadcast(buffer, 0)
    mine = range(rank(), len(dataset), world())  # so that each image is some rank's, once
    parts, numbers = gathered(predict_dataset(model, Part(dataset, mine))), None
    if parts:
        rows = [row for part in parts for row in part]
        truth = GroundTruth.of(dataset)
        numbers = evaluate_detections(truth, Results.of(rows, truth, guess=False)).to_series()
    return everyones(numbers)[0]
