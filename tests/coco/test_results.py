"""COCO results as rows and as tables: the same boxes, the same words about what is wrong."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pandas as pd
import pytest
import torch

from dsla.analysis import match
from dsla.coco.detections import Results
from dsla.coco.evaluation import evaluate_detections
from dsla.coco.ground_truth import GroundTruth
from dsla.data.check import check
from dsla.errors import DataError, DataWarning

TRUTH = {
    "images": [{"id": 1}, {"id": 2}],
    "categories": [{"id": 1, "name": "a"}, {"id": 7, "name": "b"}],
    "annotations": [
        {"id": 1, "image_id": 2, "category_id": 7, "bbox": [0.1, 0.2, 30.3, 40.4]},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [5, 6, 7, 8]},
    ],
}
ROWS = [
    {"image_id": 2, "category_id": 7, "bbox": [0.1, 0.2, 30.3, 40.4], "score": 0.9},
    {"image_id": 1, "category_id": 1, "bbox": [5, 6, 7, 8], "score": 1},  # whole numbers, as some write them
]


COLUMNS = GroundTruth.of(TRUTH)


def test_results_in_columns_are_the_rows():
    results = Results.of(ROWS, COLUMNS)
    assert (results.image.tolist(), results.category.tolist()) == ([1, 0], [1, 0])
    table = results.to_frame()
    assert table.columns.tolist() == ["x1", "y1", "x2", "y2", "w", "h", "image", "category", "score"]
    assert table[["x1", "y1", "w", "h"]].to_numpy().tolist() == [r["bbox"] for r in ROWS]
    assert table["x2"].tolist() == [0.1 + 30.3, 12.0]
    again = results.to_rows()
    assert again == [{"id": i + 1, "iscrowd": 0, "area": r["bbox"][2] * r["bbox"][3], **r} for i, r in enumerate(ROWS)]
    kinds = {name: type(value) for name, value in again[1].items()}
    assert kinds == {"id": int, "image_id": int, "category_id": int, "bbox": list, "area": float, "iscrowd": int,
                     "score": float}  # fmt: skip
    mixed = [{**ROWS[0], "bbox": tuple(ROWS[0]["bbox"])}, {**ROWS[1], "bbox": torch.tensor([5.0, 6, 7, 8])}]
    mixed[1] |= {"image_id": np.int64(1), "score": np.float32(1)}
    pd.testing.assert_frame_equal(Results.of(iter(mixed), COLUMNS).to_frame(), table)
    assert len(results.where(results.score > 0.95)) == 1


def test_a_table_is_a_source_of_detections():
    table = Results.of(ROWS, COLUMNS).to_frame()
    lean = table.drop(columns=["w", "h"])
    pd.testing.assert_frame_equal(Results.of(lean, COLUMNS).to_frame(), table)
    # Columns of that name that say something else, the size of the image for one, are not those of the boxes.
    pd.testing.assert_frame_equal(Results.of(lean.assign(w=640, h=480), COLUMNS).to_frame(), table)
    for engine in ("pycocotools", "numpy"):
        assert evaluate_detections(TRUTH, lean, engine=engine).summary["AP"] == pytest.approx(1.0)
    with pytest.raises(DataError, match=r"\['score'\] missing"):
        evaluate_detections(TRUTH, table.drop(columns="score"))
    with pytest.raises(DataError, match=r"^the given table: image 2, row 0: .* not finite; mend"):
        evaluate_detections(TRUTH, table.assign(x1=float("nan")))
    with pytest.raises(DataError, match=r"^the given table: image 2, row 0: .* not finite"):
        match(table.assign(x1=float("nan")), TRUTH)
    with pytest.raises(DataError, match=r"2 detections with a category_id .*: 4; it knows 1, 7"):
        evaluate_detections(TRUTH, table.assign(category=4))


def written(path, text, encoding="utf-8"):
    path.write_text(text, encoding)
    return path


@pytest.mark.robustness("unclear: results as JSON lines are read")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_of_rows_or_of_one_row_a_line(tmp_path, encoding):
    expected = Results.of(ROWS, COLUMNS).to_frame()
    for text in (json.dumps(ROWS), "\n".join(map(json.dumps, ROWS)) + "\n\n"):
        if encoding == "utf-8" or text[0] == "[":
            results = Results.of(written(tmp_path / "r.json", text, encoding), COLUMNS)
            pd.testing.assert_frame_equal(results.to_frame(), expected)


@pytest.mark.robustness("unclear: files packed with gzip are read, results and annotations alike")
def test_gzip_is_read_up_to_a_limit(tmp_path, monkeypatch):
    path, whole = tmp_path / "r.json.gz", gzip.compress(json.dumps(ROWS).encode())
    path.write_bytes(whole)
    pd.testing.assert_frame_equal(Results.of(path, COLUMNS).to_frame(), Results.of(ROWS, COLUMNS).to_frame())
    truth = tmp_path / "t.json.gz"
    truth.write_bytes(gzip.compress(json.dumps(COLUMNS.to_coco()).encode()))
    assert [report.code for report in check([path, truth])] == [0, 0]
    for spoilt in (whole[:-9], whole[:30], whole[:-6] + b"\0" + whole[-5:], b"\x1f\x8b"):
        path.write_bytes(spoilt)
        with pytest.raises(DataError, match=r"r\.json\.gz: .*(gzip|cannot be read)"):
            Results.of(path, COLUMNS)
    path.write_bytes(gzip.compress(b" " * 2_000_000 + json.dumps(ROWS).encode()))
    monkeypatch.setattr("dsla.coco.reading.MOST", 1_000_000)
    with pytest.raises(DataError, match=r"r\.json\.gz: more than 1,000,000 bytes, as many as are read"):
        Results.of(path, COLUMNS)


@pytest.mark.robustness("unclear: files that are no JSON are called what they are")
@pytest.mark.parametrize(
    ("start", "word"),
    [
        (b"PK\x03\x04", "a zip archive; unpack it"), (b"", "empty"), (b" \n", "empty"),
        (b"<!DOCTYPE html>", "XML or a page"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS"),
        (b"\x89PNG\r\n", "a picture"),
        (b"\xff\xd8\xff\xe0", "a picture"),
    ],
)  # fmt: skip
def test_what_is_no_json_is_called_what_it_is(tmp_path, start, word):
    (tmp_path / "r.json").write_bytes(start)
    for read in (lambda path: Results.of(path, COLUMNS), GroundTruth.of):
        with pytest.raises(DataError, match=rf"r\.json: not JSON but {word}"):
            read(tmp_path / "r.json")


@pytest.mark.robustness("wrong: scores outside 0…1, negative sides and repeated detections are counted and said")
def test_what_is_odd_is_counted_and_said_once():
    rows = [ROWS[0], ROWS[1], ROWS[0], ROWS[0] | {"score": 1.5}, ROWS[0] | {"bbox": [9, 9, -3, 4]}, ROWS[0]]
    with pytest.warns(DataWarning) as caught:
        results = Results.of(rows, COLUMNS)
    assert len(caught) == 1
    assert [(p.kind, p.ids) for p in results.problems] == [
        ("a score outside 0…1", ("at 3",)),
        ("a negative width or height", ("at 4",)),
        ("repeats an earlier detection bit for bit", ("at 2", "at 5")),
    ]
    assert len(results) == len(rows)


@pytest.mark.robustness("wrong: detections outside their image, as of another data set, are counted and said")
def test_what_lies_outside_its_image_is_said():
    truth = GroundTruth.of(TRUTH | {"images": [{"id": 1, "width": 100, "height": 90}, {"id": 2}]})
    one, two = ROWS[1], ROWS[0]
    boxes = [
        [99, 10, 30, 30],
        [100.5, 10, 30, 30],
        [102, 10, 30, 30],
        [-40, 10, 30, 30],
        [10, 95, 5, 5],
        [120, 9, -5, 5],
    ]
    rows = [*(one | {"bbox": box} for box in boxes), two | {"bbox": [9e4, 9e4, 5, 5]}]  # the last of no known size
    with pytest.warns(DataWarning, match="outside its image, as results of another data set do: 4 detections"):
        problems = Results.of(rows, truth).problems
    assert [(p.kind[:3], p.ids) for p in problems] == [("a n", ("at 5",)), ("lie", ("at 1", "at 2", "at 3", "at 4"))]


@pytest.mark.robustness("wrong: results in columns are held against the ground truth that is asked about")
def test_results_of_one_truth_are_asked_about_another():
    results = Results.of(ROWS, COLUMNS)
    moved = [a | {"bbox": [200, 200, 30, 40]} for a in TRUTH["annotations"]]
    other = {**TRUTH, "images": TRUTH["images"][::-1], "categories": TRUTH["categories"][::-1]}
    for truth, ap in ((other, 1.0), (other | {"annotations": moved}, 0.0), (TRUTH, 1.0)):
        assert evaluate_detections(truth, results).summary["AP"] == pytest.approx(ap)
    mixed = json.loads(
        json.dumps(TRUTH).replace('"image_id": 2', '"image_id": "2"').replace('{"id": 2}', '{"id": "2"}')
    )
    several = [{**row, "image_id": "2"} if row["image_id"] == 2 else row for row in ROWS]
    assert evaluate_detections(mixed, Results.of(several, GroundTruth.of(mixed))).summary["AP"] == pytest.approx(1)
    with pytest.raises(DataError, match=r"1 detection with an image_id .*: 2; it knows 1"):
        evaluate_detections({**TRUTH, "images": TRUTH["images"][:1], "annotations": TRUTH["annotations"][1:]}, results)


def test_boxes_in_another_form_are_refused_with_the_guess():
    sized = GroundTruth.of(TRUTH | {"images": [{"id": i, "width": 100, "height": 90} for i in (1, 2)]})
    shares = [ROWS[0] | {"bbox": [0.1, 0.2, 0.3, 0.4]}, ROWS[1] | {"bbox": [0.5, 0.5, 0.5, 0.5]}]
    for truth in (sized, COLUMNS):
        with pytest.raises(DataError, match=r"no box of 2 detections reaches a pixel .* fractions"):
            Results.of(shares, truth)
    corners = [ROWS[0] | {"bbox": [40, 50, 90, 80]}, ROWS[1] | {"bbox": [60, 10, 99, 80]}]
    with pytest.raises(DataError, match=r"2 of 2 detections reach out .* as corners x1, y1, x2, y2"):
        Results.of(corners, sized)
    assert len(Results.of(shares, sized, guess=False)) == 2  # a network that has learnt nothing yet


@pytest.mark.robustness("wrong: results whose file names contradict their ids are refused")
def test_ids_and_file_names_that_contradict_each_other():
    named = GroundTruth.of(TRUTH | {"images": [{"id": 1, "file_name": "x/b.png"}, {"id": 2, "file_name": "a.png"}]})
    assert len(Results.of([ROWS[0] | {"file_name": "photos/a.png"}, ROWS[1] | {"file_name": "C:\\b.png"}], named)) == 2
    assert len(Results.of([ROWS[0] | {"file_name": "a.png"}, ROWS[1]], named)) == 2  # where some rows name it
    with pytest.raises(DataError, match=r"detections of 'b.png' carry image_id 2, which in the given dict is 'a.png'"):
        Results.of([ROWS[0] | {"file_name": "b.png"}], named)
    with pytest.raises(DataError, match=r"image_id that .*: 2; it knows 1, 2 \(text here, numbers there\)"):
        Results.of([ROWS[0] | {"image_id": "2"}], COLUMNS)
    cameras = [{"id": 1, "file_name": "left/1.png"}, {"id": 2, "file_name": "right\\1.png"}]
    named = GroundTruth.of(TRUTH | {"images": cameras})
    for file in ("right/1.png", "/photos/./right/1.png", "1.png", "elsewhere/1.png"):  # the last two may be either
        assert len(Results.of([ROWS[0] | {"file_name": file}], named)) == 1
    with pytest.raises(DataError, match=r"detections of 'left/1.png' carry image_id 2"):
        Results.of([ROWS[0] | {"file_name": "left/1.png"}], named)
