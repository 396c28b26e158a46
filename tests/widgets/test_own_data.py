"""A data set of one's own in the explorer: stepped through, filtered, its classes named, its boxes saved as COCO."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from test_labels import needs_node, node
from test_page import data_of

from dsla import CocoDataset, DataError, Scenes
from dsla.cli.main import main
from dsla.widgets import AssignmentExplorer
from dsla.widgets.pictures import coco_of, pictures_of
from dsla.widgets.state import catalogue, initial

ROWS = [
    {"id": 11, "image_id": 7, "category_id": 3, "bbox": [10.1, 10.2, 30.3, 40.4], "area": 700.5, "iscrowd": 0},
    {"id": 12, "image_id": 7, "category_id": 1, "bbox": [50, 20, 40, 30], "area": 1100, "iscrowd": 0},  # leaves it
    {"id": 13, "image_id": 7, "category_id": 1, "bbox": [0, 0, 80, 60], "area": 4000, "iscrowd": 1},
    {"id": 14, "image_id": 9, "category_id": 1, "bbox": [1, 1, 2, 2], "area": 4, "iscrowd": 0},  # no point learns it
]
RESULTS = [
    {"image_id": 9, "category_id": 3, "bbox": [5, 5, 40, 40], "score": 0.9},
    {"image_id": 9, "category_id": 1, "bbox": [50, 5, 20, 20], "score": 0.4},
    {"image_id": 9, "category_id": 1, "bbox": [60, 5, 40, 20], "score": 0.2},
]


@pytest.fixture
def folder(tmp_path):
    for name, colour in (("a.png", (200, 30, 30)), ("b.png", (30, 200, 30)), ("c.png", (30, 30, 200))):
        Image.new("RGB", (80, 60), colour).save(tmp_path / name)
    files = ((7, "a.png"), (9, "b.png"), (8, "c.png"))
    data = {
        "images": [{"id": i, "file_name": f, "width": 80, "height": 60} for i, f in files],
        "categories": [{"id": 3, "name": "cup"}, {"id": 1, "name": "dog"}],
        "annotations": ROWS,
    }
    (tmp_path / "instances.json").write_text(json.dumps(data), encoding="utf-8")
    (tmp_path / "results.json").write_text(json.dumps(RESULTS), encoding="utf-8")
    return tmp_path


@pytest.fixture
def explorer(folder):
    made = AssignmentExplorer(folder / "instances.json")
    yield made
    made.close()


def hear(explorer, **message):
    explorer.surface._handle_custom_msg(message, [])


def leave(explorer, scene, objects):
    """As the browser steps to another picture."""
    hear(explorer, type="scene", scene=scene, seq=explorer.surface.seq + 1, objects=objects)


def test_a_data_set_is_stepped_through(explorer):
    surface = explorer.surface
    assert [p["name"] for p in surface.pictures] == ["image 7 · a.png", "image 9 · b.png", "image 8 · c.png"]
    assert (surface.names, surface.size, surface.scene) == (["dog", "cup"], [60, 80], 0)
    wanted = [[10.1, 10.2, 10.1 + 30.3, 10.2 + 40.4, 1], [50, 20, 80, 50, 0]]  # cut to the image; the crowd is none
    assert surface.objects == wanted
    assert torch.equal(explorer.boxes, torch.tensor(wanted)[:, :4])
    assert explorer.pictures.shown.source.endswith("a.png', (60, 80))")  # in the frame of its boxes
    moved = [[12, 12, 40, 52, 1], wanted[1]]
    leave(explorer, 2, moved)
    assert (surface.objects, surface.scene, surface.seq) == ([], 2, 1)
    assert np.array_equal(surface.size, [60, 80])
    leave(explorer, 0, [])
    assert surface.objects == moved  # what was drawn stays with its picture
    assert [len(p.objects) for p in explorer.pictures.items] == [2, 1, 0]


def test_an_image_that_is_not_there_is_said_and_nothing_changes(explorer, folder):
    (folder / "b.png").unlink()
    leave(explorer, 1, explorer.surface.objects)
    assert "image id 9" in explorer.error
    assert (explorer.surface.scene, len(explorer.boxes)) == (0, 2)


def test_detections_take_the_place_of_objects(folder):
    results = folder / "results.json"
    explorer = AssignmentExplorer(CocoDataset(folder, folder / "instances.json"), results=results)
    assert explorer.surface.objects == []
    leave(explorer, 1, [])
    assert explorer.surface.objects == [[5, 5, 45, 45, 1], [50, 5, 70, 25, 0]]
    low = AssignmentExplorer(folder / "instances.json", results=RESULTS, score=0.1)
    assert low.pictures.items[1].objects[2] == [60, 5, 80, 25, 0]  # cut to the image
    with pytest.raises(DataError, match=r"results\.json: read by this command"):
        explorer.save_coco(results, overwrite=True)
    with pytest.raises(DataError, match="results are of a data set"):
        AssignmentExplorer(results=results)
    with pytest.raises(DataError, match="an image_id that the ground truth does not know: 70"):
        AssignmentExplorer(folder / "instances.json", results=[{**RESULTS[0], "image_id": 70}])
    for made in (explorer, low):
        made.close()


def test_boxes_are_saved_as_coco(explorer, folder, monkeypatch):
    first, second = explorer.surface.objects
    explorer.surface.objects = [first, second, [1, 2, 31, 42, 0]]
    path = explorer.save_coco(folder / "more.json")
    saved = json.loads(path.read_text(encoding="utf-8"))
    keys = ("image_id", "category_id", "bbox", "area", "iscrowd")
    rows = [[row[k] for k in keys] for row in saved["annotations"]]
    a, b, crowd, c = ([row[k] for k in keys] for row in ROWS)
    assert rows == [a, b, [7, 1, [1, 2, 30, 40], 1200, 0], crowd, c]  # to the bit as they were, beyond the image too
    assert [row["id"] for row in saved["annotations"]] == [1, 2, 3, 4, 5]
    assert saved["categories"] == [{"id": 1, "name": "dog"}, {"id": 3, "name": "cup"}]
    again = CocoDataset(folder, path)
    assert again.target(0)["boxes"].tolist() == torch.tensor(explorer.surface.objects)[:, :4].tolist()
    before = (folder / "instances.json").read_bytes()
    for overwrite in (False, True):
        with pytest.raises(DataError, match=r"instances\.json: read by this command"):
            explorer.save_coco(folder / "instances.json", overwrite=overwrite)
    with pytest.raises(DataError, match="there already"):
        explorer.save_coco(path)
    # From the browser: a path; what this explorer wrote itself it may write again, unless someone changed it.
    monkeypatch.chdir(folder)
    for _ in range(2):
        hear(explorer, type="coco", path="boxes.json")
        assert (explorer.error, explorer.surface.note) == ("", f"saved as {folder / 'boxes.json'}")
    (folder / "boxes.json").write_text("{}")
    hear(explorer, type="coco", path="boxes.json")
    assert "there already" in explorer.error
    hear(explorer, type="coco", path="instances.json")
    assert "read by this command" in explorer.error
    assert (folder / "instances.json").read_bytes() == before


def test_classes_are_renamed_and_added(explorer, folder):
    hear(explorer, type="names", names=["dog", "mug", "bird"])
    assert explorer.surface.names == ["dog", "mug", "bird"]
    explorer.surface.objects = [[1, 2, 31, 42, 2]]
    leave(explorer, 1, explorer.surface.objects)
    assert explorer.surface.names == ["dog", "mug", "bird"]  # the same for all pictures of the data set
    saved = json.loads(explorer.save_coco(folder / "named.json").read_text(encoding="utf-8"))
    assert saved["categories"] == [{"id": 1, "name": "dog"}, {"id": 3, "name": "mug"}, {"id": 4, "name": "bird"}]
    assert saved["annotations"][0]["category_id"] == 4
    for names in (["dog"], ["dog", "dog", "bird"], ["dog", " ", "bird"]):
        with pytest.raises(DataError, match="a name each, all different"):
            explorer.name_classes(names)


def test_a_box_of_a_class_without_a_name_is_not_saved(tmp_path):
    explorer = AssignmentExplorer(np.zeros((40, 60, 3), np.float32), [[1, 2, 11, 22]], [1], class_names=["cat"])
    with pytest.raises(DataError, match="this picture: a box has class 1, but only 1 classes have a name"):
        explorer.save_coco(tmp_path / "b.json")
    explorer.name_classes(["cat", "dog"])
    saved = json.loads(explorer.save_coco(tmp_path / "b.json").read_text(encoding="utf-8"))
    assert saved["annotations"][0]["category_id"] == 2


def test_what_is_drawn_on_built_in_scenes_and_uploads_is_saved(tmp_path):
    explorer = AssignmentExplorer(np.zeros((40, 60, 3), np.float32), [[1, 2, 11, 22]], class_names=["cat"])
    content = tmp_path / "own.png"
    Image.new("RGB", (30, 20)).save(content)
    message = {"type": "image", "name": "own.png", "seq": 4, "objects": [[1, 2, 21, 22, 0]]}
    explorer.surface._handle_custom_msg(message, [content.read_bytes()])
    assert (explorer.surface.scene, explorer.surface.seq, explorer.surface.names) == (7, 4, ["cat"])
    saved = json.loads(explorer.save_coco(tmp_path / "b.json").read_text(encoding="utf-8"))
    assert [(i["id"], i["file_name"], i["width"]) for i in saved["images"]] == [
        (1, "this picture", 60),
        (2, "own.png", 30),
    ]
    assert [(a["image_id"], a["bbox"]) for a in saved["annotations"]] == [(1, [1, 2, 20, 20])]
    explorer.close()


@needs_node
def test_boxes_on_a_shrunk_photograph_are_saved_in_pixels_of_its_file(tmp_path):
    explorer = AssignmentExplorer(np.zeros((40, 60, 3), np.float32), class_names=["cat"])
    content = tmp_path / "own.png"
    Image.new("RGB", (30, 20)).save(content)
    message = {"type": "image", "name": "own.jpg", "full": [40, 90], "seq": 1, "objects": []}
    explorer.surface._handle_custom_msg(message, [content.read_bytes()])
    hear(explorer, type="coco", path=str(tmp_path / "b.json"), objects=[[1, 2, 21, 12, 0]])
    assert explorer.error == ""
    saved = json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))
    sizes = [(i["file_name"], i["width"], i["height"]) for i in saved["images"]]
    assert sizes == [("this picture", 60, 40), ("own.jpg", 90, 40)]
    assert [(a["bbox"], a["area"]) for a in saved["annotations"]] == [([3, 4, 60, 20], 1200)]
    shared = [p for p in explorer.pictures.items if p.names == ["cat"]]
    (answer,) = node("coco.mjs", [{"pictures": [p.plain(shared[0]) for p in shared]}])
    assert answer["coco"] == saved
    explorer.close()


def test_of_too_many_images_some_are_chosen_by_their_places():
    text = "scenes-test: 5001 images; the explorer takes 5000 at once: choose some"
    with pytest.raises(DataError, match=text):
        pictures_of(Many())
    assert [p.image["id"] for p in pictures_of(Many(), images=[5000, 2])] == [5000, 2]
    with pytest.raises(DataError, match="has 5001 images, of places from 0 on: there is no place -1, 5001"):
        pictures_of(Many(), images=[5001, -1, 3])
    with pytest.raises(DataError, match="none of its 5001 images is chosen"):
        pictures_of(Many(), images=[])
    with pytest.raises(DataError, match="images are of a data set: give it, or its COCO file"):
        AssignmentExplorer(np.zeros((20, 20, 3), np.uint8), images=[0])


class Many(Scenes):
    """So many images that nobody draws them."""

    def __init__(self):
        super().__init__("test", size=1)

    def ground_truth(self):
        images = [{"id": i, "width": 4, "height": 4} for i in range(5001)]
        return {"images": images, "annotations": [], "categories": [{"id": 1, "name": "a"}]}


@needs_node
def test_the_browser_saves_and_filters_the_same(folder):
    dataset = CocoDataset(folder, folder / "instances.json")
    pictures = pictures_of(dataset)
    pictures[0].objects[0] = [12.25, 12, 40, 52.5, 0]
    plain = [p.plain(pictures[0]) for p in pictures]
    assert "names" not in plain[1]  # once for all
    state, entries = initial([{"method": "fcos", "options": {}}], (8, 16, 32, 64, 128), None, "native"), catalogue({})
    filters = [
        {"hidden": hidden, "name": name, "small": small, "state": state | {"rows": rows}, "catalogue": entries}
        for hidden, name, small, rows in (
            ([], "", False, state["rows"]),
            ([], "cup", False, state["rows"]),
            ([], "dog", False, state["rows"]),
            ([], "", True, state["rows"]),
            (["learned"], "", False, state["rows"]),
            (["learned"], "cup", False, state["rows"]),
            (["learned"], "", False, [{"method": "tal", "options": {}}]),
        )
    ]
    answer, named = node(
        "coco.mjs", [{"pictures": plain, "filters": filters}, {"pictures": plain, "names": ["dog", "mug", "bird"]}]
    )
    assert answer["coco"] == coco_of(pictures)
    assert answer["shown"] == [[0, 1, 2], [], [0, 1], [0, 1], [1], [], []]
    pictures[0].names[:], pictures[0].ids[:] = ["dog", "mug", "bird"], [1, 3, 4]
    assert named["coco"] == coco_of(pictures)


@needs_node
def test_a_box_of_a_class_without_a_name_is_not_saved_by_the_browser(folder):
    pictures = pictures_of(CocoDataset(folder, folder / "instances.json"))
    pictures[1].objects[0][4] = 2
    (answer,) = node("coco.mjs", [{"pictures": [p.plain(pictures[0]) for p in pictures]}])
    assert answer == {"error": "image 9 · b.png: a box has class 2, but only 2 classes have a name: add one"}
    with pytest.raises(DataError, match=r"image 9 · b\.png: a box has class 2, but only 2 classes have a name"):
        coco_of(pictures)


def unreadable():
    raise OSError("gone")


@needs_node
def test_python_says_which_objects_no_point_learns_for_methods_of_its_own(explorer, monkeypatch):
    sent = []
    monkeypatch.setattr(explorer.surface, "send", lambda content, buffers=None: sent.append(content))
    leave(explorer, 1, [*explorer.surface.objects, [78, 58, 80, 60, 0]])
    for number, methods in enumerate((["fcos", "dsla"], ["dsla", "tal"], ["tal"])):
        explorer.set(rows=methods)
        hear(explorer, type="lost", asked=number, row=len(methods) - 1, pictures=[0, 2, 1])
    assert explorer.error == ""
    dsla, tal, alone = (content["lost"] for content in sent if content["type"] == "lost")
    assert dsla == [[2], [], [0]]  # the box in the corner, the tiny one
    assert tal == alone
    explorer.set(coupling="trained model")
    hear(explorer, type="lost", asked=3, row=0, pictures=[0, 1])
    assert sent[-1]["lost"][1] == np.flatnonzero(explorer.shown[0].counts == 0).tolist()
    monkeypatch.setattr(explorer.pictures.items[2], "load", unreadable)
    hear(explorer, type="lost", asked=4, row=0, pictures=[2, 0])
    assert sent[-1] == {"type": "lost", "asked": 4, "lost": [[], sent[-2]["lost"][0]]}
    assert explorer.error == "OSError: gone"
    plain = explorer.pictures.plain()
    filter_ = {"hidden": ["learned"], "name": "", "small": False, "lost": dsla}
    filters = [filter_, filter_ | {"lost": [[], [], []]}, filter_ | {"name": "cup"}]
    (answer,) = node("coco.mjs", [{"pictures": [plain[i] for i in (0, 2, 1)], "filters": filters}])
    assert answer["shown"] == [[0, 2], [], []]


@needs_node
@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ([0, " mug "], ["mug", "cup"]),
        ([1, "cup"], ["dog", "cup"]),
        ([2, "bird"], ["dog", "cup", "bird"]),
        ([2, "cup"], {"error": "there is a class cup already"}),
        ([0, "  "], {"error": "a class needs a name"}),
    ],
)
def test_names_in_the_browser(name, answer):
    assert node("coco.mjs", [{"pictures": [{"names": ["dog", "cup"], "ids": [1, 3]}], "name": name}]) == [answer]


def test_the_command(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    words = ["explore", ".", "--annotations", "instances.json", "--results", "results.json", "--score", "0.15"]
    assert main([*words, "--html", "page.html"]) == 0
    assert "page.html: 3 pictures, 0." in capsys.readouterr().out
    pictures = data_of((folder / "page.html").read_text(encoding="utf-8"))["pictures"]
    assert [(p["image"]["id"], len(p["objects"])) for p in pictures] == [(7, 0), (9, 3), (8, 0)]
    assert pictures[0]["ids"] == [1, 3]
    assert main([*words, "--html", "results.json", "--overwrite"]) == 2  # never what it reads
    assert json.loads((folder / "results.json").read_text()) == RESULTS


def test_a_page_of_a_data_set_opens_where_the_explorer_is(explorer, folder):
    leave(explorer, 1, [])
    path = explorer.save_html(folder / "page.html")
    data = data_of(path.read_text(encoding="utf-8"))
    assert data["traits"]["scene"] == 1
    assert [len(p["objects"]) for p in data["pictures"]] == [0, 1, 0]
    assert data["pictures"][0]["others"][0]["iscrowd"] == 1
    assert f"{path}: 3 pictures, 0." in explorer.surface.note
