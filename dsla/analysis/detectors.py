"""Any detector by its COCO results file: evaluated, and asked everything that needs no network."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..coco.columns import id_array
from ..coco.detections import Results
from ..coco.engines import SIZES, size_names
from ..coco.evaluation import Evaluation, evaluate_detections
from ..coco.ground_truth import GroundTruth
from ..coco.problems import many, some
from ..coco.reading import name_of
from ..errors import DataError, within
from .breakdown import confusion, errors_by, missed_by_points
from .confidence import ranking, reliability
from .diagnosis import Offer, diagnosis, objects_of
from .nms import suppression
from .oracles import oracle
from .points import Setting
from .resampling import LEVEL, RESAMPLES, Samples, differences, draws, intervals, resampled, share_resampled
from .study import Analysed, numbers_of, summaries_of
from .tables import truth_of
from .tide import errors

LONGEST = 36  # letters of a name in figures


FOUND_FROM = 0.05  # score from which a detection finds an object, as in `dsla.why`
NAMED_FROM = 0.3  # score from which a class is called another; below, most detections are nobody's claim


@dataclass(frozen=True)
class Answers(Analysed):
    """What is known about one results file.

    Tables: ranking, reliability, suppression, oracle, errors; errors_by and confusion of these; why (a verdict an
    object, see `dsla.why`) and points of it, with a `Setting`; intervals (see `resampling.intervals`).

    Attributes:
        name: what it is called in tables and figures.  file: where it came from.
        evaluation: the COCO evaluation.
        samples: of the numbers of `intervals`, their resamples.
        detections: all that the file says, on the images that were looked at.
    """

    name: str
    file: str
    evaluation: Evaluation
    detections: Results
    samples: Samples = field(default_factory=dict, repr=False)


def ask(
    results: str | Path | Sequence[str | Path],
    annotations: str | Path,
    *,
    score_threshold: float | None = None,
    nms_threshold: float = 0.6,
    setting: Setting | None = None,
    subset: Any = False,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    say: Callable[[str], None] | None = None,
) -> list[Answers]:
    """Evaluate results files against one annotation file and run all analyses of detections.

    Args:
        results: COCO results files, or one.
        annotations: COCO ground truth.
        score_threshold: detections below it are left out of everything, the evaluation too; None for none. An object
            is found by detections from it or from FOUND_FROM on, whichever is more.
        nms_threshold: of the NMS (within classes) of `suppression` and `oracle`, which take the rows of a file as
            the candidates; results that have been through NMS go through a second one.
        setting: under which the points of the objects are counted.
        subset: the images that are looked at. False: all of the annotations; detections elsewhere are refused. True:
            those on which every file has a detection: results do not say on which others a detector was run and found
            nothing. Or the images on which it was run, those without a detection too: see `listed`.
        resamples: of the images, for intervals; 0 for none.
        level: of the intervals.
        say: is told what comes next.
    Raises:
        DataError: files that cannot be read or do not fit each other; a number that can be none of these.
    """
    results = [results] if isinstance(results, (str, Path)) else results
    if not results:
        raise DataError("no results file")
    within(nms_threshold=nms_threshold, score_threshold=score_threshold, resamples=resamples, level=level)
    truth = truth_of(annotations)
    every = [Results.of(path, truth, subset=subset is not False) for path in results]
    note = ""
    if subset is not False:
        images = listed(subset, truth) if subset is not True else None
        truth, every, note = _shared(truth, every, images)
    answers = list[Answers]()
    weights = draws(len(truth), resamples)
    rows = objects_of(truth)
    counted = None if setting is None else setting.count(truth, rows)
    least = FOUND_FROM if score_threshold is None else max(score_threshold, FOUND_FROM)
    for name, path, detections in zip(names_of(results), results, every, strict=True):
        if say is not None:
            say(name)
        kept = detections if score_threshold is None else detections.where(detections.score >= score_threshold)
        evaluation, table = evaluate_detections(truth, kept), kept.to_frame()
        evaluation = replace(evaluation, notes=(*evaluation.notes, *filter(None, [note])))
        tables: dict[str, Any] = {
            "ranking": ranking(table, truth),
            "suppression": suppression(table, truth, nms_threshold=nms_threshold),
            "oracle": oracle(table, truth, nms_threshold=nms_threshold),
            "errors": errors(table, truth),
        }
        numbers = numbers_of(summaries_of(evaluation, tables))
        tables["reliability"] = reliability(tables["ranking"])
        tables["errors_by"] = errors_by(tables["errors"], truth)
        tables["confusion"] = confusion(tables["errors"], max(least, NAMED_FROM))
        tables["confusion"].attrs = {"score_threshold": max(least, NAMED_FROM)}
        assert evaluation.curves.matched is not None
        samples = resampled(evaluation.curves.matched, truth, weights)
        values = dict(evaluation.summary)
        if setting is not None:
            tables["why"] = diagnosis(Offer(detections), setting, score_threshold=least, iou_threshold=0.5,
                                      counted=counted, rules=False).drop(columns="rule")  # fmt: skip
            tables["points"] = missed_by_points(tables["why"])
            matched = (tables["why"]["verdict"] == "found").to_numpy()
            samples["found_share"] = share_resampled(matched, truth.image[rows], weights)
            values["found_share"] = float(matched.mean()) if len(matched) else np.nan
        tables["intervals"] = intervals(values, samples, level).reset_index()
        tables["intervals"].attrs = {"level": level, "resamples": resamples}
        answers.append(Answers(numbers, tables, name, Path(path).name, evaluation, detections, samples))
    return answers


def _shared(
    truth: GroundTruth, every: list[Results], images: np.ndarray | None
) -> tuple[GroundTruth, list[Results], str]:
    """The ground truth and the detections on some images (places; None: where every file has some), and a note."""
    note, whole = "those that are listed", len(truth)
    if images is None:
        images = reduce(np.intersect1d, [detections.image for detections in every], np.arange(whole))
        if not len(images):
            raise DataError("the results files have no image in common: nothing can be compared on it")
        note = (
            f"those on which every file has a detection; whether on the other {whole - len(images)} nothing was found "
            "or no detector was run, results do not say: --images-file lists the images that were run"
        )
    note = f"{len(images)} of {whole} images of the annotations: {note}"
    part = truth.part(images)
    return part, [replace(detections.part(images), truth=part) for detections in every], note


def listed(source: Any, truth: GroundTruth) -> np.ndarray:
    """Places of the images that a list names.

    Args:
        source: ids or file names; or a file of these, one a line or as JSON; or a COCO file, or any with its `images`,
            which may be ids or names, too.
        truth: the ground truth that has the images.

    Raises:
        DataError: a file that cannot be read; images that the ground truth does not have, or none.
    """
    name, names = name_of(source), source
    if isinstance(source, (str, Path)):
        try:
            text = Path(source).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{source}: no list of images that can be read ({error})") from None
        with suppress(ValueError):
            names = json.loads(text)
        if not isinstance(names, (list, dict)):
            names = list(filter(None, map(str.strip, text.splitlines())))
    if isinstance(names, Mapping):
        names = names.get("images", ())
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise DataError(f"{name}: no list of images but {names!r:.40}; write ids or file names, one a line or as JSON")
    names = id_array([one.get("id") if isinstance(one, Mapping) else one for one in names]).tolist()
    places = list(map(truth.place, names))
    if lost := [one for one, n in zip(names, places, strict=True) if n < 0]:
        raise DataError(f"{name}: {many(len(lost), 'image')} that {truth.name} does not have: {some(lost)}")
    if not places:
        raise DataError(f"{name}: no image is listed; write ids or file names, one a line")
    return np.unique(np.array(places, dtype=np.int64))


def compared(answers: Sequence[Answers], level: float = LEVEL) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every two detectors beside each other, on the same images and the same resamples of them.

    Args:
        answers: of `ask`.
        level: of the intervals.

    Returns:
        Differences: first, second, name of the number, the columns of `resampling.intervals` of first − second.
        Objects: first, second, size ("all" or one of COCO's), objects, both, only_first, only_second, neither: how many
        each finds; empty without a `Setting`.
    """
    numbers, objects = [], []
    for a, b in combinations(answers, 2):
        pair = {"first": a.name, "second": b.name}
        values = {x.name: x.tables["intervals"].set_index("name")["value"] for x in (a, b)}
        table = intervals(values[a.name] - values[b.name], differences(a.samples, b.samples), level)
        numbers.append(table.reset_index().assign(**pair))
        if "why" not in a.tables:
            continue
        left, right = (x.tables["why"]["verdict"].to_numpy() == "found" for x in (a, b))
        truth = a.detections.truth
        matched = pd.DataFrame({"objects": True, "both": left & right, "only_first": left & ~right,
                                "only_second": right & ~left, "neither": ~left & ~right})  # fmt: skip
        sizes = matched.groupby(size_names(truth.area[objects_of(truth)])).sum().reindex(list(SIZES), fill_value=0)
        counts = pd.concat([matched.sum().rename("all").to_frame().T, sizes]).rename_axis("size").reset_index()
        objects.append(pd.DataFrame(pair, index=counts.index).join(counts))
    joined = pd.concat(objects, ignore_index=True) if objects else pd.DataFrame()
    columns = ["first", "second", "name", "value", "low", "high", "mean", "low_percentile", "high_percentile"]
    return pd.concat(numbers)[columns].reset_index(drop=True) if numbers else pd.DataFrame(), joined


def names_of(files: Sequence[str | Path]) -> list[str]:
    """A short name for each file: its own without "_results", with its folder's or a number where two are equal."""
    stems = [Path(file).stem.replace("$", "") for file in files]  # matplotlib would read mathematics
    names = [stem.removesuffix("results").rstrip("-_. ") or stem for stem in stems]
    paths = [Path(file).resolve() for file in files]
    names = [n if names.count(n) == 1 else f"{p.parent.name}/{n}" for n, p in zip(names, paths, strict=True)]
    names = [n if len(n) <= LONGEST else "…" + n[1 - LONGEST :] for n in names]
    return [n if names.count(n) == 1 else f"{n} ({names[: i + 1].count(n)})" for i, n in enumerate(names)]
