"""What commands write: nothing of a person's is replaced, in any code page, without control characters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import dsla
from dsla.cli.main import main
from dsla.cli.terminal import visible
from dsla.coco.evaluation import evaluate_detections


def picture(path, colour=(200, 30, 90), size=(96, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def tree(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def shell(*words, **environment):
    command = [sys.executable, "-m", "dsla", *map(str, words)]
    return subprocess.run(command, capture_output=True, env={**os.environ, **environment}, check=False)


@pytest.mark.robustness("lost: predict writes over no input, by whatever folder, link or .. it is reached")
@pytest.mark.parametrize("out", ["photos", ".", "link", "photos/../photos"])
def test_predict_replaces_no_photograph(tmp_path, monkeypatch, capsys, out):
    photos = tmp_path / "photos"
    picture(photos / "a.png")
    picture(tmp_path / "a.png")
    (tmp_path / "link").symlink_to(photos)
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    for more in ([], ["--overwrite"]):
        assert main(["predict", "photos", "a.png", "--out", out, *more]) == 2
        assert "a.png" in capsys.readouterr().err
        assert tree(tmp_path) == before


@pytest.mark.robustness("lost: predict makes as many pictures as there are inputs, and replaces none of earlier")
def test_as_many_pictures_as_inputs_and_a_second_run_is_refused(tmp_path, capsys):
    names = ["a-3.jpg", "a.jpg", "a.png", "A.bmp", "two/a.jpg", "two/a-2.gif"]
    files = [str(picture(tmp_path / "in" / name)) for name in names]
    out = tmp_path / "out"
    assert main(["predict", *files, files[0], "--out", str(out), "--score", "0"]) == 0
    drawn = sorted(p.name for p in out.glob("*.png"))
    assert len({name.casefold() for name in drawn}) == len(drawn) == len(names)
    results = json.loads((out / "detections.json").read_text())
    assert {r["image_id"] for r in results} <= set(range(1, 7))
    before = tree(out)
    assert main(["predict", files[0], "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert tree(out) == before
    assert main(["predict", files[0], "--out", str(out), "--overwrite"]) == 0


@pytest.mark.robustness("strangers: broken pictures are named, the others' detections kept, skipped files counted")
def test_broken_pictures_are_named_the_others_kept_and_what_is_skipped_is_counted(tmp_path, capsys):
    folder = tmp_path / "in"
    picture(folder / "a.png")
    picture(folder / "z.tga")
    (folder / "broken.jpg").write_bytes(b"no image")
    (folder / "notes.txt").write_text("x")
    (folder / "more.txt").write_text("x")
    (folder / "deeper").mkdir()
    Image.new("1", (13_000, 13_000)).save(folder / "bomb.png")
    assert (folder / "bomb.png").stat().st_size < 40_000
    assert main(["predict", str(folder), "--out", str(tmp_path / "out")]) == 1
    out, err = capsys.readouterr()
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.png", "z.png", "detections.json"}
    assert out.count(" detections, ") == 2
    assert "2 of 4 images left out" in err
    assert "bomb.png: 13000x13000 pixels; images of up to 100,000,000 are read" in err
    assert "broken.jpg" in err
    assert "not looked at in folders: 2 .txt, 1 folder" in err
    assert "knows drawn scenes only" in err


@pytest.mark.robustness("wrong: results of predict carry the annotation file's ids")
def test_ids_are_those_of_the_annotation_file(tmp_path, capsys):
    scenes = dsla.Scenes("val", size=3)
    file = scenes.to_coco(tmp_path / "set")
    told = json.loads(file.read_text())
    new = {image["id"]: 90 - 7 * n for n, image in enumerate(told["images"])}
    for image in told["images"]:
        image["id"] = new[image["id"]]
    for annotation in told["annotations"]:
        annotation["image_id"] = new[annotation["image_id"]]
        annotation["category_id"] = 10 * annotation["category_id"]
    for category in told["categories"]:
        category["id"] *= 10
    file.write_text(json.dumps(told))
    out = tmp_path / "out"
    words = ["predict", str(tmp_path / "set" / "images"), "--annotations", str(file), "--out"]
    assert main([*words, str(out)]) == 0
    assert "drawn scenes" not in capsys.readouterr().err
    results = json.loads((out / "detections.json").read_text())
    names = {c["id"]: c["name"] for c in told["categories"]}
    files = {i["id"]: i["file_name"] for i in told["images"]}
    assert results
    for row in results:
        assert row["file_name"].endswith(files[row["image_id"]])
        assert names[row["category_id"]] == row["category"]
    numbers = evaluate_detections(file, results).summary
    direct = dsla.evaluate(dsla.load("scenes-dsla"), scenes)
    assert np.allclose(numbers, direct, equal_nan=True)
    nameless = dsla.load("scenes-dsla")
    nameless.class_names = tuple(f"class {i}" for i in range(5))
    weights = dsla.save(nameless, tmp_path / "nameless.safetensors")
    assert main([*words, str(tmp_path / "nameless"), "--weights", str(weights)]) == 0
    assert json.loads((tmp_path / "nameless" / "detections.json").read_text()) == results
    picture(tmp_path / "set" / "images" / "other.png")
    assert main([*words, str(tmp_path / "new")]) == 0
    err = capsys.readouterr().err
    assert f"{file} lists 3 of 4 images; left out: {tmp_path / 'set' / 'images' / 'other.png'}" in err
    assert json.loads((tmp_path / "new" / "detections.json").read_text()) == results
    copy = tmp_path / "copy" / "000001.png"
    copy.parent.mkdir()
    copy.write_bytes((tmp_path / "set" / "images" / "000001.png").read_bytes())
    words[1:2] = [str(copy), str(tmp_path / "set" / "images" / "000001.png")]
    assert main([*words, str(tmp_path / "twice")]) == 2
    assert f"000001.png and {copy} are one image of {file}" in capsys.readouterr().err
    file.write_text(json.dumps(told | {"images": [], "annotations": []}))
    assert main([*words, str(tmp_path / "none")]) == 2
    assert f"{file} lists none of these 2 images, as {copy}" in capsys.readouterr().err


@pytest.mark.robustness("lost: data, convert, export and evaluate replace no file unasked")
def test_data_convert_export_and_evaluate_replace_nothing(tmp_path, capsys, monkeypatch):
    (tmp_path / "instances.json").write_text("mine")
    (tmp_path / "w.safetensors").write_text("mine")
    commands = [
        ["data", "val", "--size", "2", "--to", str(tmp_path)],
        ["convert", "x.pth", "--out", str(tmp_path / "w.safetensors")],
        ["export", "scenes-dsla", "--out", str(tmp_path / "w.safetensors")],
        ["export", str(tmp_path / "w.safetensors"), "--out", str(tmp_path / "w.safetensors"), "--overwrite"],
        ["evaluate", "scenes-dsla", "--size", "1", "--json", str(tmp_path / "instances.json")],
    ]
    for words in commands:
        assert main(words) == 2, words
        assert "w.safetensors: " in (err := capsys.readouterr().err) or "instances.json: there already" in err
    assert tree(tmp_path).keys() == {p.relative_to(tmp_path) for p in map(tmp_path.joinpath, os.listdir(tmp_path))}
    assert (tmp_path / "instances.json").read_text() == (tmp_path / "w.safetensors").read_text() == "mine"
    assert main([*commands[0], "--overwrite"]) == 0
    assert len(json.loads((tmp_path / "instances.json").read_text())["images"]) == 2


@pytest.mark.slow
@pytest.mark.robustness("unclear: output goes on in any code page")
@pytest.mark.parametrize("code", ["ascii", "cp1252", "latin-1", "cp437"])
def test_output_goes_on_in_any_code_page(tmp_path, code):
    photo = picture(tmp_path / "雨 →.png")
    done = shell("--help", PYTHONIOENCODING=code)
    assert (done.returncode, b"commands:" in done.stdout, done.stderr) == (0, True, b"")
    assert shell("train", "--help", PYTHONIOENCODING=code).returncode == 0
    done = shell("predict", photo, "--out", tmp_path / "ü", PYTHONIOENCODING=code)
    assert (done.returncode, b"Error" in done.stderr) == (0, False)
    assert b"? ?.png: " in done.stdout
    assert len(list((tmp_path / "ü").iterdir())) == 2


@pytest.mark.slow
@pytest.mark.robustness("unclear: a closed pipe ends a command quietly")
def test_a_closed_pipe_ends_quietly():
    for words in ("--help", "train list", "train r50-1x --print"):
        read, write = os.pipe()
        os.close(read)
        command = [sys.executable, "-m", "dsla", *words.split()]
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
        os.close(write)
        assert done.returncode in (141, 0), words  # 0: argparse's own help swallows the error
        assert done.stderr == b"", words


@pytest.mark.robustness("strangers: control characters in names never reach the terminal")
def test_control_characters_of_names_never_reach_the_terminal(tmp_path, capsys):
    name = "a\x1b[31m\r\x07\u202eb.png"
    picture(tmp_path / name)
    assert main(["predict", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 0
    assert main(["predict", str(tmp_path / f"none{name}")]) == 2
    out, err = capsys.readouterr()
    assert not set("\x1b\r\x07\u202e") & set(out + err)
    assert r"a\x1b[31m\r\x07\u202eb.png" in out
    assert visible("größe → 雨\n\t") == "größe → 雨\n\t"
    assert visible("\x9b\x7f\udcff\u2028") == r"\x9b\x7f\udcff\u2028"


@pytest.mark.robustness("unclear: options without effect are refused with the reason")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("reproduce --steps 3", "--steps needs --train"),
        ("reproduce --jobs 2", "--jobs needs --train"),
        ("reproduce --seeds 2", "--seeds needs --train"),
        ("reproduce --recipes all", "--recipes needs --train"),
        ("reproduce --train --recipes all --quiet", "--quiet silences"),
        ("data coco --to x --size 3", "--size is a number of embedded scenes"),
        ("data val --to x --split train2017", "--split is of COCO"),
        ("train scenes-dsla --annotations a.json --split val", "--split is of a COCO folder"),
        ("evaluate scenes-dsla --annotations a.json --split val", "--split is of a COCO folder"),
        ("train scenes-dsla --resume --weights w", "--weights is where a run starts from"),
        ("train scenes-dsla --annotations a.json --eval-every 2", "--eval-every needs --val-annotations"),
        ("evaluate scenes-dsla --overwrite", "--overwrite needs --json"),
    ],
)
def test_options_without_effect_are_refused_with_the_reason(words, message, capsys):
    assert main(words.split()) == 2
    assert message in capsys.readouterr().err


@pytest.mark.robustness("strangers: absurd numbers get one line with the limits")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train scenes-dsla --workers 100000", "--workers: '100000': a whole number from 0 to 256 is needed"),
        ("predict a.png --score nan", "--score: 'nan': a number from 0 to 1"),
        ("predict a.png --score 2", "--score: '2'"),
        ("analyze a.json --annotations b.json --nms -1", "--nms: '-1'"),
        ("reproduce --train --recipes all --jobs 1000", "--jobs: '1000'"),
        ("train scenes-dsla --eval-every inf", "--eval-every: 'inf'"),
        ("data val --size 1000000000 --to big", "--size: '1000000000': a whole number from 1 to 100,000"),
        ("evaluate scenes-dsla --size 100001", "--size: '100001'"),
        ("export scenes-dsla --out a.onnx --size 32 1000000000", "--size: '1000000000'"),
        ("train scenes-dsla --batch-size 1" + 30 * "0", "--batch-size: '1000"),
    ],
)
def test_absurd_numbers_get_one_line_with_the_limits(words, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words.split())
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.robustness("lost: predict that is interrupted keeps the detections of the images before")
def test_an_interrupted_predict_keeps_what_is_done(tmp_path, monkeypatch):
    from dsla.cli.predict import Picture, predict_files

    def load(path, size=None, value_range=None):
        if path.name == "2.png":
            raise KeyboardInterrupt
        return dsla.Scenes("val", size=1)[0][0]

    monkeypatch.setattr("dsla.data.load_image", load)
    inputs = [Picture(tmp_path / f"{n}.png", n, None, tmp_path / "out" / f"{n}.png") for n in (1, 2, 3)]
    with pytest.raises(KeyboardInterrupt, match=r"interrupted before .*2\.png"):
        predict_files(dsla.load("scenes-dsla"), inputs, tmp_path / "out")
    rows = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert {row["image_id"] for row in rows} == {1}


@pytest.mark.robustness("lost: a predict that SIGTERM or a closed terminal ends keeps what it has detected")
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("ignored", [False, True])
def test_signals_end_a_command_as_an_interruption_does(tmp_path, monkeypatch, capsys, name, ignored):
    from dsla.data import load_image

    number = getattr(signal, name)

    def load(path, *more):
        if path.name == "2.png":
            os.kill(os.getpid(), number)
        return load_image(path, *more)

    monkeypatch.setattr("dsla.data.load_image", load)
    before = signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)  # ignored: nohup
    try:
        for n in (1, 2, 3):
            Image.new("RGB", (32, 32)).save(tmp_path / f"{n}.png")
        words = ["predict", str(tmp_path), "--weights", "scenes-dsla", "--score", "0", "--out", str(tmp_path / "out")]
        code = main(words)
        assert signal.getsignal(number) is (signal.SIG_IGN if ignored else signal.SIG_DFL)
    finally:
        signal.signal(number, before)
    drawn = {path.name for path in (tmp_path / "out").iterdir()}
    assert code == (0 if ignored else 128 + number)
    assert drawn == {"1.png", "detections.json"} | ({"2.png", "3.png"} if ignored else set())
    assert isinstance(json.loads((tmp_path / "out" / "detections.json").read_text()), list)
    assert ("interrupted before" in capsys.readouterr().err) != ignored


def test_a_list_takes_no_changes(capsys):
    assert main(["train", "list", "lr=3"]) == 2
    assert "takes no changes, got lr=3" in capsys.readouterr().err


@pytest.mark.robustness("unclear: wrong and missing words are refused with the name that was meant")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("evaluate scenes-dsla --split vla", "no split of the embedded scenes 'vla': did you mean 'val'?"),
        ("train scenes-dsla --accumulate 17 steps=1 --size 2 --out x", "parts of a step, from 1 to its 16 images"),
        ("train scenes-dsla lr=0.1 steps=9 lr=0.2 --print", "lr=0.1 lr=0.2: give each field once"),
        ("train scenes-atss options=topk:9,topk:3 --print", "has topk several times; give each option once"),
        ("train scenes-dsla strides=8,8,8", "every backbone's pyramid has maps of (8, 16, 32)"),
    ],
)
def test_wrong_words_are_refused_with_the_name_that_was_meant(words, message, capsys):
    assert main(words.split()) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("words", "missing"), [("train", "recipe"), ("data", "what")])
def test_only_what_is_needed_is_said_to_be_missing(words, missing, capsys):
    with pytest.raises(SystemExit):
        main([words])
    assert capsys.readouterr().err.strip().endswith(f"required: {missing}")


def test_a_tilde_that_the_shell_has_left_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert main(["explore", "--html=~/page.html"]) == 0
    assert (tmp_path / "home" / "page.html").is_file()
    assert not (tmp_path / "~").exists()


@pytest.mark.robustness("wrong: without annotations the results of predict carry the ids that the model learnt")
def test_without_annotations_ids_are_those_of_what_the_model_learnt(tmp_path):
    file = dsla.Scenes("val", size=2).to_coco(tmp_path / "set")
    told = json.loads(file.read_text())
    for entry, key in (*((c, "id") for c in told["categories"]), *((a, "category_id") for a in told["annotations"])):
        entry[key] = 91 - 10 * entry[key]
    file.write_text(json.dumps(told))
    tiny = dsla.recipe("scenes-dsla", channels=16, head_convs=1, batch_size=2, steps=1, score_threshold=0.0)
    data = dsla.CocoDataset(file.parent / "images", file)
    dsla.train(tiny, data, out=tmp_path / "run", progress=False)
    words = ["predict", str(file.parent / "images"), "--weights", str(tmp_path / "run" / "model.safetensors")]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    names = {c["id"]: c["name"] for c in told["categories"]}
    results = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert len({row["category_id"] for row in results}) > 1
    assert all(names[row["category_id"]] == row["category"] for row in results)
