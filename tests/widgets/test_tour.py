"""The tour's six questions: none is answered as it begins, each by a move of the box, and by nothing that misses it."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from test_labels import NODE, needs_node

from dsla.assigners import DSLA, FCOS
from dsla.geometry import PointGrid
from dsla.widgets import AssignmentExplorer
from dsla.widgets.state import catalogue, initial

pytestmark = needs_node
STATE = initial([{"method": "dsla", "options": {}}], (8, 16, 32), 0.5, "native")
STEPS = 6


def verdicts(*scenes):
    """What the tour says of steps with moved boxes: {"done", "text", "objects", "state"} of each."""
    request = json.dumps({"scenes": scenes, "base": STATE, "catalogue": catalogue({})})
    script = Path(__file__).with_name("tour.mjs")
    done = subprocess.run([NODE, script], input=request, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["steps"] == STEPS
    return answer["answers"]


def test_no_step_is_answered_as_it_begins_on_pictures_of_any_size():
    sizes = [[512, 512], [1024, 1536], [64, 96], [300, 900], [900, 300]]
    scenes = [{"step": step, "image": size} for step in range(STEPS) for size in sizes]
    for scene, answer in zip(scenes, verdicts(*scenes), strict=True):
        assert not answer["done"], (scene, answer["text"])
        height, width = scene["image"]
        for x1, y1, x2, y2, _ in answer["objects"]:
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height


@pytest.mark.parametrize(
    ("step", "move", "text"),
    [
        (0, [[-20, -20, 20, 20]], "the points (248, 248) and (240, 248) are 8 pixels apart, and are taught 1 and 0"),
        (1, [[-13, -13, 11, 11]], "without relaxation P3 learns it, with it P3 and P4"),
        (2, [[-8, 0, -8, 0]], "the highest label is 1: its point lies within half a stride of the centre"),
        (3, [[0] * 4, [-90, 15, -90, 15]], "learns object 1 under FCOS, the smaller one, and object 0 under DSLA"),
        (4, [[-2, 0, 0, 0]], "a side moved by 2 pixels, and 5 of the points learn it; 1.25 are the least"),
        (5, [[8, 0, 8, 0]], "label × IoU is 0, so the loss treats it as background"),
    ],
)
def test_a_move_answers_each_step(step, move, text):
    for image in ([512, 512], [1024, 1024]):  # the questions are asked at one input size
        (answer,) = verdicts({"step": step, "image": image, "move": move})
        assert answer["done"], answer["text"]
        assert text in answer["text"]


@pytest.mark.parametrize(
    ("step", "move", "text"),
    [
        (0, [[0, 0, 0, -40]], "all points inside the box are taught the same"),
        (1, [[-40, -40, 40, 40]], "without relaxation P3 and P4 learns it"),
        (2, [[-60, 0, 60, 0]], "the object is not thin any more"),  # so its highest label would be 1, too
        (3, [[0] * 4, [0, 20, 0, 20]], "to the same object"),
        (4, [[-12, 0, 0, 0]], "after a change of 12 pixels; less is enough"),
        (5, [[0, 8, 0, 8]], "each positive is taught more than 0"),
    ],
)
def test_what_misses_the_point_is_no_answer(step, move, text):
    (answer,) = verdicts({"step": step, "image": [512, 512], "move": move})
    assert not answer["done"], answer["text"]
    assert text in answer["text"]


def test_the_answers_are_true_of_pythons_assigners():
    cliff, shared = verdicts(
        {"step": 0, "image": [512, 512], "move": [[-20, -20, 20, 20]]},
        {"step": 3, "image": [512, 512], "move": [[0] * 4, [-90, 15, -90, 15]]},
    )
    grid = PointGrid((512, 512), (8, 16, 32, 64, 128), 0.0)
    at = {tuple(xy): p for p, xy in enumerate(grid.xy[: 64 * 64].tolist())}
    label = FCOS()(grid, [[o[:4] for o in cliff["objects"]]], [[0]]).label[0]
    assert [label[at[248.0, 248.0]].item(), label[at[240.0, 248.0]].item()] == [1, 0]
    boxes = torch.tensor(shared["objects"])[:, :4]
    fcos, dsla = (a(grid, [boxes], [torch.zeros(2).long()]).gt_index[0] for a in (FCOS(), DSLA()))
    assert [int(fcos[at[192.0, 248.0]]), int(dsla[at[192.0, 248.0]])] == [1, 0]


def test_python_shows_what_a_step_shows():
    for step, answer in enumerate(verdicts(*({"step": step, "image": [512, 512]} for step in range(STEPS)))):
        explorer = AssignmentExplorer(torch.zeros(3, 512, 512))
        explorer.surface.state = answer["state"]
        explorer.surface.objects = answer["objects"]
        assert explorer.error == "", step
        explorer.close()
