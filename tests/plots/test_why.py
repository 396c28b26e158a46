"""`dsla.why` of models, its sentences and pictures; the command."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import dsla
from dsla.analysis import errors
from dsla.cli.main import main
from dsla.errors import DataError
from dsla.models.evaluation import predict_dataset
from dsla.paper.analyze import _worst


@pytest.fixture(scope="module")
def scenes():
    data = dsla.Scenes("val", 24)
    return data, dsla.load("scenes-fcos").train()


@pytest.fixture(scope="module")
def answers(scenes):
    return dsla.why(*reversed(scenes))


@pytest.mark.slow
def test_a_model_is_asked_for_candidates_and_points(scenes, answers):
    data, model = scenes
    assert model.training
    assert answers.offer.candidates is not None
    numbers = answers.summary()
    assert len(answers.table) == sum(len(data.target(i)["boxes"]) for i in range(24))
    assert numbers.attrs["reasons"].keys() <= {"missed_none", "missed_few"}
    # the same verdicts as from its results, but for what only candidates tell
    rows = dsla.why(predict_dataset(model, data), data, "fcos", strides=(8, 16, 32), input_size=128)
    told = answers.table["verdict"].isin(["found", "taken", "other class"])
    assert (rows.table["verdict"][told] == answers.table["verdict"][told]).all()
    assert (rows.table["verdict"] == "found").sum() == numbers["found"]
    statistics = dsla.analysis.assignment_statistics(model.assigner, data, strides=(8, 16, 32))
    assert statistics["points"].tolist() == answers.table["count"].tolist()
    other = dsla.why(model, data, "atss")
    assert other.table["verdict"].tolist() == answers.table["verdict"].tolist()
    assert other.setting.assigner.name == "ATSS"
    assert other.table["count"].tolist() != answers.table["count"].tolist()
    (note,) = dsla.why(model, data, "tal").notes
    assert note == "points of TAL: from predictions that are true boxes, jittered by 10 %"
    assert answers.notes == other.notes == ()


def test_any_module_is_judged_by_its_results(scenes):
    class Blind(torch.nn.Module):
        def forward(self, images):
            return [{"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0).long()}
                    for _ in images]  # fmt: skip

    assert set(dsla.why(Blind(), scenes[0]).table["verdict"]) == {"nothing near"}


def test_a_limit_of_images(scenes):
    few = dsla.why(*reversed(scenes), max_images=3)
    assert few.table["image"].unique().tolist() == [1, 2, 3]


@pytest.mark.slow
def test_every_row_has_a_sentence_with_its_numbers(answers):
    for i, row in answers.table.iterrows():
        text = answers.explain(i)
        assert f" {row['gt']} in image {row['image']}, " in text
        assert f": {row['verdict']}. " in text
        assert f"{row['score']:.2f}, IoU {row['iou']:.2f}" in text or np.isnan(row["iou"])
        assert "nan" not in text
        assert "at 1,280 pixels" in text


def test_counterfactuals_by_hand():
    """A 6 × 6 object between the points of stride 8, and a box of score 0.03 on another."""
    truth = {
        "images": [{"id": 1, "width": 320, "height": 320}], "categories": [{"id": 1, "name": "bolt"}],
        "annotations": [{"id": 5, "image_id": 1, "category_id": 1, "bbox": [29, 29, 6, 6]},
                        {"id": 6, "image_id": 1, "category_id": 1, "bbox": [100, 100, 40, 40]}],
    }  # fmt: skip
    rows = [{"image_id": 1, "category_id": 1, "bbox": [100, 100, 40, 36], "score": 0.031},
            {"image_id": 1, "category_id": 1, "bbox": [29, 29, 6, 2.5], "score": 0.5}]  # fmt: skip
    answers = dsla.why(rows, truth, "fcos", strides=(8, 16))
    assert answers.table["verdict"].tolist() == ["too loose", "below threshold"]
    assert answers.table["points"].tolist() == ["none", "more"]
    assert "stride 8: inside the box" in answers.table["rule"][0]
    first, second = answers.counterfactuals(0), answers.counterfactuals(1)
    assert first["points"]["with a level of stride 4"] == 4  # 30 and 34 lie in 29…35
    assert first["points"]["at 1,280 pixels"] == 4  # 124 and 132 of stride 8 lie in 116…140, 116 and 140 do not
    assert first["found"]["at an IoU threshold of 0.41"] == True  # noqa: E712
    assert second["found"]["at a score threshold of 0.031"] == True  # noqa: E712
    assert "It would be found at a score threshold of 0.031." in answers.explain(1)
    assert "called" not in answers.explain(0)


def test_pictures(answers, tmp_path):
    for verdict in answers.table["verdict"].unique():
        i = int(np.flatnonzero(answers.table["verdict"] == verdict)[0])
        figure = answers.picture(i)
        assert verdict in figure.axes[0].get_title(loc="left")
        assert f"{answers.table['count'][i]} point" in figure.axes[1].get_title(loc="left")
        figure.savefig(tmp_path / "one.png")


def test_points_of_a_picture_are_those_of_the_table():
    """TAL's predictions are jittered anew for each image."""
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.integers(0, 150, (12, 2)), rng.integers(8, 90, (12, 2))], axis=1).tolist()
    truth = {
        "images": [{"id": i, "width": 320, "height": 240} for i in range(3)],
        "annotations": [{"id": n, "image_id": n // 4, "category_id": n % 2, "bbox": b} for n, b in enumerate(boxes)],
        "categories": [{"id": 0}, {"id": 1}],
    }
    answers = dsla.why([], truth, "tal")
    for i, count in answers.table["count"][4:].items():
        title = answers.picture(i).axes[1].get_title(loc="left")
        assert title == f"{count} points of TAL, input 320 × 240\npredictions: true boxes jittered by 10%"


def test_names_of_classes_are_no_mathematics(tmp_path):
    answers = dsla.why([], {
        "images": [{"id": 1, "width": 64, "height": 64}], "categories": [{"id": 1, "name": r"$\frac$"}],
        "annotations": [{"id": 5, "image_id": 1, "category_id": 1, "bbox": [9, 9, 46, 46]}],
    })  # fmt: skip
    figure = answers.picture(0)
    figure.savefig(tmp_path / "one.png")
    assert figure.axes[0].get_title(loc="left") == r"$\frac$ 5: nothing near"


def test_a_picture_that_cannot_be_drawn_costs_no_other(tmp_path, capsys):
    """Of three images one has a file, one none, one no size."""
    images = [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 64} for i in (1, 2)]
    truth = {
        "images": [*images, {"id": 3, "file_name": "2.png"}], "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [9, 9, 46, 46]} for i in (1, 2, 3)],
    }  # fmt: skip
    for name, content in (("truth", truth), ("rows", [])):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "photos" / "2.png")
    words = ["why", str(tmp_path / "rows.json"), "--annotations", str(tmp_path / "truth.json")]
    words += ["--out", str(tmp_path / "out"), "--images"]
    assert main([*words, str(tmp_path / "photos")]) == 0
    lines = capsys.readouterr().out.splitlines()[-3:]
    assert lines[0].endswith("out: why.csv and 1 pictures in figures/")
    assert "row 0 is not drawn: " in lines[1]
    assert "1.png: no such image file" in lines[1]
    assert lines[2] == "row 2 is not drawn: image 3: its width and height are not known, so nothing can be drawn"
    assert [file.name for file in (tmp_path / "out" / "figures").iterdir()] == ["object-1.png"]
    assert main([*words, str(tmp_path / "nowhere")]) == 2
    assert "nowhere: no folder; name the one that the images lie in" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command(scenes, tmp_path, capsys):
    data, model = scenes
    file = data.to_coco(tmp_path / "set")
    results = tmp_path / "results.json"
    results.write_text(json.dumps(predict_dataset(model, data)))
    words = ["why", str(results), "--annotations", str(file), "--strides", "8,16,32", "--method", "fcos"]
    assert main([*words, "--out", str(tmp_path / "out"), "--images", str(file.parent / "images"), "--most", "2"]) == 0
    text = capsys.readouterr().out
    assert "suppressed: n/a  only results are known" in text
    assert len(list((tmp_path / "out" / "figures").glob("*.png"))) == 2
    assert (tmp_path / "out" / "why.csv").read_text().count("\n") == 1 + sum(len(t["boxes"]) for _, t in data)
    assert main([*words, "--image", "3", "--json", "--out", str(tmp_path / "json")]) == 0
    written = capsys.readouterr()
    content = json.loads(written.out)
    assert "why.csv and" in written.err
    assert {o["image"] for o in content["objects"]} == {3}
    assert len(content["explained"]) == len(content["objects"])
    assert isinstance(content["summary"]["found"], int)
    empty = tmp_path / "empty.json"
    empty.write_text(json.dumps(json.loads(file.read_text()) | {"annotations": []}))
    assert main(["why", str(results), "--annotations", str(empty)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "0 objects"
    for more, message in (
        (["--image", "99"], "no image of this id"),
        (["--images", "x"], "--images is for the pictures of --out"),
        (["--method", "fcso"], "did you mean 'fcos'"),
    ):
        assert main([*words, *more]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_points_of_predictions_that_are_not_the_models_are_called_so():
    """The picture has no predictions of the model's: its points can be others than those that the text counts."""
    data = dsla.Scenes("val", size=1)
    for name, jittered in (("simota", True), ("dsla", False)):
        why = dsla.why(dsla.build(f"scenes-{name}", num_classes=len(data.class_names)), data)
        title = why.picture(0).axes[1].get_title(loc="left")
        assert title.endswith("\npredictions: true boxes jittered by 10%") == jittered, title


TURNED = {
    "images": [{"id": 1, "width": 120, "height": 80, "file_name": "a.png"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [70, 40, 40, 30]}],
    "categories": [{"id": 1, "name": "red"}],
}


@pytest.mark.robustness("wrong: why and analyze draw a photograph in the frame of its annotations, or refuse it")
@pytest.mark.parametrize("size", [(120, 80), (80, 120)])
def test_a_picture_is_in_the_frame_of_its_annotations(tmp_path, size, monkeypatch):
    """Stored 120×80 with EXIF orientation 6, so 80×120 upright; red where the object is, in either frame."""
    exif, pixels = Image.Exif(), np.zeros((80, 120, 3), dtype=np.uint8)
    exif[0x0112], pixels[40:70, 70:110, 0] = 6, 255
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    box = [70, 40, 40, 30] if size == (120, 80) else [10, 70, 30, 40]  # turned by a quarter: x becomes 80 − 70 = 10
    image, row = TURNED["images"][0], TURNED["annotations"][0] | {"bbox": box}
    truth = TURNED | {"images": [image | dict(zip(("width", "height"), size, strict=True))], "annotations": [row]}
    looks = []
    monkeypatch.setattr("dsla.plots.draw.show_near", lambda ax, pixels, *_: looks.append(pixels))
    x, y, w, h = box
    why = dsla.why([], truth, images=tmp_path)
    why.picture(0)
    monkeypatch.setattr("dsla.plots.detectors.worst", lambda cases, *_: looks.append(cases[0][0].permute(1, 2, 0)))
    tables = {"why": why.table, "errors": errors([], truth)}
    list(_worst(SimpleNamespace(detections=why.offer.kept, tables=tables, name="a"), str(tmp_path), ""))
    assert [look.shape for look in looks] == [(size[1], size[0], 3)] * 2
    for look in map(np.asarray, looks):
        assert look[y : y + h, x : x + w, 0].min() == 1
        assert look[..., 0].sum() == w * h
    truth["images"][0] |= {"width": 100, "height": 100}
    with pytest.raises(
        DataError, match=r"image id 1: .*a\.png: the image is 120x80 \(upright.*: 80x120\), but.* 100x100"
    ):
        dsla.why([], truth, images=tmp_path).picture(0)
