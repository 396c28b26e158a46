"""What `dsla analyze` shows: a short table, a self-contained page, tables and figures as files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .. import __version__
from ..analysis.detectors import Answers
from ..analysis.study import iou_losses
from ..plots import figures
from ..plots.draw import many
from ..plots.mistakes import NAMES, error_costs
from ..plots.style import Picture, distinct
from .claims import shown
from .report import Block, Chart, Glossary, Grid, Section, Text, write_page
from .story import DEFINITIONS, GLOSSARY, ROWS

ABREAST = 3  # detectors in one score–IoU figure
CLASSES = 15  # in the table of classes
SHORT = {
    "evaluation": ("AP", "AP50", "AP75", "AR@100"),
    "ranking": ("boxes", "spearman", "wrong_pairs", "reliability_gap"),
    "suppression": ("found", "best_suppressed", "lost_over_0.05"),
    "oracle": ("ranking_cost", "localisation_cost"),
    "errors": ("dAP_classification", "dAP_localisation", "dAP_both", "dAP_duplicate", "dAP_background", "dAP_missed"),
}
LONG = {
    **{name: ROWS[name] for name in ("ranking", "suppression", "oracle")},
    "evaluation": (
        *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
        *("AR@1", "AR@10", "AR@100", "AR_small", "AR_medium", "AR_large"),
    ),
    "errors": (
        *("detections", "correct", "classification", "localisation", "both", "duplicate", "background", "ignored"),
        *("objects", "missed", "covered", "AP", *SHORT["errors"]),
    ),
}
WHOLE = ("found", "correct", "classification", "localisation", "both", "duplicate", "background", "missed", "covered",
         "ignored")  # fmt: skip
MEANINGS = {
    **DEFINITIONS,
    "AP_large": "objects from 96² pixels on",
    "AR@1": "average recall with one detection an image",
    "AR@10": "average recall with 10 detections an image",
    "AR_small": "AR@100 of objects below 32² pixels",
    "AR_medium": "AR@100 of objects from 32² to 96² pixels",
    "AR_large": "AR@100 of objects from 96² pixels on",
}
WORDS = {name: GLOSSARY[name] for name in ("score", "IoU", "NMS", "AP")}


Pictures = dict[str, tuple[Chart, pd.DataFrame]]


def said(name: str, value: float) -> str:
    """A number as a person reads it: AP in points of 100, counts whole, n/a where undefined."""
    if name in WHOLE and np.isfinite(value):
        return f"{value:,.0f}"
    return shown("AP" if name.startswith("dAP") else name, value, signed=name.startswith("dAP"))


def grid_of(found: Sequence[Answers], analysis: str, names: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Numbers in text, a column a detector; and a line for every one that is undefined."""
    names = [n for n in names if n in found[0].about(analysis).index]
    frame = pd.DataFrame(
        {a.name: [said(n, a.value(analysis, n)) for n in names] for a in found}, index=pd.Index(names, name="")
    )
    reasons: dict[tuple[str, str], list[str]] = {}
    for a in found:
        rows = a.about(analysis).loc[names]
        for n, reason in rows.loc[rows["value"].isna(), "reason"].items():
            reasons.setdefault((a.name, reason), []).append(n)
    return frame, [f"n/a for {who}, {reason}: {', '.join(n)}." for (who, reason), n in reasons.items()]


def short_table(found: Sequence[Answers]) -> str:
    """What the shell prints."""
    parts, notes = zip(*(grid_of(found, analysis, names) for analysis, names in SHORT.items()), strict=True)
    lines = [pd.concat(parts).to_string(index_names=False)]
    lines += [f"{a.name}: {note}" for a in found for note in a.evaluation.notes]
    return "\n".join([*lines, *(line for part in notes for line in part)])


def charts(found: Sequence[Answers]) -> Iterator[tuple[str, str, Picture, pd.DataFrame]]:
    """(file name, title, figure, its table) of every figure that has something to show."""
    rows = [
        {"method": a.name, "error": e, "gain": a.value("errors", f"dAP_{e}"), "count": a.value("errors", e)}
        for a in found
        for e in NAMES
    ]
    yield "errors", "What errors cost", error_costs(pd.DataFrame(rows)), pd.DataFrame(rows)
    scored = [a for a in found if len(a.tables["ranking"])]
    for first in range(0, len(scored), ABREAST):
        some = scored[first : first + ABREAST]
        table = pd.concat(
            [figures.binned(a.tables["ranking"]["score"].clip(0, 1), a.tables["ranking"]["iou"], a.name) for a in some]
        )
        columns = ("pearson", "spearman", "boxes")
        about = pd.DataFrame([{"method": a.name, **{c: a.value("ranking", c) for c in columns}} for a in some])
        figure = figures.score_iou(table, about.assign(iou_threshold=some[0].tables["ranking"].attrs["iou_threshold"]))
        figure.caption = figure.caption.replace(", after NMS;", ";")
        yield "score-and-iou" + (f"-{first // ABREAST + 1}" if first else ""), "Score against IoU", figure, table
    if scored:
        table = figures.method_rows({a.name: a.tables["reliability"] for a in scored})
        yield "reliability", "Score as a forecast of IoU", figures.reliability_curves(table), table
    table = figures.method_rows({a.name: iou_losses(a.tables["suppression"]) for a in found}).dropna(subset="share")
    if len(table):
        figure = figures.lost_to_nms(table)
        figure.caption += f" NMS at IoU {found[0].tables['suppression'].attrs['nms_threshold']:g} over the results."
        yield "lost-to-nms", "What objects lose to a further NMS", figure, table
    table = figures.method_rows({a.name: a.tables["oracle"][["variant", "AP"]] for a in found})
    if table["AP"].notna().any():
        table = table.assign(low=np.nan, high=np.nan)
        yield "oracles", "Oracles", figures.oracle_scores(table), table


def pictures(found: Sequence[Answers]) -> Pictures:
    """All figures, drawn: file name → chart and the table that it is drawn from."""
    with distinct([a.name for a in found]):
        return {name: (Chart.of(figure, title), table) for name, title, figure, table in charts(found)}


def write_tables(found: Sequence[Answers], drawn: Pictures, folder: str | Path) -> Path:
    """numbers.csv, per_class.csv, one file a table with a column detector; figures/ with the table of each."""
    folder = Path(folder)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    tables = {"numbers": {a.name: a.numbers for a in found}}
    tables["per_class"] = {a.name: a.evaluation.per_class.reset_index() for a in found}
    tables |= {name: {a.name: a.tables[name] for a in found} for name in found[0].tables}
    for name, parts in tables.items():
        joined = pd.concat([pd.DataFrame(t).assign(detector=who) for who, t in parts.items()], ignore_index=True)
        joined.insert(0, "detector", joined.pop("detector"))
        _write_csv(joined, folder / f"{name}.csv")
    for name, (chart, table) in drawn.items():
        (folder / "figures" / f"{name}.svg").write_bytes(chart.data)
        _write_csv(table, folder / "figures" / f"{name}.csv")
    return folder


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    table.round(6).to_csv(path, index=False, lineterminator="\n", na_rep="n/a", encoding="utf-8")


def write_html(
    found: Sequence[Answers], drawn: Pictures, path: str | Path, annotations: str, score_threshold: float = 0.0
) -> Path:
    """The page."""
    limit = found[0].tables["suppression"].attrs["nms_threshold"]
    objects = int(found[0].evaluation.per_class["objects"].sum())
    images = found[0].evaluation.n_images
    left_out = f" Detections with a score below {score_threshold:g} are left out." if score_threshold > 0 else ""

    def chart(start: str) -> list[Block]:
        return [c for name, (c, _) in drawn.items() if name.startswith(start)]

    def grid(analysis: str, caption: str) -> list[Block]:
        frame, notes = grid_of(found, analysis, LONG[analysis])
        words = found[0].about(analysis)["definition"]
        return [Grid(frame, caption, {n: words[n] or MEANINGS.get(n, "") for n in frame.index}), *map(Text, notes)]

    second = (
        "A results file holds what a detector put out, as a rule after NMS. Its rows are taken as the candidates "
        f"here, and an NMS at IoU {limit:g} within classes is run over them: what is lost is what that further NMS "
        "takes away. "
        "Write the boxes before NMS to a results file to see what the detector's own NMS does."
    )
    sections = [
        Section("Detection", [*_notes(found), *grid("evaluation", "COCO numbers, points of 100"), _classes(found)]),
        Section(
            "Errors",
            [Text(ABOUT_ERRORS), *_worst(found), *chart("errors"), *grid("errors", "Errors by kind, AP at IoU 0.5")],
        ),
        Section(
            "Score and overlap",
            [*chart("score-and-iou"), *chart("reliability"), *grid("ranking", "Score against IoU of the detections")],
        ),
        Section(
            "Suppression",
            [Text(second), *chart("lost-to-nms"), *grid("suppression", "What becomes of each object's best box")],
        ),
        Section(
            "What ranking costs",
            [
                Text(
                    f"The same rows with other scores, or other boxes, then NMS at IoU {limit:g} and the 100 best "
                    "of an image; by that NMS the AP as it is can differ from the one above."
                ),
                *chart("oracles"),
                *grid("oracle", "AP with scores or boxes replaced, points of 100"),
            ],
        ),
        Section("Words", [Glossary(WORDS)]),
        Section(
            "How this was made",
            [
                Text(
                    f"dsla analyze, version {__version__}. Annotations: {Path(annotations).name}. Results: "
                    f"{', '.join(f'{a.file} ({a.name})' for a in found)}.{left_out} Matching and COCO numbers "
                    "are those of pycocotools, computed in whole arrays; crowd regions are ignored."
                )
            ],
        ),
    ]
    lead = (
        f"{many(len(found), 'detector')} on {many(images, 'image')} with {many(objects, 'object')}: how much is found, "
        f"what goes wrong, and whether their scores know how good their boxes are.{left_out}"
    )
    who = ", ".join(a.name for a in found) if len(found) <= ABREAST else many(len(found), "detector")
    return write_page(path, f"Detections, looked into: {who}", lead, sections)


ABOUT_ERRORS = (
    "Every detection is correct (matched one-to-one with an object of its class, as pycocotools does at IoU 0.5), "
    "ignored (in a crowd region), or one of five errors; objects that nothing finds are missed. The kinds are TIDE's "
    "(Bolya et al., ECCV 2020)."
)


def _notes(found: Sequence[Answers]) -> Iterator[Block]:
    for a in found:
        for note in a.evaluation.notes:
            yield Text(f"{a.name}: {note}.")


def _worst(found: Sequence[Answers]) -> Iterator[Block]:
    """The two kinds of errors that cost most."""
    for a in found:
        costs = a.about("errors")["value"][list(SHORT["errors"])].dropna().sort_values(ascending=False, kind="stable")
        if len(costs) and costs.iloc[0] > 0:
            words = [f"{NAMES[n.removeprefix('dAP_')]} ({said(n, v)} AP at IoU 0.5)" for n, v in costs[:2].items()]
            yield Text(f"What costs {a.name} most: {words[0]}, then {words[1]}.")


def _classes(found: Sequence[Answers]) -> Block:
    """AP of the classes with most objects."""
    first = found[0].evaluation.per_class
    rows = first[first["objects"] > 0].sort_values("objects", ascending=False, kind="stable").index[:CLASSES]
    columns: dict[str, list[str]] = {"objects": [f"{n:,}" for n in first.loc[rows, "objects"]]}
    columns |= {f"AP, {a.name}": [shown("AP", v) for v in a.evaluation.per_class.loc[rows, "AP"]] for a in found}
    caption = "Classes with most objects" if len(rows) < (first["objects"] > 0).sum() else "Classes"
    return Grid(
        pd.DataFrame(columns, index=pd.Index(first.loc[rows, "name"], name="")), caption + ", AP in points of 100"
    )
