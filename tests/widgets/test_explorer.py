"""`AssignmentExplorer` without a browser: what it sends to be drawn is what the assigners say."""

import gc
import json
import weakref
from datetime import datetime

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from ipywidgets.widgets.widget import _instances
from PIL import Image

import dsla
from dsla import DataError, PointGrid
from dsla.assigners import ATSS, DSLA, FCOS, PairAssigner
from dsla.losses import dynamic_target
from dsla.plots import compare, jittered_predictions
from dsla.widgets import AssignmentExplorer
from dsla.widgets.view import COUPLINGS, choices

SIZE = (256, 384)
BOXES = [[40.0, 32.0, 200.0, 180.0], [210.0, 90.0, 330.0, 250.0], [1.0, 1.0, 3.0, 3.0]]
GREY = np.full((*SIZE, 3), 0.5, dtype=np.float32)


@pytest.fixture
def explorer():
    made = AssignmentExplorer(GREY, BOXES, [0, 1, 0], class_names=["cat", "dog"])
    yield made
    made.close()


def expected(boxes, assigner, offset, strides=(8, 16, 32, 64, 128)):
    grid = PointGrid(SIZE, strides, offset)
    boxes = torch.tensor(boxes).reshape(-1, 4)
    return assigner(grid, [boxes], [torch.zeros(len(boxes), dtype=torch.int64)], image_sizes=[SIZE])


def agree(explorer, wanted):
    """The bytes that the browser colours are the labels of these assignments, row by row and level by level."""
    rows = explorer.surface.frame["rows"]
    assert len(rows) == len(wanted)
    for row, a in zip(rows, wanted, strict=True):
        assert row["offset"] == a.grid.offset
        assert row["counts"] == a.counts().tolist()
        index = a.grid.split(a.gt_index)
        for level, (map_, labels) in enumerate(zip(row["maps"], a.grid.split(a.label), strict=True)):
            drawn = np.frombuffer(map_, dtype=np.uint8).reshape(a.grid.shapes[level])
            assert ((drawn > 0) == (index[level][0].numpy() >= 0)).all()
            shown = drawn > 0
            assert np.abs((drawn[shown] - 1.0) / 254 - labels[0].numpy()[shown]).max(initial=0) <= 0.5 / 254 + 1e-6
            assert row["totals"][level] == shown.sum()
            assert sorted(row["objects_at"][level]) == sorted({int(i) for i in index[level].unique() if i >= 0})


def test_what_is_drawn_is_the_assignment(explorer):
    agree(explorer, [expected(BOXES, FCOS(), 0.5), expected(BOXES, DSLA(), 0.0)])
    for title, a in zip(("fcos", "dsla"), (FCOS(), DSLA()), strict=True):
        assert torch.equal(
            explorer.assignments[title].label, expected(BOXES, a, {"fcos": 0.5, "dsla": 0.0}[title]).label
        )
    table = explorer.surface.frame["table"]
    assert table.count("no point") == 2  # the third box, for both
    assert "dog" in table
    assert explorer.surface.frame["rows"][0]["note"].endswith("1 object without a point")


def test_moving_adding_and_deleting_boxes_moves_the_labels(explorer):
    moved = [[56.0, 48.0, 216.0, 196.0], *BOXES[1:]]
    edit = {"type": "edit", "objects": [[*b, 0] for b in moved], "seq": 7}
    explorer.surface._handle_custom_msg(edit, [])  # as it comes from the browser
    agree(explorer, [expected(moved, FCOS(), 0.5), expected(moved, DSLA(), 0.0)])
    assert explorer.surface.frame["seq"] == 7
    agree(explorer, [expected(moved, FCOS(), 0.5), expected(moved, DSLA(), 0.0)])
    more = [*moved, [300.0, 10.0, 380.0, 80.0]]
    explorer.surface.objects = [[*b, 1] for b in more]
    agree(explorer, [expected(more, FCOS(), 0.5), expected(more, DSLA(), 0.0)])
    assert set(explorer.assignments["dsla"].category.unique().tolist()) == {-1, 1}
    explorer.surface.objects = []
    agree(explorer, [expected([], FCOS(), 0.5), expected([], DSLA(), 0.0)])
    assert explorer.error == ""


@pytest.mark.parametrize(
    ("control", "value", "fcos", "dsla"),
    [
        ("relaxation", 0.45, {}, {"relaxation": 0.45}),
        ("core_zone", False, {}, {"core_zone": False}),
        ("truncate", False, {}, {"truncate": False}),
        ("radius", 1.5, {"center_sampling": 1.5}, {"center_sampling": 1.5}),
        (
            "bounds",
            "0 40 90, 200 400 inf",
            *2 * ({"regress_ranges": [(0, 40), (40, 90), (90, 200), (200, 400), (400, 1e8)]},),
        ),
    ],
)
def test_controls_are_the_options_of_the_methods(explorer, control, value, fcos, dsla):
    before = json.dumps([r["totals"] for r in explorer.surface.frame["rows"]])
    explorer.controls[control].value = value
    wanted = [expected(BOXES, FCOS(**fcos), 0.5), expected(BOXES, DSLA(**dsla), 0.0)]
    agree(explorer, wanted)
    changed = before != json.dumps([r["totals"] for r in explorer.surface.frame["rows"]])
    assert changed or control in ("core_zone", "truncate")


def test_offset_strides_and_rows(explorer):
    explorer.controls["offset"].value = 0.5
    agree(explorer, [expected(BOXES, FCOS(), 0.5), expected(BOXES, DSLA(), 0.5)])
    explorer.controls["offset"].value = -1.0  # each method's own again
    explorer.controls["strides"].value = (8, 16, 32)
    ranges = [(0, 64), (64, 128), (128, 1e8)]
    a, b = FCOS(ranges), DSLA(ranges)
    agree(explorer, [expected(BOXES, a, 0.5, (8, 16, 32)), expected(BOXES, b, 0.0, (8, 16, 32))])
    explorer.controls["row 1"].value, explorer.controls["row 3"].value = "dsla, hard ranges", "atss"
    assert list(explorer.assignments) == ["dsla, hard ranges", "dsla", "atss"]
    wanted = [expected(BOXES, c, o, (8, 16, 32)) for c, o in ((DSLA(ranges, relaxation=0), 0), (b, 0), (ATSS(), 0.5))]
    agree(explorer, wanted)


@pytest.mark.parametrize("name", choices())
def test_every_row_with_every_coupling_and_its_code(name):
    explorer = AssignmentExplorer(Image.new("RGB", SIZE[::-1]), BOXES, [0, 1, 0], assigners=[name])
    for coupling in COUPLINGS if name in ("fcos", "dsla", "simota", "tal") else COUPLINGS[:2]:
        explorer.controls["coupling"].value = coupling
        assert explorer.error == "", coupling
        code = explorer.python().replace("image = ...", "image = given")
        space = {"given": torch.zeros(3, *SIZE)}
        exec(code, space)
        found, shown = space["assignments"][name], explorer.assignments[name]
        for field in ("gt_index", "label", "category", "ignored"):
            assert torch.equal(getattr(found, field), getattr(shown, field)), (coupling, field)
        assert found.grid.shapes == shown.grid.shapes
        assert repr(found.assigner) == repr(shown.assigner)
    explorer.close()


def test_jittered_boxes_multiply_the_labels_that_follow_the_iou(explorer):
    explorer.controls["jitter"].value = 0.2
    explorer.controls["coupling"].value = "jittered boxes"
    assert explorer.error == ""
    boxes, labels, grid = torch.tensor(BOXES), torch.tensor([0, 1, 0]), PointGrid(SIZE, (8, 16, 32, 64, 128), 0.0)
    said = jittered_predictions(grid, [boxes], [labels], 0.2, 2)
    a = expected(BOXES, DSLA(), 0.0)
    target = dynamic_target(a.label, a.iou(said.boxes))
    fcos, dsla = explorer.shown
    assert torch.equal(dsla.values, target[0])
    assert torch.equal(fcos.values, expected(BOXES, FCOS(), 0.5).label[0])  # FCOS's labels do not follow the IoU
    assert np.allclose(dsla.frame["target"], target[a.positive])
    assert (dsla.frame["target"] < dsla.frame["label"]).any()


def test_coupling_with_a_model_works_in_the_models_frame():
    scene, target = dsla.Scenes("test", size=4)[3]
    model = dsla.load("scenes-dsla")
    explorer = AssignmentExplorer(scene, target["boxes"], target["labels"], assigners="dsla", model=model)
    explorer.controls["coupling"].value = "trained model"
    with torch.no_grad():
        raw = model.forward_raw([scene], [target])
    wanted = model.assign(raw)
    row = explorer.shown[0]
    assert row.assignment.grid.strides == (8, 16, 32)
    wanted_target = dynamic_target(wanted.label, wanted.iou(raw.outputs.boxes))
    options = DSLA(explorer.assignments["dsla"].assigner.regress_ranges, truncate=True).options()
    explorer.controls["truncate"].value = False  # as the model was trained
    assert explorer.assignments["dsla"].assigner.options() == options | {"truncate": False}
    assert torch.allclose(explorer.shown[0].values, wanted_target[0], atol=1e-6)
    explorer.close()


def test_hovering_shows_the_row_and_the_rules(explorer):
    a = explorer.assignments["dsla"]
    point = int((a.gt_index[0] == 1).nonzero()[3])
    explorer.surface.hover = [1, point, -1]
    text = explorer.surface.why
    assert "won by object 1" in text
    for rule in a.assigner.explain(a.grid, point, BOXES[1]).rules:
        assert rule.name in text
    frame = a.to_frame()
    row = frame[frame["point"] == point].iloc[0]
    assert f"<td>centerness</td><td>{row['centerness']:.4g}</td>" in text
    assert f"value {row['label']:.4g}" in text
    explorer.surface.hover = [1, point, 0]  # the chosen box instead
    assert a.assigner.explain(a.grid, point, BOXES[0]).verdict in explorer.surface.why
    background = int((a.gt_index[0] < 0).nonzero()[0])
    explorer.surface.hover = [0, background, -1]
    assert "background" in explorer.surface.why
    assert "no object won this point" in explorer.surface.why


def test_what_is_said_of_a_point_follows_boxes_controls_and_grids(explorer):
    point = int((explorer.assignments["dsla"].gt_index[0] == 0).nonzero()[0])
    explorer.surface.hover = [1, point, 0]
    assert f"box ({', '.join(f'{v:g}' for v in BOXES[0])})" in explorer.surface.why
    moved = [[44.0, 36.0, 204.0, 184.0], *BOXES[1:]]
    explorer.surface.objects = [[*b, 0] for b in moved]
    assert "box (44, 36, 204, 184)" in explorer.surface.why
    for relaxation in (0.0, 0.9):
        explorer.controls["relaxation"].value = relaxation
        a = explorer.assignments["dsla"]
        assert a.assigner.explain(a.grid, point, moved[0])._repr_html_() in explorer.surface.why
    explorer.controls["strides"].value = (8, 16, 32)
    assert explorer.surface.why == ""
    assert explorer.surface.hover == []


def test_errors_are_shown_and_go(explorer):
    before = explorer.surface.frame
    explorer.controls["bounds"].value = "0 64 sixty"
    assert explorer.error.startswith("DataError: range bounds '0 64 sixty'")
    assert "sixty" in explorer._banner.value
    assert "Traceback" in explorer._banner.value
    assert explorer.surface.frame is before
    explorer.controls["bounds"].value = "0 64 128 inf"
    assert "ranges for 3 levels but there are 5 strides" in explorer.error
    explorer.controls["bounds"].value = "0 64 128 256 512 inf"
    assert explorer.error == explorer._banner.value == ""
    explorer.surface.objects = [[5, 5, 1, 1, 0]]
    assert "x2 ≤ x1" in explorer.error
    explorer.surface.objects = [[1, 1, 90, 90, 0]]
    assert explorer.error == ""
    file = {"name": "a.txt", "type": "", "size": 3, "content": memoryview(b"abc"), "last_modified": datetime.now()}
    explorer._uploaded({"new": (file,)})
    assert "UnidentifiedImageError" in explorer.error


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(DataError, match="lies outside"):
        AssignmentExplorer(GREY, [[500, 500, 600, 600]])
    with pytest.raises(ValueError, match="no method 'yolo': there are"):
        AssignmentExplorer(GREY, BOXES, assigners=["yolo"])
    with pytest.raises(ValueError, match="one to three"):
        AssignmentExplorer(GREY, BOXES, assigners=["fcos", "dsla", "atss", "tal"])
    with pytest.raises(ValueError, match="ranges for 1 levels"):
        AssignmentExplorer(GREY, BOXES, assigners=DSLA([(0, 64)]))


def test_given_assigners_stay_as_they_are(explorer):
    own = DSLA(relaxation=0.5)
    view = AssignmentExplorer(GREY, BOXES, assigners={"mine": own, "theirs": "dsla"})
    view.controls["relaxation"].value = 0.1
    agree(view, [expected(BOXES, own, 0.0), expected(BOXES, DSLA(relaxation=0.1), 0.0)])
    view.close()


def test_upload_and_scenes(explorer, tmp_path):
    path = tmp_path / "own.png"
    Image.new("RGB", (320, 200), (250, 0, 0)).save(path)
    file = {
        "name": "own.png",
        "type": "image/png",
        "size": 1,
        "content": memoryview(path.read_bytes()),
        "last_modified": datetime.now(),
    }
    explorer.controls["upload"].value = (file,)
    assert explorer.surface.size == [200, 320]
    assert explorer.boxes.shape == (0, 4)
    assert explorer.assignments["dsla"].grid.shapes[0] == (25, 40)
    explorer.controls["scene"].value = 4
    scene, target = dsla.Scenes("test", size=5, image_size=512)[4]
    assert explorer.surface.size == list(scene.shape[1:])
    assert torch.equal(explorer.boxes, target["boxes"])
    assert explorer.labels.tolist() == target["labels"].tolist()
    assert explorer.surface.names == list(dsla.Scenes.class_names)


def test_exports(explorer, monkeypatch):
    sent = []
    monkeypatch.setattr(explorer.surface, "send", lambda content, buffers=None: sent.append((content, buffers)))
    for name in ("png", "csv", "python"):
        explorer.controls[name].click()
    (png, picture), (csv, table), (copied, _) = sent
    assert png["name"] == "assignment.png"
    assert picture[0].startswith(b"\x89PNG")
    assert csv["name"] == "assignment.csv"
    lines = table[0].decode().splitlines()
    counts = [a.counts().sum() for a in explorer.assignments.values()]
    assert len(lines) - 1 == sum(int(c) for c in counts) == len(explorer.table())
    assert lines[0].startswith("assigner,image,point,level")
    assert copied["text"] == explorer._code.value == explorer.python()
    rows = explorer.static().rows
    assert [r.title for r in rows] == ["fcos", "dsla"]
    again = compare(GREY, BOXES, [0, 1, 0]).rows
    assert all(torch.equal(r.assignment.label, o.assignment.label) for r, o in zip(rows, again, strict=True))


def test_without_a_kernel_there_is_a_picture(explorer):
    bundle = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["image/png"].startswith("iVBOR")  # base64 of a PNG
    assert len(bundle["image/png"]) < 150_000


def test_threads_are_given_back(explorer):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    explorer.controls["relaxation"].value = 0.4
    assert torch.get_num_threads() == 2
    explorer.controls["bounds"].value = "0 64 128"
    assert explorer.error
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)


def test_many_changes_leave_no_figures_and_one_view(explorer):
    before, widgets = plt.get_fignums(), len(_instances)
    for i in range(40):
        explorer.controls["relaxation"].value = 0.02 * i
    assert plt.get_fignums() == before
    assert len(_instances) == widgets
    assert explorer.assignments["dsla"].assigner.relaxation == pytest.approx(0.78)


def test_closing_frees_everything():
    gc.collect()
    before = set(_instances)
    made = AssignmentExplorer(GREY, BOXES)
    made.controls["coupling"].value = "jittered boxes"
    surface, held = weakref.ref(made.surface), weakref.ref(made.shown[0].assignment)
    made.close()
    assert set(_instances) == before
    gc.collect()
    assert held() is None
    del made
    gc.collect()
    assert surface() is None


def test_an_assigner_of_ones_own_without_ranges():
    class Everywhere(PairAssigner):
        name = "Everywhere"

        def factors(self, pairs):
            return {"label": torch.ones_like(pairs.measure)}

    explorer = AssignmentExplorer(torch.zeros(3, 64, 96), [[8, 8, 60, 50]], assigners=[Everywhere(), "dsla"])
    counts = explorer.assignments["Everywhere as given"].counts()
    assert counts.item() > explorer.assignments["dsla"].counts().item() > 0
