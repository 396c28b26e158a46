"""``dsla train``: from what a person types to a run, and what is said of it before it begins."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..data import DetectionDataset, Scenes
from ..data.sources import open_dataset
from ..errors import DataError
from ..models import build
from ..models.saving import adopt
from ..recipes.recipe import Recipe
from ..recipes.scenes import RECIPES, recipe
from ..training.distributed import process_group, rank, world
from ..training.loop import taught, train
from ..training.schedule import plan, rates, scaled, spacing
from .arguments import embedded_only


def run(args: Namespace) -> int:
    """The command. Raises as `dsla.train` does."""
    if args.recipe == "list":
        print("\n".join(RECIPES))
        return 0
    if bare := [c for c in args.changes if "=" not in c]:
        raise DataError(f"{bare[0]!r}: changes are written FIELD=VALUE")
    if args.val_annotations and not args.annotations:
        raise DataError("--val-annotations needs --annotations beside it; a COCO folder's val is found without")
    embedded_only(args)
    changes = dict(c.partition("=")[::2] for c in args.changes)
    asked = recipe(args.recipe, **changes)
    chosen = scaled(asked, args.batch_size) if args.batch_size else asked
    note = f"learning rate {asked.lr:.4g} × {chosen.batch_size}/{asked.batch_size} = {chosen.lr:.4g}: "
    if args.batch_size:
        note += "scaled linearly with the images a step"
    elif "batch_size" in changes and "lr" not in changes and asked.batch_size != RECIPES[args.recipe].batch_size:
        note = f"learning rate {asked.lr:.4g}, not scaled with batch_size; --batch-size {asked.batch_size} scales it"
    else:
        note = ""
    if args.show:
        print(json.dumps({**chosen.to_dict(), "run": _outlook(args, chosen, note)}, indent=1, ensure_ascii=False))
        return 0
    with process_group(args.device) as device:
        if chosen.amp != "none" and device.type != "cuda":
            note = "; ".join([note] * bool(note) + [f"amp={chosen.amp} is of GPUs: on {device} it is float32"])
        return _train(args, chosen, note, print if rank() == 0 else lambda _: None)


def _outlook(args: Namespace, chosen: Recipe, note: str) -> dict[str, Any]:
    """What the recipe and the options make of each other, by name; reads annotations, but no image."""
    split = args.split or "train"
    embedded = args.data is None and args.annotations is None
    found = Scenes(split, size=args.size) if embedded else open_dataset(args.data, split, args.annotations)
    data = taught(chosen, found)
    count, every = len(data), spacing(chosen, len(data))
    left_out = f", {len(found) - count} without a box left out" if len(found) > count else ""
    start = args.weights or (f"ImageNet weights of {chosen.backbone}" if chosen.pretrained else "random weights")
    return {
        "data": f"{count} images of {data.name}, {len(data.class_names)} classes{left_out}",
        "evaluated on": _evaluated_on(args),
        "plan": plan(chosen, count, accumulate=args.accumulate),
        **({"scaling": note} if note else {}),
        "rate from step": rates(chosen, count),
        "epochs between evaluations": args.eval_every or every,
        "epochs between checkpoints": args.checkpoint_every or every,
        "starts from": start,
        "seed": args.seed,
        "device": args.device or "a GPU if there is one, else the CPU",
        "folder": str(_folder(args, chosen)),
    }


def _evaluated_on(args: Namespace) -> str | None:
    if args.annotations:
        return args.val_annotations
    return "the embedded set's val" if args.data is None else f"val of {args.data}"


def _folder(args: Namespace, chosen: Recipe) -> Path:
    return Path(args.out or f"runs/{chosen.name}-{args.seed}")


def _train(args: Namespace, chosen: Recipe, note: str, say: Callable[[str], None]) -> int:
    shown = rank() == 0
    found = open_dataset(args.data, args.split or "train", args.annotations, size=args.size, progress=shown)
    dataset = taught(chosen, found)
    val: DetectionDataset | None
    if args.annotations:
        val = open_dataset(args.data, annotations=args.val_annotations) if args.val_annotations else None
    else:
        val = open_dataset(args.data, "val")
    out = _folder(args, chosen)
    say(f"{chosen.name}: {len(dataset)} images of {dataset.name}, {len(dataset.class_names)} classes → {out}")
    if len(found) > len(dataset):
        say(f"images without a box, left out as the recipe's empty_images says: {len(found) - len(dataset)}")
    say(plan(chosen, len(dataset), world(), args.accumulate))
    if note:
        say(note)
    model = None
    if args.weights:
        model = build(chosen, class_names=dataset.class_names)
        left = adopt(model, args.weights)
        say(f"starting from {args.weights}" + (f", except {len(left)} tensors: {left[0]} …" if left else ""))
    result = train(
        chosen,
        dataset,
        val=val,
        out=out,
        seed=args.seed,
        device=args.device,
        model=model,
        workers=args.workers,
        accumulate=args.accumulate,
        resume=args.resume,
        eval_every=args.eval_every or spacing(chosen, len(dataset)),
        checkpoint_every=args.checkpoint_every,
        tensorboard=args.tensorboard,
    )
    row = result.log[-1]
    if shown and row.get("event") == "evaluate":
        print(", ".join(f"{k} {'n/a' if row[k] is None else row[k]}" for k in ("AP", "AP50", "AP75")))
    say(f"weights: {out / 'model.safetensors'}; log: {out / 'log.jsonl'}")
    return 0
