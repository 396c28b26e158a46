"""The explorer as a file: self-contained, small, its text held to its sources; what it cannot show is refused."""

import base64
import io
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_labels import NODE, needs_node, node

from dsla import DataError
from dsla.assigners import DSLA, FCOS, SimOTA
from dsla.cli.main import main
from dsla.geometry import Frame
from dsla.widgets import AssignmentExplorer
from dsla.widgets import page as pages
from dsla.widgets.page import SMALL, page
from dsla.widgets.pictures import given, scenes
from dsla.widgets.state import catalogue, initial
from dsla.widgets.surface import script

DOCS = Path(__file__).parents[2] / "docs" / "explorer.html"
ROWS = [{"method": "fcos", "options": {}}, {"method": "dsla", "options": {}}]
STATE = initial(ROWS, (8, 16, 32, 64, 128), None, "native")


def data_of(text):
    return json.loads(re.search(r'<script type="application/json" id="dsla-data">(.*?)</script>', text)[1])


def without_photographs(text):
    return re.sub(r'"photo":"[^"]*"', "", text)


def test_the_page_of_the_repository_is_that_of_the_sources():
    built = DOCS.read_text(encoding="utf-8")
    same = without_photographs(built) == without_photographs(page(scenes(), STATE, catalogue({})))
    assert same, "rebuild it: dsla explore --html docs/explorer.html --overwrite"
    assert len(built.encode()) < SMALL


def test_nothing_comes_from_elsewhere():
    text = page(scenes()[:1], STATE, catalogue({}))
    assert not re.findall(r"(?:src|href)=", text)
    assert not re.findall(r"https?://|@import|url\(|fetch\(|XMLHttpRequest|WebSocket|(?<!{)import\(", text)
    assert text.count("<script") == 2


@needs_node
@pytest.mark.parametrize("entry", ["page.js", "explorer.js", "detections.js", "ranking.js", "replay.js"])
def test_scripts_in_one_scope_can_be_read(entry, tmp_path):
    file = tmp_path / "bundle.mjs"
    file.write_text(script(entry), encoding="utf-8")
    assert not re.search(r"^import ", file.read_text(encoding="utf-8"), re.MULTILINE)
    done = subprocess.run([NODE, "--check", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


OBJECTS = [[20.0, 20.0, 100.0, 90.0, 0], [120.0, 120.0, 200.0, 220.0, 1]]


def in_a_hand(objects=OBJECTS, **options):
    """What `hand.mjs` does with a page of one picture."""
    picture = given("a.png", np.full((256, 256, 3), 0.5, np.float32), ["cat", "dog"])
    picture.objects = objects
    return node("hand.mjs", [data_of(page([picture], STATE, catalogue({}))) | options])


def points(objects, offset=None):
    """Of each level, under FCOS and DSLA."""
    frame, boxes, rows = Frame.of((256, 256)), np.array(objects)[:, :4], []
    for assigner in (FCOS(), DSLA()):
        grid = frame.grid(STATE["strides"], assigner.point_offset if offset is None else offset)
        index = assigner(grid, [boxes], [[0] * len(boxes)], image_sizes=[frame.size]).gt_index[0]
        rows += [int((level >= 0).sum()) for level in index.split(grid.num_points)]
    return rows


@needs_node
def test_what_a_hand_does_on_a_page_without_python():
    seen = in_a_hand()
    moved = [[50, 40, 130, 110, 0], OBJECTS[1]]
    assert (seen["opened"], seen["problem"]) == (points(OBJECTS), "")
    # A text that is wrong leaves no labels and says so; another control builds it anew, and it is no longer wrong.
    assert seen["wrong"] == [[], "nonsense is no number; ∞ for no end"]
    assert seen["another"] == [points(OBJECTS, 0.0), "", "0  64  128  256  512  ∞"]
    # Browsers drop or refuse addresses that come too fast: one a drag, and its end is in it, as in a link right after.
    assert (seen["calls"], seen["moved"]) == (1, moved)
    assert seen["again"] == moved  # redone, although another box was looked at after the undo
    assert seen["link"] == seen["undone"]["objects"] == [[20, 20, 100, 90, 0], OBJECTS[1]]
    assert seen["undone"]["state"]["rows"] == ROWS  # a slider's keys alone


@needs_node
def test_an_address_keeps_boxes_that_reach_out_of_the_picture_and_lists_say_what_they_leave_out():
    objects = [[-4.0, 10.0, 50.0, 60.0 + i, 0] for i in range(70)]
    view = json.dumps({"scene": 0, "objects": objects, "state": STATE})
    seen = in_a_hand(objects[:1], hash=f"#v=1&view={view}")
    assert (seen["problem"], seen["opened"]) == ("", points(objects))
    assert seen["counted"].startswith("Points of 60 of 70 objects")
    outside = view.replace("-4.0", "-60.0").replace("50.0", "-10.0")
    assert "do not fit the picture" in in_a_hand(objects[:1], hash=f"#v=1&view={outside}")["problem"]


@needs_node
def test_with_python_nothing_is_lost_on_the_way():
    seen = in_a_hand(kernel=True)
    assert (seen["photo"], seen["detections"]) == (2, 2)  # the last that was asked for, not the last that was decoded
    assert seen["saved"]["objects"] == [*OBJECTS, [200, 20, 230, 60, 0]]  # also those drawn beside a wrong text


@pytest.mark.slow
def test_many_photographs_are_made_smaller_until_they_fit(monkeypatch):
    rng = np.random.default_rng(0)
    noisy = [given(f"{i}", rng.random((900, 1200, 3)).astype(np.float32), ["a"]) for i in range(9)]
    text = page(noisy, STATE, catalogue({}))
    assert len(text.encode()) < SMALL
    pictures = data_of(text)["pictures"]
    assert [p["size"] for p in pictures] == [[900, 1200]] * 9  # boxes stay in pixels of the image
    text = page(noisy * 3, STATE, catalogue({}))  # too many for 1 MB: large enough to be looked at
    photo = Image.open(io.BytesIO(base64.b64decode(data_of(text)["pictures"][0]["photo"])))
    assert (photo.size, len(text.encode()) > SMALL) == ((480, 360), True)
    monkeypatch.setattr(pages, "LARGE", 2_000_000)
    with pytest.raises(DataError, match="27 pictures make a page of more than 2 MB: choose fewer"):
        page(noisy * 3, STATE, catalogue({}))


def test_text_of_a_person_stays_text():
    names = ["</script><script>alert(1)</script>", "a & b", "고양이"]
    text = page([given(names[0], np.zeros((8, 8, 3), np.float32), names)], STATE, catalogue({}))
    assert text.count("<script") == 2
    assert data_of(text)["pictures"][0]["names"] == names


def test_an_explorer_saves_what_it_shows(tmp_path):
    boxes = [[4.0, 4.0, 60.0, 50.0]]
    explorer = AssignmentExplorer(np.full((64, 96, 3), 0.5, np.float32), boxes, [1], class_names=["cat", "dog"])
    explorer.set(rows=["dsla", "tal"], relaxation=0.35, coupling="jittered boxes", input="800/1333")
    path = explorer.save_html(tmp_path / "e.html")
    data = data_of(path.read_text(encoding="utf-8"))
    traits, first = data["traits"], data["pictures"][0]
    assert traits["state"]["rows"] == [{"method": "dsla", "options": {"relaxation": 0.35}}]  # TAL needs a model
    assert (traits["state"]["coupling"], traits["state"]["input"]) == ("jittered boxes", "800/1333")
    assert "tal" not in traits["catalogue"]
    assert (first["objects"], first["names"], first["size"]) == ([[*boxes[0], 1]], ["cat", "dog"], [64, 96])
    assert len(data["pictures"]) == 7
    with pytest.raises(DataError, match="there already"):
        explorer.save_html(path)
    assert explorer.save_html(path, overwrite=True) == path
    explorer.set(coupling="trained model")
    assert data_of(explorer.save_html(path, overwrite=True).read_text())["traits"]["state"]["coupling"] == "off"
    with pytest.raises(DataError, match="SimOTA as given: a page without Python cannot assign so"):
        AssignmentExplorer(assigners=SimOTA()).save_html(tmp_path / "s.html")


def test_given_assigners_come_along(tmp_path):
    explorer = AssignmentExplorer(assigners={"mine": DSLA(relaxation=0.5)})
    entry = data_of(explorer.save_html(tmp_path / "g.html").read_text())["traits"]["catalogue"]["mine"]
    assert (entry["script"], entry["options"]["relaxation"], entry["controls"]) == ("dsla", 0.5, [])


def coco(tmp_path):
    Image.new("RGB", (80, 60), (200, 30, 30)).save(tmp_path / "a.png")
    data = {
        "images": [{"id": 7, "file_name": "a.png", "width": 80, "height": 60}],
        "categories": [{"id": 3, "name": "cup"}, {"id": 1, "name": "dog"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 10, 30, 40]}],
    }
    (tmp_path / "ann.json").write_text(json.dumps(data), encoding="utf-8")
    return str(tmp_path / "a.png"), str(tmp_path / "ann.json")


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo, annotations = coco(tmp_path)
    words = ["explore", photo, "--annotations", annotations, "--methods", "atss", "--input-size", "800/1333"]
    assert main(words) == 0
    assert "explorer.html: 1 picture, 0." in capsys.readouterr().out
    data = data_of((tmp_path / "explorer.html").read_text(encoding="utf-8"))
    assert data["pictures"][0]["objects"] == [[10, 10, 40, 50, 1]]
    assert data["pictures"][0]["names"] == ["dog", "cup"]
    assert data["traits"]["state"]["rows"] == [{"method": "atss", "options": {}}]
    assert main(words) == 2
    assert "there already" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0
    assert main(["explore", photo, "--html", photo, "--overwrite"]) == 2  # never what it reads
    assert Image.open(photo).size == (80, 60)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no.png"], "no such image or folder"),
        (["--annotations", "x.json"], "--annotations needs images"),
        (["--results", "x.json"], "--results needs --annotations"),
        (["--score", "0.5"], "--score needs --results"),
        (["--methods", "yolo"], "yolo"),
        (["--methods", "simota"], "SimOTA: a page without Python cannot assign so"),
        (["--methods", "fcos", "dsla", "atss", "fovea"], "one to three, got 4"),
        (["--input-size", "1333/800"], "input size '1333/800'"),
    ],
)
def test_what_the_command_refuses(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["explore", *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
