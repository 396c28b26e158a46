"""Give the 12 COCO numbers of a model.

Example: dsla evaluate runs/r50/model.safetensors --data /data/coco --split val
"""

import json
from argparse import ArgumentParser, Namespace

from ..files import refuse_existing, write
from .arguments import EMBEDDED, ONE_FILE, Needs, count, data_options, output_option, plugin_option

NEEDS = (EMBEDDED, ONE_FILE, Needs("overwrite", lambda args: args.json, "needs --json, the file that it replaces"))


def options(p: ArgumentParser) -> None:
    p.add_argument("weights", help="a safetensors file, or the name of shipped weights")
    data_options(p)
    p.add_argument("--per-class", action="store_true", help="a line a class, too")
    p.add_argument("--json", metavar="FILE", help="write the numbers to this file")
    p.add_argument(
        "--engine", default="numpy", choices=("numpy", "pycocotools"), help="the same numbers; pycocotools is slow"
    )
    p.add_argument(
        "--max-detections", type=count, default=100, metavar="N",
        help="of an image and class that AP counts (default: %(default)s, as COCO's)",
    )  # fmt: skip
    output_option(p, "the file of --json")
    p.add_argument("--device", help="cpu, cuda, cuda:1 … (default: a GPU if there is one)")
    plugin_option(p)


def run(args: Namespace) -> None:
    from ..coco.evaluation import shown
    from ..data.sources import open_dataset, progress_bar
    from ..files import plain
    from ..models import load
    from ..models.evaluation import evaluate, usable

    if args.json:
        inputs = [path for path in (args.weights, args.annotations) if path]
        refuse_existing([args.json], inputs=inputs, overwrite=args.overwrite)
    model = load(args.weights, usable(args.device))
    dataset = open_dataset(args.data, args.split or "val", args.annotations, size=args.size, progress=True)
    limits = {"engine": args.engine, "max_detections": args.max_detections}
    with progress_bar() as advance:
        numbers = evaluate(model, dataset, progress=advance, **limits)
    print(shown(numbers))
    if args.per_class:
        import pandas as pd

        print(pd.DataFrame.from_dict(numbers.attrs["per_class"], orient="index").to_string(na_rep="n/a"))
    if args.json:
        write(args.json, json.dumps({k: plain(v) for k, v in numbers.items()}))
