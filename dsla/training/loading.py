"""Batches for the loop from processes that load images; these end with the run, however it ends."""

import os
import pickle
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.queues import Queue
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..data import DetectionDataset, collate
from ..data.sampling import Augmented, Order
from ..errors import DataError
from ..recipes.recipe import Recipe

Batch = tuple[list[Tensor], list[dict[str, Any]]]
TIMEOUT = 300  # seconds that a batch may take
WAYS_OUT = (
    "Two ways out: workers=0 (--workers 0) loads in the training process; or give the processes more shared memory, "
    "such as docker's --shm-size=8g for a larger /dev/shm"
)


@contextmanager
def batches_of(
    dataset: DetectionDataset, recipe: Recipe, order: Order, workers: int, device: torch.device
) -> Iterator[Iterator[Batch]]:
    """Gives an iterator over the order's batches; the loading processes are gone when the block is left.

    Raises:
        DataError: a data set that cannot be sent to another process; a process that died, or gave nothing for so
            long that it must be stuck; whatever the data set raises there.
    """
    loader = DataLoader(
        Augmented(dataset, recipe.flip, recipe.min_size),
        batch_sampler=order,
        collate_fn=_collate,
        num_workers=workers,
        timeout=TIMEOUT if workers else 0,
        worker_init_fn=_begin,
        pin_memory=device.type == "cuda",
    )
    try:
        iterator = iter(loader)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise DataError(
            f"{dataset.name} cannot be sent to the processes that load images ({error}): workers=0 (--workers 0) loads "
            "in this one; or define its transforms at the top of a module, not inside a function"
        ) from error
    try:
        yield _explained(iterator, workers)
    finally:
        processes = getattr(iterator, "_workers", [])
        for process in processes:
            if process.is_alive() and hasattr(signal, "SIGCONT"):
                os.kill(process.pid, signal.SIGCONT)  # one that somebody stopped would not end
        if processes:
            iterator._shutdown_workers()  # type: ignore[attr-defined]
        for process in processes:
            process.kill()
            process.join()


def _explained(iterator: Iterator[Batch], workers: int) -> Iterator[Batch]:
    try:
        yield from iterator
    except DataError as error:  # from another process it comes with that one's trace
        raise DataError(str(error).rsplit("DataError: ", 1)[-1].strip()) from error
    except RuntimeError as error:
        if not workers:
            raise
        reason = str(error).strip().splitlines()[-1]
        raise DataError(f"the processes that load images failed: {reason}. {WAYS_OUT}") from error


def _collate(batch: list[tuple[Tensor, dict[str, Any]]]) -> Batch:
    return collate(batch) if batch else ([], [])


def _begin(worker: int) -> None:
    """Ctrl-C reaches all processes of a terminal: the training process decides what ends.

    What cannot be handed over, as where shared memory is too small, ends the process, instead of a trace and a wait.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Queue._on_queue_feeder_error = staticmethod(lambda error, item: os._exit(1))  # type: ignore[attr-defined]
