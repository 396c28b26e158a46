"""The figures that `dsla reproduce` shows, each with its table, and the scenes and objects chosen as examples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..analysis.study import Study, iou_losses, object_points, profile_means, score_steps, suppressed_boxes
from ..data import Scenes
from ..models import Detector
from ..models.build import assigner
from ..plots import compare, draw_detections, figures
from ..plots.draw import judged
from ..plots.style import Picture, ordered
from ..recipes.scenes import recipe
from .claims import CENTERNESS, DSLA, PLAIN, Finding, interval, shown
from .report import Chart

DRAW_FROM = 0.3  # score of detections that are drawn
LOOKED_AT = 60  # scenes among which examples are chosen


@dataclass(frozen=True)
class Story:
    """What there is to tell: numbers of all runs; studies and models of the first seed, by method."""

    about: dict[str, Any]
    numbers: pd.DataFrame
    findings: tuple[Finding, ...]
    studies: dict[str, Study]
    models: dict[str, Detector]
    dataset: Scenes

    @property
    def methods(self) -> list[str]:
        return ordered(list(self.studies))

    def values(self, analysis: str, name: str) -> dict[str, float]:
        """Mean over seeds, by method."""
        rows = self.numbers[(self.numbers["analysis"] == analysis) & (self.numbers["name"] == name)]
        means = rows.groupby("method")["value"].mean()
        return {m: float(means.get(m, np.nan)) for m in self.methods}

    def each(self, analysis: str, name: str) -> str:
        """ "FCOS 31.1, DSLA 35.4": the number of each method in a sentence."""
        return ", ".join(f"{m} {shown(name, v)}" for m, v in self.values(analysis, name).items())

    def joined(self, table: str) -> pd.DataFrame:
        return figures.method_rows({m: s.tables[table] for m, s in self.studies.items()})

    @property
    def threshold(self) -> float:
        """Scores of neighbours closer than this count as not told apart."""
        return float(self.studies[self.methods[0]].tables["adjacency"].attrs["threshold"])


def charts(story: Story, folder: Path) -> Iterator[Chart]:
    """Each figure, saved with its table; those that have nothing to show are left out."""

    folder.mkdir(parents=True, exist_ok=True)

    def keep(name: str, title: str, figure: Picture, table: pd.DataFrame, kind: str = "svg") -> Chart:
        chart = Chart.of(figure, title, kind, f"figures/{name}.{kind}")
        (folder / f"{name}.{kind}").write_bytes(chart.data)
        table.round(6).to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
        return chart

    studies, data, names = story.studies, story.dataset, tuple(story.dataset.class_names)
    scene = busiest(data)
    figure = _side_by_side(story, scene)
    counts = [{"method": r.title, "object": i, "points": int(n)} for r in figure.rows for i, n in enumerate(r.counts)]
    yield keep("assigners", "Assigners side by side", figure, pd.DataFrame(counts), "png")

    scene = max(range(min(LOOKED_AT, len(data))), key=lambda i: _variety(story, i))
    for m, name in ((PLAIN, "detections-fcos"), (DSLA, "detections-dsla")):
        if m in studies:
            image, target = data[scene]
            found = studies[m].detections[scene]
            figure = draw_detections(image, found, names, target, score_threshold=DRAW_FROM)
            table = judged(found, target, 0.5, DRAW_FROM)[0]
            yield keep(name, f"Detections of {m} beside ground truth", figure, table, "png")

    if (example := _hard_object(story)) is not None:
        index, gt, points = example
        image, target = data[index]
        figure = figures.labels_and_scores(image, target["boxes"][gt].tolist(), points)
        yield keep("labels-and-scores", "Labels and scores of neighbouring points", figure, points)

    means = figures.method_rows({m: profile_means(s.tables["profile"]) for m, s in studies.items()})
    steps = figures.method_rows({m: score_steps(s.tables["adjacency"]) for m, s in studies.items()})
    figure = figures.adjacency_profiles(means, steps, story.threshold)
    yield keep(
        "neighbours", "Profiles, and steps between neighbours", figure, pd.concat([means, steps], ignore_index=True)
    )

    cells = [figures.binned(s.tables["ranking"]["score"], s.tables["ranking"]["iou"], m) for m, s in studies.items()]
    columns = ("pearson", "spearman", "boxes")
    about = [{"method": m, **{c: s.value("ranking", c) for c in columns}} for m, s in studies.items()]
    least = studies[story.methods[0]].tables["ranking"].attrs["iou_threshold"]
    table = pd.concat(cells, ignore_index=True)
    if len(table):
        figure = figures.score_iou(table, pd.DataFrame(about).assign(iou_threshold=least))
        yield keep("score-and-iou", "Score against IoU", figure, table)
        table = story.joined("reliability")
        yield keep("reliability", "Score as a forecast of IoU", figures.reliability_curves(table), table)

    examples = list(_worst(story))
    if examples:
        table = pd.concat([boxes.assign(method=m) for m, _, boxes in examples], ignore_index=True)
        yield keep("suppressed", "A better box is suppressed", figures.suppressed(examples), table, "png")
    table = figures.method_rows({m: iou_losses(s.tables["suppression"]) for m, s in studies.items()})
    if table["share"].notna().any():
        yield keep("lost-to-nms", "What objects lose to NMS", figures.lost_to_nms(table), table)

    own = story.numbers[(story.numbers["analysis"] == "oracle") & story.numbers["name"].str.startswith("AP_")]
    rows = []
    for (m, name), part in own.groupby(["method", "name"], sort=False):
        mean, low, high = interval(part["value"])
        rows.append({"method": m, "variant": name.removeprefix("AP_"), "AP": mean, "low": low, "high": high})
    yield keep("oracles", "Oracles", figures.oracle_scores(pd.DataFrame(rows)), pd.DataFrame(rows))


def busiest(dataset: Scenes) -> int:
    """The scene of most objects among the first `LOOKED_AT`; of equal ones the first."""
    return max(range(min(LOOKED_AT, len(dataset))), key=lambda i: (len(dataset.rows(i)), -i))


def _side_by_side(story: Story, scene: int) -> Picture:
    chosen = {
        PLAIN: recipe("scenes-fcos-plain"),
        "FCOS, centre sampling": recipe("scenes-fcos-plain", center_sampling=1.5),
        DSLA: recipe("scenes-dsla"),
    }
    rows, strides = {name: assigner(r) for name, r in chosen.items()}, chosen[DSLA].strides
    image, target = story.dataset[scene]
    names = story.dataset.class_names
    figure = compare(image, target["boxes"], target["labels"], rows, strides=strides, class_names=names)
    figure.caption = "One scene under three rules, before any training: which point learns which object, how strongly."
    return figure


def _variety(story: Story, index: int) -> tuple[int, int, int]:
    """How much a scene's detections have to show: kinds of verdicts, of all methods; then objects, at most 5."""
    target, kinds = story.dataset.target(index), 0
    for m in (PLAIN, CENTERNESS, DSLA):
        if m in story.studies:
            table, missed = judged(story.studies[m].detections[index], target, 0.5, DRAW_FROM)
            kinds += table["verdict"].nunique() + bool(missed.any())
    return kinds, min(len(target["boxes"]), 5), -index


def _hard_object(story: Story) -> tuple[int, int, pd.DataFrame] | None:
    """The object with most neighbours that plain FCOS does not tell apart: (scene, object, points of all methods)."""
    table = story.studies.get(PLAIN, story.studies[story.methods[0]]).tables["adjacency"]
    alike = table[(table["d_score"].abs() < story.threshold) & (table["level_a"] == table["level_b"])]
    counts = alike.groupby(["image", "gt"]).size().sort_values(ascending=False, kind="stable")
    for image_id, gt in list(counts.index)[:20]:
        index = int(image_id) - 1
        image, target = story.dataset[index]
        points = {m: object_points(d, image, target, int(gt)) for m, d in story.models.items()}
        if all(len(p) for p in points.values()):
            return index, int(gt), figures.method_rows(points)
    return None


def _worst(story: Story) -> Iterator[tuple[str, Any, pd.DataFrame]]:
    """For each method the object that loses most IoU because a worse box has the higher score."""
    for m in story.methods:
        table = story.studies[m].tables["suppression"]
        lost = table[table["found"].astype(bool) & table["suppressor"].notna() & (table["iou_lost"] > 0)]
        if len(lost):
            row = lost.sort_values("iou_lost", ascending=False, kind="stable").iloc[0]
            index = int(row["image"]) - 1
            yield m, story.dataset[index][0], suppressed_boxes(row, story.studies[m].candidates[index])
