"""Give the 12 COCO numbers of a model.

Example: dsla evaluate runs/r50/model.safetensors --data /data/coco --split val
"""

import json
from argparse import Namespace

from ..files import plain, refuse_existing, write


def run(args: Namespace) -> None:
    from ..coco.evaluation import shown
    from ..data.sources import open_dataset, progress_bar
    from ..models import load
    from ..models.evaluation import evaluate, usable

    model = load(args.weights, usable(args.device))
    data = {"size": args.size, "progress": True, "value_range": args.value_range}
    dataset = open_dataset(args.data, args.split or "val", args.annotations, **data)
    if args.json:
        refuse_existing([args.json], inputs=[args.weights, *dataset.files_read()], overwrite=args.overwrite)
    with progress_bar() as advance:
        numbers = evaluate(model, dataset, progress=advance, engine=args.engine, max_detections=args.max_detections)
    print(shown(numbers))
    if args.per_class:
        import pandas as pd

        print(pd.DataFrame.from_dict(numbers.attrs["per_class"], orient="index").to_string(na_rep="n/a"))
    if args.json:
        write(args.json, json.dumps({k: plain(v) for k, v in numbers.items()}))
