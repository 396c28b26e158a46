"""What `dsla reproduce` tells: sentences made from the numbers, and the report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from ..plots.draw import many
from .claims import CONTRADICTED, DSLA, NOT_SEEN, ONE_SEED, PLAIN, SEEN, interval, shown
from .exhibits import Story
from .exhibits import charts as charts_of
from .report import Block, Glossary, Grid, Section, Text, Verdicts, write_page

TITLE = "Label assignment, seen from both sides: FCOS and DSLA on the embedded scenes"
ROWS = {
    "evaluation": ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AR@100"),
    "adjacency": ("pairs", "alike", "d_label", "d_score", "mismatch", "follows_iou"),
    "ranking": ("boxes", "pearson", "spearman", "kendall", "spearman_object", "wrong_pairs", "reliability_gap"),
    "suppression": (
        "found",
        "best_suppressed",
        "lost_over_0",
        "lost_over_0.05",
        "lost_over_0.1",
        "iou_before",
        "iou_after",
    ),
    "oracle": (
        "AP_score",
        "AP_centerness",
        "AP_label",
        "AP_dynamic",
        "AP_iou",
        "AP_box",
        "ranking_cost",
        "localisation_cost",
    ),
}
GLOSSARY = {
    "point": "a place of a feature map where the detector predicts a class, a score and a box.",
    "assignment": "who teaches which point what: for every point an object or background, and how strongly.",
    "label": "what the classification of a point is taught, 0 background to 1. FCOS: 0 or 1. DSLA: smooth.",
    "dynamic label": "DSLA's label in training: static label × IoU of the box that the model predicts there right now.",
    "centerness": "1 at the centre of a box, falling to 0 at its sides; FCOS has a branch that predicts it.",
    "core zone": "the points within half a stride of an object's centre, where DSLA's centerness counts as 1.",
    "interval relaxation": "DSLA's soft edges of the range of sizes that a pyramid level is responsible for.",
    "score": "class probability, times the predicted centerness where there is such a branch.",
    "IoU": "area of the intersection of two boxes over that of their union; 1 for equal boxes.",
    "NMS": "non-maximum suppression: of boxes of a class that overlap, only the one with the highest score stays.",
    "AP": "COCO's average precision over IoU thresholds 0.50 to 0.95, in points of 100.",
    "seed": "start of the random numbers of one training; other seeds give other weights and numbers.",
}
DEFINITIONS = {
    "AP": "average precision over IoU 0.50 to 0.95, points of 100",
    "AP50": "the same at IoU 0.50",
    "AP75": "the same at IoU 0.75",
    "AP_small": "objects below 32² pixels",
    "AP_medium": "objects from 32² to 96² pixels",
    "AR@100": "average recall with 100 detections an image, points of 100",
}


def write_report(story: Story, folder: Path) -> Path:
    """Writes figures, their tables and report.html; returns the path of the report."""
    charts = {chart.file.split("/")[-1].split(".")[0]: chart for chart in charts_of(story, folder / "figures")}
    scenes, seeds = f"{story.about['images']} scenes, {story.about['data']}", story.about["seeds"]
    source = f"Data: {scenes}; seeds: {seeds}."
    lines = [f"- **{c.file.split('/')[-1]}**: {c.title}. {c.caption} {source}" for c in charts.values()]
    (folder / "figures" / "captions.md").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def chart(*names: str) -> list[Block]:
        return [charts[n] for n in names if n in charts]

    about = story.about
    sections = [
        Section("What was seen and what was not", [*_verdict_texts(story), Verdicts(story.findings)]),
        Section(
            "Detection",
            [
                Text(f"AP on {story.about['images']} scenes that no training saw: {story.each('evaluation', 'AP')}."),
                table_of(story, "evaluation", "COCO numbers on the validation scenes, points of 100"),
                *chart("detections-fcos", "detections-dsla"),
            ],
        ),
        Section("Who teaches which point", chart("assigners")),
        Section(
            "Inconsistency 1: neighbouring points",
            [
                *_neighbour_texts(story),
                *chart("labels-and-scores", "neighbours"),
                table_of(story, "adjacency", "Neighbouring points, one positive and one negative under FCOS's rule"),
            ],
        ),
        Section(
            "Inconsistency 2: confidence and overlap",
            [
                *_ranking_texts(story),
                *chart("score-and-iou", "reliability"),
                table_of(story, "ranking", "Detections after NMS: score against IoU"),
                *chart("suppressed", "lost-to-nms"),
                table_of(story, "suppression", "What NMS makes of each object's best box"),
            ],
        ),
        Section(
            "What ranking costs",
            [
                *_oracle_texts(story),
                *chart("oracles"),
                table_of(story, "oracle", "AP with scores or boxes replaced, points of 100"),
            ],
        ),
        Section("Words", [Glossary(GLOSSARY)]),
        Section(
            "How this was made",
            [
                Text(
                    f"Command: {about['command']}. Models: {', '.join(about['recipes'])}, {about['trained']}, "
                    f"{many(about['seeds'], 'seed')}. Data: {about['data']}, {about['images']} images, "
                    f"{about['objects']} objects. Versions: dsla {about['dsla']}, torch {about['torch']}, "
                    f"Python {about['python']}."
                ),
                Text(
                    "All numbers are in results.json and runs.jsonl; figures/ holds each figure with the table it is "
                    "drawn from."
                ),
            ],
        ),
    ]
    lead = (
        "The paper (Su et al., DSLA, Pattern Recognition 131, 2022) says that hard labels make a detector inconsistent "
        "twice: neighbouring points that look alike are taught opposite things, and scores do not follow the quality "
        "of the boxes. This page looks for both in small detectors on drawn scenes, with DSLA and two FCOS baselines."
    )
    return write_page(folder / "report.html", TITLE, lead, sections)


def _verdict_texts(story: Story) -> Iterator[Block]:
    count = {v: sum(f.verdict == v for f in story.findings) for v in (SEEN, NOT_SEEN, CONTRADICTED)}
    said = ", ".join(f"{n} {v}" for v, n in count.items())
    yield Text(f"Of {many(len(story.findings), 'claim')}: {said}.")
    if story.about["seeds"] == 1:
        yield Text(ONE_SEED + " Run with --train --seeds 3 for intervals.")
    else:
        yield Text(
            "A claim is seen where the 95 % interval of the mean difference over seeds lies on the claimed side of 0, "
            "contradicted where it lies on the other side, else not seen here."
        )


def _neighbour_texts(story: Story) -> Iterator[Block]:
    analysis = "adjacency"
    yield Text(
        "For every method the same kind of pairs: neighbours on a level of which FCOS's hard rule makes one positive "
        f"and one negative. Share of them whose scores differ by less than {story.threshold:g}: "
        f"{story.each(analysis, 'alike')}. Mean difference of their labels: {story.each(analysis, 'd_label')}; of "
        f"their scores: {story.each(analysis, 'd_score')}."
    )
    label, score, iou = (story.values(analysis, n) for n in ("d_label", "d_score", "follows_iou"))
    if {PLAIN, DSLA} <= set(label) and np.isfinite([label[PLAIN], label[DSLA], score[PLAIN], score[DSLA]]).all():
        moved, followed = label[PLAIN] - label[DSLA], abs(score[PLAIN] - score[DSLA])
        yield Text(
            f"From FCOS to DSLA the step of the labels changes by {shown('', -moved, True)}, that of the scores by "
            f"{shown('', score[DSLA] - score[PLAIN], True)}: "
            + (
                "mostly the labels moved to where the scores were."
                if moved > 2 * followed
                else "the scores moved as well."
            )
        )
        better = "more" if iou[DSLA] > iou[PLAIN] else "not more"
        yield Text(
            "A look that needs no labels: where the boxes of such a pair differ, the better one has the higher score "
            f"in this share of pairs: {story.each(analysis, 'follows_iou')}. Scores follow the boxes {better} often "
            "under DSLA than under FCOS."
        )


def _ranking_texts(story: Story) -> Iterator[Block]:
    spearman = story.values("ranking", "spearman")
    yield Text(f"Spearman correlation of score and IoU: {story.each('ranking', 'spearman')}.")
    defined = [v for v in spearman.values() if np.isfinite(v)]
    if defined:
        below = [m for m, v in spearman.items() if v < 0]
        right = "It is positive for every method: none ranks boxes the wrong way round on the whole."
        yield Text(f"It is negative for {', '.join(below)}." if below else right)
    yield Text(
        f"Share of objects that lose over 0.05 IoU to NMS, because a worse box scores higher: "
        f"{story.each('suppression', 'lost_over_0.05')}."
    )


def _oracle_texts(story: Story) -> Iterator[Block]:
    yield Text(
        f"AP as it is: {story.each('oracle', 'AP_score')}. If every score were the IoU of its box: "
        f"{story.each('oracle', 'AP_iou')}. If every box were its object's best candidate: "
        f"{story.each('oracle', 'AP_box')}."
    )
    rank, place = (story.values("oracle", n) for n in ("ranking_cost", "localisation_cost"))
    more = [m for m in rank if rank[m] > place[m]]
    if np.isfinite(list(rank.values())).all():
        every = len(more) == len(rank)
        yield Text(
            f"Ranking costs more than localisation for {'every method' if every else ', '.join(more) or 'no method'}."
        )


def table_of(story: Story, analysis: str, caption: str) -> Grid:
    """Chosen numbers of an analysis, a column a method; with several seeds mean ± half the 95 % interval."""
    own = story.numbers[story.numbers["analysis"] == analysis]
    columns: dict[str, list[str]] = {m: [] for m in story.methods}
    known = dict(
        story.studies[story.methods[0]].numbers.query("analysis == @analysis")[["name", "definition"]].to_numpy()
    )
    names = [n for n in ROWS[analysis] if n in set(own["name"])]
    for m in story.methods:
        for name in names:
            mean, low, _ = interval(own[(own["method"] == m) & (own["name"] == name)]["value"])
            half = f" ± {shown(name, mean - low)}" if np.isfinite(low) else ""
            columns[m].append(shown(name, mean) + half)
    frame = pd.DataFrame(columns, index=pd.Index(names, name=""))
    return Grid(frame, caption, {n: known.get(n) or DEFINITIONS.get(n, "") for n in names})
