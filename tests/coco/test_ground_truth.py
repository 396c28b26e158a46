"""A ground truth in columns: what is read, dropped, mended or only said, and what is refused with its culprit."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from dsla.coco.checking import repeated
from dsla.coco.ground_truth import GroundTruth
from dsla.errors import DataError, DataWarning

IMAGES = [
    {"id": 5, "file_name": "a.png", "width": 120, "height": 80},
    {"id": 2, "file_name": "b.png", "width": 50, "height": 50},
]
CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]


def box(n=1, image=5, category=7, bbox=(10, 10, 40, 30), **more):
    return {"id": n, "image_id": image, "category_id": category, "bbox": list(bbox), **more}


def coco(*annotations, images=IMAGES, categories=CATEGORIES):
    return {"images": images, "annotations": list(annotations), "categories": categories}


def read(*annotations, **lists):
    """Read without a word; `problems` has it all."""
    return GroundTruth.of(coco(*annotations, **lists), warn=False)


def test_columns_by_hand():
    truth = read(box(4), box(9, 2, 3, [1.5, 2, 3, 4], area=11, iscrowd=1), box(5, category=3, ignore=1))
    assert truth.image_ids.tolist() == [5, 2]
    assert truth.file_names == ("a.png", "b.png")
    assert (truth.widths.tolist(), truth.heights.tolist()) == ([120, 50], [80, 50])
    assert (truth.category_ids.tolist(), truth.category_names) == ([3, 7], ("cat", "dog"))
    assert truth.ids.tolist() == [4, 9, 5]
    assert (truth.image.tolist(), truth.category.tolist()) == ([0, 1, 0], [1, 0, 0])
    assert truth.boxes.tolist() == [[10, 10, 40, 30], [1.5, 2, 3, 4], [10, 10, 40, 30]]
    assert truth.area.tolist() == [1200, 11, 1200]
    assert (truth.crowd.tolist(), truth.ignore.tolist()) == ([False, True, False], [False, False, True])
    assert truth.taught.tolist() == [True, False, False]
    assert [truth.rows(i).tolist() for i in range(2)] == [[0, 2], [1]]
    assert all(
        isinstance(getattr(truth, c), np.ndarray) for c in ("ids", "image", "category", "boxes", "area", "crowd")
    )


def test_one_reader_for_paths_dicts_data_sets_and_columns(tmp_path):
    content = coco(box(), box(2, 2, 3, [1, 2, 30, 40]))
    path = tmp_path / "ann.json"
    path.write_text(json.dumps(content), encoding="utf-8")

    class Data:
        def ground_truth(self):
            return content

    first = GroundTruth.of(content)
    assert GroundTruth.of(first) is first
    for source in (path, str(path), Data()):
        assert GroundTruth.of(source).boxes.tolist() == first.boxes.tolist()
    assert GroundTruth.of(first.to_coco()).to_coco() == first.to_coco()
    part = first.part([1])
    assert (part.image_ids.tolist(), part.ids.tolist(), part.image.tolist()) == ([2], [2], [0])
    assert part.file_names == ("b.png",)


@pytest.mark.robustness("wrong: each odd thing in a file has one policy for data sets, evaluation and analyses")
def test_policy_by_kind():
    truth = read(
        box(1), box(2, bbox=(10, 10, 0, 20)), box(3, bbox=(10, 10, 5, -2)), box(4, bbox=(float("nan"), 1, 2, 3)),
        {**box(5), "bbox": None}, box(6, bbox=(200, 10, 30, 30)), box(7, bbox=(-10, 10, 40, 30)),
        box(8, image=99), box(9, ignore=1), box(10, area=1e12), box(11, area=0), box(1, area=-3),
        {**box(12), "bbox": None, "segmentation": [[10, 20, 30, 20, 30, 50, 10, 50], [5, 21, 6, 21, 6, 22]]},
    )  # fmt: skip
    problems = {p.kind: (p.level, p.ids) for p in truth.problems}
    assert problems == {
        "no such image id in 'images'": ("dropped", (8,)),
        "polygons or a mask, but no box": ("mended", (12,)),
        "no bbox of four numbers": ("dropped", (5,)),
        "bbox not finite or beyond 1e12 px": ("dropped", (4,)),
        "no area: width or height below 0.01 px": ("dropped", (2, 3)),
        "an area that is no positive number": ("mended", (11, 1)),
        "an area larger than the box": ("noted", (10,)),
        "the flag ignore: 1": ("dropped", (9,)),
        "outside the image": ("dropped", (6,)),
        "reaches more than 1 px out of the image": ("noted", (7,)),
        "repeats the box and class of an earlier annotation of its image": ("noted", (10, 11, 1)),
        "an id that is used twice": ("mended", (1,)),
    }
    assert truth.ids.tolist() == [1, 6, 7, 9, 10, 11, 1, 12]  # kept: evaluation uses boxes as the file has them
    assert truth.boxes[[1, 2, 7]].tolist() == [[200, 10, 30, 30], [-10, 10, 40, 30], [5, 20, 25, 30]]
    assert truth.area.tolist() == [1200, 900, 1200, 1200, 1e12, 1200, 1200, 750]
    assert truth.taught.tolist() == [True, False, True, False, True, True, True, True]
    assert np.isnan(truth.inside[1]).all()
    assert truth.inside[2].tolist() == [0, 10, 30, 30]


@pytest.mark.robustness("wrong: objects listed twice, and one file under two ids in any spelling, are said")
def test_objects_and_files_listed_twice_are_said():
    copies = [
        box(2),
        box(3, category=3),
        box(4, 2),
        box(5, iscrowd=1),
        box(6, ignore=1),
        box(7, bbox=(10, 10, 40, 30.5)),
    ]
    assert [(p.kind[:7], p.ids) for p in read(box(1), *copies).problems] == [("the fla", (6,)), ("repeats", (2,))]
    for one, other in (("a.png", "./a.png"), ("a/b.png", "a\\b.png"), ("b.png", "a/../b.png"), ("b.png", "a/b.png")):
        images = [{**IMAGES[0], "file_name": one}, {**IMAGES[1], "file_name": other}]
        problems = read(box(), images=images).problems
        assert [p.ids for p in problems] == ([] if other == "a/b.png" else [(5, 2)])


@pytest.mark.slow
def test_repeated_rows_are_those_of_the_slow_search():
    rng = np.random.default_rng(0)
    rows, among = rng.integers(-1, 3, (2000, 6)) * [0.5, 1, 1, 1e11, 1, -1], rng.random(2000) < 0.5  # −0.0, too
    slow = [among[n] and any(among[m] and (rows[m] == rows[n]).all() for m in range(n)) for n in range(len(rows))]
    assert repeated(rows, among).tolist() == slow
    assert 0 < sum(slow) < among.sum()


@pytest.mark.robustness("unclear: what is odd about a file is said once, with ids")
def test_problems_are_said_once_with_ids_and_no_line_of_source(tmp_path):
    path = tmp_path / "ann.json"
    path.write_text(json.dumps(coco(box(1), *(box(n, bbox=(0, 0, 0, 9)) for n in range(2, 40)))), encoding="utf-8")
    with pytest.warns(DataWarning) as caught:
        truth = GroundTruth.of(path)
    assert len(caught) == 1
    assert str(caught[0].message) == str(truth.problems)
    assert str(truth.problems).startswith(
        f"{path}:\n  no area: width or height below 0.01 px: 38 annotations (2, 3, 4,"
    )
    assert "20, 21, …), left out; for one: annotation 2 (image 5): bbox" in str(truth.problems)
    assert warnings.formatwarning(caught[0].message, DataWarning, caught[0].filename, caught[0].lineno).count("\n") == 2


@pytest.mark.robustness("wrong: what cannot be right in an annotation file is refused with its culprit")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"category_id": 4},
            ["category that is not in 'categories', which lists 3, 7", "annotation 1 (image 5): category_id 4"],
        ),
        ({"category_id": "7"}, ["'7'", "text here, numbers there"]),
        ({"iscrowd": "yes"}, ["annotation 1 (image 5): iscrowd 'yes'; needs 0 or 1"]),
        ({"iscrowd": 2}, ["annotation 1 (image 5): iscrowd 2", "0 or 1"]),
        ({"image_id": "5"}, ["no annotation belongs to an image", "text here, numbers there"]),
    ],
)
def test_what_cannot_be_right_is_refused_with_its_culprit(change, words):
    with pytest.raises(DataError) as error:
        read(box() | change)
    assert all(word in str(error.value) for word in ["the given dict", *words])


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ({"images": [{"file_name": "x.png"}]}, ["images[0] (x.png): needs an 'id'"]),
        ({"images": ["x"]}, ["images[0]: 'x'"]),
        ({"categories": [{"id": -1, "name": "any"}]}, ["a category has the id -1", "give it another"]),
        ({"images": [IMAGES[0], IMAGES[0]]}, ["images[1] (a.png): id 5 is used twice"]),
        ({"images": [{**IMAGES[0], "width": 1e9, "height": 1e9}]}, ["image 5 (a.png): 1e+09x1e+09"]),
        ({"images": [{**IMAGES[0], "width": 10**400}]}, ["images[0]: width"]),
        ({"categories": [{"id": 1}, {"id": 1}]}, ["categories[1]: id 1"]),
    ],
)
def test_images_and_categories_that_cannot_be_used(lists, words):
    with pytest.raises(DataError) as error:
        read(**lists)
    assert all(word in str(error.value) for word in words)


def test_an_annotation_that_is_no_object():
    with pytest.raises(DataError, match=r"at 1: not an object but 'x'"):
        read(box(), "x")


@pytest.mark.robustness("wrong: boxes as fractions or corners are refused with the guess")
def test_boxes_in_another_form_are_refused_with_the_guess():
    shares = [box(n, bbox=(0.1 * n, 0.2, 0.3, 0.4)) for n in range(1, 5)]
    with pytest.raises(DataError, match="fractions of the image; multiply x and w by its width"):
        read(*shares)
    corners = [box(n, bbox=(60 + n, 40, 110 + n, 75)) for n in range(1, 5)]
    with pytest.raises(DataError, match=r"4 of 5 annotations reach out of the image .* as corners x1, y1, x2, y2"):
        read(*corners, box(9, bbox=(1, 2, 30, 40)))
    assert len(read(*corners, box(9, bbox=(60, 50, 30, 29)), box(10, bbox=(80, 50, 40, 29))).boxes) == 6  # none fits


@pytest.mark.robustness("wrong: a file without one annotation that can be used is refused, not read as background")
@pytest.mark.parametrize(
    "bbox", ["[10, 10, 40, 30]", [10, 10, 40, 30, 0.5], {"x": 1, "y": 2}, [[10, 10], [40, 30]], None]
)
def test_a_file_without_one_usable_annotation_is_refused(bbox):
    rows = [{**box(n), "bbox": bbox} for n in (1, 2)]
    with pytest.raises(DataError, match=r"none of 2 annotations has a bbox of four numbers.* annotation 1 \(image"):
        read(*rows)
    assert len(read(*rows, box(3)).boxes) == 1
    assert len(read({**box(), "bbox": [10, 10, 0, 0]}).boxes) == len(read().boxes) == 0  # a slip is left out and said


@pytest.mark.robustness("wrong: files of LVIS, where some classes were looked for, are said to be read as COCO's")
def test_files_in_which_only_some_classes_were_looked_for(tmp_path):
    images = [{**image, "neg_category_ids": [3], "not_exhaustive_category_ids": []} for image in IMAGES]
    (tmp_path / "lvis.json").write_text(json.dumps(coco(box(), images=images)))
    for source in (tmp_path / "lvis.json", coco(box(), images=images)):
        (problem,) = GroundTruth.of(source, warn=False).problems
        assert (problem.ids, problem.level) == ((5, 2), "noted")
        assert "so that AP is not LVIS's own" in str(problem)


@pytest.mark.robustness("wrong: ids beyond 2^63, text and mixed ones are read as they stand")
@pytest.mark.parametrize(
    ("ids", "normal"),
    [
        ((9007199254740993, 9007199254740994), None),
        ((2**63 + 5, 2**63 + 6), None),
        ((-4, 2**63 + 6), None),
        ((2**130, 1), None),
        ((1.0, 2.0), [1, 2]),
        (("b", "a"), None),
        (("2", 3), None),
    ],
)
def test_ids_of_every_form(tmp_path, ids, normal):
    images = [{**IMAGES[n], "id": i} for n, i in enumerate(ids)]
    content = coco(*(box(f"x{n}", image=i) for n, i in enumerate(ids)), images=images)
    path = tmp_path / "ann.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    for source in (content, path):
        truth = GroundTruth.of(source)
        assert truth.image_ids.tolist() == (normal or list(ids))
        assert truth.image.tolist() == [0, 1]
        assert truth.ids.tolist() == ["x0", "x1"]


@pytest.mark.robustness("wrong: a number and its text are one id, which tables could not tell apart: refused")
@pytest.mark.parametrize("of", ["images", "categories"])
def test_a_number_and_its_text_are_one_id(of):
    rows = [{"id": i, "name": "c", "file_name": "c", "width": 9, "height": 9} for i in (2, "2")]
    with pytest.raises(DataError, match=rf"{of}\[1\] .*id 2 is used twice"):
        GroundTruth.of({**coco(), of: rows})


@pytest.mark.robustness("wrong: of files of one name in several folders the right one is meant, or an error names them")
def test_a_file_name_means_one_image():
    files = ("train/a.jpg", "val\\a.jpg", "b.jpg", "sub/b.jpg", "c.jpg", "sub/d.jpg")
    truth = GroundTruth.of(coco(images=[{"id": 10 + n, "file_name": f} for n, f in enumerate(files)]))
    names = [*files, "val/a.jpg", "/data/train/a.jpg", "other/c.jpg", "other/d.jpg", 12, "12", "none.jpg"]
    assert list(map(truth.place, names)) == [0, 1, 2, 3, 4, 5, 1, 0, 4, 5, 2, 2, -1]
    assert truth.place("/data/sub/b.jpg") == 3
    nested = GroundTruth.of(coco(images=[{"id": n, "file_name": f} for n, f in enumerate(("val/a.jpg", "a.jpg"))]))
    assert [nested.place(f"/data/{f}") for f in ("a.jpg", "val/a.jpg", "train/a.jpg")] == [1, 0, 1]
    with pytest.raises(DataError, match=r"'a.jpg' names 2 images of the given dict, train/a.jpg, val.a.jpg; give its"):
        truth.place("a.jpg")


@pytest.mark.robustness("unclear: UTF-8 with and without mark, UTF-16 and UTF-32 are read")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-le"])
def test_encodings(tmp_path, encoding):
    path = tmp_path / "ann.json"
    path.write_text(
        json.dumps(coco(box(), images=[{**IMAGES[0], "file_name": "雨.png"}]), ensure_ascii=False), encoding
    )
    assert GroundTruth.of(path).file_names == ("雨.png",)


@pytest.mark.robustness("strangers: numbers beyond a float cost their row only")
@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", "1" + "0" * 400])
def test_numbers_beyond_a_float_cost_their_row_only(tmp_path, number):
    path = tmp_path / "ann.json"
    path.write_text(json.dumps(coco(box(1), box(2, bbox=("N", 1, 2, 3)))).replace('"N"', number), encoding="utf-8")
    truth = GroundTruth.of(path, warn=False)
    assert truth.ids.tolist() == [1]
    assert [p.ids for p in truth.problems] == [(2,)]


@pytest.mark.robustness("wrong: polygons and masks without boxes give theirs, and it is said")
def test_masks_without_boxes():
    from pycocotools import mask

    shape = np.zeros((80, 120), dtype=np.uint8, order="F")
    shape[20:50, 30:70] = 1
    packed = mask.encode(shape)
    runs = [30 * 80 + 20, *[30, 50] * 39, 30, 80 * 120 - 69 * 80 - 50]
    truth = read(
        {**box(1), "bbox": None, "segmentation": {"size": [80, 120], "counts": packed["counts"].decode()}},
        {**box(2), "bbox": None, "segmentation": {"size": [80, 120], "counts": runs}},
        {**box(3), "bbox": None, "segmentation": {"size": "none"}},
        {**box(4), "bbox": None, "segmentation": []},
    )
    assert truth.boxes.tolist() == [[30, 20, 40, 30]] * 2
    assert [(p.kind, p.ids) for p in truth.problems] == [
        ("polygons or a mask, but no box", (1, 2)),
        ("no bbox of four numbers", (3, 4)),
        ("repeats the box and class of an earlier annotation of its image", (2,)),
    ]
