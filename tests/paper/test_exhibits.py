"""Objects and scenes chosen as examples."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from dsla.analysis import single_profiles
from dsla.paper.exhibits import _found_by_all, _stands_out


def seen(box=(30, 40, 70, 80), colour=1.0, score=0.9):
    """Whether a box in this colour on grey is an example; one method detects it exactly, another with this score."""
    image, boxes = torch.full((3, 128, 128), 0.5), torch.tensor([box], dtype=torch.float32)
    x1, y1, x2, y2 = box
    image[:, y1:y2, x1:x2] = colour
    target = {"boxes": boxes, "labels": torch.tensor([2])}
    studies = {
        name: SimpleNamespace(detections=[{"boxes": boxes, "labels": torch.tensor([2]), "scores": torch.tensor([s])}])
        for name, s in (("FCOS", 0.9), ("DSLA", score))
    }
    return (0, 0) in _found_by_all(studies, [target]) and _stands_out([(image, target)], 0, 0)


def test_an_example_is_large_whole_of_another_colour_and_detected_by_all():
    assert seen()
    assert seen(box=(8, 8, 40, 40))
    assert not seen(box=(30, 40, 61, 80))  # 31 pixels wide: less than a quarter
    assert not seen(box=(0, 40, 40, 80))  # cut by the border, or nearly
    assert not seen(colour=0.6)
    assert not seen(score=0.2)


def profile(*objects):
    rows = [
        {"image": 1, "gt": gt, "axis": axis, "place": (i + 0.5) / points, "label": float(i == 0)}
        for gt, points in objects
        for axis in "xy"
        for i in range(-1, points + 1)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("wide", "most", "chosen"), [(3, 9, [0, 2, 4]), (3, 2, [0, 4]), (9, 9, [4])])
def test_profiles_are_those_of_the_same_wide_objects(wide, most, chosen):
    fcos = profile((0, 4), (1, 2), (2, 3), (3, 7), (4, 6))
    dsla = profile((0, 4), (1, 5), (2, 3), (4, 5))  # teaches 3 no point
    tables = single_profiles({"FCOS": fcos, "DSLA": dsla}, wide, most)
    assert [sorted(set(t["gt"])) for t in tables.values()] == [chosen, chosen]
    assert set(tables["FCOS"]["axis"]) == {"x"}
    assert (tables["FCOS"].groupby("gt")["label"].max() == 1).all()  # single values, no means
