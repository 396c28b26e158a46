"""Any detector by its COCO results file: evaluated, and asked everything that needs no network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..coco.detections import Results
from ..coco.evaluation import Evaluation, evaluate_detections
from ..errors import DataError
from .confidence import ranking, reliability
from .nms import suppression
from .oracles import oracle
from .study import Analysed, numbers_of, summaries_of
from .tables import Truth
from .tide import errors

LONGEST = 36  # letters of a name in figures


@dataclass(frozen=True)
class Answers(Analysed):
    """What is known about one results file, with the tables ranking, reliability, suppression, oracle, errors.

    Attributes:
        name: what it is called in tables and figures.  file: where it came from.
        evaluation: the COCO evaluation.
    """

    name: str
    file: str
    evaluation: Evaluation


def ask(
    results: Sequence[str | Path],
    annotations: str | Path,
    *,
    score_threshold: float = 0.0,
    nms_threshold: float = 0.6,
    say: Callable[[str], None] | None = None,
) -> list[Answers]:
    """Evaluate results files against one annotation file and run all analyses of detections.

    Args:
        results: COCO results files.  annotations: COCO ground truth.
        score_threshold: detections below it are left out of everything, the evaluation too.
        nms_threshold: of the NMS (within classes) of `suppression` and `oracle`, which take the rows of a file as
            the candidates; results that have been through NMS go through a second one.
        say: is told what comes next.
    Raises:
        DataError: files that cannot be read or do not fit each other.
    """
    if not results:
        raise DataError("no results file")
    if not 0 < nms_threshold <= 1:
        raise DataError(f"an IoU threshold of NMS lies in 0…1, got {nms_threshold:g}")
    truth, answers = Truth.of(annotations), []
    for name, path in zip(names_of(results), results, strict=True):
        if say is not None:
            say(name)
        detections = Results.of(path, truth.columns)
        detections = detections.where(detections.score >= score_threshold)
        evaluation, table = evaluate_detections(truth.columns, detections), detections.to_frame()
        tables: dict[str, Any] = {
            "ranking": ranking(table, truth),
            "suppression": suppression(table, truth, nms_threshold=nms_threshold),
            "oracle": oracle(table, truth, nms_threshold=nms_threshold),
            "errors": errors(table, truth),
        }
        tables["reliability"] = reliability(tables["ranking"])
        numbers = numbers_of(summaries_of(evaluation, tables))
        answers.append(Answers(numbers, tables, name, Path(path).name, evaluation))
    return answers


def names_of(files: Sequence[str | Path]) -> list[str]:
    """A short name for each file: its own without "_results", with its folder's or a number where two are equal."""
    names = []
    for file in map(Path, files):
        stem = file.stem.replace("$", "")  # matplotlib would read mathematics
        names.append(stem.removesuffix("results").rstrip("-_. ") or stem)
    paths = [Path(file).resolve() for file in files]
    names = [n if names.count(n) == 1 else f"{p.parent.name}/{n}" for n, p in zip(names, paths, strict=True)]
    names = [n if len(n) <= LONGEST else "…" + n[1 - LONGEST :] for n in names]
    return [n if names.count(n) == 1 else f"{n} ({names[: i + 1].count(n)})" for i, n in enumerate(names)]
