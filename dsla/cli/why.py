"""Say of every object whether a detector found it, and if not, where the right box was lost.

Example: dsla why yolox.json --annotations instances.json --method fcos --input-size 640
"""

import json
import sys
from argparse import Namespace
from typing import Any

from ..errors import DataError, visible


def run(args: Namespace) -> None:
    from ..analysis.breakdown import largest_missed
    from ..files import OwnFolder, csv_text, plain
    from ..plots.why import why

    inputs = [p for p in (args.results, args.annotations, args.candidates, args.images) if p]
    folder = OwnFolder(args.out, inputs=inputs, overwrite=args.overwrite) if args.out else None
    answers = why(
        args.results, args.annotations, args.method, input_size=args.input_size, strides=args.strides,
        score_threshold=args.score, iou_threshold=args.iou, candidates=args.candidates, nms_threshold=args.nms,
        images=args.images,
    )  # fmt: skip
    table, numbers = answers.table, answers.summary()
    chosen = largest_missed(table)
    if args.image is not None:
        if args.image not in map(str, answers.truth.image_ids.tolist()):
            raise DataError(f"--image {args.image}: {args.annotations} has no image of this id")
        chosen = table = table[table["image"].astype(str) == args.image]
    chosen = chosen.index[: args.most].tolist()
    if args.json:
        rows = json.loads(table.to_json(orient="records", force_ascii=False))
        values = {k: int(v) if v == v and float(v).is_integer() else plain(v) for k, v in numbers.items()}
        content = {"summary": values, "notes": list(answers.notes), "objects": rows}
        print(json.dumps(content | {"explained": [answers.explain(i) for i in chosen]}, indent=1, ensure_ascii=False))
    else:
        print(visible(_text(answers, numbers, chosen)))
    if folder:
        folder.write("why.csv", csv_text(table))
        print(_draw(answers, chosen, folder), file=sys.stderr if args.json else sys.stdout)


def _text(answers: Any, numbers: Any, chosen: list[int]) -> str:
    from ..analysis.breakdown import verdicts_by_points
    from ..coco.problems import many

    cross, definitions = verdicts_by_points(answers.table), numbers.attrs["definitions"]
    setting = f"points: of {answers.setting}; none, few (1 or 2), more"
    lines = [many(len(answers.table), "object"), *([cross.to_string(), setting] if len(answers.table) else [])]
    lines += [f"{name}: {value:.3g}  {definitions[name]}" for name, value in numbers.items()
              if name.startswith("missed_") and value == value]  # fmt: skip
    lines += [f"{name}: n/a  {reason}" for name, reason in numbers.attrs["reasons"].items() if name == "suppressed"]
    lines += [f"note: {note}" for note in answers.notes]
    lines += [f"\n{answers.explain(i)}" for i in chosen]
    return "\n".join(lines)


def _draw(answers: Any, chosen: list[int], folder: Any) -> str:
    from ..plots.style import picture_bytes

    drawn, lines = 0, list[str]()
    for i in chosen:
        try:
            picture = picture_bytes(answers.picture(i), "png")
        except DataError as error:
            lines.append(f"row {i} is not drawn: {visible(str(error))}")
            continue
        folder.write(f"figures/object-{i}.png", picture)
        drawn += 1
    return "\n".join([f"{folder.path}: why.csv and {drawn} pictures in figures/", *lines])
