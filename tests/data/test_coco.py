"""COCO files: what is read, what is refused, and that every refusal names its culprit."""

import json
import os
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import dsla
from dsla.cli.main import main
from dsla.coco.ground_truth import GroundTruth
from dsla.data import CocoDataset, to_coco_results, write_coco
from dsla.data.check import check
from dsla.data.sampling import Part, with_boxes
from dsla.errors import DataError, DataWarning
from dsla.models.evaluation import predict_dataset

SIZE = {"width": 120, "height": 80}


def box(n=1, image=1, category=1, bbox=(10, 10, 40, 30), **more):
    return {"id": n, "image_id": image, "category_id": category, "bbox": list(bbox), **more}


def coco(annotations=(), images=None, categories=None, **more):
    return {
        "images": [{"id": 1, "file_name": "a.png", **SIZE}] if images is None else images,
        "annotations": list(annotations),
        "categories": [{"id": 1, "name": "thing"}] if categories is None else categories,
        **more,
    }


@pytest.fixture
def make(tmp_path):
    """Writes a file (a dict, or text as it is) and a picture a.png; returns the data set of it."""
    Image.new("RGB", (SIZE["width"], SIZE["height"]), "red").save(tmp_path / "a.png")

    def make(content, **options):
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "ann.json").write_text(text, encoding="utf-8")
        return CocoDataset(tmp_path, tmp_path / "ann.json", **options)

    return make


# Images without objects -------------------------------------------------------------------------------------------


def test_image_without_annotations_has_empty_targets_of_the_right_shape_and_type(make):
    images = [{"id": 1, "file_name": "a.png", **SIZE}, {"id": 2, "file_name": "a.png", **SIZE}]
    data = make(coco([box()], images))
    target = data[1][1]
    assert len(data) == 2
    assert target["boxes"].shape == (0, 4)
    assert target["boxes"].dtype == torch.float32
    assert target["labels"].shape == (0,)
    assert target["labels"].dtype == torch.int64
    assert target["crowd_boxes"].shape == (0, 4)
    assert data[0][1]["boxes"].tolist() == [[10, 10, 50, 40]]
    assert [image["id"] for image in data.ground_truth()["images"]] == [1, 2]


def test_keep_empty_false_drops_images_without_usable_objects_from_set_and_ground_truth(make):
    images = [{"id": n, "file_name": "a.png", **SIZE} for n in (1, 2, 3)]
    data = make(coco([box(image=2), box(2, image=3, iscrowd=1)], images), keep_empty=False)
    assert [data.image_id(i) for i in range(len(data))] == [2]
    assert [image["id"] for image in data.ground_truth()["images"]] == [2]
    assert [a["image_id"] for a in data.ground_truth()["annotations"]] == [2]
    assert len(make(coco())) == 1


def test_an_image_of_nothing_but_a_crowd_is_annotated(make):
    images = [{"id": n, "file_name": "a.png", **SIZE} for n in (1, 2, 3, 4)]
    data = make(coco([box(image=2), box(2, image=3, iscrowd=1), box(3, image=4)], images))
    assert data.annotated() == super(CocoDataset, data).annotated() == {2, 3, 4}
    kept = with_boxes(data)
    assert [kept.image_id(i) for i in range(len(kept))] == [2, 3, 4]
    assert with_boxes(kept) is kept
    assert Part(data, [0, 3]).annotated() == {4}
    assert [a["image_id"] for a in Part(data, [0, 3]).ground_truth()["annotations"]] == [4]


# Boxes ------------------------------------------------------------------------------------------------------------

DEGENERATE = {
    "zero width": [10, 10, 0, 20],
    "zero height": [10, 10, 20, 0],
    "negative": [50, 40, -20, 10],
    "outside": [200, 200, 10, 10],
    "outside, left": [-30, 10, 30, 10],
    "not a number": [float("nan"), 10, 20, 20],
    "infinite": [0, 0, float("inf"), 5],
    "zeros": [0, 0, 0, 0],
    "far too small": [30, 30, 1e-4, 1e-4],
    "empty": [],
    "three numbers": [1, 2, 3],
    "text": ["1", 2, 3, 4],
    "nothing": [None, 2, 3, 4],
    "true": [True, 2, 3, 4],
    "too large": [10**400, 1, 2, 3],
    "a dict": {"x": 1},
    "null": None,
}


@pytest.mark.robustness("wrong: boxes without area, not finite or outside are left out, counted and named")
def test_degenerate_boxes_are_dropped_with_one_warning_that_counts_and_names_each(make):
    bad = [{**box(n), "bbox": b} for n, b in enumerate(DEGENERATE.values(), 2)]
    bad.append({k: v for k, v in box(len(bad) + 2).items() if k != "bbox"})
    with pytest.warns(DataWarning) as caught:
        data = make(coco([box(), *bad]))
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "ann.json:\n" in message
    assert sum(p.count for p in data.problems) == len(bad)
    assert sorted(i for p in data.problems for i in p.ids) == [row["id"] for row in bad]
    for problem in data.problems:
        assert f"{problem.count} annotation" in message
        assert f"({', '.join(map(str, problem.ids))})" in message
    assert data[0][1]["boxes"].tolist() == [[10, 10, 50, 40]]
    outside = [n for n, name in enumerate(DEGENERATE, 2) if name.startswith("outside")]
    assert [p.ids for p in data.problems if p.kind == "outside the image"] == [tuple(outside)]
    assert len(data.ground_truth()["annotations"]) == 3  # evaluation counts these as the file has them


def test_strict_refuses_with_one_error_that_lists_all(make):
    bad = [{**box(n), "bbox": b} for n, b in enumerate(DEGENERATE.values(), 2)]
    with pytest.raises(DataError) as error:
        make(coco([box(), *bad]), strict=True)
    assert "unusable rows" in str(error.value)
    assert "annotation 2 (image 1): bbox (10.0, 10.0, 0.0, 20.0)" in str(error.value)
    listed = [i for ids in re.findall(r"annotations? \(([^)]*)\)", str(error.value)) for i in ids.split(", ")]
    assert sorted(map(int, listed)) == [row["id"] for row in bad]


def test_a_long_list_of_problems_is_cut_in_the_warning_but_complete_in_problems(make):
    with pytest.warns(DataWarning, match="70 annotations") as caught:
        data = make(coco([box(0), *(box(n, bbox=(0, 0, 0, 0)) for n in range(1, 71))]))
    assert "19, 20, …)" in str(caught[0].message)
    assert data.problems[0].ids == tuple(range(1, 71))


@pytest.mark.parametrize(
    ("bbox", "inside"),
    [
        ([-10, 10, 40, 30], [0, 10, 30, 30]),
        ([100, 60, 40, 30], [100, 60, 20, 20]),
        ([-5, -5, 200, 200], [0, 0, 120, 80]),
        ([10.5, 10.25, 3.125, 4.5], [10.5, 10.25, 3.125, 4.5]),
    ],
)
def test_boxes_that_are_taught_are_cut_to_the_image(make, bbox, inside):
    data = make(coco([box(bbox=bbox)]))
    x, y, w, h = inside
    assert data.ground_truth()["annotations"][0]["bbox"] == bbox  # evaluation takes boxes as the file has them
    assert data[0][1]["boxes"].tolist() == [[x, y, x + w, y + h]]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.floats(-20, 150),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
number = st.floats(-20, 150) | st.integers(-20, 150) | st.floats()


@pytest.mark.slow
@given(anything | st.lists(number, min_size=4, max_size=4))
def test_any_bbox_is_a_finite_box_in_the_image_or_a_reason(bbox):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        truth = GroundTruth.of(coco([{**box(), "bbox": bbox}, box(2), box(3)]))
    if not truth.taught[0] or len(truth.boxes) == 2:
        assert truth.problems
        return
    x, y, w, h = truth.inside[0]
    assert x >= 0
    assert y >= 0
    assert x + w <= 120 + 1e-9
    assert y + h <= 80 + 1e-9
    corners = torch.tensor([x, y, x + w, y + h], dtype=torch.float64).float()
    assert (corners[2:] > corners[:2]).all()


@pytest.mark.slow
@given(st.lists(anything | st.fixed_dictionaries({}, optional=dict.fromkeys(box(iscrowd=0, area=1), anything))))
def test_any_annotation_list_is_read_or_reported_or_refused(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(coco(rows)), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data = CocoDataset(path.parent, path)
        except DataError as error:
            data, message = None, str(error)
    if data is None:
        assert str(path) in message
        return
    truth = data.ground_truth()["annotations"]
    lost = [p for p in data.problems if p.level == "dropped" and p.action == "left out"]
    assert len(truth) + sum(p.count for p in lost) == len(rows)
    assert all(np.isfinite([*a["bbox"], a["area"]]).all() and a["area"] > 0 for a in truth)


# Ids --------------------------------------------------------------------------------------------------------------


def test_category_ids_with_gaps_and_out_of_order_map_one_way(make):
    categories = [{"id": 90, "name": "zebra"}, {"id": 3, "name": "ant"}, {"id": 7, "name": "bee"}]
    data = make(coco([box(n, category=c) for n, c in enumerate((90, 3, 7), 1)], categories=categories))
    assert data.category_ids == (3, 7, 90)
    assert data.class_names == ("ant", "bee", "zebra")
    assert data[0][1]["labels"].tolist() == [2, 0, 1]
    assert [a["category_id"] for a in data.ground_truth()["annotations"]] == [90, 3, 7]
    detections = {
        "boxes": torch.ones(3, 4),
        "scores": torch.tensor([0.5, 0.25, 1.0]),
        "labels": torch.tensor([2, 0, 1]),
    }
    assert [row["category_id"] for row in to_coco_results(data, [1], [detections])] == [90, 3, 7]


def test_annotation_id_zero_and_absent_ids_are_numbered_from_one(make):
    rows = [box(0), box(1, bbox=(1, 2, 30, 40)), {k: v for k, v in box(bbox=(5, 6, 7, 8)).items() if k != "id"}]
    data = make(coco(rows, images=[{"id": 1, "file_name": "a.png", **SIZE}]))
    assert [a["id"] for a in data.ground_truth()["annotations"]] == [1, 2, 3]
    assert data.problems == []


def test_repeated_annotation_ids_are_kept_and_reported(make):
    with pytest.warns(DataWarning, match=r"an id that is used twice: 1 annotation \(5\), kept"):
        data = make(coco([box(5), box(5, bbox=(1, 2, 30, 40))]))
    assert data[0][1]["boxes"].shape == (2, 4)
    assert [a["id"] for a in data.ground_truth()["annotations"]] == [1, 2]
    with pytest.raises(DataError, match=r"1 annotation \(5\)"):
        make(coco([box(5), box(5)]), strict=True)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (box(7, image="1"), r"no annotation belongs to an image .* '1', the images are 1 \(text here, numbers there\)"),
        (box(7, category=4), r"which lists 1.*\n  annotation 7 \(image 1\): category_id 4"),
        (box(7, iscrowd="yes"), r"annotation 7 \(image 1\): iscrowd 'yes'"),
        ("text", "at 0: not an object"),
    ],
)
def test_annotations_that_point_nowhere_are_refused(make, row, reason):
    with pytest.raises(DataError, match=reason):
        make(coco([row]))


def test_an_annotation_of_another_image_is_left_out_and_reported(make):
    with pytest.warns(DataWarning, match=r"no such image id in 'images': 1 annotation \(7\), left out"):
        data = make(coco([box(), box(7, image=9)]))
    assert data[0][1]["boxes"].shape == (1, 4)


def test_area_iscrowd_info_may_be_absent_and_the_file_stays_untouched(make, tmp_path):
    data = make(coco([box(1, bbox=(10, 10, 20, 20)), box(2, bbox=(5, 5, 50, 40))]))
    before = (tmp_path / "ann.json").read_bytes()
    truth = data.ground_truth()
    assert [a["area"] for a in truth["annotations"]] == [400, 2000]
    assert [a["iscrowd"] for a in truth["annotations"]] == [0, 0]
    assert {"info", "images", "annotations", "categories"} <= truth.keys()
    truth["annotations"][0]["area"] = -1
    assert data.ground_truth()["annotations"][0]["area"] == 400
    assert (tmp_path / "ann.json").read_bytes() == before


def test_area_of_the_file_is_kept_and_crowds_stand_apart(make):
    data = make(coco([box(1, area=123.5), box(2, bbox=(0, 0, 60, 60), iscrowd=1, area=float("nan"))]))
    target = data[0][1]
    assert target["boxes"].tolist() == [[10, 10, 50, 40]]
    assert target["crowd_boxes"].tolist() == [[0, 0, 60, 60]]
    assert target["labels"].tolist() == [0]
    assert [(a["area"], a["iscrowd"]) for a in data.ground_truth()["annotations"]] == [(123.5, 0), (3600, 1)]


# Files that are something else ------------------------------------------------------------------------------------

IMAGE = {"id": 1, "file_name": "a.png", **SIZE}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not valid JSON"),
        ("", "not JSON but empty"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "a list instead of an object .*detection results"),
        ("3", "a int instead of an object"),
        ({}, "needs a list 'categories', it is missing"),
        ({"categories": [{"id": 1, "name": "x"}], "images": {}}, "needs a list 'images', it is a dict"),
        ({"categories": [{"id": 1, "name": "x"}], "images": []}, "needs a list 'annotations', it is missing"),
        (coco(categories=[]), "the list is empty"),
        (coco(categories=[{"id": None, "name": "x"}]), r"categories\[0\] \(x\): needs an 'id'"),
        (
            coco(categories=[{"id": 1, "name": "x"}, {"id": 1, "name": "y"}]),
            r"categories\[1\] \(y\): id 1 is used twice",
        ),
        (coco(categories=["x"]), r"categories\[0\]: 'x' is not what"),
        (coco(images=["a.png"]), r"images\[0\]: 'a.png' is not what"),
        (coco(images=[{**IMAGE, "id": 1.5}]), r"images\[0\] \(a.png\): needs an 'id', a whole number or text"),
        (coco(images=[{**IMAGE, "id": True}]), r"images\[0\]: id True"),
        (coco(images=[{**IMAGE, "file_name": None}]), r"image 1 \(\): needs a text 'file_name'"),
        (coco(images=[IMAGE, IMAGE]), r"images\[1\] \(a.png\): id 1 is used twice"),
        (coco(images=[{**IMAGE, "width": None}]), r"\(a.png\): needs a text 'file_name', and 'width' and 'height'"),
        (coco(images=[{**IMAGE, "height": 0}]), r"image 1 \(a.png\): needs"),
        (coco(images=[{**IMAGE, "height": float("inf")}]), r"image 1 \(a.png\): 120xinf"),
        (coco(images=[{**IMAGE, "height": -4}]), r"image 1 \(a.png\): 120x-4"),
    ],
)
def test_other_files_are_refused_with_the_reason(make, content, says):
    with pytest.raises(DataError, match=says) as error:
        make(content)
    assert "ann.json" in str(error.value)


def test_annotation_file_missing_or_a_folder_or_not_utf8(tmp_path):
    with pytest.raises(DataError, match="no such file") as error:
        CocoDataset(tmp_path, tmp_path / "none.json")
    assert str(tmp_path / "none.json") in str(error.value)
    with pytest.raises(DataError, match=r"a folder without \.txt files"):
        CocoDataset(tmp_path, tmp_path)
    (tmp_path / "latin.json").write_bytes('{"a": "é"}'.encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        CocoDataset(tmp_path, tmp_path / "latin.json")


def test_missing_image_files_are_named_in_full_at_load_or_up_front(make, tmp_path):
    images = [{"id": n, "file_name": name, **SIZE} for n, name in ((1, "a.png"), (2, "b.png"), (3, "sub/c.png"))]
    data = make(coco(images=images))
    with pytest.raises(DataError, match="image id 2") as error:
        data[1]
    assert str(tmp_path / "b.png") in str(error.value)
    with pytest.raises(DataError, match="image files are missing, 2 of 3") as error:
        make(coco(images=images), check_files=True)
    assert str(tmp_path / "b.png") in str(error.value)
    assert str(tmp_path / "sub" / "c.png") in str(error.value)


@pytest.mark.robustness("unclear: a missing image file that is there in another spelling is named in both")
@pytest.mark.parametrize(
    ("listed", "there"),
    [("b.PNG", "b.png"), ("e\u0301.png", "\xe9.png"), ("%C3%A9%201.png", "\xe9 1.png"), ("a b.png", "A%20b.png")],
)
def test_missing_files_that_are_there_in_another_spelling(make, tmp_path, listed, there):
    data = make(coco(images=[{"id": 1, "file_name": listed, **SIZE}]))
    Image.new("RGB", (120, 80)).save(tmp_path / "moved.png")
    (tmp_path / "moved.png").rename(tmp_path / there)
    words = re.escape(f"but one that is spelt {there!a} and not {listed!a}")
    with pytest.raises(DataError, match=words):
        data[0]
    with pytest.raises(DataError, match=words):
        CocoDataset(tmp_path, tmp_path / "ann.json", check_files=True)


def test_a_link_that_leads_nowhere_is_a_missing_file(make, tmp_path):
    data = make(coco(images=[{"id": 1, "file_name": "link.png", **SIZE}]))
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"link\.png: no such image file; check the image folder"):
        data[0]


@pytest.mark.robustness("unclear: dsla train names the image files that are missing before it starts")
def test_train_names_missing_image_files_before_it_starts(make, tmp_path, capsys):
    images = [{"id": n, "file_name": name, **SIZE} for n, name in ((1, "a.png"), (2, "b.png"), (3, "sub/c.png"))]
    make(coco(images=images))
    argv = ["train", "scenes-dsla", "--data", tmp_path, "--annotations", tmp_path / "ann.json", "--out", tmp_path / "o"]
    assert main(list(map(str, argv))) == 2
    err = capsys.readouterr().err
    assert "ann.json: image files are missing, 2 of 3" in err
    assert all(name in err for name in ("b.png", "c.png"))
    assert not (tmp_path / "o").exists()
    assert (
        main(["train", "scenes-dsla", "--size", "4", "--value-range", "0", "4095", "--out", str(tmp_path / "o")]) == 2
    )
    assert "the embedded scenes have 8 bits" in capsys.readouterr().err


def test_size_of_the_file_and_of_the_json_differ(make):
    data = make(coco(images=[{**IMAGE, "width": 100}]))
    with pytest.raises(DataError, match=r"image id 1: .*a.png: the image is 120x80, but .* 100x80"):
        data[0]


def test_backslashes_in_file_names(make, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "sub" / "a.png")
    Image.new("RGB", (120, 80)).save(tmp_path / "a.png")
    assert make(coco(images=[{**IMAGE, "file_name": "sub\\a.png"}]), check_files=True)[0][0].shape == (3, 80, 120)


@pytest.mark.robustness("strangers: file names that lead out of the image folder are not followed unless allowed")
@pytest.mark.parametrize("name", ["../out/b.png", "{tmp}/out/b.png", "link.png", "sub/../../out/b.png"])
def test_image_files_outside_the_folder_only_if_allowed(tmp_path, name):
    folder = tmp_path / "images"
    (tmp_path / "out").mkdir()
    (folder / "sub").mkdir(parents=True)
    Image.new("RGB", (120, 80), "red").save(tmp_path / "out" / "b.png")
    (folder / "link.png").symlink_to(tmp_path / "out" / "b.png")
    name = name.format(tmp=tmp_path)
    (tmp_path / "ann.json").write_text(json.dumps(coco([box()], [{**IMAGE, "file_name": name}])), encoding="utf-8")
    data = CocoDataset(folder, tmp_path / "ann.json")
    for read in (lambda: data[0], lambda: write_coco(data, tmp_path / "copy"), lambda: data.path(0)):
        with pytest.raises(DataError, match=rf"id 1: file_name '{re.escape(name)}' leads out of .*allow_outside=True"):
            read()
    allowed = CocoDataset(folder, tmp_path / "ann.json", allow_outside=True)
    assert allowed[0][0].shape == (3, 80, 120)
    (tmp_path / "linked").symlink_to(folder)  # a folder that is a link itself is no way out
    (folder / "in.png").symlink_to(folder / "sub" / "c.png")
    Image.new("RGB", (120, 80)).save(folder / "sub" / "c.png")
    (tmp_path / "ann.json").write_text(json.dumps(coco([box()], [{**IMAGE, "file_name": "in.png"}])), encoding="utf-8")
    assert CocoDataset(tmp_path / "linked", tmp_path / "ann.json")[0][0].shape == (3, 80, 120)


@pytest.mark.robustness("strangers: a pipe is no image")
def test_a_pipe_is_no_image(make, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    data = make(coco(images=[{**IMAGE, "file_name": "pipe.png"}]))
    with pytest.raises(DataError, match=r"file_name 'pipe.png' is no regular file"):
        data[0]


@pytest.mark.robustness("strangers: file names that no file can have cost their image only, in a check, and are named")
@pytest.mark.parametrize("name", ["a" * 300 + ".png", "\0.png", "ring.png", "x\\\0.png"])
def test_names_that_no_file_can_have(make, tmp_path, name):
    (tmp_path / "ring.png").symlink_to("ring.png")
    data = make(coco(images=[{**IMAGE, "file_name": name}]))
    with pytest.raises(DataError, match=r"image id \d+: "):  # Python's versions differ about which call refuses
        data[0]
    (report,) = check([data.annotation_json], tmp_path)
    assert [(p.kind, p.count) for p in report] == [("an image file that is missing, cut or of another size", 1)]
    assert list(data.files_read()) == [data.annotation_json]


@pytest.mark.robustness("wrong: what the flag ignore excludes is not taught, and said")
def test_the_flag_ignore_is_taught_as_a_crowd_and_said(make):
    with pytest.warns(DataWarning, match=r"the flag ignore: 1: 1 annotation \(2\), not taught, like a crowd"):
        data = make(coco([box(), box(2, bbox=(70, 20, 50, 60), ignore=1)]))
    target = data[0][1]
    assert target["boxes"].tolist() == [[10, 10, 50, 40]]
    assert target["crowd_boxes"].tolist() == [[70, 20, 120, 80]]
    assert [a["iscrowd"] for a in data.ground_truth()["annotations"]] == [0, 0]


def test_keep_empty_false_with_nothing_left_says_why(make):
    with pytest.raises(DataError, match="no image has an object to learn"):
        make(coco([box(iscrowd=1)]), keep_empty=False)


@pytest.mark.slow
@pytest.mark.robustness("unclear: names outside ASCII pass from file to figure")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_names_outside_ascii_without_encoding_warning(tmp_path, encoding):
    folder = tmp_path / "my data" / "bilder ä"
    folder.mkdir(parents=True)
    Image.new("RGB", (120, 80)).save(folder / "foto 1 雨.png")
    data = coco([box()], [{**IMAGE, "file_name": "foto 1 雨.png"}], [{"id": 1, "name": "고양이 café"}])
    path = tmp_path / "my data" / "ann.json"
    path.write_text(json.dumps(data, ensure_ascii=False), encoding=encoding)
    code = (
        "import sys; from dsla.data import CocoDataset, write_coco; d = CocoDataset(sys.argv[1], sys.argv[2]);"
        "assert d.class_names == ('고양이 café',), d.class_names; assert d[0][0].shape == (3, 80, 120);"
        "p = write_coco(d, sys.argv[3]); assert CocoDataset(p.parent / 'images', p).class_names == d.class_names"
    )
    flags = ["-X", "utf8=0", "-X", "warn_default_encoding", "-W", "error::EncodingWarning:dsla"]
    done = subprocess.run(
        [sys.executable, *flags, "-c", code, folder, path, tmp_path / "out ü"],
        capture_output=True, encoding="utf-8", errors="replace", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "EncodingWarning" not in "".join(line for line in done.stderr.splitlines() if "dsla/data" in line)


def test_write_and_read_back(make, tmp_path):
    data = make(coco([box(3, bbox=(10.5, 10, 40, 30)), box(9, bbox=(0, 0, 60, 60), iscrowd=1)]))
    path = write_coco(data, tmp_path / "copy")
    back = CocoDataset(path.parent / "images", path, strict=True, check_files=True)
    assert torch.equal(back[0][0], data[0][0])
    assert torch.equal(back[0][1]["boxes"], data[0][1]["boxes"])
    assert back.ground_truth()["annotations"] == data.ground_truth()["annotations"]


def test_image_ids_that_are_text_pass_from_the_file_to_the_tables(make):
    data = make(coco([box(image="a")], [{**IMAGE, "id": "a"}, {**IMAGE, "id": "b"}]))
    assert [data.image_id(i) for i in range(2)] == ["a", "b"]
    model = dsla.build("scenes-dsla", class_names=["thing"]).eval()
    assert {r["image_id"] for r in predict_dataset(model, data)} <= {"a", "b"}
    assert dsla.evaluate(model, data).attrs["n_images"] == 2
    assert len(dsla.analysis.match(model, data, score_threshold=2.0)) == 0
    model.train()([data[0][0]], [data[0][1]])
