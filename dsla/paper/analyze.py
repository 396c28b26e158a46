"""What `dsla analyze` shows: a short table, a self-contained page, tables and figures as files."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from .. import __version__
from ..analysis.detectors import Answers
from ..analysis.study import iou_losses
from ..files import OwnFolder, csv_text
from ..plots import figures
from ..plots.style import ERRORS, distinct
from .definitions import ROWS, as_text
from .exhibits import oracle_table, score_iou_chart
from .pages import Chart, Grid, notebook, page

ABREAST = 3  # detectors in one score–IoU figure
CLASSES = 15  # in the table of classes


def notes_of(answers: Sequence[Answers], analysis: str, names: Sequence[str]) -> list[str]:
    """A line for every number that is undefined."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for a in answers:
        rows = a.about(analysis).loc[list(names)]
        for name, reason in rows.loc[rows["value"].isna(), "reason"].items():
            reasons.setdefault((a.name, reason), []).append(name)
    return [f"n/a for {who}, {reason}: {', '.join(names)}." for (who, reason), names in reasons.items()]


def short_table(answers: Sequence[Answers]) -> str:
    """What the shell prints: numbers in text, a column a detector."""
    shell = ROWS["shell"].items()
    rows = [(analysis, name) for analysis, names in shell for name in names]
    columns = {a.name: [as_text(name, a.value(analysis, name)) for analysis, name in rows] for a in answers}
    lines = [pd.DataFrame(columns, index=[name for _, name in rows]).to_string()]
    lines += [f"{a.name}: {note}" for a in answers for note in a.evaluation.notes]
    return "\n".join([*lines, *(note for analysis, names in shell for note in notes_of(answers, analysis, names))])


def charts(answers: Sequence[Answers]) -> dict[str, Chart]:
    """Every figure that has something to show, drawn, with its table, by its name."""
    with distinct([a.name for a in answers]):
        return {chart.name: chart for chart in _charts(answers)}


def _charts(answers: Sequence[Answers]) -> list[Chart]:
    errors = pd.DataFrame(
        {"method": a.name, "error": e, "gain": a.value("errors", f"dAP_{e}"), "count": a.value("errors", e)}
        for a in answers
        for e in ERRORS
    )
    drawn = [Chart.of("errors", "What errors cost", figures.error_costs(errors), errors)]
    scored = [a for a in answers if len(a.tables["ranking"])]
    for first in range(0, len(scored), ABREAST):
        name = "score-and-iou" + (f"-{first // ABREAST + 1}" if first else "")
        rankings = {a.name: a.tables["ranking"] for a in scored[first : first + ABREAST]}
        drawn.append(score_iou_chart(rankings, name, after_nms=False))
    if scored:
        table = figures.method_rows({a.name: a.tables["reliability"] for a in scored})
        figure = figures.reliability_curves(table)
        drawn.append(Chart.of("reliability", "Score as a forecast of IoU", figure, table))
    table = figures.method_rows({a.name: iou_losses(a.tables["suppression"]) for a in answers}).dropna(subset="share")
    if len(table):
        figure = figures.lost_to_nms(table)
        figure.caption += f" NMS at IoU {_nms(answers):g} over the results."
        drawn.append(Chart.of("lost-to-nms", "What objects lose to a further NMS", figure, table))
    table = oracle_table(pd.concat([a.numbers.assign(method=a.name) for a in answers]))
    if table["AP"].notna().any():
        drawn.append(Chart.of("oracles", "Oracles", figures.oracle_scores(table), table))
    return drawn


def write_folder(answers: Sequence[Answers], drawn: dict[str, Chart], folder: OwnFolder) -> None:
    """numbers.csv, per_class.csv, one file a table with a column detector, figures/, and a notebook that loads all."""
    tables = {"numbers": {a.name: a.numbers for a in answers}}
    tables["per_class"] = {a.name: a.evaluation.per_class.reset_index() for a in answers}
    tables |= {name: {a.name: a.tables[name] for a in answers} for name in answers[0].tables}
    for name, parts in tables.items():
        joined = pd.concat([pd.DataFrame(t).assign(detector=who) for who, t in parts.items()], ignore_index=True)
        joined.insert(0, "detector", joined.pop("detector"))
        folder.write(f"{name}.csv", csv_text(joined, na_rep="n/a"))
    for chart in drawn.values():
        chart.save(folder)
    about = "`tables` holds every table by its name; `numbers` says what each number is and why one is n/a."
    folder.write("analyze.ipynb", notebook(f"Detections, looked into: {_names(answers)}", about, drawn.values()))


def html(answers: Sequence[Answers], drawn: dict[str, Chart], annotations: str, score_threshold: float = 0.0) -> str:
    """The page.

    Args:
        answers: of each detector.
        drawn: its `charts`.
        annotations: file of the ground truth.
        score_threshold: detections below it were left out.
    """

    def grid(analysis: str, caption: str) -> Grid:
        by_name = {a.name: a for a in answers}
        about = answers[0].about(analysis)
        notes = notes_of(answers, analysis, [n for n in ROWS["page"][analysis] if n in about.index])
        return Grid.of(analysis, caption, by_name, lambda m, n: as_text(n, by_name[m].value(analysis, n)), about, notes)

    return page(
        "analyze.html",
        title=f"Detections, looked into: {_names(answers)}",
        answers=answers,
        charts=drawn,
        grid=grid,
        classes=_classes(answers),
        costliest=[(a, _costliest(a)) for a in answers],
        kinds=ERRORS,
        images=answers[0].evaluation.n_images,
        objects=int(answers[0].evaluation.per_class["objects"].sum()),
        nms=_nms(answers),
        annotations=Path(annotations).name,
        score_threshold=score_threshold,
        version=__version__,
    )


def _names(answers: Sequence[Answers]) -> str:
    return ", ".join(a.name for a in answers) if len(answers) <= ABREAST else f"{len(answers)} detectors"


def _nms(answers: Sequence[Answers]) -> float:
    return float(answers[0].tables["suppression"].attrs["nms_threshold"])


def _costliest(a: Answers) -> list[tuple[str, float]]:
    """The two kinds of errors that cost most; none where none costs anything."""
    costs = a.about("errors")["value"][ROWS["shell"]["errors"]].dropna().sort_values(ascending=False, kind="stable")
    return list(costs[:2].items()) if len(costs) and costs.iloc[0] > 0 else []


def _classes(answers: Sequence[Answers]) -> Grid:
    """AP of the classes with most objects."""
    first = answers[0].evaluation.per_class
    rows = first[first["objects"] > 0].sort_values("objects", ascending=False, kind="stable").index[:CLASSES]
    columns = {"objects": [f"{n:,}" for n in first.loc[rows, "objects"]]}
    columns |= {f"AP, {a.name}": [as_text("AP", v) for v in a.evaluation.per_class.loc[rows, "AP"]] for a in answers}
    caption = "Classes with most objects" if len(rows) < (first["objects"] > 0).sum() else "Classes"
    frame = pd.DataFrame(columns, index=first.loc[rows, "name"].astype(str))
    return Grid(frame, f"{caption}, AP in points of 100")
