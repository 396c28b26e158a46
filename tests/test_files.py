"""`dsla.files`: what a person made stays, by whatever name it is reached; what dsla made may be made again."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import dsla
from dsla.cli.main import main
from dsla.data.sampling import Part
from dsla.errors import DataError
from dsla.files import LISTING, OwnFolder, csv_text, locked, refuse_existing, write
from dsla.models.export import to_onnx
from dsla.models.hub import save_pretrained
from dsla.plots.style import picture
from dsla.plots.style import save as save_figure
from dsla.training.recorder import Recording


def test_a_file_is_complete_and_a_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "photo").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "photo")
    assert write(tmp_path / "new" / "a.txt", "ä").read_bytes() == "ä".encode()
    write(tmp_path / "link", b"other")
    assert (tmp_path / "photo").read_text() == "mine"
    assert not (tmp_path / "link").is_symlink()
    assert {p.name for p in tmp_path.iterdir()} == {"photo", "link", "new"}


@pytest.mark.robustness("lost: no command replaces what it reads, by whatever path, link or ..")
@pytest.mark.parametrize("reach", ["same", "dots", "link", "folder link", "hard link"])
def test_inputs_are_never_replaced_by_whatever_way(tmp_path, reach):
    folder = tmp_path / "in"
    folder.mkdir()
    photo = folder / "a.png"
    photo.write_text("mine")
    (tmp_path / "link.png").symlink_to(photo)
    (tmp_path / "other").symlink_to(folder)
    os.link(photo, tmp_path / "hard.png")
    target = {
        "same": photo,
        "dots": folder / ".." / "in" / "a.png",
        "link": tmp_path / "link.png",
        "folder link": tmp_path / "other" / "a.png",
        "hard link": tmp_path / "hard.png",
    }[reach]
    with pytest.raises(DataError, match="read by this command"):
        refuse_existing([tmp_path / "free", target], inputs=[photo], overwrite=True)


@pytest.mark.robustness("lost: a path through a folder that is not there yet, and .., reaches no input")
def test_dots_through_a_folder_that_is_not_there(tmp_path):
    photo = tmp_path / "a.png"
    photo.write_text("mine")
    around = tmp_path / "new" / ".." / "a.png"
    for options in ({"inputs": [photo], "overwrite": True}, {}):
        with pytest.raises(DataError, match=rf"{photo}: (read by this command|there already)"):
            refuse_existing([around], **options)
    folder = OwnFolder(tmp_path / "new" / "..", inputs=[photo], overwrite=True)
    with pytest.raises(DataError, match="read by this command"):
        folder.write("a.png", b"")
    write(tmp_path / "new" / ".." / "b.txt", "b")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a.png": "mine", "b.txt": "b"}


@pytest.mark.slow
@pytest.mark.robustness("lost: pictures of a folder that a command reads stay, by whatever way")
def test_pictures_of_a_folder_that_is_read_stay(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    dsla.Scenes("val", size=2).to_coco("data")
    rows = [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.5}]
    write("results.json", json.dumps(rows))
    photo = Path("data", "images", "000001.png")
    os.link(photo, "hard.png")
    (tmp_path / "data" / "images" / "report.html").write_text("of before")
    held = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    coco, over = "--annotations data/instances.json", "--overwrite"
    for command in (
        f"analyze results.json {coco} --images data/images {over} --html",
        f"data check data/instances.json --images data/images {over} --sheet",
        f"evaluate scenes-dsla --data data/images {coco} {over} --json",
        f"evaluate scenes-dsla --data data {over} --json",
    ):
        for target in (photo, "hard.png", *(["data/instances_val.json"] if command.endswith("--data data") else [])):
            if command.startswith("evaluate scenes-dsla --data data --over"):
                write("data/instances_val.json", Path("data/instances.json").read_bytes())
            assert main([*command.split(), str(target)]) == 2
            assert f"{target}: read by this command" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in held} == held
    assert main([*f"analyze results.json {coco} --images data/images --overwrite --html".split(),
                 "data/images/report.html"]) == 0  # fmt: skip
    turned = dsla.CocoDataset("data/images", "data/instances.json")
    for dataset in (turned, Part(turned, [0])):
        with pytest.raises(DataError, match="read by this command"):
            dataset.to_coco("data", overwrite=True)


def test_what_is_there_is_counted_and_what_to_do_is_said(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text("mine")
    (tmp_path / "c").symlink_to(tmp_path / "nothing")  # a link to nothing is a person's, too
    with pytest.raises(DataError, match=r"a and 2 more: there already; .*--overwrite"):
        refuse_existing(tmp_path / name for name in "abcd")
    refuse_existing((tmp_path / name for name in "abcd"), overwrite=True)
    refuse_existing([tmp_path / "d"])


@pytest.mark.robustness("unclear: an output that cannot be written is said before the work, naming the place")
@pytest.mark.parametrize(
    "command",
    [
        "predict {photo} --out", "train scenes-dsla steps=1 --size 2 --out", "figures --out", "reproduce --out",
        "data val --size 2 --to", "evaluate scenes-dsla --size 1 --json", "export scenes-dsla --out",
        "explore {photo} --html", "convert {photo} --out", "analyze {photo} --annotations {photo} --html",
        "analyze {photo} --annotations {photo} --out", "why {photo} --annotations {photo} --out",
        "figures --results",
    ],
)  # fmt: skip
def test_an_output_that_cannot_be_written_is_said_before_the_work(tmp_path, capsys, command):
    photo, folder = tmp_path / "photo.png", tmp_path / "folder"
    Image.new("RGB", (32, 32)).save(photo)
    folder.mkdir()
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    words = command.format(photo=photo).split()
    places = [mine / "deeper" / "x"]  # below a file
    if words[-1] in ("--json", "--html", "--results") or words[0] in ("export", "convert"):
        places += [folder]
    for place in places:
        assert main([*words, str(place)]) == 2
        err = capsys.readouterr().err.strip().splitlines()[-1]
        at = folder if place == folder else mine
        assert re.search(rf"dsla {words[0]}: {at}: (no folder that can be written|a folder; give)", err), err
    assert mine.read_text() == "mine"
    assert not list(folder.iterdir())


def test_a_write_that_fails_names_the_file_and_not_its_neighbour(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full", ".x.part", "y")))
    with pytest.raises(OSError, match=r"No space left on device.*a\.txt'$") as error:
        write(tmp_path / "a.txt", "x")
    assert error.value.filename == str(tmp_path / "a.txt")
    assert not list(tmp_path.iterdir())


@pytest.mark.robustness("unclear: weights and pictures that do not fit on the disk are named, and none is left in part")
@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_what_cannot_be_written_in_full_is_named(tmp_path):
    import resource

    model = dsla.build(dsla.recipe("scenes-dsla", channels=16, head_convs=0), 2)
    scenes = dsla.Scenes("val", size=2).prepare()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))  # fails as a full disk does
    try:
        with pytest.raises(DataError, match=r"m\.safetensors: cannot be written"):
            dsla.save(model, tmp_path / "m.safetensors")
        with pytest.raises(OSError, match=r"000000\.png") as error:
            scenes.to_coco(tmp_path / "data")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.filename == str(tmp_path / "data" / "images" / "000000.png")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.mark.robustness("lost: what a program in Python saves replaces no file unasked")
def test_saving_from_python_replaces_nothing_unasked(tmp_path):
    model = dsla.build(dsla.recipe("scenes-dsla", channels=16, head_convs=0), 2)
    frame = Recording.load()
    saves = {
        "model.safetensors": lambda path, **o: dsla.save(model, path, **o),
        "folder": lambda path, **o: save_pretrained(model, path, **o),
        "recording.npz": frame.save,
        "figure.svg": lambda path, **o: save_figure(picture(), path, **o),
        "head.onnx": lambda path, **o: to_onnx(model, path, (64, 64), **o),
    }
    for name, save in saves.items():
        path = tmp_path / name
        held = path / "model.safetensors" if name == "folder" else path
        held.parent.mkdir(exist_ok=True)
        held.write_text("mine")
        with pytest.raises(DataError, match=rf"{held}: there already; .*overwrite=True"):
            save(path)
        assert held.read_text() == "mine"
        if name != "head.onnx":  # which takes long, and needs packages
            save(path, overwrite=True)
            assert held.stat().st_size > 100


@pytest.mark.robustness("lost: reports and figures replace only what dsla wrote and nobody changed")
def test_a_folder_of_ones_own_is_updated_and_nothing_else(tmp_path):
    first = OwnFolder(tmp_path / "out")
    first.write("report.html", "one")
    first.write("figures/a.svg", b"<svg/>")
    OwnFolder(tmp_path / "out").write("report.html", "two")
    assert (tmp_path / "out" / "report.html").read_text() == "two"
    (tmp_path / "out" / "notes.csv").write_text("mine")
    again = OwnFolder(tmp_path / "out")  # files beside its own are no hindrance
    with pytest.raises(DataError, match=r"notes\.csv: there already"):
        again.write("notes.csv", "x")
    (tmp_path / "out" / "figures" / "a.svg").write_text("drawn over by hand")
    with pytest.raises(DataError, match=r"a\.svg: changed since dsla wrote it"):
        OwnFolder(tmp_path / "out")
    OwnFolder(tmp_path / "out", overwrite=True).write("figures/a.svg", b"<svg/>")
    assert set(json.loads((tmp_path / "out" / LISTING).read_text())) == {"report.html", "figures/a.svg"}


@pytest.mark.robustness("lost: a folder of a person's files is refused before the work")
def test_a_folder_of_a_persons_files_is_refused_before_the_work(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "runs.jsonl").write_text("{}\n")
    OwnFolder(tmp_path)  # what is read and added to is no hindrance
    (tmp_path / "figures" / "mine.png").write_text("mine")
    with pytest.raises(DataError, match=r"mine\.png: there already"):
        OwnFolder(tmp_path)
    outputs = OwnFolder(tmp_path, inputs=[tmp_path / "figures" / "mine.png"], overwrite=True)
    with pytest.raises(DataError, match="read by this command"):
        outputs.write("figures/mine.png", "x")


@pytest.mark.parametrize("text", ["[]", "{", '{"a": 1}', "", "[1, 2]", "null"])
def test_a_listing_that_is_none_counts_for_nothing(tmp_path, text):
    (tmp_path / LISTING).write_text(text)
    (tmp_path / "a.csv").write_text("mine")
    with pytest.raises(DataError, match="there already"):
        OwnFolder(tmp_path)


def test_a_stop_between_listing_and_file_leaves_a_folder_that_can_be_updated(tmp_path, monkeypatch):
    outputs = OwnFolder(tmp_path)
    outputs.write("a.csv", "old")
    monkeypatch.setattr("dsla.files.write", lambda path, content: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        outputs.write("a.csv", "new")
    monkeypatch.undo()
    OwnFolder(tmp_path).write("a.csv", "newer")
    assert (tmp_path / "a.csv").read_text() == "newer"


@pytest.mark.robustness("strangers: no cell of a CSV is a formula elsewhere")
def test_no_cell_is_a_formula_elsewhere_and_numbers_stay():
    frame = pd.DataFrame({
        "name": ["=1+1", "@home", "+cmd", "-x", "\tx", "-0.5", "plain", None],
        "=head": [-1.0, 2.123456789, None, 4, 5, 6, 7, 8],
        "n": range(-1, 7),
    })  # fmt: skip
    text = csv_text(frame)
    again = pd.read_csv(io.StringIO(text), dtype={"name": str})
    assert list(again.columns) == ["name", "'=head", "n"]
    assert again["name"].tolist()[:7] == ["'=1+1", "'@home", "'+cmd", "'-x", "'\tx", "-0.5", "plain"]
    assert again["'=head"].tolist()[:2] == [-1.0, 2.123457]
    assert again["n"].tolist() == list(range(-1, 7))
    assert frame["name"][0] == "=1+1"
    assert "n/a" in csv_text(frame, na_rep="n/a")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_child_that_outlives_the_holder_of_a_lock_does_not_hold_on(tmp_path):
    script = (
        "import os, sys, time; from dsla.files import locked\n"
        "with locked(sys.argv[1]):\n"
        "    child = os.fork()\n"
        "    if child == 0: time.sleep(60)\n"
        "    print(os.getpid(), child, flush=True); time.sleep(0.2); os._exit(0)"
    )
    run = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    holder, child = map(int, run.stdout.readline().split())
    try:
        with pytest.raises(DataError, match=f"in use by process {holder};"), locked(tmp_path):
            pass
        run.wait()
        with locked(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("name", ["n" * 251 + ".png", "雨" * 83 + ".png"])
def test_names_as_long_as_a_file_system_has_them(tmp_path, name):
    assert write(tmp_path / name, b"x").read_bytes() == b"x"
    assert [p.name for p in tmp_path.iterdir()] == [name]
