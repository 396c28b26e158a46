"""COCO results as rows and as tables: the same boxes, the same words about what is wrong."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from dsla.analysis import match
from dsla.coco.results import read_detections, read_table
from dsla.errors import DataError
from dsla.models.evaluation import evaluate_detections

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


def test_results_in_columns_are_the_rows():
    table = read_table(ROWS, TRUTH)
    assert table.columns.tolist() == ["x1", "y1", "x2", "y2", "w", "h", "image", "category", "score"]
    assert table[["x1", "y1", "w", "h"]].to_numpy().tolist() == [r["bbox"] for r in ROWS]
    assert table["x2"].tolist() == [0.1 + 30.3, 12.0]
    again = read_detections(ROWS, TRUTH)
    assert again == [{"id": i + 1, "iscrowd": 0, "area": r["bbox"][2] * r["bbox"][3], **r} for i, r in enumerate(ROWS)]
    kinds = {name: type(value) for name, value in again[1].items()}
    assert kinds == {"id": int, "image_id": int, "category_id": int, "bbox": list, "area": float, "iscrowd": int,
                     "score": float}  # fmt: skip
    mixed = [{**ROWS[0], "bbox": tuple(ROWS[0]["bbox"])}, {**ROWS[1], "bbox": torch.tensor([5.0, 6, 7, 8])}]
    pd.testing.assert_frame_equal(read_table(iter(mixed), TRUTH), table)


def test_a_table_is_a_source_of_detections():
    table = read_table(ROWS, TRUTH)
    lean = table.drop(columns=["w", "h"])
    pd.testing.assert_frame_equal(read_table(lean, TRUTH)[table.columns], table)
    # Columns of that name that say something else, the size of the image for one, are not those of the boxes.
    pd.testing.assert_frame_equal(read_table(lean.assign(w=640, h=480), TRUTH)[table.columns], table)
    for engine in ("pycocotools", "numpy"):
        assert evaluate_detections(TRUTH, lean, engine=engine).summary["AP"] == pytest.approx(1.0)
    with pytest.raises(DataError, match=r"\['score'\] missing"):
        evaluate_detections(TRUTH, table.drop(columns="score"))
    with pytest.raises(DataError, match=r"^image 2, row 0: .* not finite; mend"):
        evaluate_detections(TRUTH, table.assign(x1=float("nan")))
    with pytest.raises(DataError, match=r"^image 2, detection 0: .* not finite"):
        match(table.assign(x1=float("nan")), TRUTH)
    with pytest.raises(DataError, match=r"2 detections have a category_id .*: 4; it knows 1, 7"):
        evaluate_detections(TRUTH, table.assign(category=4))
