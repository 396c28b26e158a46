"""What holds for each view: errors are shown, nothing piles up, closing frees, a saved notebook has a picture."""

import base64
import gc
import io
import warnings
import weakref

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from ipywidgets.widgets.widget import _instances
from PIL import Image
from two_images import FOUND, Two

from dsla.plots.style import small_png
from dsla.training.recorder import Recording
from dsla.widgets import AssignmentExplorer, DetectionBrowser, RankingExplorer, TrainingReplay
from dsla.widgets.surface import script

RECORDING = Recording.load()
BOXES = [[40.0, 32.0, 200.0, 180.0], [210.0, 90.0, 330.0, 250.0]]
MAKE = {
    "assignment": lambda: AssignmentExplorer(np.full((256, 384, 3), 0.5, dtype=np.float32), BOXES, [0, 1]),
    "detection": lambda: DetectionBrowser(Two(), {"ours": FOUND}),
    "ranking": lambda: RankingExplorer(Two(), {"ours": FOUND}),
    "replay": lambda: TrainingReplay(RECORDING),
}
SET = {  # the i-th of forty values of a slider
    "assignment": lambda view, i: view.set(relaxation=0.02 * i),
    "detection": lambda view, i: setattr(view.controls["score"], "value", 0.025 * i),
    "ranking": lambda view, i: view.choose((0.02 * i, 1), (0, 1)),
    "replay": lambda view, i: view.show(i, (i + 1) % 3),
}


def broken(*_):
    raise RuntimeError("on purpose <b>")


BREAK = {"assignment": "_asked", "detection": "_judged", "ranking": "_select"}  # what a callback calls


@pytest.fixture(params=MAKE)
def name(request):
    return request.param


@pytest.fixture
def view(name):
    made = MAKE[name]()
    yield made
    made.close()


def test_an_exception_in_a_callback_is_shown_and_goes_once_it_works_again(name, view, monkeypatch):
    if name not in BREAK:  # all of it happens in the browser, see `test_errors_of_the_browser_are_shown_too`
        assert not {t for t, by in view.surface._trait_notifiers.items() if any(by.values())} - {"comm"}
        return
    with monkeypatch.context() as patch:
        patch.setattr(view, BREAK[name], broken)
        SET[name](view, 3)
        assert view.error == "RuntimeError: on purpose <b>"
        assert "on purpose &lt;b&gt;" in view._banner.value  # its text, never its markup
        assert "Traceback" in view._banner.value
        assert view.children[0] is view._banner
    SET[name](view, 7)
    assert view.error == view._banner.value == ""


@pytest.mark.parametrize("file", ["explorer.js", "detections.js", "ranking.js", "replay.js"])
def test_errors_of_the_browser_are_shown_too(file):
    """By its text: every function that a change calls is wrapped; the browser's test sees one fail."""
    text = script(file)
    assert "follow(model, {" in text
    assert "}, guard);" in text
    assert text.count('model.on("change:') == 0
    assert text.count('model.on("msg:') <= 1


@pytest.mark.slow
def test_forty_values_leave_one_view_no_figure_and_no_warning(view, name):
    figures, widgets = plt.get_fignums(), len(_instances)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in range(40):
            SET[name](view, i)
    assert view.error == ""
    assert plt.get_fignums() == figures
    assert len(_instances) == widgets


@pytest.mark.slow
def test_closing_frees_what_it_held(name):
    gc.collect()
    before = set(_instances)
    made = MAKE[name]()
    SET[name](made, 5)
    held = weakref.ref(made), weakref.ref(made.surface)
    made.close()
    assert set(_instances) == before
    del made
    gc.collect()
    assert [ref() for ref in held] == [None, None]


@pytest.mark.slow
def test_a_saved_notebook_shows_a_picture_without_a_kernel(view, name):
    """Its own picture of what is seen now, small, and nothing that only a live kernel could draw."""
    data = view._repr_mimebundle_()
    cell = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("display_data", data)])
    nbformat.validate(nbformat.v4.new_notebook(cells=[cell]))
    first = data["image/png"]
    assert len(first) < 300_000
    assert min(Image.open(io.BytesIO(base64.b64decode(first))).size) > 150
    assert base64.b64decode(first) == small_png(view.static())
    SET[name](view, 39)
    if name != "detection":  # of which one image has no detection left
        assert view._repr_mimebundle_()["image/png"] != first


CELLS = (
    """%matplotlib inline
import sys
sys.path.insert(0, {folder!r})
import warnings
import test_every_view as t
warnings.simplefilter("error", RuntimeWarning)
view = t.MAKE[{name!r}]()
view""",
    """for i in range(40):
    t.SET[{name!r}](view, i)
import matplotlib.pyplot as plt
print(plt.get_fignums(), view.error)""",
    "view",
)


@pytest.mark.slow
def test_forty_values_in_a_real_kernel_with_inline_figures(tmp_path):
    """The output area holds one picture; shown again, it is that of the last value."""
    nbclient = pytest.importorskip("nbclient")
    folder = __file__.rpartition("/")[0]
    sources = [c.format(folder=folder, name=name) for name in MAKE for c in CELLS]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    nbclient.NotebookClient(
        book, timeout=120, kernel_name="python3", store_widget_state=False, resources={"metadata": {"path": tmp_path}}
    ).execute()
    assert not book.metadata.get("widgets")
    for n, name in enumerate(MAKE):
        first, moved, again = (cell.outputs for cell in book.cells[3 * n : 3 * n + 3])
        assert [o.output_type for o in first] == [o.output_type for o in again] == ["execute_result"]
        assert [o.text for o in moved] == ["[] \n"], name
        view = MAKE[name]()
        for i in range(40):
            SET[name](view, i)
        assert base64.b64decode(again[0].data["image/png"]) == small_png(view.static()), name
        view.close()
