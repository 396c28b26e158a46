"""`dsla analyze`: any detector's results file, from the shell; the page and the tables say what the analyses say."""

from __future__ import annotations

import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import dsla
from dsla.analysis import errors, ranking
from dsla.analysis.detectors import ask, listed, names_of
from dsla.analysis.points import Setting
from dsla.analysis.tables import definition, truth_of
from dsla.cli.main import main
from dsla.coco.evaluation import evaluate_detections
from dsla.errors import DataError
from dsla.paper.analyze import _worst
from dsla.paper.pages import LOADING
from dsla.plots.figures import error_costs
from dsla.plots.style import distinct, method, ordered

TABLES = (
    "numbers", "per_class", "ranking", "reliability", "suppression", "oracle", "errors", "errors_by", "confusion",
    "why", "points", "intervals", "differences", "found_by",
)  # fmt: skip
FIGURES = 11
STRIDES = (8, 16, 32, 64, 128)


def write(folder, truth, **results):
    files = {}
    for name, rows in {"instances": truth, **results}.items():
        files[name] = folder / f"{name}.json"
        files[name].write_text(json.dumps(rows), encoding="utf-8")
    return files


def case(seed=0, images=8):
    """Ground truth of two classes, detections near and far, no equal scores."""
    rng = np.random.default_rng(seed)
    truth = {
        "images": [{"id": 5 * i, "height": 200, "width": 200} for i in range(images)],
        "categories": [{"id": 2, "name": "cat & <dog>"}, {"id": 9, "name": "bus"}],
        "annotations": [],
    }
    rows = []
    for image in truth["images"]:
        for _ in range(4):
            box = [*rng.integers(0, 120, 2).tolist(), *rng.integers(15, 70, 2).tolist()]
            ids = {"image_id": image["id"], "category_id": int(rng.choice([2, 9]))}
            truth["annotations"].append({"id": len(truth["annotations"]) + 70, "bbox": box, **ids})
            for noise in (0.05, 0.2):
                moved = (np.array(box) + rng.normal(0, noise, 4) * np.array(box[2:] * 2)).round(2)
                moved[2:] = moved[2:].clip(1)
                rows.append({**ids, "bbox": moved.tolist(), "score": float(rng.random())})
    return truth, rows


def run(capsys, *argv):
    code = main(["analyze", *map(str, argv)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("analyze")
    truth, rows = case()
    files = write(folder, truth, good_results=rows[::2], other=rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        argv = [files["good_results"], files["other"], "--annotations", files["instances"]]
        code = main(["analyze", *map(str, [*argv, "--html", folder / "page.html", "--out", folder / "out"])])
    assert code == 0
    return folder, files, truth, rows


@pytest.mark.slow
def test_tables_are_those_of_the_analyses(done):
    folder, _, truth, rows = done
    assert {p.stem for p in (folder / "out").glob("*.csv")} == set(TABLES)
    for name, made in (("errors", errors(rows, truth)), ("ranking", ranking(rows, truth))):
        read = pd.read_csv(folder / "out" / f"{name}.csv")
        assert list(dict.fromkeys(read["detector"])) == ["good", "other"]
        read = read[read["detector"] == "other"].drop(columns="detector").reset_index(drop=True)
        expected = pd.DataFrame(made).astype({c: float for c in made if str(made[c].dtype) == "Int64"})
        pd.testing.assert_frame_equal(read, expected, check_dtype=False, atol=1e-6)
    numbers = pd.read_csv(folder / "out" / "numbers.csv").set_index(["detector", "analysis", "name"])["value"]
    assert numbers["other", "evaluation", "AP"] == pytest.approx(
        evaluate_detections(truth, rows).summary["AP"], abs=1e-6
    )
    assert numbers["good", "errors", "detections"] == len(rows) / 2
    for figure in (folder / "out" / "figures").glob("*.svg"):
        assert len(pd.read_csv(figure.with_suffix(".csv")))


@pytest.mark.slow
def test_the_notebook_loads_every_table_although_figures_have_their_own_of_the_same_name(done, monkeypatch):
    monkeypatch.chdir(done[0] / "out")
    space: dict = {}
    exec(LOADING.read_text(encoding="utf-8"), space)
    assert set(TABLES) <= set(space["tables"])
    for name in TABLES:
        pd.testing.assert_frame_equal(space["tables"][name], pd.read_csv(f"{name}.csv"))
    assert list(space["show"]("errors").columns) == ["method", "error", "gain", "count"]


@pytest.mark.slow
def test_the_page_is_self_contained_and_says_the_numbers(done):
    folder, files, truth, rows = done
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "http" not in re.sub(r"data:image/[^\"]*", "", page)
    assert page.count("<figure>") == FIGURES
    assert "cat &amp; &lt;dog&gt;" in page
    assert str(folder) not in page
    assert files["good_results"].name in page
    assert "what that further NMS takes away" in page
    ap = evaluate_detections(truth, rows).summary["AP"]
    assert f"<td>{100 * ap:.1f} ± " in page
    worst = errors(rows, truth).summary().filter(like="dAP").sort_values(ascending=False)
    assert f"({100 * worst.iloc[0]:+.1f} AP50)" in page


@pytest.mark.slow
def test_a_second_run_gives_the_same_bytes(done, tmp_path, capsys):
    folder, files, _, _ = done
    run(capsys, files["good_results"], files["other"], "--annotations", files["instances"],
        "--html", tmp_path / "page.html", "--out", tmp_path / "out")  # fmt: skip
    made = [p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()]
    assert len(made) == 3 + len(TABLES) + 2 * FIGURES  # page, notebook, list of what was written
    assert all((tmp_path / p).read_bytes() == (folder / p).read_bytes() for p in made)


@pytest.mark.slow
def test_what_the_shell_prints(done, capsys):
    _, files, truth, rows = done
    code, out, _ = run(capsys, files["other"], "--annotations", files["instances"], "--score", "0.5")
    assert code == 0
    lines = {line.split()[0]: line.split()[1] for line in out.splitlines()[1:]}
    kept = [row for row in rows if row["score"] >= 0.5]
    assert lines["AP"] == f"{100 * evaluate_detections(truth, kept).summary['AP']:.1f}"
    assert lines["boxes"] == f"{ranking(kept, truth).summary()['boxes']:.0f}"
    assert lines["dAP_missed"] == f"{100 * errors(kept, truth).summary()['dAP_missed']:+.1f}"
    assert "n/a" not in out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objects", "detections", "expected"),
    [
        (1, 0, ("n/a for empty, no such detection: spearman", "empty: 0 detections")),
        (0, 1, ("n/a for empty, no object in the ground truth: ranking_cost", "no ground truth object")),
        (0, 0, ("n/a for empty, no such object: AP, AP50, AP75, AR@100.", "0 detections")),
        (1, 1, ("n/a for empty, score or IoU is constant: spearman",)),
    ],
)
def test_undefined_numbers_are_na_with_the_reason(tmp_path, capsys, objects, detections, expected):
    truth, _ = case(images=1)
    truth["annotations"] = truth["annotations"][:objects]
    row = {"image_id": 0, "category_id": 2, "bbox": [5, 5, 20, 20], "score": 0.5}
    if objects:
        row |= {k: truth["annotations"][0][k] for k in ("category_id", "bbox")}
    x, *rest = row["bbox"]  # two of equal IoU
    rows = [{**row, "bbox": [x + step, *rest]} for step in (-1, 1)]
    files = write(tmp_path, truth, empty=rows * detections)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = ["--html", tmp_path / "a.html"] if objects != detections else []
        code, out, err = run(capsys, files["empty"], "--annotations", files["instances"], *page)
    assert (code, err) == (0, "")
    for words in expected:
        assert words in out
    if page:
        text = re.sub(r"data:image/[^\"]*", "", page[1].read_text(encoding="utf-8"))
        assert "<td>n/a</td>" in text
        assert "n/a for empty" in text
        assert "nan" not in text


@pytest.mark.slow
def test_json_says_every_number_and_counts_are_whole(done, capsys, tmp_path):
    _, files, truth, rows = done
    argv = [files["good_results"], files["other"], "--annotations", files["instances"], "--resamples", "20", "--json"]
    code, out, err = run(capsys, *argv, "--out", tmp_path / "out", "--latex")
    assert code == 0
    assert "tables, figures and a notebook" in err  # not among the JSON
    content = json.loads(out)
    other = content["detectors"]["other"]
    numbers = {(row["analysis"], row["name"]): row for row in other["numbers"]}
    ap = evaluate_detections(truth, rows).summary["AP"]
    assert numbers["evaluation", "AP"]["value"] == pytest.approx(ap, abs=1e-6)
    assert repr(numbers["errors", "objects"]["value"]) == "32"
    assert {row["name"]: row["value"] for row in other["intervals"]}["AP"] == pytest.approx(ap)
    assert (content["level"], content["resamples"]) == (0.95, 20)
    difference = next(row for row in content["differences"] if row["name"] == "AP")
    assert (difference["first"], difference["second"]) == ("good", "other")
    everyone = next(row for row in content["found_by"] if row["size"] == "all")
    assert everyone["both"] + everyone["only_first"] + everyone["only_second"] + everyone["neither"] == 32
    numbers = pd.read_csv(tmp_path / "out" / "numbers.csv", dtype=str).set_index(["detector", "analysis", "name"])
    assert numbers.loc[("other", "errors", "objects"), "value"] == "32"
    latex = (tmp_path / "out" / "per_class.tex").read_text(encoding="utf-8")
    assert r"cat \& <dog>" in latex
    assert latex.count(r"\\") == 1 + 2 * 2


def test_a_subset_is_the_images_that_all_files_have(tmp_path, capsys):
    truth, rows = case()
    ids = [image["id"] for image in truth["images"]]
    few, many = (truth | {"images": [i for i in truth["images"] if i["id"] in ids[a:b]],
                          "annotations": [r for r in truth["annotations"] if r["image_id"] in ids[a:b]]}
                 for a, b in ((2, 6), (0, 6)))  # fmt: skip
    files = write(tmp_path, many, a=[r for r in rows if r["image_id"] in ids[2:]], b=rows, few=few)
    argv = [files["a"], files["b"], "--annotations", files["instances"], "--json", "--resamples", "0"]
    code, _, err = run(capsys, *argv)
    assert code == 2
    assert "an image_id that the ground truth does not know: 30, 35" in err
    assert "in the shell --subset, leaves them out" in err
    code, out, err = run(capsys, *argv, "--subset")
    assert code == 0
    assert err.count("an image that the ground truth does not have: 16 detections") == 2
    inside = [r for r in rows if r["image_id"] in ids[2:6]]
    expected = evaluate_detections(few, inside).summary["AP"]
    for detector in json.loads(out)["detectors"].values():
        numbers = {(row["analysis"], row["name"]): row["value"] for row in detector["numbers"]}
        assert numbers["evaluation", "AP"] == pytest.approx(expected, abs=1e-6)
        assert detector["images"] == 4
        assert "4 of 6 images of the annotations" in " ".join(detector["notes"])
        assert "whether on the other 2 nothing was found or no detector was run, results do not say" in " ".join(
            detector["notes"]
        )
    files = write(
        tmp_path, few, a=[r for r in rows if r["image_id"] == ids[2]], b=[r for r in rows if r["image_id"] == ids[3]]
    )
    code, _, err = run(capsys, files["a"], files["b"], "--annotations", files["instances"], "--subset")
    assert (code, "no image in common" in err) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["names", "ids", "json", "coco"])
def test_images_without_a_detection_count_where_a_list_says_that_they_were_run(tmp_path, capsys, form):
    truth, rows = case()
    ids = [image["id"] for image in truth["images"]]
    truth["images"] = [image | {"file_name": f"photos/{image['id']}.jpg"} for image in truth["images"]]
    files = write(tmp_path, truth, a=[r for r in rows if r["image_id"] in ids[:2]], b=rows)
    run_on = {"names": "\n".join(f"val/{i}.jpg" for i in ids[:3]) + "\n", "ids": "\n".join(map(str, ids[:3])),
              "json": json.dumps(ids[:3]), "coco": json.dumps({"images": [{"id": i} for i in ids[:3]]})}  # fmt: skip
    listing = tmp_path / "run.txt"
    listing.write_text(run_on[form])
    argv = [files["a"], files["b"], "--annotations", files["instances"], "--resamples", "0", "--json"]
    code, out, err = run(capsys, *argv, "--images-file", listing)
    assert (code, err) == (0, "")
    part = truth | {"images": truth["images"][:3],
                    "annotations": [a for a in truth["annotations"] if a["image_id"] in ids[:3]]}  # fmt: skip
    for name, last in (("a", 2), ("b", 3)):
        detector = json.loads(out)["detectors"][name]
        expected = evaluate_detections(part, [r for r in rows if r["image_id"] in ids[:last]]).summary["AP"]
        assert detector["images"] == 3
        assert next(n["value"] for n in detector["numbers"] if n["name"] == "AP") == pytest.approx(expected, abs=1e-6)
        assert f"3 of {len(ids)} images of the annotations: those that are listed" in detector["notes"]
    for text, words in (("elsewhere.jpg", "1 image that"), ("\n", "no image is listed"), (None, "can be read")):
        listing.write_text(text) if text else listing.unlink()
        code, _, err = run(capsys, *argv, "--images-file", listing)
        assert (code, words in err, "run.txt" in err) == (2, True, True)


@pytest.mark.robustness("unclear: a list of images is a list, of COCO's objects or of plain ids and names")
def test_a_list_of_images_under_its_name(tmp_path):
    truth = truth_of({**case()[0], "images": [{"id": i, "file_name": f"{i}.png"} for i in range(0, 40, 5)]})
    for images in ([{"id": 5}, {"id": 15}], [5.0, {"id": 15.0}], ["5.png", "15.png"], [{"id": 5}, "15.png"], [5, 15]):
        (tmp_path / "run.json").write_text(json.dumps({"images": images}))
        assert listed(tmp_path / "run.json", truth).tolist() == listed({"images": images}, truth).tolist() == [1, 3]
    for none in (3, "5.png", None, True):
        (tmp_path / "run.json").write_text(json.dumps({"images": none}))
        with pytest.raises(DataError, match=rf"run.json: no list of images but {none!r}; write ids or file names"):
            listed(tmp_path / "run.json", truth)
    for names, words in (([[1]], r"1 image that .* does not have: \[1\]"), ({"x": 3}, "no image is listed")):
        (tmp_path / "run.json").write_text(json.dumps(names))
        with pytest.raises(DataError, match=words):
            listed(tmp_path / "run.json", truth)


def test_a_list_of_images_is_not_replaced(tmp_path, capsys):
    truth, rows = case(images=1)
    files = write(tmp_path, truth, a=rows, run=[0])
    argv = [files["a"], "--annotations", files["instances"], "--images-file", files["run"], "--overwrite"]
    code, _, err = run(capsys, *argv, "--html", files["run"])
    assert (code, "run.json: read by this command" in err) == (2, True)
    assert files["run"].read_text() == "[0]"


def test_points_of_the_worst_cases_are_said_in_words(tmp_path, monkeypatch):
    """9 × 9 pixels hold one point of stride 8, 60 × 60 many, and an image of no known size is asked about none."""
    boxes = [(1, [8, 8, 9, 9]), (1, [100, 100, 60, 60]), (2, [0, 0, 60, 60])]
    truth = {
        "images": [{"id": 1, "file_name": "1.png", "width": 200, "height": 200}, {"id": 2, "file_name": "1.png"}],
        "annotations": [{"id": n, "image_id": i, "category_id": 1, "bbox": b} for n, (i, b) in enumerate(boxes)],
        "categories": [{"id": 1, "name": "cat"}],
    }
    Image.new("RGB", (200, 200)).save(tmp_path / "1.png")
    files = write(tmp_path, truth, a=[])
    with warnings.catch_warnings(action="ignore"):
        (answer,) = ask(files["a"], files["instances"], setting=Setting.of("fcos", STRIDES), resamples=0)
    texts = []
    monkeypatch.setattr("dsla.plots.detectors.worst", lambda cases, *_: texts.extend(text for _, _, text in cases))
    list(_worst(answer, str(tmp_path), ""))
    counts = ["49 points", "points unknown", "1 point"]
    assert texts == [f"cat: nothing near\n{count}" for count in counts]


def test_average_recall_counts_detections_of_an_image_and_class():
    """Two classes in an image, a detection of each: with one of each image and class, all objects are found."""
    boxes = [[10, 10, 20, 20], [50, 50, 20, 20]]
    rows = [{"id": n, "image_id": 1, "category_id": n, "bbox": box, "score": 0.9} for n, box in enumerate(boxes)]
    truth = {"images": [{"id": 1}], "annotations": rows, "categories": [{"id": 0}, {"id": 1}]}
    assert evaluate_detections(truth, rows).summary["AR@1"] == 1
    for cap in (1, 10, 100):
        assert "of each image and class" in definition("evaluation", f"AR@{cap}")


def test_the_level_of_the_intervals_is_the_one_asked_for(tmp_path, capsys):
    truth, rows = case()
    files = write(tmp_path, truth, a=rows)
    widths = {}
    for level in ("0.5", "0.95"):
        argv = [files["a"], "--annotations", files["instances"], "--resamples", "50", "--json", "--level", level]
        content = json.loads(run(capsys, *argv)[1])
        assert content["level"] == float(level)
        ap = next(row for row in content["detectors"]["a"]["intervals"] if row["name"] == "AP")
        widths[level] = ap["high"] - ap["low"]
    assert widths["0.5"] / widths["0.95"] == pytest.approx(0.6745 / 1.96, rel=1e-3)
    code, _, err = run(capsys, *argv[:-1], "1")
    assert (code, "level is above 0 and below 1" in err) == (2, True)


@pytest.mark.slow
def test_whole_numbers_stay_whole_beside_a_detector_that_says_nothing(tmp_path, capsys):
    truth, rows = case()
    files = write(tmp_path, truth, a=rows, empty=[])
    argv = [files["a"], files["empty"], "--annotations", files["instances"], "--resamples", "0", "--latex"]
    code, _, err = run(capsys, *argv, "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    charts = {file.stem for file in (tmp_path / "out" / "figures").glob("confusions-*.svg")}
    assert charts == {"confusions-1"}  # the other calls nothing anything
    for name, columns in {"errors": ("detection", "gt", "gt_category"), "ranking": ("detection", "gt", "match"),
                          "suppression": ("best", "suppressor", "candidates"), "points": ("objects", "unfound"),
                          "errors_by": ("objects", "correct", "missed"), "reliability": ("count",),
                          "figures/errors": ("count",)}.items():  # fmt: skip
        table = pd.read_csv(tmp_path / "out" / f"{name}.csv", dtype=str, keep_default_na=False)
        for column in columns:
            values = table[column][~table[column].isin(["", "n/a"])]
            assert len(values)
            assert values.str.fullmatch(r"\d+").all(), (name, column)
    latex = (tmp_path / "out" / "errors_by.tex").read_text(encoding="utf-8")
    row = next(line for line in latex.splitlines() if line.startswith("a & class"))
    assert all(cell.strip().isdigit() for cell in re.split(r"(?<!\\)&", row)[4:15])


@pytest.mark.slow
def test_missed_objects_by_points_are_those_of_why(shared):
    folder = shared / "data" / "coco_sample"
    files = folder / "results" / "nanodet_m_416_results.json", folder / "instances.json"
    (answer,) = ask(files[:1], files[1], setting=Setting.of("fcos", STRIDES, input_size=416), resamples=0)
    why = dsla.why(*files, input_size=416)
    assert (answer.tables["why"]["verdict"] == why.table["verdict"]).all()
    numbers, points = why.summary(), answer.tables["points"].set_index("points")
    assert points.loc["0", ["objects", "share"]].tolist() == pytest.approx(
        [numbers["objects_none"], numbers["missed_none"]]
    )
    assert points.loc["1–2", "share"] == pytest.approx(numbers["missed_few"])
    assert points["objects"].sum() == numbers["objects"]
    assert points["share"].is_monotonic_decreasing


@pytest.mark.slow
@pytest.mark.robustness("strangers: photographs that are missing cost analyze neither its numbers nor its page")
def test_pictures_that_are_not_there_cost_no_answer(tmp_path, capsys):
    """A folder that is none is said before the work; pictures that are missing are named, and the others shown."""
    truth, rows = case()
    truth["images"] = [image | {"file_name": f"{image['id']}.png"} for image in truth["images"]]
    files = write(tmp_path, truth, a=rows)
    argv = [files["a"], "--annotations", files["instances"], "--resamples", "0", "--out", tmp_path / "out", "--images"]
    code, out, err = run(capsys, *argv, tmp_path / "nowhere")
    assert (code, out, "nowhere: no folder; name the one that the images lie in" in err) == (2, "", True)
    (tmp_path / "photos").mkdir()
    for image in truth["images"][2:]:
        Image.new("RGB", (200, 200)).save(tmp_path / "photos" / image["file_name"])
    code, out, err = run(capsys, *argv, tmp_path / "photos", "--html", tmp_path / "page.html")
    assert (code, "AP50" in out) == (0, True)
    assert re.search(r"note: .*photos:\n  an image file that is missing.*: 2 images \((0, 5|5, 0)\), .*[05]\.png", err)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert re.search(r"Not shown, for their files cannot be read: images (0, 5|5, 0)\.", page)
    assert 0 < len(list((tmp_path / "out" / "figures").glob("worst-*.png"))) <= 2
    argv[-1:] = ["--overwrite", "--images"]
    assert run(capsys, *argv, tmp_path)[0] == 0  # not one is there


@pytest.mark.slow
def test_a_gallery_of_the_worst(tmp_path, capsys, shared):
    folder = shared / "data" / "coco_sample"
    argv = [folder / "results" / "yolox_nano_results.json", "--annotations", folder / "instances_val.json", "--subset"]
    code, _, err = run(capsys, *argv, "--images", folder / "images")
    assert (code, "is for the pictures of --html and --out" in err) == (2, True)
    argv += ["--resamples", "0"]
    code, _, _ = run(capsys, *argv, "--images", folder / "images", "--out", tmp_path / "out")
    assert code == 0
    missed, false = (pd.read_csv(tmp_path / "out" / "figures" / f"worst-{k}-1.csv") for k in ("missed", "false"))
    assert len(missed) == len(false) == 8
    assert "found" not in set(missed["verdict"])
    assert false["score"].is_monotonic_decreasing
    assert set(false["kind"]) <= {"classification", "localisation", "both", "background"}
    assert (tmp_path / "out" / "figures" / "worst-false-1.png").stat().st_size > 20_000


@pytest.mark.slow
@pytest.mark.robustness(
    "unclear: an image without a file name, and one whose name leads out, are named by analyze and why"
)
def test_pictures_are_found_as_a_data_set_finds_them(tmp_path, capsys):
    truth, rows = case(images=1)
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    (image,) = truth["images"]
    Image.new("RGB", (image["width"], image["height"])).save(tmp_path / "photos" / "sub" / "a.png")
    rows = [row | {"category_id": 11 - row["category_id"]} for row in rows]  # the other class: all are wrong
    for name, words in (
        ("sub\\a.png", ""),
        (None, f"instances.json, image id {image['id']}: file_name '': there is none"),
        ("../photos/../a.png", "leads out of"),
        ("sub", "is no regular file"),
    ):
        files = write(tmp_path, truth | {"images": [image | {"file_name": name}]}, rows=rows)
        argv = [files["rows"], "--annotations", files["instances"], "--images", tmp_path / "photos", "--overwrite"]
        code, _, err = run(capsys, *argv, "--resamples", "0", "--html", tmp_path / "page.html")
        assert (code, words in err) == (0, True)
        why = dsla.why(files["rows"], files["instances"], images=tmp_path / "photos")
        if words:
            with pytest.raises(DataError, match=re.escape(words)):
                why.picture(0)
        else:
            assert why.picture(0).axes


def test_errors_are_one_line_that_names_the_file(tmp_path, capsys):
    truth, rows = case(images=1)
    files = write(tmp_path, truth, rows=rows, strange=[{**rows[0], "image_id": 77}], object={"a": 1})
    for argv, words in (
        ([tmp_path / "nowhere.json"], "nowhere.json"),
        ([files["strange"]], "strange.json: 1 detection with an image_id that the ground truth does not know: 77"),
        ([files["object"]], "object.json is not a COCO results list"),
        ([files["instances"]], "is not a COCO results list"),
    ):
        code, out, err = run(capsys, *argv, "--annotations", files["instances"])
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert words in err
    with pytest.raises(SystemExit):
        run(capsys, files["rows"], "--nms", "2", "--annotations", files["instances"])
    assert "'2': a number from 0 to 1 is needed" in capsys.readouterr().err
    code, _, err = run(capsys, files["rows"], "--annotations", files["object"])
    assert code == 2
    assert "object.json" in err
    assert "needs a list 'categories', it is missing" in err


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ({"score_threshold": np.nan}, "score_threshold is a finite number, got nan"),
        ({"resamples": -1}, "resamples is 0 or more, a whole number, got -1"),
        ({"level": 95}, "level is above 0 and below 1, got 95"),
        ({"nms_threshold": -1.0}, "nms_threshold is a number from 0 to 1, got -1"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(tmp_path, number, words):
    truth, rows = case(images=1)
    files = write(tmp_path, truth, rows=rows)
    with pytest.raises(DataError, match=words):
        ask(files["rows"], files["instances"], **number)


def test_numbers_of_numpy_are_numbers(tmp_path, recwarn):
    truth, rows = case(images=1)
    files = write(tmp_path, truth, rows=rows)
    plain, *others = (
        ask(files["rows"], files["instances"], score_threshold=kind(0.25), resamples=0)[0].numbers["value"]
        for kind in (float, np.float16, np.float32, np.float64)
    )
    assert all(other.equals(plain) for other in others)
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_names(tmp_path):
    assert names_of(["a/yolox_nano_results.json", "results.json", "b$c.json"]) == ["yolox_nano", "results", "bc"]
    assert names_of(["x/one.json", "y/one.json", "y/two.json"]) == ["x/one", "y/one", "two"]
    assert names_of(["x/one.json", "x/one.json"]) == ["x/one (1)", "x/one (2)"]
    assert len(names_of([f"{'n' * 90}.json"])[0]) == 36


@pytest.mark.slow
def test_real_results(shared):
    folder = shared / "data" / "coco_sample"
    (yolox,) = ask([folder / "results" / "yolox_nano_results.json"], folder / "instances.json")
    assert yolox.name == "yolox_nano"
    assert yolox.value("evaluation", "AP") == pytest.approx(0.315, abs=5e-4)  # as the README of the results says
    assert yolox.value("errors", "AP50") == pytest.approx(yolox.value("evaluation", "AP50"), abs=1e-9)
    assert yolox.value("oracle", "AP_score") == pytest.approx(yolox.value("evaluation", "AP"), abs=0.01)  # a second NMS
    assert not yolox.numbers["value"].isna().any()
    assert (yolox.numbers["reason"] == "").all()


def test_looks_of_other_peoples_detectors():
    names = ["b", "a", "DSLA", *"cdefghijklmn"]
    usual = method("DSLA"), method("a")
    with distinct(names):
        assert ordered(names[::-1]) == names
        looks = [method(n) for n in names]
        assert [look.name for look in looks] == names
        assert len({(look.colour, look.marker) for look in looks[:12]}) == 12
    assert (method("DSLA"), method("a")) == usual


def test_error_figure_has_a_bar_for_each_number():
    kinds = ("classification", "localisation", "both", "duplicate", "background", "missed")
    rows = [{"method": m, "error": e, "gain": 0.01 * i, "count": 10 * i} for m in "ab" for i, e in enumerate(kinds)]
    rows[5]["gain"] = np.nan
    figure = error_costs(pd.DataFrame(rows))
    gains, counts = figure.axes
    assert [bar.get_width() for bar in gains.patches] == pytest.approx([*range(5), 0, *range(6)])
    assert [bar.get_width() for bar in counts.patches] == [10 * i for i in range(6)] * 2
    assert [t.get_text() for t in gains.texts][4:6] == ["4.0", "n/a"]
    assert "do not add up" in figure.caption
