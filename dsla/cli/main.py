"""What a person types: ``dsla COMMAND …``; ``dsla --help`` lists the commands."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError, NotFinite
from .arguments import count, embedded_only, natural, positive


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. What went wrong outside the program is said on standard error, without a trace; code 2."""
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    if rest and (args.command != "train" or not all("=" in word and word[0] != "-" for word in rest)):
        fields = " (fields of the recipe are written FIELD=VALUE)" if args.command == "train" else ""
        parser.error(f"unrecognized arguments: {' '.join(rest)}{fields}")
    if rest:  # fields of the recipe may stand after options, too
        args.changes += rest
    if args.command is None:
        parser.print_help()
        return 0
    try:
        return int(args.run(args) or 0)
    except (DataError, NotFinite, OSError) as error:
        print(f"dsla {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dsla", description="Label assignment in object detection, DSLA and FCOS.")
    from .. import __version__

    parser.add_argument("--version", action="version", version=f"dsla {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    p = commands.add_parser("reproduce", help="compare FCOS and DSLA on the embedded set: figures and a report")
    p.add_argument("--out", default="dsla-report", help="folder of the report (default: %(default)s)")
    p.add_argument("--train", action="store_true", help="train the models anew instead of using the shipped weights")
    p.add_argument("--seeds", type=count, default=1, help="trainings of each model, with --train (default: 1)")
    p.add_argument("--images", type=count, help="validation scenes (default: all 400)")
    p.add_argument("--steps", type=count, help="training steps instead of the recipe's, with --train")
    p.add_argument(
        "--recipes",
        metavar="LIST",
        help="with --train: a table of these recipes over seeds instead of the report: methods, ablation, gamma, "
        "conditions, all, or names, with commas between",
    )
    p.add_argument("--jobs", type=count, default=1, help="with --recipes: runs at a time, a core each (default: 1)")
    p.add_argument("--quiet", action="store_true", help="no progress")
    p.set_defaults(run=_reproduce)

    p = commands.add_parser("train", help="train a recipe; on 8 GPUs: torchrun --nproc-per-node 8 -m dsla train …")
    p.add_argument("recipe", help="a name, or 'list'")
    p.add_argument("changes", nargs="*", metavar="FIELD=VALUE", help="fields of the recipe to change")
    _data_options(p)
    p.add_argument("--val-annotations", help="COCO-format file to evaluate on, with --annotations")
    p.add_argument("--out", help="folder (default: runs/RECIPE-SEED)")
    p.add_argument("--weights", help="start from these: a file of ours, as far as it fits, or a backbone's state dict")
    p.add_argument("--seed", type=natural, default=0)
    p.add_argument("--device", help="cpu, cuda, cuda:1 … (default: a GPU if there is one)")
    p.add_argument("--workers", type=natural, default=0, help="processes that load images (default: %(default)s)")
    p.add_argument("--batch-size", type=count, help="images a step, over all GPUs; scales the learning rate linearly")
    p.add_argument("--accumulate", type=count, default=1, metavar="N", help="do a step in N parts: less memory")
    p.add_argument("--eval-every", type=positive, metavar="EPOCHS", help="(default: 1, or those of 500 steps if more)")
    p.add_argument("--checkpoint-every", type=positive, metavar="EPOCHS", help="(default: 1, or those of 500 steps)")
    p.add_argument("--tensorboard", action="store_true", help="write the folder's tensorboard/, too")
    p.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    p.add_argument("--print", action="store_true", dest="show", help="print all that would happen, as JSON, and stop")
    p.set_defaults(run=_train)

    p = commands.add_parser("evaluate", help="the 12 COCO numbers of a model")
    p.add_argument("weights", help="a safetensors file, or the name of shipped weights")
    _data_options(p)
    p.add_argument("--per-class", action="store_true")
    p.add_argument("--json", help="write the numbers to this file")
    engines = ("pycocotools", "numpy", "faster")
    p.add_argument("--engine", default=engines[0], choices=engines, help="all give the same numbers; numpy is quick")
    p.add_argument("--device")
    p.set_defaults(run=_evaluate)

    p = commands.add_parser("predict", help="detect on images, draw them")
    p.add_argument("images", nargs="+", metavar="IMAGE", help="files or folders")
    p.add_argument("--weights", default="scenes-dsla", help="file or shipped name (default: %(default)s)")
    p.add_argument("--out", default="predictions", help="folder of the pictures (default: %(default)s)")
    p.add_argument("--score", type=float, default=0.3, help="draw detections from this score on (default: 0.3)")
    p.add_argument("--device")
    p.set_defaults(run=_predict)

    p = commands.add_parser("analyze", help="errors, ranking and suppression of any detector, by its COCO results")
    p.add_argument("results", nargs="+", metavar="RESULTS.json", help="COCO results files, shown side by side")
    p.add_argument("--annotations", required=True, help="COCO ground truth of the images")
    p.add_argument("--html", help="write a self-contained report to this file")
    p.add_argument("--out", help="write all tables (CSV) and figures to this folder")
    p.add_argument("--score", type=float, default=0.0, help="leave out detections below this score (default: none)")
    p.add_argument("--nms", type=float, default=0.6, help="IoU of the further NMS that is tried (default: %(default)s)")
    p.set_defaults(run=_analyze)

    p = commands.add_parser("convert", help="a checkpoint of mmdetection or torchvision as a weights file of ours")
    p.add_argument("checkpoint", metavar="CHECKPOINT.pth", help="DSLA or FCOS; nothing in it is executed")
    p.add_argument("--out", required=True, help="safetensors file to write")
    p.add_argument("--recipe", help="what the model is (default: the first of COCO's recipes that its tensors fit)")
    p.set_defaults(run=_convert)

    p = commands.add_parser("export", help="the raw head of a model as ONNX: decoding and NMS stay outside")
    p.add_argument("weights", help="a safetensors file, or the name of shipped weights")
    p.add_argument("--out", required=True, metavar="FILE.onnx")
    p.add_argument("--size", type=count, nargs=2, metavar=("H", "W"), help="take this size only (default: any)")
    p.set_defaults(run=_export)

    p = commands.add_parser("data", help="write the embedded set as a COCO data set, or fetch COCO")
    p.add_argument("what", choices=("train", "val", "test", "coco"), help="a split of the embedded set, or COCO")
    p.add_argument("--to", required=True, help="folder; a download goes on from what it holds")
    p.add_argument("--size", type=count, help="number of scenes")
    p.add_argument("--split", default="val2017", help="of COCO: train2017 (18 GB) or val2017 (0.8 GB, the default)")
    p.set_defaults(run=_data)

    p = commands.add_parser("figures", help="make everything in figures/ anew")
    p.add_argument("--out", default="figures", help="folder (default: %(default)s)")
    p.set_defaults(run=_figures)

    p = commands.add_parser("doctor", help="check the environment")
    p.set_defaults(run=_doctor)
    return parser


def _data_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--data", help="COCO folder, or folder of images with --annotations (default: embedded scenes)")
    p.add_argument("--annotations", help="COCO-format file of your own")
    p.add_argument("--split", help="split to use (default: train to train on, val otherwise)")
    p.add_argument("--size", type=count, help="number of embedded scenes")


def _reproduce(args: argparse.Namespace) -> int:
    from ..paper.reproduce import reproduce

    if args.recipes:
        from ..paper.runs import FILE, experiments, markdown

        if not args.train:
            raise DataError("--recipes trains them: add --train")
        options = {"seeds": args.seeds, "steps": args.steps, "images": args.images, "jobs": args.jobs}
        found = experiments(args.recipes, args.out, **options)
        found.to_csv(Path(args.out) / "experiments.csv", index=False, float_format="%.6g")
        print(markdown(found), f"{args.out}/{FILE}, {args.out}/experiments.csv", sep="\n\n")
        return 0
    reproduce(
        args.out,
        train=args.train,
        seeds=args.seeds,
        images=args.images,
        steps=args.steps,
        progress=not args.quiet,
    )
    return 0


def _train(args: argparse.Namespace) -> int:
    from .train import run

    return run(args)


def _evaluate(args: argparse.Namespace) -> int:
    from tqdm.auto import tqdm

    from ..coco.results import plain, render
    from ..data.sources import open_dataset
    from ..models.evaluation import evaluate
    from .predict import load_model

    embedded_only(args)
    model = load_model(args.weights, args.device)
    dataset = open_dataset(args.data, args.split or "val", args.annotations, size=args.size, progress=True)
    if tuple(dataset.class_names) != tuple(model.class_names):
        raise DataError(
            f"{args.weights} knows the classes {', '.join(model.class_names)}, but {dataset.name} has "
            f"{', '.join(dataset.class_names)}: evaluate on data with the same classes in the same order"
        )
    with tqdm(total=len(dataset), unit="image", leave=False) as bar:
        numbers = evaluate(model, dataset, engine=args.engine, progress=lambda n, _: bar.update(n - bar.n) and None)
    print(render(numbers))
    for note in numbers.attrs.get("notes", ()):
        print(f"note: {note}")
    if args.per_class:
        import pandas as pd

        print(pd.DataFrame.from_dict(numbers.attrs["per_class"], orient="index").to_string(na_rep="n/a"))
    if args.json:
        Path(args.json).write_text(json.dumps({k: plain(v) for k, v in numbers.items()}), encoding="utf-8")
    return 0


def _predict(args: argparse.Namespace) -> int:
    from .predict import find_images, load_model, predict_files

    images = find_images(args.images)
    rows = predict_files(load_model(args.weights, args.device), images, args.out, draw_from=args.score)
    for row in rows:
        print(f"{row['file']}: {row['detections']} detections, {row['drawn']} drawn → {row['picture']}")
    print(f"all detections: {Path(args.out) / 'detections.json'}")
    return 0


def _analyze(args: argparse.Namespace) -> int:
    from ..analysis.detectors import ask
    from ..paper.detector_report import pictures, short_table, write_html, write_tables

    found = ask(args.results, args.annotations, score_threshold=args.score, nms_threshold=args.nms)
    print(short_table(found))
    drawn = pictures(found) if args.out or args.html else {}
    if args.out:
        print(f"tables and figures: {write_tables(found, drawn, args.out)}")
    if args.html:
        print(f"report: {write_html(found, drawn, args.html, args.annotations, args.score)}")
    return 0


def _convert(args: argparse.Namespace) -> int:
    from ..models.checkpoint import convert

    found = convert(args.checkpoint, args.out, args.recipe)
    recipe = found.model.recipe
    assert recipe is not None
    print(f"{recipe.name}, P6 from the {recipe.extra_levels}, {found.model.num_classes} classes → {found.path}")
    if found.others and args.recipe is None:
        print(f"its tensors also fit {', '.join(found.others)}: --recipe chooses")
    return 0


def _export(args: argparse.Namespace) -> int:
    from ..models import load
    from ..models.export import to_onnx

    print(to_onnx(load(args.weights), args.out, tuple(args.size) if args.size else None))
    return 0


def _data(args: argparse.Namespace) -> int:
    if args.what != "coco":
        from ..data.sources import open_dataset

        print(open_dataset(None, args.what, size=args.size, progress=True).to_coco(args.to))
        return 0
    from tqdm.auto import tqdm

    from ..data.download import download_coco

    with tqdm(unit="B", unit_scale=True, leave=False) as bar:

        def show(file: str, done: int, total: int) -> None:
            bar.set_description_str(file, refresh=False)
            bar.total = total
            bar.update(done - bar.n)

        folder = download_coco(args.split, args.to, progress=show)
    print(f"{folder}: use it with dsla evaluate WEIGHTS --data {folder} --split {args.split}")
    return 0


def _figures(args: argparse.Namespace) -> int:
    from ..paper.gallery import make_figures

    print("\n".join(str(path) for path in make_figures(args.out)))
    return 0


def _doctor(args: argparse.Namespace) -> int:
    """One OK or FAIL line a requirement."""
    from .doctor import check

    return int(not check())


if __name__ == "__main__":
    sys.exit(main())
