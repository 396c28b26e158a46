"""`dsla data check`: what it reports, by kind, and the codes that other people's CI reads."""

from __future__ import annotations

import json
import warnings

import pytest
from PIL import Image

from dsla.cli.main import main
from dsla.data import CocoDataset
from dsla.data.check import check
from dsla.errors import DataWarning
from dsla.plots.sheet import problem_sheet

TRUTH = {
    "images": [{"id": n, "file_name": f"{n}.png", "width": 120, "height": 80} for n in (1, 2, 3)],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20]},
        {"id": 2, "image_id": 2, "category_id": 1, "bbox": [0, 0, 60, 60]},
        {"id": 3, "image_id": 2, "category_id": 2, "bbox": [0, 0, 110, 60], "iscrowd": 1},
    ],
    "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
}
ROWS = [{"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "score": s} for s in (0.5, 0.25)]


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write


def test_nothing_odd(write):
    outlined = ({"segmentation": [[1.5] * 600], **row} for row in ROWS)  # the score comes after kilobytes
    lines = "\n".join(map(json.dumps, outlined))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reports = check([write("r.json", ROWS), write("l.json", lines), write("t.json", TRUTH)])
    assert [(r.code, r.summary) for r in reports] == [
        (0, "3 images (1 without a box), 2 objects (1 small, 1 medium, 0 large), 1 crowd, 2 classes: dog 2, cat 0"),
        (0, "2 detections on 1 of 3 images, scores 0.25…0.5"),
        (0, "2 detections on 1 of 3 images, scores 0.25…0.5"),
    ]


def test_annotations_with_scores_are_no_results(write):
    """Pseudo-labels, in one line and annotations first: results begin so, too."""
    rows = [{**row, "score": 0.9} for row in TRUTH["annotations"]]
    truth = {"info": {}, "annotations": rows, "images": TRUTH["images"], "categories": TRUTH["categories"]}
    lines = "\n".join(map(json.dumps, ROWS))
    reports = check([write("lines.json", lines), write("pseudo.json", truth)])
    assert [(r.code, r.summary.split(" (")[0]) for r in reports] == [
        (0, "3 images"),
        (0, "2 detections on 1 of 3 images, scores 0.25…0.5"),
    ]


@pytest.mark.robustness("unclear: dsla data check has exit code 0, 1 or 2, and its words")
def test_codes_and_words_of_the_shell(write, capsys):
    mended = {
        **TRUTH,
        "annotations": [*TRUTH["annotations"], {**TRUTH["annotations"][0], "id": 9, "bbox": [1, 2, 0, 5]}],
    }
    refused = {**TRUTH, "categories": TRUTH["categories"][:1]}
    cases = {
        0: (TRUTH, "nothing odd"),
        1: (mended, "no area: width or height below 0.01 px: 1 annotation (9), left out"),
        2: (refused, "refused: "),
    }
    for code, (content, words) in cases.items():
        assert main(["data", "check", str(write("t.json", content))]) == code
        out = capsys.readouterr()
        assert words in out.out
        assert out.err == ""
    assert main(["data", "check", str(write("r.json", ROWS))]) == 2
    assert "give its file, too" in capsys.readouterr().out
    assert main(["data", "check", *(str(write(f, c)) for f, c in (("t.json", refused), ("r.json", ROWS)))]) == 2
    assert "give one that can be used" in capsys.readouterr().out
    assert main(["data", "check"]) == 2
    assert main(["data", "val"]) == 2


def test_image_files_missing_cut_or_of_another_size(write, tmp_path):
    for n, size in ((1, (120, 80)), (2, (100, 80)), (3, (120, 80))):
        Image.effect_noise(size, 50).save(tmp_path / f"{n}.png")
    path = write("t.json", TRUTH)
    cut = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(cut[: len(cut) // 2])
    seen = []
    (report,) = check([path], tmp_path, lambda done, total: seen.append((done, total)))
    assert report.code == 2
    assert [(p.kind, p.ids) for p in report] == [("an image file that is missing, cut or of another size", (2, 3))]
    assert "the image is 100x80, but the annotations say 120x80" in str(report)
    assert seen[-1] == (3, 3)
    (tmp_path / "1.png").unlink()
    assert check([path], tmp_path)[0][0].ids == (1, 2, 3)


@pytest.mark.robustness("unclear: dsla data check gives its report as JSON, with all ids")
def test_the_report_as_json(write, capsys):
    rows = [{**TRUTH["annotations"][0], "id": n, "bbox": [1, 2, 0, 5]} for n in range(10, 40)]
    path = str(write("t.json", {**TRUTH, "annotations": [*TRUTH["annotations"], *rows]}))
    assert main(["data", "check", path, "--json"]) == 1
    (report,) = json.loads(capsys.readouterr().out)
    assert (report["name"], report["code"], report["error"]) == (path, 1, "")
    assert report["problems"][0]["ids"] == list(range(10, 40))
    assert report["problems"][0]["level"] == "dropped"
    assert main(["data", "val", "--json", "--to", path]) == 2


@pytest.mark.robustness("unclear: dsla data check draws the pictures with most odd boxes on request")
def test_a_sheet_of_the_pictures_with_most_odd_boxes(write, tmp_path, capsys):
    for n in (1, 2):
        Image.effect_noise((120, 80), 50).save(tmp_path / f"{n}.png")
    rows = [{"id": 10 + n, "image_id": n % 3 + 1, "category_id": 1, "bbox": [100, 10 + n, 50, 20]} for n in range(5)]
    rows += [{"id": 20, "image_id": 2, "category_id": 1, "bbox": [300, 300, 20, 20]}]
    path = write("t.json", {**TRUTH, "annotations": [*TRUTH["annotations"], *rows]})
    with warnings.catch_warnings(action="ignore", category=DataWarning):
        dataset = CocoDataset(tmp_path, path)
    figure = problem_sheet(dataset)  # image 3 has odd boxes, but no file
    assert [ax.get_title().split("\n") for ax in figure.axes] == [
        ["image 2, 2.png", "1 × outside the image", "2 × reaches more than 1 px out of the image"],
        ["image 1, 1.png", "2 × reaches more than 1 px out of the image"],
    ]
    assert figure.axes[0].get_xlim()[1] == 180  # half an image farther out at most
    words = ["data", "check", str(path), "--images", str(tmp_path), "--sheet"]
    assert main([*words, str(tmp_path / "sheet.png")]) == 2  # the missing file
    with Image.open(tmp_path / "sheet.png") as drawn:
        assert drawn.width > drawn.height > 100
    assert "sheet.png" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "sheet.png"), "--json"]) == 2
    assert "there already" in capsys.readouterr().err
    fine = str(write("fine.json", {**TRUTH, "images": TRUTH["images"][:2]}))
    assert main(["data", "check", fine, "--images", str(tmp_path), "--sheet", str(tmp_path / "none.png")]) == 0
    assert "no odd box" in capsys.readouterr().err
    assert not (tmp_path / "none.png").exists()
    assert main(["data", "check", fine, "--sheet", "x.png"]) == 2
    assert "needs --images" in capsys.readouterr().err
    assert main(["data", "check", fine, "--images", str(tmp_path / "1.png")]) == 2
    assert "1.png: no folder" in capsys.readouterr().err


@pytest.mark.robustness("wrong: the sheet of odd boxes marks the rows themselves, whatever their ids are")
@pytest.mark.parametrize("ids", [{}, {"id": 7}])
@pytest.mark.filterwarnings("ignore::dsla.errors.DataWarning")
def test_odd_boxes_are_found_without_ids_and_with_repeated_ones(write, tmp_path, ids):
    for n in (1, 2):
        Image.effect_noise((120, 80), 50).save(tmp_path / f"{n}.png")
    boxes = [(1, [10, 10, 20, 20]), (1, [10, 10, 20, 0]), (1, [100, 10, 50, 20]), (2, [10, 10, 20, 20])]
    rows = [{**ids, "image_id": image, "category_id": 1, "bbox": box} for image, box in boxes]
    dataset = CocoDataset(tmp_path, write("t.json", {**TRUTH, "annotations": rows}))
    where = {p.kind[:7]: (p.positions, p.count) for p in dataset.problems}
    assert (where.pop("no area"), where.pop("reaches")) == (((1,), 1), ((2,), 1))
    assert where == ({"an id t": ((2, 3), 2)} if ids else {})
    assert dataset.truth.position.tolist() == [0, 2, 3]
    assert dataset.truth.part([1, 0]).position.tolist() == [0, 2, 3]
    titles = [ax.get_title().split("\n") for ax in problem_sheet(dataset).axes]
    expected = ["image 1, 1.png", "1 × reaches more than 1 px out of the image"]
    again = [[*expected, "1 × an id that is used twice"], ["image 2, 2.png", "1 × an id that is used twice"]]
    assert titles == (again if ids else [expected])
