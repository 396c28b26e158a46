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
    changes = dict(c.partition("=")[::2] for c in args.changes)
    typed = recipe(args.recipe, **changes)

    from ..training.processes import process_group, rank
    from ..training.schedule import scaled

    scheduled = scaled(typed, args.batch_size) if args.batch_size else typed
    note = ""
    if args.batch_size:
        note = f"learning rate {typed.lr:.4g} × {scheduled.batch_size}/{typed.batch_size} = {scheduled.lr:.4g}: "
        note += "scaled linearly with the images a step"
    elif "batch_size" in changes and "lr" not in changes and typed.batch_size != RECIPES[args.recipe].batch_size:
        note = f"learning rate {typed.lr:.4g}, not scaled with batch_size; --batch-size {typed.batch_size} scales it"
    if args.show:
        print(json.dumps({**scheduled.to_dict(), "run": _outlook(args, scheduled, note)}, indent=1, ensure_ascii=False))
        return 0
    with process_group(args.device) as device:
        if scheduled.amp != "none" and device.type != "cuda":
            note = "; ".join([note] * bool(note) + [f"amp={scheduled.amp} is of GPUs: on {device} it is float32"])
        return _train(args, scheduled, note, print if rank() == 0 else lambda _: None)


def _outlook(args: Namespace, scheduled: Recipe, note: str) -> dict[str, Any]:
    """What the recipe and the options make of each other, by name; reads annotations, but no image."""
    from ..data import Scenes
    from ..data.sources import open_dataset
    from ..training.loop import taught
    from ..training.schedule import plan, rates, spacing

    split = args.split or "train"
    embedded = args.data is None and args.annotations is None
    images = Scenes(split, size=args.size) if embedded else open_dataset(args.data, split, args.annotations)
    data = taught(scheduled, images)
    count, every = len(data), spacing(scheduled, len(data))
    left_out = f", {len(images) - count} without a box left out" if len(images) > count else ""
    val = "the embedded set's val" if args.data is None else f"val of {args.data}"
    start = args.weights or (f"ImageNet weights of {scheduled.backbone}" if scheduled.pretrained else "random weights")
    return {
        "data": f"{count} images of {data.name}, {len(data.class_names)} classes{left_out}",
        "evaluated on": args.val_annotations if args.annotations else val,
        "plan": plan(scheduled, count, accumulate=args.accumulate),
        **({"scaling": note} if note else {}),
        "rate from step": rates(scheduled, count),
        "epochs between evaluations": args.eval_every or every,
        "epochs between checkpoints": args.checkpoint_every or every,
        "starts from": start,
        "seed": args.seed,
        "device": args.device or "a GPU if there is one, else the CPU",
        "folder": str(_folder(args, scheduled, data)),
    }


def _folder(args: Namespace, scheduled: Recipe, data: "DetectionDataset") -> Path:
    from ..training.folder import default_folder

    return Path(args.out) if args.out else default_folder(scheduled, data, args.seed)


def _train(args: Namespace, scheduled: Recipe, note: str, say: Callable[[str], None]) -> int:
    from ..data.sources import open_dataset
    from ..models import build
    from ..models.saving import adopt
    from ..training.loop import taught, train
    from ..training.processes import rank, world
    from ..training.schedule import plan, spacing

    first = rank() == 0
    images = open_dataset(args.data, args.split or "train", args.annotations, size=args.size, progress=first)
    dataset = taught(scheduled, images)
    val: DetectionDataset | None
    if args.annotations:
        val = open_dataset(args.data, annotations=args.val_annotations) if args.val_annotations else None
    else:
        val = open_dataset(args.data, "val")
    out = _folder(args, scheduled, dataset)
    say(f"{scheduled.name}: {len(dataset)} images of {dataset.name}, {len(dataset.class_names)} classes → {out}")
    if len(images) > len(dataset):
        say(f"images without a box, left out as the recipe's empty_images says: {len(images) - len(dataset)}")
    say(plan(scheduled, len(dataset), world(), args.accumulate))
    if note:
        say(note)
    model = None
    if args.weights:
        model = build(scheduled, class_names=dataset.class_names)
        left = adopt(model, args.weights)
        say(f"starting from {args.weights}" + (f", except {len(left)} tensors: {left[0]} …" if left else ""))
    typed = ("seed", "device", "workers", "accumulate", "resume", "checkpoint_every", "tensorboard")
    every = args.eval_every or spacing(scheduled, len(dataset))
    result = train(
        *(scheduled, dataset), val=val, out=out, model=model, compiled=args.compile, eval_every=every,
        **{name: getattr(args, name) for name in typed},
    )  # fmt: skip
    row = result.log[-1]
    if first and row.get("event") == "evaluate":
        print(", ".join(f"{k} {'n/a' if row[k] is None else row[k]}" for k in ("AP", "AP50", "AP75")))
    say(f"weights: {out / 'model.safetensors'}; log: {out / 'log.jsonl'}")
    return 0
