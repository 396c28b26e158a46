"""The README's Python runs as it stands, in a folder with a photograph and a data set of its reader's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dsla
from dsla.data import scenes
from dsla.models.evaluation import predict_dataset

SNIPPETS = re.findall(
    r"^```python\n(.*?)^```", (Path(__file__).parents[1] / "README.md").read_text("utf-8"), re.M | re.S
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:this model knows drawn scenes only")
def test_snippets_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(scenes.SIZES, "val", 4)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("photo.jpg")
    data = dsla.Scenes("val")
    data.to_coco(tmp_path)
    rows = predict_dataset(dsla.load("scenes-dsla"), data)
    Path("yolox.json").write_text(json.dumps(rows))
    names: dict[str, object] = {}
    assert len(SNIPPETS) >= 4
    for snippet in SNIPPETS:
        exec(compile(snippet, "README.md", "exec"), names)
    assert Path("labels.png").stat().st_size > 10_000
    assert names["a"].gt_index.unique().tolist() == [-1, 0, 1]
    (first,) = names["detections"]
    assert set(first) == {"boxes", "scores", "labels"}
