"""What `dsla reproduce` shows: the numbers of its runs, its figures, the scenes and objects chosen as examples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd

from ..analysis.study import Analysed, Study, iou_losses, object_points, score_steps, single_profiles, suppressed_boxes
from ..data import Scenes
from ..models import Detector
from ..models.build import assigner
from ..plots import compare, draw_detections, figures
from ..plots.draw import judged, judged_images
from ..plots.style import Picture, caption, ordered
from ..recipes import Recipe, recipe
from .claims import CENTERNESS, DSLA, PLAIN, Finding, intervals
from .definitions import as_text, with_half
from .pages import Chart, Grid

ABREAST = 3  # methods in one score–IoU figure
DRAW_FROM = 0.3  # score of detections that are drawn
LOOKED_AT = 60  # scenes among which examples are chosen
FITS, CONTRAST = 0.7, 0.15  # of an object to look at: IoU of its detections; of the mean colours in and around its box


@dataclass(frozen=True)
class Story:
    """What there is to tell: numbers of all runs; studies and models of the first seed, by method."""

    numbers: pd.DataFrame
    findings: tuple[Finding, ...]
    studies: dict[str, Study]
    models: dict[str, Detector]
    dataset: Scenes

    @property
    def methods(self) -> list[str]:
        return ordered(list(self.studies))

    @cached_property
    def over_seeds(self) -> pd.DataFrame:
        """mean, low, high (95 % interval over seeds); index analysis, name, method."""
        return intervals(self.numbers, ["analysis", "name", "method"])

    def values(self, analysis: str, name: str) -> dict[str, float]:
        """Mean over seeds, by method."""
        means = self.over_seeds["mean"]
        return {m: float(means.get((analysis, name, m), np.nan)) for m in self.methods}

    def each(self, analysis: str, name: str) -> str:
        """ "FCOS 31.1, DSLA 35.4": the number of each method in a sentence."""
        return ", ".join(f"{m} {as_text(name, v)}" for m, v in self.values(analysis, name).items())

    def grid(self, analysis: str, caption: str) -> Grid:
        """Numbers of an analysis, a column a method; with several seeds mean ± half the 95 % interval."""

        def cell(method: str, name: str) -> str:
            return with_half(name, *self.over_seeds.loc[(analysis, name, method), ["mean", "low"]])

        about = self.studies[self.methods[0]].numbers.query("analysis == @analysis").set_index("name")
        return Grid.of(analysis, caption, self.methods, cell, about)

    @property
    def threshold(self) -> float:
        """Scores of neighbours closer than this count as not told apart."""
        return float(self.studies[self.methods[0]].tables["adjacency"].attrs["threshold"])


def charts(story: Story) -> Iterator[Chart]:
    """Each figure with its table; those that have nothing to show are left out."""
    studies, data, names = story.studies, story.dataset, tuple(story.dataset.class_names)
    plain, sampled = (recipe("scenes-fcos-plain", center_sampling=radius) for radius in (None, 1.5))
    figure = busiest_under(data, {PLAIN: plain, "FCOS, centre sampling": sampled, DSLA: recipe("scenes-dsla")})
    figure.caption = caption("assigners")
    yield Chart("assigners", "Assigners side by side", figure, point_counts(figure), "png")

    scene = _most_varied(story)
    for m, name in ((PLAIN, "detections-fcos"), (DSLA, "detections-dsla")):
        if m in studies:
            image, target = data[scene]
            detections = studies[m].detections[scene]
            figure = draw_detections(image, detections, names, target, score_threshold=DRAW_FROM)
            table = judged(detections, target, 0.5, DRAW_FROM)[0]
            yield Chart(name, f"Detections of {m} beside ground truth", figure, table, "png")

    if (example := hard_object(story.studies, story.models, story.dataset)) is not None:
        index, gt, points = example
        image, target = data[index]
        figure = figures.labels_and_scores(image, target["boxes"][gt].tolist(), points)
        yield Chart("labels-and-scores", "Labels and scores of neighbouring points", figure, points)

    rows = figures.method_rows(single_profiles({m: s.tables["profile"] for m, s in studies.items()}))
    steps = figures.method_rows({m: score_steps(s.tables["adjacency"]) for m, s in studies.items()})
    table = pd.concat([rows, steps], ignore_index=True)
    figure = figures.adjacency_profiles(rows, steps, story.threshold)
    yield Chart("neighbours", "Profiles, and steps between neighbours", figure, table)

    examples = list(worst_objects(story.studies, story.dataset))
    if examples:
        table = pd.concat([boxes.assign(method=m) for m, _, boxes in examples], ignore_index=True)
        yield Chart("suppressed", "A better box is suppressed", figures.suppressed(examples), table, "png")
    yield from shared_charts(studies, story.numbers)


def shared_charts(studies: Mapping[str, Analysed], numbers: pd.DataFrame, nms: float | None = None) -> Iterator[Chart]:
    """What is shown of models and of any detectors: score against IoU, reliability, losses to NMS, oracles.

    Args:
        studies: by method.
        numbers: of all their runs, see `oracle_table`.
        nms: IoU of the further NMS that was run over results, of whose own nothing is known.
    """
    scored = {m: s.tables["ranking"] for m, s in studies.items() if len(s.tables["ranking"])}
    for first in range(0, len(scored), ABREAST):
        name = "score-and-iou" + (f"-{first // ABREAST + 1}" if first else "")
        yield score_iou_chart(dict(list(scored.items())[first : first + ABREAST]), name, nms is None)
    if scored:
        table = joined({m: studies[m] for m in scored}, "reliability")
        yield Chart("reliability", "Score as a forecast of IoU", figures.reliability_curves(table), table)
    table = figures.method_rows({m: iou_losses(s.tables["suppression"]) for m, s in studies.items()})
    if table["share"].notna().any():
        figure, title = figures.lost_to_nms(table.dropna(subset="share")), "What objects lose to NMS"
        if nms is not None:
            figure.caption += f" NMS at IoU {nms:g} over the results."
            title = "What objects lose to a further NMS"
        yield Chart("lost-to-nms", title, figure, table.dropna(subset="share"))
    table = oracle_table(numbers)
    if table["AP"].notna().any():
        yield Chart("oracles", "Oracles", figures.oracle_scores(table), table)


def joined(studies: Mapping[str, Analysed], table: str) -> pd.DataFrame:
    """A table of the analyses, of all methods, with a column method."""
    return figures.method_rows({m: s.tables[table] for m, s in studies.items()})


def score_iou_chart(rankings: dict[str, pd.DataFrame], name: str = "score-and-iou", after_nms: bool = True) -> Chart:
    """Score against IoU of the detections of each method, from tables of `ranking`."""
    cells = [figures.binned(t["score"].clip(0, 1), t["iou"], m) for m, t in rankings.items()]
    columns = ["pearson", "spearman", "boxes"]
    about = [{"method": m, **t.summary()[columns]} for m, t in rankings.items()]
    least = next(iter(rankings.values())).attrs["iou_threshold"]
    table = pd.concat(cells, ignore_index=True)
    figure = figures.score_iou(table, pd.DataFrame(about).assign(iou_threshold=least), after_nms)
    return Chart(name, "Score against IoU", figure, table)


def oracle_table(numbers: pd.DataFrame) -> pd.DataFrame:
    """method, variant, AP, low, high (over seeds) from the numbers of runs: method, analysis, name, value."""
    aps = numbers[(numbers["analysis"] == "oracle") & numbers["name"].str.startswith("AP_")]
    table = intervals(aps, ["method", "name"]).reset_index().rename(columns={"name": "variant", "mean": "AP"})
    return table.assign(variant=table["variant"].str.removeprefix("AP_"))


def point_counts(figure: Picture) -> pd.DataFrame:
    """method, object, points of a figure of assignments."""
    rows = [{"method": r.title, "object": i, "points": int(n)} for r in figure.rows for i, n in enumerate(r.counts)]
    return pd.DataFrame(rows, columns=["method", "object", "points"])


def busiest(dataset: Scenes) -> int:
    """The scene of most objects among the first `LOOKED_AT`; of equal ones the first."""
    return max(range(min(LOOKED_AT, len(dataset))), key=lambda i: (len(dataset.rows(i)), -i))


def busiest_under(dataset: Scenes, recipes: Mapping[str, Recipe]) -> Picture:
    """The `busiest` scene under the assigners of recipes, by title, on the levels of DSLA's."""
    image, target = dataset[busiest(dataset)]
    rows, strides = {title: assigner(r) for title, r in recipes.items()}, recipe("scenes-dsla").strides
    return compare(image, target["boxes"], target["labels"], rows, strides=strides, class_names=dataset.class_names)


def _most_varied(story: Story) -> int:
    """The scene whose detections show most: kinds of verdicts, of all methods; then objects, at most 5."""
    count = min(LOOKED_AT, len(story.dataset))
    targets = [story.dataset.target(i) for i in range(count)]
    objects = np.array([len(t["boxes"]) for t in targets])
    kinds = pd.Series(0, index=range(count))
    for m in {PLAIN, CENTERNESS, DSLA} & set(story.studies):
        table = judged_images(story.studies[m].detections[:count], targets, 0.5, DRAW_FROM)
        hits = table["image"][table["verdict"] == "hit"].value_counts().reindex(kinds.index, fill_value=0)
        kinds += table.groupby("image")["verdict"].nunique().reindex(kinds.index, fill_value=0) + (hits < objects)
    return max(range(count), key=lambda i: (kinds[i], min(objects[i], 5), -i))


def hard_object(
    studies: Mapping[str, Study], models: Mapping[str, Detector], dataset: Scenes
) -> tuple[int, int, pd.DataFrame] | None:
    """The object with most neighbours that FCOS teaches opposite things: (scene, object, points of all methods).

    Only objects that all methods teach on the same level; None where there is none. One that can be seen comes first:
    large, of another colour than what is around it, and detected by every method.
    """
    table = studies.get(PLAIN, studies[ordered(list(studies))[0]]).tables["adjacency"]
    counts = table.value_counts(["image", "gt", "level_a"]).groupby(["image", "gt"]).max()
    counts = counts.sort_values(ascending=False, kind="stable")
    objects = [(int(image) - 1, int(gt)) for image, gt in counts.index]
    by_all = _found_by_all(studies, [dataset.target(i) for i in range(len(dataset))])
    visible = (o for o in objects if o in by_all and _stands_out(dataset, *o))
    for index, gt in (*islice(visible, 20), *objects[:20]):
        image, target = dataset[index]
        points = {m: object_points(d, image, target, gt) for m, d in models.items()}
        if all(map(len, points.values())) and len({p.loc[p["best"].idxmax(), "level"] for p in points.values()}) == 1:
            return index, gt, figures.method_rows(points)
    return None


def _found_by_all(studies: Mapping[str, Study], targets: Sequence[Mapping[str, Any]]) -> set[tuple[int, int]]:
    """(scene, object) of those that every method detects well."""
    tables = [judged_images(study.detections, targets, FITS, DRAW_FROM) for study in studies.values()]
    return set.intersection(*({*zip(table["image"], table["match"], strict=True)} for table in tables))


def _stands_out(dataset: Scenes, index: int, gt: int, margin: int = 8) -> bool:
    """Whether an object, with a margin around it, is large in its image, and of another colour."""
    image, target = dataset[index]
    x1, y1, x2, y2 = target["boxes"][gt].round().int().tolist()
    large = 4 * min(x2 - x1, y2 - y1) >= max(image.shape[1:])
    if not large or min(x1, y1, image.shape[2] - x2, image.shape[1] - y2) < margin:
        return False
    inside, wide = image[:, y1:y2, x1:x2], image[:, y1 - margin : y2 + margin, x1 - margin : x2 + margin]
    around = (wide.sum((1, 2)) - inside.sum((1, 2))) / (wide[0].numel() - inside[0].numel())
    return bool((inside.mean((1, 2)) - around).abs().mean() >= CONTRAST)


def worst_objects(studies: Mapping[str, Study], dataset: Scenes) -> Iterator[tuple[str, Any, pd.DataFrame]]:
    """For each method the object that loses most IoU because a worse box has the higher score: method, image, boxes."""
    for m in ordered(list(studies)):
        table = studies[m].tables["suppression"]
        lost = table[table["found"].astype(bool) & table["suppressor"].notna() & (table["iou_lost"] > 0)]
        if len(lost):
            row = lost.sort_values("iou_lost", ascending=False, kind="stable").iloc[0]
            index = int(row["image"]) - 1
            yield m, dataset[index][0], suppressed_boxes(row, studies[m].candidates[index])
