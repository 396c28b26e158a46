"""The shell: each command on the embedded set and on a user's own files; errors are one line that names the culprit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

import dsla
from dsla.cli.main import main
from dsla.data.sources import open_dataset

SMALL = ["channels=16", "head_convs=1", "steps=2", "batch_size=2", "warmup_steps=1"]


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """A COCO folder, written by the package: annotations/instances_{train,val}2017.json, images in one folder."""
    root = tmp_path_factory.mktemp("coco")
    for split in ("train", "val"):
        made = dsla.Scenes(split, size=4).to_coco(root / split)
        file = made if made.suffix == ".json" else made / "instances.json"
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}2017.json").write_bytes(file.read_bytes())
        pictures = next(p.parent for p in (root / split).rglob("*.png"))
        pictures.rename(root / f"{split}2017")
    return root


@pytest.fixture(scope="module")
def trained(coco, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    assert main(["train", "scenes-dsla", *SMALL, "--data", str(coco), "--out", str(out), "--seed", "1"]) == 0
    return out


def run(capsys, *argv):
    code = main([str(a) for a in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.slow
def test_train_on_a_coco_folder_leaves_weights_log_and_checkpoint(trained):
    names = {"model.safetensors", "best.safetensors", "log.jsonl", "checkpoint.pt"}
    assert {p.name for p in trained.iterdir()} == names
    model = dsla.load(trained / "model.safetensors")
    assert model.class_names == dsla.Scenes.class_names
    assert model.recipe.steps == 2


@pytest.mark.slow
def test_train_on_the_embedded_set_and_on_files_of_ones_own(capsys, tmp_path, coco):
    code, out, _ = run(capsys, "train", "scenes-fcos", *SMALL, "--size", 4, "--out", tmp_path / "a")
    assert code == 0
    assert "4 images of scenes-train, 5 classes" in out
    files = ["--data", coco / "train2017", "--annotations", coco / "annotations" / "instances_train2017.json"]
    code, out, _ = run(
        capsys, "train", "scenes-dsla", *SMALL, *files, "--weights", tmp_path / "a" / "model.safetensors",
        "--out", tmp_path / "b",
    )  # fmt: skip
    assert code == 0
    assert "starting from" in out


@pytest.mark.slow
def test_resume_says_what_it_starts_from(capsys, trained, coco, tmp_path):
    argv = ["train", "scenes-dsla", *SMALL, "--data", coco, "--seed", 1, "--resume", "--out"]
    code, out, _ = run(capsys, *argv, tmp_path / "new")
    assert code == 0
    assert f"starting from random weights, since {tmp_path / 'new'} holds no checkpoint to go on from" in out
    told = json.loads(run(capsys, *argv, trained, "--print")[1])
    assert told["run"]["starts from"] == str(trained / "checkpoint.pt")


@pytest.mark.slow
def test_evaluate_prints_the_12_numbers(capsys, trained, coco, tmp_path):
    file = tmp_path / "numbers.json"
    code, out, _ = run(capsys, "evaluate", trained / "model.safetensors", "--data", coco, "--per-class", "--json", file)
    assert code == 0
    numbers = json.loads(file.read_text())
    assert len(numbers) == 12
    for name in ("AP50", "AP_small", "AR@100"):
        assert name in out
        assert numbers[name] is None or 0 <= numbers[name] <= 1
    assert "triangle" in out


@pytest.mark.slow
def test_predict_draws_every_image_and_writes_coco_results(capsys, trained, tmp_path):
    torch.manual_seed(0)
    folder = tmp_path / "photos ä"
    folder.mkdir()
    for n, size in enumerate([(90, 60), (300, 200)]):
        Image.new("RGB", size, (200, 30 * n, 90)).save(folder / f"foto {n}.jpg")
    out_dir = tmp_path / "out"
    code, out, _ = run(
        capsys, "predict", folder, "--weights", trained / "model.safetensors", "--out", out_dir, "--score", 0
    )
    assert code == 0
    assert out.count("detections") >= 2
    results = json.loads((out_dir / "detections.json").read_text())
    assert {r["image_id"] for r in results} <= {1, 2}
    for r in results:
        width, height = [(90, 60), (300, 200)][r["image_id"] - 1]
        x, y, w, h = r["bbox"]
        assert -1e-3 <= x <= x + w <= width + 1e-3
        assert -1e-3 <= y <= y + h <= height + 1e-3
    assert {p.name for p in out_dir.glob("*.png")} == {"foto 0.png", "foto 1.png"}


@pytest.mark.slow
def test_predict_leaves_nothing_where_no_image_could_be_read(capsys, trained, tmp_path):
    """Nothing then stands in the way of the command with the right file."""
    (tmp_path / "a.json").write_text("{}")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    argv = ("--weights", trained / "model.safetensors", "--out", tmp_path / "out")
    code, out, err = run(capsys, "predict", tmp_path / "a.json", *argv)
    assert (code, out) == (1, "")
    assert "1 of 1 images left out" in err
    assert not (tmp_path / "out").exists()
    assert run(capsys, "predict", tmp_path / "a.png", *argv)[0] == 0
    assert (tmp_path / "out" / "detections.json").exists()


def test_predict_takes_pictures_of_12_bits_in_16(capsys, tmp_path):
    values = (dsla.Scenes("val", size=1)[0][0].mean(0).numpy() * 4095).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray((values / 4095).astype(np.float32)).save(tmp_path / "a.tif")
    Image.fromarray((values / 4095).astype(np.float32) / 2).save(tmp_path / "half.tif")
    argv = ["predict", "--score", 1, "--out"]
    rows, notes = {}, {}
    for name, file, more in (
        ("12", "a.png", ["--value-range", 0, 4095]), ("16", "a.png", []), ("float", "a.tif", []),
        ("half", "half.tif", ["--value-range", "-0.0", "0.5"]),
    ):  # fmt: skip
        code, _, notes[name] = run(capsys, *argv, tmp_path / name, tmp_path / file, *more)
        assert code == 0
        results = json.loads((tmp_path / name / "detections.json").read_text())
        rows[name] = [(row["bbox"], row["score"]) for row in results]
    assert rows["12"] == rows["float"] == rows["half"] != rows["16"]
    assert [name for name, text in notes.items() if "--value-range 0 4095" in text] == ["16"]


def test_data_writes_a_set_that_loads_again(capsys, tmp_path):
    code, out, _ = run(capsys, "data", "val", "--size", 3, "--to", tmp_path / "d")
    assert code == 0
    (file,) = (tmp_path / "d").rglob("*.json")
    assert out == f"{file}\n"  # for scripts
    _, _, err = run(capsys, "evaluate", "scenes-dsla", "--data", tmp_path / "d")
    assert f"--annotations FILE: --data {tmp_path / 'd' / 'images'} --annotations {file}" in err
    folder = next((tmp_path / "d").rglob("*.png")).parent
    again = dsla.CocoDataset(folder, file)
    for (image, target), (_, expected) in zip(again, dsla.Scenes("val", size=3), strict=True):
        assert image.shape == (3, 128, 128)
        assert torch.allclose(target["boxes"], expected["boxes"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train", "scenes-dslaa"], "no recipe 'scenes-dslaa'"),
        (["train", "scenes-dsla", "stepz=3"], "did you mean 'steps'"),
        (["train", "scenes-dsla", "steps"], "FIELD=VALUE"),
        (["train", "scenes-dsla", "--data", "/nowhere"], "/nowhere: no such folder"),
        (["evaluate", "nothing.safetensors"], "no weights at"),
        (["predict", "nothing.jpg"], "nothing.jpg"),
        (["train", "scenes-dsla", "--data", "x", "--size", "3"], "--size is a number of embedded scenes"),
        (["evaluate", "scenes-dsla", "--annotations", "x.json", "--size", "3"], "--size is a number of embedded"),
        (["evaluate", "scenes-dsla", "--device", "gpu"], "no device 'gpu'"),
        (["train", "scenes-dsla", *SMALL, "--size", "2", "--device", "cuda:99"], "device cuda:99: no such GPU"),
        (["train", "scenes-dsla", "--val-annotations", "val.json"], "needs --annotations beside it"),
        (["train", "scenes-dsla", *SMALL, "--size", "4", "--out", "/dev/null/run"], "/dev/null: no folder that can be"),
        (["data", "val", "--size", "1", "--to", "/dev/null/here"], "/dev/null: no folder that can be"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(capsys, argv, message):
    code, _, err = run(capsys, *argv)
    assert code == 2
    assert message in err
    last = err.rpartition("\r")[2].strip()  # after the bar of scenes that are drawn
    assert "\n" not in last
    assert last.startswith(f"dsla {argv[0]}: ")


@pytest.mark.slow
def test_a_run_that_diverges_ends_in_one_line_that_says_what_to_do(capsys, tmp_path):
    small = [word for word in SMALL if "steps" not in word]
    words = ["train", "scenes-dsla", *small, "lr=1e12", "clip=none", "warmup_steps=0", "steps=9", "--size", "4"]
    code, _, err = run(capsys, *words, "--out", tmp_path)
    assert code == 2
    last = err.replace("\r", "\n").strip().splitlines()[-1]
    assert last.startswith("dsla train: step ")
    assert "is not finite at learning rate" in last
    assert "Lower the learning rate" in last


def test_what_is_said_of_the_rate(capsys, coco, tmp_path):
    """Scaled by the option, left by the field, and not a word where nothing changes."""
    few = ["train", "scenes-dsla", "channels=16", "head_convs=1", "steps=1", "warmup_steps=0", "--data", coco]
    words = (["--batch-size", "2"], ["batch_size=2", "amp=bf16", "--device", "cpu"])
    printed = [run(capsys, *few, *more, "--out", tmp_path)[1] for more in words]
    assert "amp" not in printed[0]
    assert "amp=bf16 is of GPUs: on cpu it is float32" in printed[1]
    assert "learning rate 0.004 × 2/16 = 0.0005: scaled linearly with the images a step" in printed[0]
    assert "learning rate 0.004, not scaled with batch_size; --batch-size 2 scales it" in printed[1]
    for words in (["lr=0.1", "batch_size=2"], ["batch_size=16"], []):
        assert "scaling" not in json.loads(run(capsys, *few, *words, "--print")[1])["run"]


def test_images_without_a_box_are_left_out_where_the_recipe_says_so(capsys, coco, tmp_path):
    file = coco / "annotations" / "instances_train2017.json"
    told = json.loads(file.read_text())
    told["annotations"] = [a for a in told["annotations"] if a["image_id"] != told["images"][1]["id"]]
    (tmp_path / "own.json").write_text(json.dumps(told))
    (tmp_path / "none.json").write_text(json.dumps({**told, "annotations": []}))
    words = ["--data", coco / "train2017", "--annotations"]
    message = "images without a box, left out as the recipe's empty_images says"
    _, out, _ = run(capsys, "train", "r50-1x", *words, tmp_path / "own.json", "--print")
    assert json.loads(out)["run"]["data"] == f"3 images of own, 5 classes; {message}: 1"
    left = ["scenes-dsla", *SMALL, "empty_images=false", "--out", tmp_path / "run"]
    code, out, _ = run(capsys, "train", *left, *words, tmp_path / "own.json")
    assert code == 0
    assert f"{message}: 1" in out
    assert dsla.training.loop.read_log(tmp_path / "run" / "log.jsonl")[0]["images"] == 3
    code, _, err = run(capsys, "train", *left, *words, tmp_path / "none.json")
    assert code == 2
    assert "none of its 4 images has a box" in err
    assert "empty_images=true" in err


@pytest.mark.slow
def test_evaluating_on_other_classes_is_refused(capsys, trained, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    (tmp_path / "cats.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 64}],
                "annotations": [],
                "categories": [{"id": 9, "name": "cat"}],
            }
        )
    )
    code, _, err = run(
        capsys, "evaluate", trained / "model.safetensors", "--data", tmp_path, "--annotations", tmp_path / "cats.json"
    )
    assert code == 2
    assert "cat" in err
    assert "triangle" in err


def test_list_print_and_doctor(capsys):
    assert "r50-1x" in run(capsys, "train", "list")[1].split()
    code, out, _ = run(capsys, "train", "r50-1x", "lr=0.02", "empty_images=true", "--print")
    told = json.loads(out)
    assert told["lr"] == 0.02
    assert told["run"]["data"] == "6000 images of scenes-train, 5 classes"
    assert told["run"]["starts from"] == "ImageNet weights of resnet50"
    rates = {"0": 0.00666667, "500": 0.02, "3000": 0.002, "4125": 0.0002, "4499": 0.0002}
    assert told["run"]["rate from step"] == rates
    assert told["run"]["plan"].startswith("4500 steps (12 epochs) of 16 images")
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    assert all(line.startswith("OK") for line in out.splitlines())
    assert run(capsys)[0] == 0


def test_open_dataset_names_every_path_it_tried(tmp_path):
    with pytest.raises(dsla.DataError) as error:
        open_dataset(tmp_path, "val")
    for name in ("instances_val.json", "instances_val2017.json", "--annotations"):
        assert name in str(error.value)


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["train", "scenes-dsla", "--batch-size", "0"], "--batch-size: '0'"),
        (["train", "scenes-dsla", "--accumulate", "0"], "--accumulate: '0'"),
        (["train", "scenes-dsla", "--eval-every", "0"], "--eval-every: '0'"),
        (["train", "scenes-dsla", "--checkpoint-every", "nan"], "--checkpoint-every: 'nan'"),
        (["train", "scenes-dsla", "--size", "-3"], "--size: '-3'"),
        (["train", "scenes-dsla", "--workers", "-1"], "--workers: '-1'"),
        (["reproduce", "--images", "0"], "--images: '0'"),
        (["reproduce", "--train", "--seeds", "0"], "--seeds: '0'"),
        (["reproduce", "--train", "--steps", "0"], "--steps: '0'"),
        (["reproduce", "--train", "--jobs", "two"], "--jobs: 'two'"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_and_zero_is_not_the_default(words, option, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert f"argument {option}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "field",
    ["batch_size=0", "steps=0", "epochs=0", "lr=0", "clip=-1", "channels=0", "lr=nan", "flip=2", "momentum=nan",
     "head_convs=-1", "warmup_steps=-1", "channels=18", "dcn_stages=7", "min_size=-5", "frozen_stages=5"],
)  # fmt: skip
def test_fields_that_no_run_could_use_are_named(field, capsys):
    assert main(["train", "scenes-dsla", field, "--print"]) == 2
    assert f"recipe scenes-dsla: {field.split('=')[0]}=" in capsys.readouterr().err


def test_fields_may_stand_before_and_after_options(capsys):
    assert main(["train", "scenes-dsla", "steps=7", "--seed", "1", "lr=0.5", "--print"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["steps"], told["lr"]) == (7, 0.5)
    for words in (["train", "scenes-dsla", "--print", "--colour=red"], ["doctor", "steps=7"]):
        with pytest.raises(SystemExit):
            main(words)
        assert "unrecognized arguments" in capsys.readouterr().err
