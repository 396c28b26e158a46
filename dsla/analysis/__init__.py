"""Tables in, tables out: what labels, scores and boxes of a detector have to do with each other.

`match`, `ranking`, `suppression`, `oracle` and `errors` take the detections of any detector, `adjacency` the head's
outputs at every point; each also takes a model with a data set. All return a `Table`, a pandas DataFrame with
`.summary()`: few numbers, each with its definition and, where it is undefined, the reason.
"""

from .adjacent import adjacency, adjacency_of, adjacency_summary, profile
from .confidence import correlations, ranking, ranking_summary, reliability
from .matching import match
from .nms import suppression, suppression_summary
from .oracles import oracle, oracle_summary
from .tables import Table, Truth, summary
from .tide import errors, errors_summary

__all__ = [
    "Table",
    "Truth",
    "adjacency",
    "adjacency_of",
    "adjacency_summary",
    "correlations",
    "errors",
    "errors_summary",
    "match",
    "oracle",
    "oracle_summary",
    "profile",
    "ranking",
    "ranking_summary",
    "reliability",
    "summary",
    "suppression",
    "suppression_summary",
]
