"""Published numbers, runs over seeds, claims and their statistics, figures and pages.

What notebooks and scripts use is named here, and loaded when it is first asked for.
"""

from typing import TYPE_CHECKING

from ..lazy import lazily

if TYPE_CHECKING:
    from .analyze import charts, short_table
    from .claims import (
        CENTERNESS,
        CLAIMS,
        DSLA,
        PLAIN,
        effects,
        interval,
        judge,
        judge_ablation,
        judge_all,
        same_budget,
    )  # fmt: skip
    from .exhibits import hard_object, oracle_table, score_iou_chart, worst_objects
    from .gallery import make_figures
    from .report import reproduce
    from .results import claims_by_start, full_trainings, main_numbers, one_budget, results_page
    from .runs import FILE, experiments, read_curves, read_runs, stores
    from .tables import claims_markdown, condition_table, curve_table, method_table, methods_markdown, study_table

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
