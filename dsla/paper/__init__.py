"""Published numbers, runs over seeds, claims and their statistics, figures and pages.

What notebooks and scripts use is named here, and loaded when it is first asked for.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "analyze": "charts short_table",
    "claims": "CENTERNESS CLAIMS DSLA FURTHER PLAIN effects interval judge judge_ablation same_budget",
    "exhibits": "hard_object oracle_table score_iou_chart worst_objects",
    "gallery": "make_figures",
    "report": "reproduce",
    "results": "full_trainings one_budget results_page",
    "runs": "FILE experiments read_curves read_runs stores",
    "tables": "claims_markdown condition_table curve_table method_table methods_markdown study_table",
}
_PLACES = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'dsla.paper' has no attribute {name!r}")
    return globals().setdefault(name, getattr(import_module(f".{_PLACES[name]}", __name__), name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
