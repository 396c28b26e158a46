"""Tables in, tables out: what labels, scores and boxes of a detector have to do with each other.

`match`, `ranking`, `calibration`, `suppression`, `oracle` and `errors` take the detections of any detector, `adjacency`
and `profile` the head's outputs at every point; each also takes a model with a data set. `assignment_statistics` takes
an assigner and needs no model, `coverage` compares several. All return a `Table`, a pandas DataFrame with
`.summary()`: few numbers, each with its definition and, where it is undefined, the reason.
"""

from .adjacent import adjacency, adjacency_summary, profile, profile_summary
from .assignments import assignment_statistics, assignment_summary, coverage, coverage_summary
from .calibration import calibration, calibration_summary, class_thresholds
from .confidence import correlations, ranking, ranking_summary, reliability
from .detectors import Answers, ask
from .diagnosis import why_summary
from .matching import match
from .nms import suppression, suppression_summary
from .oracles import oracle, oracle_summary
from .study import Study, iou_losses, object_points, score_steps, single_profiles, study, suppressed_boxes
from .tables import Table, summary, truth_of
from .tide import errors, errors_summary

__all__ = [
    "Answers", "Study", "Table", "adjacency", "adjacency_summary", "ask",
    "assignment_statistics", "assignment_summary", "calibration", "calibration_summary", "class_thresholds",
    "correlations", "coverage", "coverage_summary", "errors", "errors_summary", "iou_losses", "match",
    "object_points", "oracle", "oracle_summary", "profile", "profile_summary", "ranking",
    "ranking_summary", "reliability", "score_steps", "single_profiles", "study", "summary", "suppressed_boxes",
    "suppression", "suppression_summary", "truth_of", "why_summary",
]  # fmt: skip
