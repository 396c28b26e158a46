"""Coverage: which objects of a data set a method leaves without a point, under some strides and input sizes.

No training makes a detector find an object that no point learns, and one that hangs on one or two points is found
less often. That is known before the first step, from the annotations alone.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from ..coco.engines import SIZES, size_names
from ..errors import DataError
from ..geometry import InputSize
from .assignments import FEW, assignment_statistics, sizes_of, taught_rows
from .tables import BOX, Measured, Table, summarises, truth_of


def coverage(
    assigners: str | Sequence[Any],
    data: Any,
    *,
    strides: Sequence[Any] = (8, 16, 32, 64, 128),
    input_sizes: Any = "native",
    max_images: int | None = None,
) -> Table:
    """Objects without a point and with few, for every method × strides × input size.

    Args:
        assigners: methods, as `assignment_statistics` takes them; of a name, level ranges fit the strides.
        data: as there. Images must have a size.
        strides: of the levels; or several such.
        input_sizes: one as `dsla.geometry.Frame` has it, or a list of several.
        max_images: only the first ones.

    Returns:
        Table, a row a setting and group of objects: method, strides, input_size (text); by ("all", "size", "class",
        "level") and group: sizes are COCO's, by area in the file; the level is that of the stride up to whose
        8-fold half the longer side at the input reaches. objects; none, few: shares of them that no point learns, and
        that 1 or 2 do. Points count for the object that wins them: where objects compete, one can go without.
    """
    methods = [assigners] if isinstance(assigners, str) or not isinstance(assigners, Sequence) else list(assigners)
    steps = [strides] if isinstance(strides[0], int) else list(strides)
    sizes: list[InputSize] = list(input_sizes) if isinstance(input_sizes, list) else [input_sizes]
    truth = truth_of(data, max_images)
    rows, shapes = taught_rows(truth), sizes_of(truth, None, data)
    size = size_names(truth.area[rows])
    kind = np.array(list(truth.categories.values()), dtype=object)[truth.category[rows]]
    parts = []
    for method, levels, side in product(methods, steps, sizes):
        counted = assignment_statistics(method, truth, strides=levels, input_size=side, image_sizes=shapes)
        corners = counted[BOX].to_numpy(dtype=float)
        half = (corners[:, 2:] - corners[:, :2]).max(axis=1, initial=0) / 2
        level = np.array(levels)[np.searchsorted(8 * np.array(levels[:-1]), half)]
        points = counted["points"].to_numpy()
        frame = pd.DataFrame({"none": points == 0, "few": (points > 0) & (points <= FEW)})
        groups = {"all": np.full(len(points), "all"), "size": size, "class": kind, "level": level}
        for by, group in groups.items():
            part = frame.groupby(group, sort=by in ("level", "class"))
            part = part.agg(objects=("none", "size"), none=("none", "mean"), few=("few", "mean"))
            part = part.reindex([s for s in SIZES if s in part.index]) if by == "size" else part
            part = part.rename_axis("group").reset_index().assign(group=lambda t: t["group"].astype(str))
            name = method if isinstance(method, str) else repr(method)
            text = side if isinstance(side, (str, int)) else "/".join(map(str, side))
            setting = {"method": name, "strides": ", ".join(map(str, levels)), "input_size": str(text), "by": by}
            parts.append(part.assign(**setting))
    columns = ["method", "strides", "input_size", "by", "group", "objects", "none", "few"]
    table = Table(pd.concat(parts, ignore_index=True)[columns])
    table.attrs = {"analysis": "coverage"}
    return table


def best_setting(frame: pd.DataFrame) -> pd.Series:
    """The row of all objects under the setting that leaves fewest without a point, of equal ones fewest with 1 or 2.

    Raises:
        DataError: there is no object.
    """
    whole = frame[frame["by"] == "all"]
    if whole.empty:
        raise DataError("no object that a network would be taught, so none that a method leaves without a point")
    return whole.sort_values(["none", "few"], kind="stable").iloc[0]


@summarises("coverage", few=FEW)
def coverage_summary(frame: pd.DataFrame, **_: int) -> Measured:
    """How many settings there are, and what the best and the worst of them leave."""
    whole = frame[frame["by"] == "all"]
    settings = len(frame[["method", "strides", "input_size"]].drop_duplicates())
    values = {"settings": settings, "objects": whole["objects"].max() if len(whole) else 0}
    values |= {"least": whole["none"].min(), "most": whole["none"].max(), "least_few": whole["few"].min()}
    return values, {"": "no object"}
