"""The rules that a page says of a point are those of `Assigner.explain`: names, verdicts and numbers."""

import pytest
from test_labels import needs_node, node

from dsla.assigners import ATSS, DSLA, FCOS, FoveaBox, MaxIoU
from dsla.geometry import PointGrid

GRID = PointGrid((256, 384), (8, 16, 32, 64, 128), 0.5)
BOXES = [[40.0, 32.0, 200.0, 180.0], [210.25, 90.5, 330.0, 250.0], [100.0, 100.0, 130.0, 140.0]]
CASES = {
    "fcos": [FCOS(), FCOS(center_sampling=1.5)],
    "dsla": [DSLA(), DSLA(relaxation=0.4, core_zone=False)],
    "fovea": [FoveaBox(), FoveaBox(smooth=True, relaxation=0.3)],
    "atss": [ATSS(), ATSS(topk=3)],
    "max-iou": [MaxIoU(), MaxIoU(positive=0.4, negative=0.2, low_quality=False)],
}
EXACT = {"in the image", "candidate", "threshold", "IoU", "best anchor", "fovea"}  # their text is equal to the letter


@needs_node
@pytest.mark.parametrize("size", [(256, 384), (248, 300)])  # the latter ends within the grid: the rest is padding
@pytest.mark.parametrize("method", CASES)
def test_rules_are_pythons(method, size):
    grid = {"shapes": GRID.shapes, "strides": GRID.strides, "offset": GRID.offset, "size": size}
    questions, expected = [], []
    for assigner in CASES[method]:
        for box in BOXES:
            positive = (assigner(GRID, [[box]], [[0]], image_sizes=[size]).gt_index[0] >= 0).nonzero()[:, 0].tolist()
            for point in [*positive[:4], *range(0, len(GRID), 211)]:
                x, y = GRID.xy[point].tolist()
                place = {"x": x, "y": y, "stride": int(GRID.stride[point]), "level": int(GRID.level[point])}
                options = assigner.options()
                questions.append(
                    {"method": method, "options": options, "place": {**place, "point": point}, "box": box, "grid": grid}
                )
                expected.append(assigner.explain(GRID, point, box, image_size=size).rules)
    verdicts = set()
    for question, rules, wanted in zip(questions, node("explain.mjs", questions), expected, strict=True):
        there = {rule.name: rule for rule in wanted}
        for name, text, verdict in rules:
            assert name in there, (name, list(there))
            assert there[name].passed == verdict, (question, name, text, there[name])
            if name in EXACT:
                assert text == there[name].text, question
            verdicts.add(verdict)
    assert {True, False} <= verdicts
