"""`AssignmentExplorer` without a browser: what it sends to be drawn is what the assigners say."""

import gc
import weakref

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from ipywidgets.widgets.widget import _instances
from PIL import Image

import dsla
from dsla import DataError, PointGrid
from dsla.assigners import ATSS, DSLA, FCOS, METHODS, PairAssigner
from dsla.geometry import Frame
from dsla.losses import dynamic_target
from dsla.plots import compare, jittered_predictions
from dsla.widgets import AssignmentExplorer
from dsla.widgets.state import COUPLINGS

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


def totals(explorer):
    """Points of each level of each row, of what the browser is sent."""
    return [
        [int((level >= 0).sum()) for level in np.split(np.frombuffer(row["gt"], np.int32), np.cumsum(sizes)[:-1])]
        for row in explorer.surface.frame["rows"]
        for sizes in [[h * w for h, w in row["shapes"]]]
    ]


def agree(explorer, wanted):
    """What the browser draws are the winners and labels of these assignments."""
    rows = explorer.surface.frame["rows"]
    assert len(rows) == len(wanted)
    for row, a in zip(rows, wanted, strict=True):
        assert row["offset"] == a.grid.offset
        assert row["shapes"] == [list(shape) for shape in a.grid.shapes]
        assert np.array_equal(np.frombuffer(row["gt"], np.int32), a.gt_index[0])
        assert np.array_equal(np.frombuffer(row["values"], np.float32), a.label[0])
        assert row["scale"] == [1, 1]


def test_what_is_drawn_is_the_assignment(explorer):
    agree(explorer, [expected(BOXES, FCOS(), 0.5), expected(BOXES, DSLA(), 0.0)])
    for title, a, offset in (("FCOS", FCOS(), 0.5), ("DSLA", DSLA(), 0.0)):
        assert torch.equal(explorer.assignments[title].label, expected(BOXES, a, offset).label)
    assert [row["title"] for row in explorer.surface.frame["rows"]] == ["FCOS", "DSLA"]


def test_moving_adding_and_deleting_boxes_moves_the_labels(explorer):
    moved = [[56.0, 48.0, 216.0, 196.0], *BOXES[1:]]
    edit = {"type": "edit", "objects": [[*b, 0] for b in moved], "state": explorer.state, "seq": 7}
    explorer.surface._handle_custom_msg(edit, [])  # as it comes from the browser
    agree(explorer, [expected(moved, FCOS(), 0.5), expected(moved, DSLA(), 0.0)])
    assert explorer.surface.frame["seq"] == 7
    explorer.surface._handle_custom_msg(edit | {"seq": 8}, [])  # the same again: answered, too
    assert explorer.surface.frame["seq"] == 8
    agree(explorer, [expected(moved, FCOS(), 0.5), expected(moved, DSLA(), 0.0)])
    more = [*moved, [300.0, 10.0, 380.0, 80.0]]
    explorer.surface.objects = [[*b, 1] for b in more]
    agree(explorer, [expected(more, FCOS(), 0.5), expected(more, DSLA(), 0.0)])
    assert set(explorer.assignments["DSLA"].category.unique().tolist()) == {-1, 1}
    explorer.surface.objects = []
    agree(explorer, [expected([], FCOS(), 0.5), expected([], DSLA(), 0.0)])
    assert explorer.error == ""


@pytest.mark.parametrize(
    ("control", "value", "fcos", "dsla"),
    [
        ("relaxation", 0.45, {}, {"relaxation": 0.45}),
        ("core_zone", False, {}, {"core_zone": False}),
        ("truncate", False, {}, {"truncate": False}),
        ("center_sampling", 1.5, {"center_sampling": 1.5}, {"center_sampling": 1.5}),
        (
            "bounds",
            [0, 40, 90, 200, 400, 1e8],
            *2 * ({"regress_ranges": [(0, 40), (40, 90), (90, 200), (200, 400), (400, 1e8)]},),
        ),
    ],
)
def test_controls_are_the_options_of_the_methods(explorer, control, value, fcos, dsla):
    before = totals(explorer)
    explorer.set(**{control: value})
    agree(explorer, [expected(BOXES, FCOS(**fcos), 0.5), expected(BOXES, DSLA(**dsla), 0.0)])
    assert before != totals(explorer) or control in ("core_zone", "truncate")


def test_offset_strides_and_rows(explorer):
    explorer.set(offset=0.5)
    agree(explorer, [expected(BOXES, FCOS(), 0.5), expected(BOXES, DSLA(), 0.5)])
    explorer.set(offset=None, strides=(8, 16, 32))
    ranges = [(0, 64), (64, 128), (128, 1e8)]
    a, b = FCOS(ranges), DSLA(ranges)
    agree(explorer, [expected(BOXES, a, 0.5, (8, 16, 32)), expected(BOXES, b, 0.0, (8, 16, 32))])
    hard = {"method": "dsla", "options": {"relaxation": 0}}
    explorer.set(rows=[hard, {"method": "dsla"}, {"method": "atss", "options": {"topk": 4}}])
    assert list(explorer.assignments) == ["DSLA, relaxation 0", "DSLA", "ATSS, topk 4"]
    agree(
        explorer,
        [expected(BOXES, c, o, (8, 16, 32)) for c, o in ((DSLA(ranges, relaxation=0), 0), (b, 0), (ATSS(topk=4), 0.5))],
    )


def test_only_the_options_of_a_method_are_its_controls(explorer):
    controls = {name: [o["name"] for o in entry["controls"]] for name, entry in explorer.surface.catalogue.items()}
    assert controls["atss"] == ["topk", "anchor_scale"]
    assert {"alpha", "beta"} <= set(controls["tal"])
    assert "center_radius" in controls["simota"]
    assert set(controls["dsla"]) == {"relaxation", "truncate", "core_zone", "center_sampling"}
    with pytest.raises(DataError, match="relaxatoin"):
        explorer.set(relaxatoin=0.3)
    explorer.set(rows=["atss"])
    with pytest.raises(DataError, match="relaxation"):
        explorer.set(relaxation=0.3)  # ATSS has none
    explorer.set(topk=3)
    assert explorer.assignments["ATSS, topk 3"].assigner.topk == 3


def test_the_input_size_is_the_detectors(explorer):
    explorer.set(input="800/1333")
    frame = Frame.of(SIZE, (800, 1333))
    grid, boxes = frame.grid((8, 16, 32, 64, 128)), frame.boxes(torch.tensor(BOXES))
    a = DSLA()(grid, [boxes], [torch.zeros(3, dtype=torch.int64)], image_sizes=[frame.size])
    row = explorer.surface.frame["rows"][1]
    assert np.array_equal(np.frombuffer(row["values"], np.float32), a.label[0])
    assert row["scale"] == [SIZE[1] / frame.size[1], SIZE[0] / frame.size[0]]
    assert "1200 × 800 pixels (stored as 384 × 256)" in explorer.static().caption
    explorer.set(input="640")  # letterbox: 640 × 426, and padding below
    explorer.surface.hover = [1, len(explorer.shown[1].assignment.grid) - 1, 0]
    assert "excluded: in the image" in explorer.surface.why
    explorer.set(input="1333/800")
    assert "input size '1333/800'" in explorer.error


@pytest.mark.parametrize("name", list(METHODS))
def test_every_row_with_every_coupling_and_its_code(name):
    explorer = AssignmentExplorer(Image.new("RGB", SIZE[::-1]), BOXES, [0, 1, 0], assigners=[name])
    for coupling in COUPLINGS if name in ("fcos", "dsla", "simota", "tal") else COUPLINGS[:2]:
        explorer.set(coupling=coupling)
        assert explorer.error == "", coupling
        code = explorer.python().replace("image = ...", "image = given")
        space = {"given": torch.zeros(3, *SIZE)}
        exec(code, space)
        again, assignment = space["assignments"][METHODS[name].title], explorer.assignments[METHODS[name].title]
        for field in ("gt_index", "label", "category", "ignored"):
            assert torch.equal(getattr(again, field), getattr(assignment, field)), (coupling, field)
        assert again.grid.shapes == assignment.grid.shapes
        assert repr(again.assigner) == repr(assignment.assigner)
    explorer.close()


def test_large_labels_need_no_memory_of_their_size():
    explorers = [AssignmentExplorer(Image.new("RGB", SIZE[::-1]), BOXES, labels, assigners=["tal", "dsla"])
                 for labels in ([0, 1, 0], [5, 10**9, 5])]  # fmt: skip
    for explorer in explorers:
        explorer.set(coupling="jittered boxes")
        assert explorer.error == ""
    for small, large in zip(*(explorer.shown for explorer in explorers), strict=True):
        assert torch.equal(small.values, large.values)
        assert set(large.assignment.category.unique().tolist()) <= {-1, 5, 10**9}
        point = int(small.assignment.gt_index[0].argmax())
        assert str(small.explain(point, 1)) == str(large.explain(point, 1))
    for explorer in explorers:
        explorer.close()


def test_jittered_boxes_multiply_the_labels_that_follow_the_iou(explorer):
    explorer.set(jitter=0.2, coupling="jittered boxes")
    assert explorer.error == ""
    boxes, labels, grid = torch.tensor(BOXES), torch.tensor([0, 1, 0]), PointGrid(SIZE, (8, 16, 32, 64, 128), 0.0)
    predicted = jittered_predictions(grid, [boxes], [labels], 0.2, 2)
    a = expected(BOXES, DSLA(), 0.0)
    target = dynamic_target(a.label, a.iou(predicted.boxes))
    fcos, dsla = explorer.shown
    assert torch.equal(dsla.values, target[0])
    assert torch.equal(fcos.values, expected(BOXES, FCOS(), 0.5).label[0])  # FCOS's labels do not follow the IoU
    assert np.allclose(dsla.table["target"], target[a.positive])
    assert (dsla.table["target"] < dsla.table["label"]).any()


def test_coupling_with_a_model_works_in_the_models_frame():
    scene, target = dsla.Scenes("test", size=4)[3]
    model = dsla.load("scenes-dsla")
    explorer = AssignmentExplorer(scene, target["boxes"], target["labels"], assigners="dsla", model=model)
    explorer.set(coupling="trained model")
    with torch.no_grad():
        raw = model.forward_raw([scene], [target])
    wanted = model.assign(raw)
    row = explorer.shown[0]
    assert row.assignment.grid.strides == (8, 16, 32)
    wanted_target = dynamic_target(wanted.label, wanted.iou(raw.outputs.boxes))
    options = DSLA(explorer.assignments["DSLA"].assigner.regress_ranges, truncate=True).options()
    explorer.set(truncate=False)  # as the model was trained
    assert explorer.assignments["DSLA, truncate off"].assigner.options() == options | {"truncate": False}
    assert torch.allclose(explorer.shown[0].values, wanted_target[0], atol=1e-6)
    explorer.close()


def test_hovering_shows_the_row_and_the_rules(explorer):
    a = explorer.assignments["DSLA"]
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
    point = int((explorer.assignments["DSLA"].gt_index[0] == 0).nonzero()[0])
    explorer.surface.hover = [1, point, 0]
    assert f"box ({', '.join(f'{v:g}' for v in BOXES[0])})" in explorer.surface.why
    moved = [[44.0, 36.0, 204.0, 184.0], *BOXES[1:]]
    explorer.surface.objects = [[*b, 0] for b in moved]
    assert "box (44, 36, 204, 184)" in explorer.surface.why
    for relaxation in (0.0, 0.9):
        explorer.set(relaxation=relaxation)
        a = explorer.shown[1].assignment
        assert a.assigner.explain(a.grid, point, moved[0])._repr_html_() in explorer.surface.why
    explorer.set(strides=(8, 16, 32))
    assert explorer.surface.why == ""
    assert explorer.surface.hover == []


def test_what_failed_is_tried_again_although_nothing_else_changed(explorer, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(explorer, "_asked", lambda *_: 1 / 0)
        explorer.set(relaxation=0.4)
    assert explorer.error == "ZeroDivisionError: division by zero"
    explorer.update()
    agree(explorer, [expected(BOXES, FCOS(), 0.5), expected(BOXES, DSLA(relaxation=0.4), 0.0)])


def test_errors_are_shown_and_go_and_nothing_stale_stays(explorer):
    explorer.set(bounds=[0, 64, 128, 1e8])
    assert explorer.error == (
        "DataError: ranges ['0', '64', '128', '1e+08']: 5 levels have 6 ends, each larger than the one before"
    )
    assert "Traceback" in explorer._banner.value
    assert explorer.surface.frame["rows"] == []
    explorer.set(bounds=[0, 64, 32, 256, 512, 1e8])
    assert "each larger" in explorer.error
    explorer.set(bounds=[0, 64, 128, 256, 512, 1e8])
    assert explorer.error == explorer._banner.value == ""
    agree(explorer, [expected(BOXES, FCOS(), 0.5), expected(BOXES, DSLA(), 0.0)])
    explorer.surface.objects = [[5, 5, 1, 1, 0]]
    assert "x2 ≤ x1" in explorer.error
    explorer.surface.objects = [[1, 1, 90, 90, 0]]
    assert explorer.error == ""
    explorer.set(relaxation=3)
    assert "relaxation=3: a number from 0 to 0.95 is needed" in explorer.error
    explorer.surface._handle_custom_msg({"type": "image", "name": "a.txt"}, [b"abc"])
    assert "a.txt: cannot be read as an image" in explorer.error


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(DataError, match="lies outside"):
        AssignmentExplorer(GREY, [[500, 500, 600, 600]])
    with pytest.raises(DataError, match="yolo"):
        AssignmentExplorer(GREY, BOXES, assigners=["yolo"])
    with pytest.raises(ValueError, match="one to three"):
        AssignmentExplorer(GREY, BOXES, assigners=["fcos", "dsla", "atss", "tal"])
    with pytest.raises(ValueError, match="ranges for 1 levels"):
        AssignmentExplorer(GREY, BOXES, assigners=DSLA([(0, 64)]))


def test_given_assigners_stay_as_they_are(explorer):
    assigner = DSLA(relaxation=0.5)
    view = AssignmentExplorer(GREY, BOXES, assigners={"mine": assigner, "theirs": "dsla"})
    view.set(relaxation=0.1)
    agree(view, [expected(BOXES, assigner, 0.0), expected(BOXES, DSLA(relaxation=0.1), 0.0)])
    view.close()


def test_upload_and_scenes(explorer, tmp_path):
    path = tmp_path / "own.png"
    Image.new("RGB", (320, 200), (250, 0, 0)).save(path)
    explorer.surface._handle_custom_msg({"type": "image", "name": "own.png"}, [path.read_bytes()])
    assert explorer.surface.size == [200, 320]
    assert explorer.boxes.shape == (0, 4)
    assert explorer.assignments["DSLA"].grid.shapes[0] == (25, 40)
    assert "size = (200, 320)" in explorer.python()
    explorer.surface._handle_custom_msg({"type": "scene", "scene": 4}, [])
    scene, target = dsla.Scenes("test", size=4, image_size=512)[3]  # the built-in ones are 5, 0, 1, 3, 7 and 9
    assert explorer.surface.size == list(scene.shape[1:])
    assert torch.equal(explorer.boxes, target["boxes"])
    assert explorer.labels.tolist() == target["labels"].tolist()
    assert explorer.surface.names == list(dsla.Scenes.class_names)
    assert explorer.surface.scene == 4


@pytest.mark.slow
def test_exports(explorer, monkeypatch):
    sent = []
    monkeypatch.setattr(explorer.surface, "send", lambda content, buffers=None: sent.append((content, buffers)))
    for name in ("png", "csv", "python"):
        explorer.surface._handle_custom_msg({"type": name}, [])
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
    assert [r.title for r in rows] == ["FCOS", "DSLA"]
    again = compare(GREY, BOXES, [0, 1, 0]).rows
    assert all(torch.equal(r.assignment.label, o.assignment.label) for r, o in zip(rows, again, strict=True))
    explorer.set(coupling="jittered boxes")
    predictions = " · predictions: true boxes jittered by 10%"  # as in `compare`
    assert [r.title for r in explorer.static().rows] == ["FCOS", f"DSLA · coupled with the IoU{predictions}"]
    explorer.set(coupling="off", rows=["simota", "dsla"], jitter=0.3)
    assert [r.title for r in explorer.static().rows] == ["SimOTA" + predictions.replace("10%", "30%"), "DSLA"]
    explorer.set(coupling="trained model", rows="dsla", strides=(8, 16, 32))
    (row,) = explorer.static().rows
    assert row.title == "DSLA · coupled with the IoU · predictions: the trained model's"


def test_without_a_kernel_there_is_a_picture(explorer):
    bundle = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["image/png"].startswith("iVBOR")  # base64 of a PNG
    assert len(bundle["image/png"]) < 150_000


def test_threads_are_given_back(explorer):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    explorer.set(relaxation=0.4)
    assert torch.get_num_threads() == 2
    explorer.set(bounds=[0, 64])
    assert explorer.error
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)


def test_many_changes_leave_no_figures_and_one_view(explorer):
    before, widgets = plt.get_fignums(), len(_instances)
    for i in range(40):
        explorer.set(relaxation=0.02 * i)
    assert plt.get_fignums() == before
    assert len(_instances) == widgets
    assert explorer.shown[1].assignment.assigner.relaxation == pytest.approx(0.78)


@pytest.mark.slow
def test_closing_frees_everything():
    gc.collect()
    before = set(_instances)
    made = AssignmentExplorer(GREY, BOXES)
    made.set(coupling="jittered boxes")
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
    assert counts.item() > explorer.assignments["DSLA"].counts().item() > 0


def test_what_is_set_is_shown_or_refused(explorer):
    for given, text in ((640, "640"), ((800, 1333), "800/1333"), ("native", "native")):
        explorer.set(input=given)  # the browser reads text
        assert (explorer.state["input"], explorer.error) == (text, "")
    with pytest.raises(DataError, match="no coupling 'jittered': did you mean 'jittered boxes'"):
        explorer.set(coupling="jittered")  # was taken for jittered boxes, as any other word, "model" among them
    with pytest.raises(DataError, match="dlsa"):
        explorer.set(rows=[{"method": "dlsa"}])
    with pytest.raises(DataError, match="no method None"):
        explorer.set(rows=[{"options": {}}])
    for rows in ([], [{"method": "dsla"}] * 4):
        with pytest.raises(DataError, match=f"one to three assigners are shown at once, got {len(rows)}"):
            explorer.set(rows=rows)
    rows = [{"method": "dsla", "options": {"relaxation": 0.4}}]
    explorer.set(rows=rows, core_zone=False)
    assert list(explorer.assignments) == ["DSLA, relaxation 0.4, core zone off"]
    assert rows == [{"method": "dsla", "options": {"relaxation": 0.4}}]
    assigner = DSLA(relaxation=0.5)
    for _ in range(2):
        explorer.set(rows=[assigner, "fcos"])
        assert list(explorer.assignments) == ["DSLA as given", "FCOS"]
    agree(explorer, [expected(BOXES, assigner, 0.0), expected(BOXES, FCOS(), 0.5)])
    assert explorer.surface.catalogue["DSLA as given"]["options"] == assigner.options()


def test_the_code_has_numbers_to_the_last_digit(explorer):
    explorer.set(rows=["dsla"], offset=1 / 3, coupling="jittered boxes", jitter=0.123456789)
    space = {}
    exec(explorer.python(), space)
    assert torch.equal(space["assignments"]["DSLA"].label, explorer.assignments["DSLA"].label)
    assert torch.equal(space["predictions"].boxes, explorer.shown[0].predictions.boxes)


def test_the_same_method_twice_has_two_rows(explorer):
    explorer.set(rows=["dsla", "dsla", "fcos"])
    assert list(explorer.assignments) == ["DSLA", "DSLA′", "FCOS"]
    agree(explorer, [expected(BOXES, DSLA(), 0.0)] * 2 + [expected(BOXES, FCOS(), 0.5)])
