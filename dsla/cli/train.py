"""Train a recipe on the embedded set, on COCO or on images of your own.

Example: dsla train scenes-dsla steps=500 lr=0.002 --seed 3      (8 GPUs: torchrun --nproc-per-node 8 -m dsla train …)
"""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..recipes import RECIPES, recipe
from ..recipes.recipe import Recipe

if TYPE_CHECKING:
    from ..data import DetectionDataset


def run(args: Namespace) -> int:
    """The command. Raises as `dsla.train` does."""
    if args.recipe == "list":
        if args.changes:
            raise DataError(f"dsla train list takes no changes, got {' '.join(args.changes)}")
        print("\n".join(RECIPES))
        return 0
    if bare := [c for c in args.changes if "=" not in c]:
        raise DataError(f"{bare[0]!r}: changes are written FIELD=VALUE")
    fields = [c.partition("=")[0] for c in args.changes]
    if again := [c for c, field in zip(args.changes, fields, strict=True) if fields.count(field) > 1]:
        raise DataError(f"{' '.join(again)}: give each field once")
    changes = dict(c.partition("=")[::2] for c in args.changes)
    typed = recipe(args.recipe, **changes)

    from ..data import Scenes
    from ..data.sources import open_dataset
    from ..training.processes import process_group, rank
    from ..training.schedule import scaled

    scheduled = scaled(typed, args.batch_size) if args.batch_size else typed
    notes = []
    if args.batch_size:
        rate = f"learning rate {typed.lr:.4g} × {scheduled.batch_size}/{typed.batch_size} = {scheduled.lr:.4g}"
        notes.append(f"{rate}: scaled linearly with the images a step")
    elif "batch_size" in changes and "lr" not in changes and typed.batch_size != RECIPES[args.recipe].batch_size:
        rate = f"learning rate {typed.lr:.4g}, not scaled with batch_size"
        notes.append(f"{rate}; --batch-size {typed.batch_size} scales it")
    where = args.data, args.split or "train", args.annotations
    if args.show:  # reads annotations, but no image
        images = open_dataset(*where) if args.data or args.annotations else Scenes(where[1], size=args.size)
        print(
            json.dumps(
                {**scheduled.to_dict(), "run": _outlook(args, scheduled, notes, images)}, indent=1, ensure_ascii=False
            )
        )
        return 0
    with process_group(args.device) as device:
        if scheduled.amp != "none" and device.type != "cuda":
            notes.append(f"amp={scheduled.amp} is of GPUs: on {device} it is float32")
        files = {"value_range": args.value_range, "check_files": True}  # before hours of work, not at an image's turn
        images = open_dataset(*where, size=args.size, progress=rank() == 0, **files)
        _train(args, scheduled, images, _outlook(args, scheduled, notes, images))
    return 0


def _outlook(args: Namespace, scheduled: Recipe, notes: list[str], images: "DetectionDataset") -> dict[str, Any]:
    """What the recipe and the options make of each other, by name."""
    from ..training.folder import CHECKPOINT, default_folder
    from ..training.loop import taught
    from ..training.processes import world
    from ..training.schedule import plan, rates, spacing

    data = taught(scheduled, images)
    count, every = len(data), spacing(scheduled, len(data))
    text = f"{count} images of {data.name}, {len(data.class_names)} classes"
    if len(images) > count:
        text += f"; images without a box, left out as the recipe's empty_images says: {len(images) - count}"
    val = "the embedded set's val" if args.data is None else f"val of {args.data}"
    start = f"ImageNet weights of {scheduled.backbone}" if scheduled.pretrained else "random weights"
    folder = Path(args.out or default_folder(scheduled, data, args.seed))
    if args.resume:
        there = (folder / CHECKPOINT).exists()
        start = str(folder / CHECKPOINT) if there else f"{start}, since {folder} holds no checkpoint to go on from"
    return {
        "data": text,
        "evaluated on": args.val_annotations if args.annotations else val,
        "plan": plan(scheduled, count, world(), accumulate=args.accumulate),
        **({"scaling": "; ".join(notes)} if notes else {}),
        "rate from step": rates(scheduled, count),
        "epochs between evaluations": args.eval_every or every,
        "epochs between checkpoints": args.checkpoint_every or every,
        "starts from": args.weights or start,
        "seed": args.seed,
        "device": args.device or "a GPU if there is one, else the CPU",
        "folder": str(folder),
    }


def _train(args: Namespace, scheduled: Recipe, images: "DetectionDataset", about: dict[str, Any]) -> None:
    from ..coco.problems import some
    from ..data.sources import open_dataset
    from ..models import build
    from ..models.saving import adopt
    from ..training.loop import taught, train
    from ..training.processes import rank

    say: Callable[[str], None] = print if rank() == 0 else lambda _: None
    dataset, out = taught(scheduled, images), Path(about["folder"])
    val: DetectionDataset | None = None
    if args.val_annotations or not args.annotations:
        files = {"value_range": args.value_range, "check_files": True}
        val = open_dataset(args.data, "val", args.val_annotations, **files)
    say(f"{scheduled.name}: {about['data']} → {out}\n{about['plan']}")
    if "scaling" in about:
        say(about["scaling"])
    model = None
    if args.resume:
        say(f"starting from {about['starts from']}")
    if args.weights:
        model = build(scheduled, class_names=dataset.class_names)
        left = adopt(model, args.weights)
        say(f"starting from {args.weights}" + (f", but not all as there: {some(left)}" if left else ""))
    typed = ("seed", "device", "workers", "accumulate", "resume", "checkpoint_every", "tensorboard")
    result = train(
        *(scheduled, dataset), val=val, out=out, model=model, compiled=args.compile,
        eval_every=about["epochs between evaluations"], **{name: getattr(args, name) for name in typed},
    )  # fmt: skip
    row = result.log[-1]
    if row.get("event") == "evaluate":
        say(", ".join(f"{k} {'n/a' if row[k] is None else row[k]}" for k in ("AP", "AP50", "AP75")))
    say(f"weights: {out / 'model.safetensors'}; log: {out / 'log.jsonl'}")
