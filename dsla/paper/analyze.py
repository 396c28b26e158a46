"""What `dsla analyze` shows: a short table, a self-contained page, tables and figures as files."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..analysis.breakdown import UNKNOWN, UNMATCHED, largest_missed, verdicts_by_points
from ..analysis.detectors import Answers, compared
from ..coco.matching import RECALLS
from ..coco.problems import Problems, many, some
from ..data.pictures import annotated_pixels, as_floats
from ..errors import DataError
from ..files import OwnFolder, csv_text, plain
from ..plots import detectors, figures
from ..plots.style import ERRORS, distinct
from .definitions import ROWS, as_text, as_texts, is_in, label, with_half
from .exhibits import ABREAST, joined, shared_charts
from .pages import Chart, Grid, notebook, page

CASES = 8  # of each kind in the gallery of the worst
ROWS_OF_LATEX = 1000  # of a table that is written as LaTeX: longer ones are no tables of a paper


def notes_of(answers: Sequence[Answers], analysis: str, names: Sequence[str]) -> list[str]:
    """A line for every number that is undefined."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for a in answers:
        rows = a.about(analysis).loc[list(names)]
        for name, reason in rows.loc[rows["value"].isna(), "reason"].items():
            reasons.setdefault((a.name, reason), []).append(name)
    return [f"n/a for {who}, {reason}: {', '.join(names)}." for (who, reason), names in reasons.items()]


def short_table(answers: Sequence[Answers]) -> str:
    """What the shell prints: numbers in text, a column a detector, and what each number is."""
    shell = ROWS["shell"].items()
    rows = [(analysis, name) for analysis, names in shell for name in names]
    columns = {a.name: [as_text(name, a.value(analysis, name)) for analysis, name in rows] for a in answers}
    table = pd.DataFrame(columns, index=[name for _, name in rows]).to_string().splitlines()
    lines = [table[0], *(f"{line}  {label(n) if label(n) != n else ''}".rstrip() for line, (_, n) in
                         zip(table[1:], rows, strict=True))]  # fmt: skip
    lines += [f"{a.name}: {note}" for a in answers for note in a.evaluation.notes]
    return "\n".join([*lines, *(note for analysis, names in shell for note in notes_of(answers, analysis, names))])


def as_json(answers: Sequence[Answers]) -> dict[str, Any]:
    """Every number with its definition, by detector; tables by class, size and points; intervals and differences."""

    def rows(table: pd.DataFrame) -> list[Any]:
        return [plain(row) for row in table.astype(object).where(table.notna(), None).to_dict("records")]

    content: dict[str, Any] = {}
    for a in answers:
        names = [n for n in ("errors_by", "points", "intervals") if n in a.tables]
        content[a.name] = {"file": a.file, "images": a.evaluation.n_images, "notes": list(a.evaluation.notes)}
        content[a.name] |= {"numbers": rows(_numbers(a)), "per_class": rows(a.evaluation.per_class.reset_index())}
        content[a.name] |= {n: rows(a.tables[n]) for n in names}
    about = {n: plain(answers[0].tables["intervals"].attrs[n]) for n in ("level", "resamples")}
    pairs, objects = compared(answers, about["level"])
    return {"detectors": content, "differences": rows(pairs), "found_by": rows(objects)} | about


def _numbers(a: Answers) -> pd.DataFrame:
    """The numbers of a detector, counts as whole numbers."""
    rounded = zip(a.numbers["name"], a.numbers["value"].round(6), strict=True)
    values = [int(v) if is_in("count", n) and np.isfinite(v) else v for n, v in rounded]
    return a.numbers.assign(value=pd.Series(values, dtype=object, index=a.numbers.index))


def charts(answers: Sequence[Answers], images: str | Path | None = None) -> dict[str, Chart]:
    """Every figure that has something to show, drawn, with its table, by its name.

    Args:
        answers: of each detector.
        images: folder of the images, for the worst cases.
    """
    with distinct([a.name for a in answers]):
        drawn = [*_charts(answers), *_breakdowns(answers)]
        for i, a in enumerate(answers if images else ()):
            drawn += _worst(a, str(images), f"-{i + 1}")
        return {chart.name: chart for chart in drawn}


def _breakdowns(answers: Sequence[Answers]) -> Iterator[Chart]:
    """Intervals, curves, errors by size, confusions, missed objects by points."""
    by_name, about = {a.name: a for a in answers}, answers[0].tables["intervals"].attrs
    intervals = joined(by_name, "intervals")
    if intervals["low"].notna().any():
        figure = detectors.number_intervals(intervals, compared(answers, about["level"])[0], **about)
        yield Chart("intervals", "How sure these numbers are", figure, intervals)
    curves = pd.concat([_curve(a) for a in answers], ignore_index=True)
    if curves["precision"].notna().any():
        figure = detectors.precision_recall(curves)
        yield Chart("precision-recall", "Precision and recall", figure, curves)
    sizes = joined(by_name, "errors_by").query("by == 'size'")
    if sizes["objects"].any():
        yield Chart("fates", "What becomes of objects by size", detectors.fates_by_size(sizes), sizes)
    for i, a in enumerate(answers):
        table = a.tables["confusion"]
        called = (table["truth"] != UNKNOWN) & (table["detected"] != UNMATCHED)
        if called.any() and a.evaluation.per_class["objects"].astype(bool).sum() > 1:
            figure = detectors.confusions(table, a.name, table.attrs["score_threshold"])
            yield Chart(f"confusions-{i + 1}", f"Which class {a.name} calls which", figure, table)
    if "points" in answers[0].tables and answers[0].tables["points"]["objects"].any():
        points, why = joined(by_name, "points"), answers[0].tables["why"].attrs
        figure = detectors.missed_by_points(points, why["setting"], why["score_threshold"])
        yield Chart("points", "Objects not found, by their points", figure, points)


def _curve(a: Answers) -> pd.DataFrame:
    """method, iou, recall, precision: means over the classes that have objects."""
    precision = a.evaluation.curves.precision[..., 0]
    precision = precision[:, :, (precision > -1).any((0, 1))]
    lines = {"0.5": precision[:1], "0.75": precision[5:6], "mean": precision}
    parts = [{"iou": k, "recall": RECALLS, "precision": v.mean((0, 2)) if v.size else np.nan} for k, v in lines.items()]
    return pd.concat(map(pd.DataFrame, parts), ignore_index=True).assign(method=a.name)


def _worst(a: Answers, images: str, end: str) -> Iterator[Chart]:
    """The largest objects that are not found, and the false detections of the highest scores."""
    truth, errors = a.detections.truth, a.tables["errors"]
    place = {image: i for i, image in enumerate(truth.images)}
    alarms = errors[errors["kind"].isin(set(ERRORS) - {"missed", "duplicate"})]
    alarms = alarms.sort_values("score", ascending=False, kind="stable").head(CASES)
    there = alarms["gt_name"].astype(object).where(alarms["gt_name"].notna(), "–")
    texts = [f"{r['name']} {r['score']:.2f}: {ERRORS[r['kind']]}\nthere: {there[i]}" for i, r in alarms.iterrows()]
    kinds = [("false", "False detections of the highest scores", alarms, texts)]
    if "why" in a.tables:
        lost = largest_missed(a.tables["why"]).head(CASES)
        points = ["points unknown" if pd.isna(n) else many(int(n), "point") for n in lost["count"]]
        texts = [f"{r['name']}: {r['verdict']}\n{n}" for n, (_, r) in zip(points, lost.iterrows(), strict=True)]
        kinds.insert(0, ("missed", "Largest objects not found", lost, texts))
    for kind, title, table, words in kinds:
        cases, problems, unread = [], Problems(images), dict[Any, str]()
        for (_, row), text in zip(table.iterrows(), words, strict=True):
            try:
                cases.append((as_floats(annotated_pixels(truth, place[row["image"]], images)), row, text))
            except DataError as error:
                unread[row["image"]] = str(error)
        problems.add("unreadable-file", unread, next(iter(unread.values()), ""))
        problems.warn()
        if cases:
            figure = detectors.worst(cases, a.name, kind)
            if unread:
                figure.caption += f" Not shown, for their files cannot be read: images {some(list(unread))}."
            yield Chart(f"worst-{kind}{end}", title, figure, table, "png")


def _charts(answers: Sequence[Answers]) -> Iterator[Chart]:
    """What errors cost, and what is shown of models, too."""
    errors = pd.DataFrame(
        {"method": a.name, "error": e, "gain": a.value("errors", f"dAP_{e}"), "count": int(a.value("errors", e))}
        for a in answers
        for e in ERRORS
    )
    yield Chart("errors", "What errors cost", figures.error_costs(errors), errors)
    numbers = pd.concat([a.numbers.assign(method=a.name) for a in answers])
    yield from shared_charts(
        {a.name: a for a in answers}, numbers, answers[0].tables["suppression"].attrs["nms_threshold"]
    )


def write_folder(answers: Sequence[Answers], drawn: dict[str, Chart], folder: OwnFolder, latex: bool = False) -> None:
    """numbers, per_class, and one file a table with a column detector, differences and objects of two detectors, as CSV
    and as LaTeX if asked for and not of more than ROWS_OF_LATEX rows; figures/; a notebook that loads all."""
    parts = {"numbers": [_numbers(a) for a in answers]}
    parts["per_class"] = [a.evaluation.per_class.reset_index() for a in answers]
    parts |= {name: [a.tables[name] for a in answers] for name in answers[0].tables}
    names: Any = {"keys": [a.name for a in answers], "names": ["detector", None]}
    whole = {
        name: pd.concat(map(pd.DataFrame, tables), **names).reset_index("detector") for name, tables in parts.items()
    }
    if len(answers) > 1:
        whole["differences"], whole["found_by"] = compared(answers, answers[0].tables["intervals"].attrs["level"])
    for name, table in whole.items():
        folder.write(f"{name}.csv", csv_text(table, na_rep="n/a"))
        if latex and len(table) <= ROWS_OF_LATEX:
            folder.write(f"{name}.tex", table.to_latex(index=False, escape=True, na_rep="n/a", float_format="%.3f"))
    for chart in drawn.values():
        chart.save(folder)
    about = "`tables` holds every table by its name; `numbers` says what each number is and why one is n/a."
    folder.write("analyze.ipynb", notebook(f"Detections, looked into: {_names(answers)}", about, drawn.values()))


def html(
    answers: Sequence[Answers], drawn: dict[str, Chart], annotations: str, score_threshold: float | None = None
) -> str:
    """The page.

    Args:
        answers: of each detector.
        drawn: its `charts`.
        annotations: file of the ground truth.
        score_threshold: detections below it were left out; None: none were.
    """

    def grid(analysis: str, caption: str) -> Grid:
        by_name = {a.name: a for a in answers}
        about = answers[0].about(analysis)
        notes = notes_of(answers, analysis, [n for n in ROWS["page"][analysis] if n in about.index])
        return Grid.of(analysis, caption, by_name, lambda m, n: _cell(by_name[m], analysis, n), about, notes)

    return page(
        "analyze.html",
        title=f"Detections, looked into: {_names(answers)}",
        answers=answers,
        charts=drawn,
        grid=grid,
        classes=_classes(answers),
        by_class=[_by_class(a) for a in answers],
        missed=_missed(answers),
        pairs=_pairs(answers),
        costliest=[(a, _costliest(a)) for a in answers],
        kinds=ERRORS,
        annotations=Path(annotations).name,
        score_threshold=score_threshold,
    )


def _names(answers: Sequence[Answers]) -> str:
    return ", ".join(a.name for a in answers) if len(answers) <= ABREAST else f"{len(answers)} detectors"


def _costliest(a: Answers) -> list[tuple[str, float]]:
    """The two kinds of errors that cost most; none where none costs anything."""
    costs = a.about("errors")["value"][ROWS["shell"]["errors"]].dropna().sort_values(ascending=False, kind="stable")
    return list(costs[:2].items()) if len(costs) and costs.iloc[0] > 0 else []


def _cell(a: Answers, analysis: str, name: str) -> str:
    """A number, with half its interval where it has one."""
    low = a.tables["intervals"].set_index("name")["low"]
    return with_half(name, a.value(analysis, name), low.get(name, np.nan) if analysis == "evaluation" else np.nan)


def _classes(answers: Sequence[Answers]) -> Grid:
    """AP of all classes that have objects, those of most objects first."""
    first = answers[0].evaluation.per_class
    aps = {f"AP, {a.name}": a.evaluation.per_class["AP"] for a in answers}
    table = pd.DataFrame({"objects": first["objects"]} | aps).set_axis(first["name"].astype(str))
    table = table[table["objects"] > 0].sort_values("objects", ascending=False, kind="stable")
    return Grid(as_texts(table), f"AP of {many(len(table), 'class')}, points of 100")


def _by_class(a: Answers) -> Grid:
    """Errors of all classes."""
    table = a.tables["errors_by"]
    table = table[table["objects"] + table["detections"] > 0]
    classes = table[table["by"] == "class"].sort_values("objects", ascending=False, kind="stable")
    table = pd.concat([table[table["by"] == "size"], classes])
    rows = table["name"].where(table["by"] == "class", "all " + table["name"].astype(str))
    columns = ["objects", "correct", *ERRORS, "covered", "AP50"]
    frame = as_texts(table[columns]).replace("n/a", "").set_axis(rows)
    names = {**ERRORS, "covered": label("covered")}
    return Grid(frame.rename(columns=names), f"{a.name}: errors by size and class, at IoU 0.5")


def _missed(answers: Sequence[Answers]) -> list[Grid]:
    """Verdicts of `dsla.why`, all and by points, a table a detector."""
    words = {"none": "no point", "few": "1 or 2 points", "more": "3 or more", "unknown": "points unknown"}
    grids = []
    for a in answers if "why" in answers[0].tables else ():
        table = verdicts_by_points(a.tables["why"])
        frame = table.rename(columns=words).assign(all=table.sum(axis=1)).map("{:,}".format)
        about = a.tables["why"].summary().attrs["definitions"]
        index = {v: "found by a detection" if v == "found" else v for v in table.index}  # of NMS, found is another word
        caption = f"{a.name}: what became of the objects, by the points that learn them"
        grids.append(Grid(frame.rename(index=index), caption, {index[v]: about[v] for v in index}))
    return grids


def _pairs(answers: Sequence[Answers]) -> list[Grid]:
    """Differences of every two detectors, and the objects that one of them finds."""
    numbers, objects = compared(answers, answers[0].tables["intervals"].attrs["level"])
    grids = []
    for (a, b), rows in numbers.groupby(["first", "second"], sort=False) if len(numbers) else ():
        ends = rows.set_index(rows["name"].map(label))[["value", "low", "high"]]
        frame = ends.map(partial(as_text, "AP", signed=True)).set_axis(["difference", "from", "to"], axis=1)
        grids.append(Grid(frame, f"{a} minus {b}, points of 100, with the ends of the interval"))
        part = objects[(objects["first"] == a) & (objects["second"] == b)] if len(objects) else objects
        names = {"objects": "objects", "both": "both", "only_first": f"only {a}", "only_second": f"only {b}",
                 "neither": "neither"}  # fmt: skip
        if len(part):
            frame = part.set_index("size")[list(names)].map("{:,}".format).rename(columns=names)
            grids.append(Grid(frame, "Objects by who finds them"))
    return grids
