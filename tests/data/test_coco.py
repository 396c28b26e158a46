"""COCO files: what is read, what is refused, and that every refusal names its culprit."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dsla.data import CocoDataset, write_coco
from dsla.data.coco import check_box
from dsla.data.sampling import Part, with_boxes
from dsla.errors import DataError

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


def test_degenerate_boxes_are_dropped_with_one_warning_that_counts_and_names_each(make):
    bad = [{**box(n), "bbox": b} for n, b in enumerate(DEGENERATE.values(), 2)]
    bad.append({k: v for k, v in box(len(bad) + 2).items() if k != "bbox"})
    with pytest.warns(UserWarning, match="annotations dropped") as caught:
        data = make(coco([box(), *bad]))
    assert len(caught) == 1
    message = str(caught[0].message)
    assert f"{len(bad)} of {len(bad) + 1} annotations dropped" in message
    assert "ann.json" in message
    for row in bad:
        assert f"annotation {row['id']} (image 1): " in message
    assert [p.annotation_id for p in data.problems] == [row["id"] for row in bad]
    assert data[0][1]["boxes"].tolist() == [[10, 10, 50, 40]]
    assert len(data.ground_truth()["annotations"]) == 1


def test_strict_refuses_with_one_error_that_lists_all(make):
    bad = [{**box(n), "bbox": b} for n, b in enumerate(DEGENERATE.values(), 2)]
    with pytest.raises(DataError) as error:
        make(coco([box(), *bad]), strict=True)
    assert f"{len(bad)} unusable annotations" in str(error.value)
    assert all(f"annotation {row['id']} (image 1): " in str(error.value) for row in bad)


def test_a_long_list_of_problems_is_cut_in_the_warning_but_complete_in_problems(make):
    with pytest.warns(UserWarning, match="70 of 70 annotations dropped") as caught:
        data = make(coco([box(n, bbox=(0, 0, 0, 0)) for n in range(1, 71)]))
    assert "and 20 more" in str(caught[0].message)
    assert "annotation 51 " not in str(caught[0].message)
    assert len(data.problems) == 70


@pytest.mark.parametrize(
    ("bbox", "inside"),
    [
        ([-10, 10, 40, 30], [0, 10, 30, 30]),
        ([100, 60, 40, 30], [100, 60, 20, 20]),
        ([-5, -5, 200, 200], [0, 0, 120, 80]),
        ([10.5, 10.25, 3.125, 4.5], [10.5, 10.25, 3.125, 4.5]),
    ],
)
def test_boxes_are_cut_to_the_image(make, bbox, inside):
    data = make(coco([box(bbox=bbox)]))
    x, y, w, h = inside
    assert data.ground_truth()["annotations"][0]["bbox"] == inside
    assert data[0][1]["boxes"].tolist() == [[x, y, x + w, y + h]]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.floats(-20, 150),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
number = st.floats(-20, 150) | st.integers(-20, 150) | st.floats()


@given(anything | st.lists(number, min_size=4, max_size=4))
def test_any_bbox_is_a_finite_box_in_the_image_or_a_reason(bbox):
    found = check_box(bbox, 120, 80)
    if isinstance(found, str):
        assert found
        return
    x, y, w, h = found
    assert x >= 0
    assert y >= 0
    assert x + w <= 120 + 1e-9
    assert y + h <= 80 + 1e-9
    corners = torch.tensor([x, y, x + w, y + h], dtype=torch.float64).float()
    assert (corners[2:] > corners[:2]).all()


@given(st.lists(anything | st.fixed_dictionaries({}, optional=dict.fromkeys(box(iscrowd=0, area=1), anything))))
def test_any_annotation_list_is_read_or_reported(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(coco(rows)), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = CocoDataset(path.parent, path)
    truth = data.ground_truth()["annotations"]
    assert len(truth) + sum(p.dropped for p in data.problems) == len(rows)
    assert all(np.isfinite([*a["bbox"], a["area"]]).all() and a["area"] > 0 for a in truth)


# Ids --------------------------------------------------------------------------------------------------------------


def test_category_ids_with_gaps_and_out_of_order_map_one_way(make):
    categories = [{"id": 90, "name": "zebra"}, {"id": 3, "name": "ant"}, {"id": 7, "name": "bee"}]
    data = make(coco([box(n, category=c) for n, c in enumerate((90, 3, 7), 1)], categories=categories))
    assert data.category_ids == (3, 7, 90)
    assert data.class_names == ("ant", "bee", "zebra")
    assert data[0][1]["labels"].tolist() == [2, 0, 1]
    assert [a["category_id"] for a in data.ground_truth()["annotations"]] == [90, 3, 7]
    found = {"boxes": torch.ones(3, 4), "scores": torch.tensor([0.5, 0.25, 1.0]), "labels": torch.tensor([2, 0, 1])}
    assert [row["category_id"] for row in data.results([1], [found])] == [90, 3, 7]


def test_annotation_id_zero_and_absent_ids_are_numbered_from_one(make):
    rows = [box(0), box(1), {k: v for k, v in box().items() if k != "id"}]
    data = make(coco(rows, images=[{"id": 1, "file_name": "a.png", **SIZE}]))
    assert [a["id"] for a in data.ground_truth()["annotations"]] == [1, 2, 3]
    assert data.problems == []


def test_repeated_annotation_ids_are_kept_and_reported(make):
    with pytest.warns(UserWarning, match="0 of 2 annotations dropped, 1 kept under new ids") as caught:
        data = make(coco([box(5), box(5, bbox=(1, 2, 30, 40))]))
    assert "annotation 5 (image 1): id is used twice" in str(caught[0].message)
    assert data[0][1]["boxes"].shape == (2, 4)
    with pytest.raises(DataError, match="annotation 5"):
        make(coco([box(5), box(5)]), strict=True)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (box(7, image=9), r"annotation 7 \(image 9\): no such image id"),
        (box(7, image="1"), r"annotation 7 \(image '1'\): no such image id"),
        (box(7, category=4), r"annotation 7 \(image 1\): no such category id in 'categories': 4"),
        (box(7, iscrowd="yes"), r"annotation 7 \(image 1\): iscrowd is 'yes'"),
        ("text", "annotation 'at 0'.*not an object"),
    ],
)
def test_annotations_that_point_nowhere_are_reported(make, row, reason):
    with pytest.warns(UserWarning, match=reason):
        data = make(coco([row]))
    assert len(data.problems) == 1
    assert data[0][1]["boxes"].shape == (0, 4)


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
        ("", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "a list instead of an object .*detection results"),
        ("3", "a int instead of an object"),
        ({}, "needs a list 'categories', it is missing"),
        ({"categories": [{"id": 1, "name": "x"}], "images": {}}, "needs a list 'images', it is a dict"),
        ({"categories": [{"id": 1, "name": "x"}], "images": []}, "needs a list 'annotations', it is missing"),
        (coco(categories=[]), "the list is empty"),
        (coco(categories=[{"id": 1}]), r"categories\[0\]: needs"),
        (coco(categories=[{"id": 1, "name": "x"}, {"id": 1, "name": "y"}]), "id 1 is taken by 'x'"),
        (coco(categories=["x"]), r"categories\[0\]: needs"),
        (coco(images=["a.png"]), r"images\[0\]: needs"),
        (coco(images=[{**IMAGE, "id": "1"}]), r"images\[0\]: needs a whole number 'id'"),
        (coco(images=[IMAGE, IMAGE]), r"images\[1\] \(a.png\): id 1 is used twice"),
        (coco(images=[{**IMAGE, "width": None}]), r"image 1 \(a.png\): needs 'width' and 'height'"),
        (coco(images=[{**IMAGE, "height": 0}]), r"image 1 \(a.png\): needs"),
        (coco(images=[{**IMAGE, "height": float("inf")}]), r"image 1 \(a.png\): needs"),
    ],
)
def test_other_files_are_refused_with_the_reason(make, content, says):
    with pytest.raises(DataError, match=says) as error:
        make(content)
    assert "ann.json" in str(error.value)


def test_annotation_file_missing_or_a_folder_or_not_utf8(tmp_path):
    with pytest.raises(DataError, match="no such annotation file") as error:
        CocoDataset(tmp_path, tmp_path / "none.json")
    assert str(tmp_path / "none.json") in str(error.value)
    with pytest.raises(DataError, match="cannot be read"):
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
    with pytest.raises(DataError, match="2 image files are missing") as error:
        make(coco(images=images), check_files=True)
    assert str(tmp_path / "b.png") in str(error.value)
    assert str(tmp_path / "sub" / "c.png") in str(error.value)


def test_size_of_the_file_and_of_the_json_differ(make):
    data = make(coco(images=[{**IMAGE, "width": 100}]))
    with pytest.raises(DataError, match=r"image id 1: .*a.png: the image is 120x80, but .* 100x80"):
        data[0]


def test_backslashes_in_file_names(make, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "sub" / "a.png")
    Image.new("RGB", (120, 80)).save(tmp_path / "a.png")
    assert make(coco(images=[{**IMAGE, "file_name": "sub\\a.png"}]), check_files=True)[0][0].shape == (3, 80, 120)


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
