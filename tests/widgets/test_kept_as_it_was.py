"""What a view is given stays as it was; what cannot be shown is one message, and nothing is said after it."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import dsla
from dsla.analysis import adjacency, errors, ranking, suppression
from dsla.errors import DataError
from dsla.models.evaluation import evaluation_mode
from dsla.models.prediction import predict
from dsla.widgets import AssignmentExplorer, DetectionBrowser, RankingExplorer


@pytest.fixture(scope="module")
def scenes():
    return dsla.Scenes("val", size=2)


def modes(model):
    return [module.training for module in model.modules()]


LOOKS = {
    "browser": lambda model, scenes: DetectionBrowser(scenes, model).close(),
    "ranking explorer": lambda model, scenes: RankingExplorer(model, scenes).close(),
    "explorer": lambda model, scenes: AssignmentExplorer(model=model).set(coupling="trained model"),
    "ranking": ranking,
    "suppression": suppression,
    "errors": errors,
    "adjacency": adjacency,
    "why": dsla.why,
    "evaluate": dsla.evaluate,
    "predict": lambda model, scenes: predict(model, [scenes[0][0]]),
}


@pytest.mark.robustness("lost: a view or an analysis that looks at a model in training leaves every part in its mode")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("look", LOOKS)
def test_a_model_in_training_stays_in_training(scenes, look):
    model = dsla.load("scenes-dsla").train()
    next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d)).eval()  # one part is not, on purpose
    before = modes(model)
    assert True in before
    assert False in before
    LOOKS[look](model, scenes)
    assert modes(model) == before
    assert all(parameter.requires_grad for parameter in model.head.parameters())


@pytest.mark.robustness("lost: of two threads that look at a model in training, neither leaves it in evaluation")
def test_two_threads_that_look_at_a_model_in_training():
    """As two cells' widgets do: the second begins while the first looks, and ends after it."""
    model = dsla.load("scenes-dsla").train()
    before, second_looks, first_done = modes(model), threading.Event(), threading.Event()

    def second():
        with evaluation_mode(model):
            second_looks.set()
            first_done.wait(10)
            assert not any(modes(model))

    with ThreadPoolExecutor(1) as pool:
        with evaluation_mode(model):
            looking = pool.submit(second)
            assert second_looks.wait(10)
        first_done.set()
        looking.result()
    assert modes(model) == before


WRONG = """
import warnings, dsla
from dsla.widgets import *
data = dsla.Scenes("val", size=1)
for make in (
    lambda: DetectionBrowser(data, "nowhere.json"), lambda: DetectionBrowser("nowhere.json", data),
    lambda: DetectionBrowser(data, data), lambda: RankingExplorer("nowhere.json", data),
    lambda: RankingExplorer(data, data), lambda: RankingExplorer({}, data),
    lambda: AssignmentExplorer("nowhere.png"), lambda: AssignmentExplorer(assigners="none"),
    lambda: AssignmentExplorer(boxes=[[5, 5, 1, 1]]), lambda: TrainingReplay("nowhere.npz"),
):
    try:
        make()
    except dsla.errors.DataError as error:
        print(error)
"""


@pytest.mark.slow
@pytest.mark.robustness("unclear: a view that cannot be made is one message, and no 'Exception ignored' follows")
def test_a_view_that_cannot_be_made_is_one_message():
    done = subprocess.run([sys.executable, "-c", WRONG], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == 10, lines
    assert all("nowhere" in lines[i] for i in (0, 1, 3, 6, 9))  # views take both orders
    assert lines[2] == lines[4] == "a data set stands where detections belong: give the arguments in their order"


@pytest.mark.robustness("unclear: arguments in the wrong order say so")
@pytest.mark.parametrize(
    "call",
    [
        lambda m, d: dsla.evaluate(d, m),
        lambda m, d: predict([d[0][0]], m),
        lambda m, d: ranking(d, d),
        lambda m, d: errors(d, d),
        lambda m, d: DetectionBrowser(m, m),
    ],
)
def test_arguments_in_the_wrong_order_say_so(scenes, call):
    with pytest.raises(DataError, match=r"comes first|order"):
        call(dsla.load("scenes-dsla"), scenes)


@pytest.mark.robustness("unclear: a path, a name or class names in the wrong place say what belongs there")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, d: dsla.evaluate(m, "instances.json"), "instances.json: a path stands where a data set belongs"),
        (lambda m, d: dsla.train(m.recipe, "photos"), "photos: a path stands where a data set belongs"),
        (lambda m, d: dsla.train(m.recipe, d, val="val.json"), "val.json: a path stands where a data set belongs"),
        (lambda m, d: dsla.train("scenes-dsla", d), "a recipe comes first, got a str"),
        (lambda m, d: dsla.train(m.recipe, d, model="scenes-dsla"), "a model is needed, got a str: dsla.load"),
        (lambda m, d: ranking("results.json"), "ranking needs the ground truth, too"),
        (lambda m, d: dsla.compare(d[0][0], [[9, 9, 60, 60]], ["cat"]), r"got \['cat'\]; names go into class_names"),
        (lambda m, d: AssignmentExplorer(d, images="ab"), "images in another folder: dsla.CocoDataset"),
    ],
)
def test_what_stands_for_something_else_says_what_belongs_there(scenes, call, message):
    with pytest.raises(DataError, match=message):
        call(dsla.load("scenes-dsla"), scenes)


@pytest.mark.robustness("unclear: a broken upload is named by its file name")
@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_broken_upload_is_named(data):
    explorer = AssignmentExplorer()
    explorer.surface._handle_custom_msg({"type": "image", "name": "holiday.png"}, [data])
    assert explorer.error == "DataError: holiday.png: cannot be read as an image"
    explorer.close()
