"""YOLO text, supervision's Detections and dicts of boxes say what COCO's files say, or which line is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import dsla
from dsla.analysis import errors, truth_of
from dsla.analysis.breakdown import errors_by
from dsla.coco.detections import Results
from dsla.coco.evaluation import evaluate_detections
from dsla.coco.ground_truth import GroundTruth
from dsla.data.check import check
from dsla.errors import DataError

SIZES = {"a": (160, 120), "b": (100, 200), "0007": (80, 80)}  # width, height; the last has no object


@dataclass
class Detections:
    """The fields of supervision's class of this name."""

    xyxy: np.ndarray
    class_id: np.ndarray | None = None
    confidence: np.ndarray | None = None


@pytest.fixture(scope="module")
def case():
    """The same objects and detections in COCO's form, and as arrays an image."""
    rng = np.random.default_rng(5)
    truth: dict[str, Any] = {"categories": [{"id": 4, "name": "cat"}, {"id": 9, "name": "dog, small"}]}
    truth["images"] = [
        {"id": n, "file_name": f"{stem}.png", "width": w, "height": h}
        for n, (stem, (w, h)) in enumerate(SIZES.items(), 3)
    ]
    truth["annotations"], rows, objects, detections = [], [], {}, {}
    for image in truth["images"]:
        side = np.array([image["width"], image["height"]])
        count = 0 if image["file_name"] == "0007.png" else 5
        start, size = rng.uniform(0, 0.5, (count, 2)) * side, rng.uniform(0.1, 0.4, (count, 2)) * side
        boxes, labels = np.concatenate([start, start + size], 1), rng.integers(0, 2, count)
        moved = np.concatenate([boxes + rng.normal(0, 2, boxes.shape), [[1, 1, 30, 20]]]).clip(0, np.tile(side, 2))
        kinds, scores = np.append(labels, 1), rng.permutation(count + 1) / 10 + 0.05 + image["id"] / 1000
        objects[image["id"]], detections[image["id"]] = (boxes, labels), (moved, kinds, scores)
        for (x1, y1, x2, y2), k in zip(boxes, labels, strict=True):
            annotation = {"id": len(truth["annotations"]) + 1, "image_id": image["id"], "category_id": (4, 9)[k]}
            truth["annotations"].append(annotation | {"bbox": [x1, y1, x2 - x1, y2 - y1]})
        for (x1, y1, x2, y2), k, score in zip(moved, kinds, scores, strict=True):
            row = {"image_id": image["id"], "category_id": (4, 9)[k], "score": score}
            rows.append(row | {"bbox": [x1, y1, x2 - x1, y2 - y1]})
    return truth, rows, objects, detections


def fractions(boxes, size):
    """x1, y1, x2, y2 → cx, cy, w, h of an image of (width, height)."""
    boxes = boxes / np.tile(size, 2)
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


@pytest.fixture
def folders(case, tmp_path):
    """data/images, data/labels with data.yaml above, and predictions."""
    _, _, objects, detections = case
    for name in ("data/images", "data/labels", "predictions"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "data" / "data.yaml").write_text("nc: 2\nnames:\n  0: cat\n  1: 'dog, small'\n", encoding="utf-8")
    for (stem, size), image in zip(SIZES.items(), objects, strict=True):
        Image.new("RGB", size).save(tmp_path / "data" / "images" / f"{stem}.png")
        (boxes, labels), (moved, kinds, scores) = objects[image], detections[image]
        lines = [
            " ".join(map(repr, [int(k), *map(float, box)]))
            for k, box in zip(labels, fractions(boxes, size), strict=True)
        ]
        if lines:  # an image without objects has no file
            (tmp_path / "data" / "labels" / f"{stem}.txt").write_text("\n".join(lines), encoding="utf-8")
        rows = zip(kinds, fractions(moved, size), scores, strict=True)
        lines = [" ".join(map(repr, [int(k), *map(float, box), float(s)])) for k, box, s in rows]
        (tmp_path / "predictions" / f"{stem}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "data" / "labels", tmp_path / "predictions"


def forms(case, folders):
    """By name: ground truth and detections."""
    truth, _, objects, detections = case
    ground_truth = GroundTruth.of(truth)
    seen = {i: Detections(b, k, s) for i, (b, k, s) in detections.items()}
    dicts = [
        {"boxes": torch.tensor(b), "labels": torch.tensor(k), "scores": torch.tensor(s)}
        for b, k, s in detections.values()
    ]
    targets = [{"boxes": torch.tensor(b), "labels": torch.tensor(k)} for b, k in objects.values()]
    return {
        "yolo": folders,
        "yolo results": (ground_truth, folders[1]),
        "supervision by id": (truth, seen),
        "supervision by file": (truth, {f"photos/{s}.png": d for s, d in zip(SIZES, seen.values(), strict=True)}),
        "supervision in order": (truth, list(seen.values())),
        "dicts": (truth, dicts),
        "dicts, both": (targets, dicts),
        "dicts in another order": (truth, [{**d, "image_id": i} for i, d in zip(seen, dicts, strict=True)][::-1]),
        "supervision, both": ({i: Detections(b, k) for i, (b, k) in objects.items()}, seen),
    }


@pytest.mark.robustness("wrong: YOLO text, supervision's Detections and dicts of boxes give the numbers of COCO files")
@pytest.mark.parametrize("name", [
    "yolo", "yolo results", "supervision by id", "supervision by file", "supervision in order", "dicts",
    "dicts, both", "dicts in another order", "supervision, both",
])  # fmt: skip
def test_every_form_gives_the_numbers_of_coco(case, folders, name):
    truth, rows, _, _ = case
    expected = evaluate_detections(truth, rows)
    ground_truth, detections = forms(case, folders)[name]
    evaluation = evaluate_detections(ground_truth, detections)
    assert 0.2 < expected.summary["AP"] < 0.95
    np.testing.assert_allclose(evaluation.summary, expected.summary, atol=1e-9)
    assert evaluation.per_class["objects"].tolist() == expected.per_class["objects"].tolist()
    assert evaluation.n_images == 3
    kinds = errors(detections, ground_truth)["kind"]
    assert kinds.value_counts().to_dict() == errors(rows, truth)["kind"].value_counts().to_dict()


@pytest.mark.parametrize("name", ["yolo", "supervision by id", "dicts", "dicts, both"])
def test_why_takes_them(case, folders, name):
    truth, rows, _, _ = case
    ground_truth, detections = forms(case, folders)[name]
    why = dsla.why(detections, ground_truth)
    expected = dsla.why(rows, truth)
    order = ["x1", "y1"]
    verdicts = why.table.sort_values(order)["verdict"].tolist()
    assert verdicts == expected.table.sort_values(order)["verdict"].tolist()
    counts = set(why.table["points"])
    assert counts == ({"unknown"} if name == "dicts, both" else set(expected.table["points"]))


def test_what_a_folder_of_labels_says(folders, case):
    truth = GroundTruth.of(folders[0])
    assert truth.name == str(folders[0])
    assert truth.category_names == ("cat", "dog, small")
    assert sorted(map(str, truth.image_ids)) == ["7", "a", "b"]  # as COCO's own names: a number where it is one
    sizes = dict(zip(truth.file_names, zip(truth.widths.tolist(), truth.heights.tolist(), strict=True), strict=True))
    assert sizes == {f"{stem}.png": size for stem, size in SIZES.items()}
    assert truth.ids[0].endswith(".txt:1")
    (folders[0] / "classes.txt").write_text("one\ntwo\nthree\n", encoding="utf-8")
    assert GroundTruth.of(folders[0]).category_names == ("one", "two", "three")
    (folders[0] / "classes.txt").unlink()
    (folders[0].parent / "data.yaml").write_text("names: ['x', \"y\"]  # both\n", encoding="utf-8")
    assert GroundTruth.of(folders[0]).category_names == ("x", "y")
    (folders[0].parent / "data.yaml").unlink()
    assert GroundTruth.of(folders[0]).category_names == ("0", "1")


def test_a_turned_photograph_has_the_size_it_is_seen_in(folders):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (120, 160)).save(folders[0].parent / "images" / "a.jpg", exif=exif)
    (folders[0].parent / "images" / "a.png").unlink()
    truth = GroundTruth.of(folders[0])
    assert (
        truth.widths[list(truth.file_names).index("a.jpg")],
        truth.heights[list(truth.file_names).index("a.jpg")],
    ) == SIZES["a"]


@pytest.mark.robustness("unclear: a line of YOLO text that is no box is named with its file and line")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.1", "needs 5 numbers: class, cx, cy, w, h"),
        ("0 0.5 0.5 0.1 0.1 0.9", "needs 5 numbers"),
        ("cat 0.5 0.5 0.1 0.1", "needs 5 numbers"),
        ("1.5 0.5 0.5 0.1 0.1", "a class is a whole number from 0 to 99,999"),
        ("nan 0.5 0.5 0.1 0.1", "a class is a whole number"),
        ("inf 0.5 0.5 0.1 0.1", "a class is a whole number"),
        ("1e9 0.5 0.5 0.1 0.1", "a class is a whole number"),  # a list of as many classes would fill the memory
        ("0 320 240 50 60", "cx, cy, w and h are fractions of the image"),
        ("0 nan 0.5 0.1 0.1", "cx, cy, w and h are fractions of the image"),
    ],
)
def test_a_bad_line_is_named(folders, line, words):
    file = folders[0] / "b.txt"
    file.write_text(file.read_text(encoding="utf-8") + f"\n\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"b\.txt.*\n.*line 7: ") as caught:
        GroundTruth.of(folders[0])
    assert words in str(caught.value)


@pytest.mark.robustness("unclear: what detections in the form of other libraries lack is named with the image")
def test_what_is_missing_is_named(case, folders, tmp_path):
    truth, _, _, detections = case
    ground_truth, (labels, predictions) = GroundTruth.of(truth), folders
    boxes, kinds, scores = detections[3]
    for source, words in (
        ([Detections(boxes, kinds)], "image 3: detections need scores"),
        ([Detections(boxes, None, scores)], "image 3: boxes need labels"),
        ([Detections(boxes, kinds + 1, scores)], "image 3: class 2, but the given dict has the classes 0…1"),
        ([Detections(boxes, kinds, scores[1:])], "image 3: 6 boxes, but {'scores': 5}"),
        ([Detections(boxes, kinds, scores)] * 4, "more images than the 3"),
        ({"nowhere.png": Detections(boxes, kinds, scores)}, "that the ground truth does not know: nowhere.png"),
        (labels, "a.txt: lines that are no boxes"),
        (tmp_path, "a folder without .txt files"),
    ):
        with pytest.raises(DataError) as caught:
            Results.of(source, ground_truth)
        assert words in str(caught.value)
    for one, words in (
        ({"boxes": boxes, "labels": kinds + 0.5}, "image 1: labels are whole numbers from 0 to 99,999, got "),
        ({"boxes": boxes, "labels": kinds * np.nan}, "image 1: labels are whole numbers from 0 to 99,999, got nan"),
        ({"boxes": boxes, "labels": kinds + 10**9}, "image 1: labels are whole numbers from 0 to 99,999, got "),
        ({"boxes": boxes[:, :3], "labels": kinds}, f"image 1: boxes are [N, 4], x1, y1, x2, y2; got [{len(boxes)}, 3]"),
        (5, "image 1: a int without boxes"),
    ):
        with pytest.raises(DataError) as caught:
            GroundTruth.of([{"boxes": boxes, "labels": kinds}, one])
        assert words in str(caught.value)
    crowded = [{"boxes": boxes, "labels": kinds, "crowd_boxes": boxes[:1]}]
    with pytest.raises(DataError, match="crowd_boxes have no class"):
        evaluate_detections(crowded, [{"boxes": boxes, "labels": kinds, "scores": scores}])
    Image.new("RGB", (9, 9)).save(labels.parent / "images" / "b.jpg")
    with pytest.raises(DataError, match=r"images of the same name.*\n.*b\.jpg and b\.png"):
        GroundTruth.of(labels)
    (labels.parent / "images" / "b.jpg").unlink()
    (labels.parent / "images" / "b.png").unlink()
    with pytest.raises(DataError, match=r"b\.txt: no image b\.jpg"):
        GroundTruth.of(labels)
    (predictions / "b.txt").write_text("1 0.5 0.5 0.2 0.2 0.9\n1 0.5 0.5 0.2 0.2\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"b.txt.*\n.*line 2: .*score \(as by save_conf=True\)"):
        Results.of(predictions, ground_truth)


@pytest.mark.robustness("wrong: target dicts mean the same in an evaluation and in an analysis")
def test_target_dicts_are_read_once_for_all(case):
    _, rows, objects, detections = case
    targets = [{"boxes": b, "labels": k + 3, "crowd_boxes": None} for b, k in objects.values()]
    seen = [{"boxes": b, "labels": k + 3, "scores": s} for b, k, s in detections.values()]
    truth = truth_of(targets)
    assert truth.category_ids.tolist() == GroundTruth.of(targets).category_ids.tolist() == [0, 1, 2, 3, 4]
    assert set(errors(seen, targets)["category"]) == {3, 4}
    ap = evaluate_detections(targets, seen).per_class["AP"]
    assert ap.index[ap.notna()].tolist() == [3, 4]
    crowd = [targets[0] | {"crowd_boxes": torch.tensor([[0, 0, 9, 9]]), "iscrowd": [1, 0, 0, 0, 0]}]
    assert GroundTruth.of(crowd).crowd.tolist() == [True, False, False, False, False, True]
    with pytest.raises(DataError, match="a list is what detection results look like"):
        truth_of(rows)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("# names: of all\nclass_names: [x]\nnames: {0: cat, 1: dog}\nnc: 2\n", ("cat", "dog")),
        ("names:\n  1: dog\n  0: cat\n", ("cat", "dog")),
        ("names:\n  0: cat\n  3: 'dog, small'  # the last\nnc: 4\n", ("cat", "1", "2", "dog, small")),
        ("names:\n- cat\n- dog\n", ("cat", "dog")),
    ],
)
def test_names_stand_at_their_numbers(folders, text, names):
    (folders[0] / "data.yaml").write_text(text, encoding="utf-8")
    assert GroundTruth.of(folders[0]).category_names == names


def test_empty_lines_at_the_end_name_no_class(folders):
    (folders[0] / "classes.txt").write_text("cat\ndog\n\n \n", encoding="utf-8")
    assert GroundTruth.of(folders[0]).category_names == ("cat", "dog")


@pytest.mark.robustness("strangers: class names of YOLO text that are none, or too few, are one message")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("names: {1000000000: cat}", "data.yaml: the numbers of 'names' are whole, from 0 to 99,999"),
        ("names: {-1: cat, 0: dog}", "data.yaml: the numbers of 'names' are whole, from 0 to 99,999"),
        ("names: cat", "data.yaml: its 'names' are no list of the classes"),
        ("names: [cat]", "labels: class 1, but only the classes 0…0 have a name; add its"),
    ],
)
def test_names_that_are_none_or_too_few(folders, text, words):
    (folders[0] / "data.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(words)):
        GroundTruth.of(folders[0])


@pytest.mark.robustness(
    "wrong: detections by file name find their image where folders share names, or ask for the folder"
)
def test_file_names_that_folders_share(case):
    truth, _, _, detections = case
    files = ["left/1.png", "right\\1.png", "b/2.png"]
    truth = {**truth, "images": [{**image, "file_name": f} for image, f in zip(truth["images"], files, strict=True)]}
    ground_truth, seen = GroundTruth.of(truth), [Detections(b, k, s) for b, k, s in detections.values()]
    wanted = Results.of(seen, ground_truth)
    for names in (["left/1.png", "right/1.png", "2.png"], ["/data/left/1.png", "x/right/1.png", "other/2.png"]):
        results = Results.of(dict(zip(names, seen, strict=True)), ground_truth)
        assert results.image.tolist() == wanted.image.tolist()
        assert results.boxes.tolist() == wanted.boxes.tolist()
    with pytest.raises(DataError, match=r"'1.png' names 2 images of the given dict, left.1.png, right.1.png; give"):
        Results.of({"1.png": seen[0]}, ground_truth)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_boxes_of_16_bits_are_read(kind):
    dicts = [{"boxes": torch.tensor([[8.0, 16, 64, 128]], dtype=kind), "labels": torch.tensor([0]),
              "scores": torch.tensor([0.5], dtype=kind)}]  # fmt: skip
    assert evaluate_detections(dicts, dicts).summary["AP"] == pytest.approx(1)


@pytest.mark.robustness("unclear: text of a YOLO folder that is not UTF-8 is named")
@pytest.mark.parametrize("name", ["b.txt", "classes.txt", "data.yaml"])
def test_text_that_is_not_utf_8_is_named(folders, name):
    (folders[0] / name).write_bytes("names: [café]".encode("latin-1"))
    with pytest.raises(DataError, match=rf"{name}: not UTF-8 .* save it as UTF-8"):
        GroundTruth.of(folders[0])


@pytest.mark.robustness("wrong: targets whose boxes and labels do not fit each other are refused")
@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"boxes": [[0, 0, 9, 9], [1, 1, 9, 9]], "labels": [1]}, "image 1: 2 boxes, but {'labels': 1}"),
        ({"boxes": [[0, 0, 9, 9]], "labels": [1], "iscrowd": [0, 1]}, "image 1: 1 boxes, but {'iscrowd': 2}"),
        ({"boxes": np.ones((4, 3)), "labels": [1] * 3}, "image 1: boxes are [N, 4], x1, y1, x2, y2; got [4, 3]"),
        ({"boxes": [[0, 0, 9, 9]], "labels": [1.5]}, "image 1: labels are whole numbers from 0 to 99,999, got 1.5"),
        ({"boxes": [[0, 0, np.nan, 9]], "labels": [1]}, "image 1: a box is x1, y1, x2, y2, finite"),
        ({"boxes": [[9, 9, 0, 0]], "labels": [1]}, "x1 ≤ x2, y1 ≤ y2; got [9.0, 9.0, 0.0, 0.0]"),
        ({"image_id": 1, "bbox": [0, 0, 5, 5]}, "image 1: a dict without boxes"),
    ],
)
def test_a_target_that_does_not_fit_is_named(target, words):
    with pytest.raises(DataError) as caught:
        GroundTruth.of([{"boxes": np.zeros((0, 4)), "labels": []}, target])
    assert words in str(caught.value)


def test_no_detection_is_a_subset_of_every_truth(case):
    truth = GroundTruth.of(case[0])
    assert len(Results.of([], truth, subset=True)) == 0
    with pytest.raises(DataError, match="1 detection with an image_id that the ground truth does not know: 9"):
        Results.of([{"image_id": 9, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}], truth, subset=True)


@pytest.mark.slow
def test_the_shell_takes_folders(folders, capsys):
    from dsla.cli.main import main

    labels, predictions = map(str, folders)
    (about, results) = check([predictions, labels])
    assert about.name == labels
    assert "3 images (1 without a box), 10 objects" in about.summary
    assert "13 detections on 3 of 3 images" in results.summary
    out, images = folders[0].parent / "out", folders[0].parent / "images"
    analyze = ["analyze", predictions, "--annotations", labels, "--resamples", "0", "--out", str(out)]
    assert main([*analyze, "--images", str(images)]) == 0  # ids of images are numbers and text here
    assert (out / "figures" / "worst-false-1.png").exists()
    assert main(["why", predictions, "--annotations", labels]) == 0
    out = capsys.readouterr().out
    assert "predictions" in out
    assert "10 objects" in out


@pytest.mark.robustness("wrong: beside target dicts a detection of a class without an object is a false alarm")
@pytest.mark.parametrize("engine", ["numpy", "pycocotools"])
def test_a_class_that_no_target_has(engine):
    targets = [{"boxes": [[10, 10, 50, 50]], "labels": [0]}, {"boxes": [[20, 20, 60, 60]], "labels": [2]}]
    one = {"boxes": [[10, 10, 50, 50], [10, 10, 50, 50]], "labels": [0, 99_999], "scores": [0.9, 0.8]}
    other = {"boxes": [[20, 20, 60, 60], [70, 70, 90, 90]], "labels": [7, 2], "scores": [0.7, 0.6]}
    evaluation = evaluate_detections(targets, [one, other], engine=engine)
    assert evaluation.summary["AP"] == pytest.approx(0.5)  # class 0 whole, class 2 not at all
    rows = evaluation.per_class
    assert rows["detections"].to_dict() == {0: 1, 1: 0, 2: 1, 7: 1, 99_999: 1}
    assert rows["objects"].tolist() == [1, 0, 1, 0, 0]
    assert rows["name"].tolist() == ["0", "1", "2", "7", "99999"]
    assert "2 detections in 2 classes without ground truth: 7, 99999" in evaluation.notes
    table = errors([one, other], targets)
    assert table["kind"].tolist() == ["correct", "classification", "classification", "background", "covered"]
    assert table["name"].tolist()[:4] == ["0", "99999", "7", "2"]
    classes = errors_by(table, truth_of(targets)).query("by == 'class'").set_index("category")
    assert classes["detections"].to_dict() == {0: 1, 2: 1, 7: 1, 99_999: 1}
    frame = Results.of([one, other], truth_of(targets)).to_frame()
    assert evaluate_detections(targets, frame, engine=engine).summary["AP"] == evaluation.summary["AP"]
    with pytest.raises(DataError, match="a category_id that the ground truth does not know: -1"):
        evaluate_detections(targets, frame.assign(category=-1))
