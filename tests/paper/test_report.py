"""The main job on a few scenes: the report's numbers are the analyses', and the files are complete."""

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

import dsla
from dsla.analysis import suppression
from dsla.analysis.study import crowding, iou_losses, object_points, score_steps, study
from dsla.assigners import FCOS
from dsla.data import Scenes
from dsla.errors import DataError
from dsla.models import Detector, Raw
from dsla.models.evaluation import evaluate
from dsla.paper.report import reproduce
from dsla.plots import jittered_predictions

IMAGES = 12
AMOUNTS = {"scenes-fcos-plain": 0.3, "scenes-fcos": 0.2, "scenes-dsla": 0.08}


class Told(Detector):
    """A detector that is told the objects and says them with a jitter: quick, and not perfect."""

    amount = 0.1

    def forward_raw(self, images, targets=None):
        boxes, labels = ([t[k] for t in targets] for k in ("boxes", "labels"))
        grid = dsla.PointGrid(images[0].shape[-2:], self.head.strides, self.head.offset)
        outputs = jittered_predictions(grid, boxes, labels, self.amount, self.num_classes, seed=len(boxes[0]))
        if self.head.quality is not None:
            outputs = dsla.HeadOutputs(
                outputs.logits, outputs.distances, grid, torch.full_like(outputs.logits[..., 0], 2)
            )
        return Raw(outputs, [tuple(i.shape[-2:]) for i in images], targets)


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    detectors = {}
    for name, amount in AMOUNTS.items():
        model = dsla.build(name, class_names=Scenes.class_names).eval()
        model.__class__ = Told
        model.amount = amount
        detectors[name] = model
    return detectors


@pytest.fixture(scope="module")
def done(models, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    return out, reproduce(out, models=models, images=IMAGES, progress=False)


@pytest.fixture
def undrawn(monkeypatch):
    """Without figures, which take most of the time, where a test looks at the runs only."""
    monkeypatch.setattr("dsla.paper.report.charts", lambda story: iter(()))


@pytest.mark.slow
def test_report_says_the_numbers(done):
    out, result = done
    text = re.sub(r"base64,[^\"]+", "", result.report.read_text(encoding="utf-8"))
    assert result.report == out / "report.html"
    ap = result.numbers.query("analysis == 'evaluation' and name == 'AP'").set_index("method")["value"]
    assert ap["DSLA"] > ap["FCOS"] > 0
    assert f"FCOS {100 * ap['FCOS']:.1f}, FCOS + centerness {100 * ap['FCOS + centerness']:.1f}" in text
    for finding in result.findings:
        assert finding.sentence.replace("|", "|") in text.replace("&#x27;", "'")
        assert finding.seeds == 1
        assert finding.verdict == "undecided"
    assert "One seed cannot support a claim about training" in text
    assert f"{IMAGES} images" in text
    assert not re.search(r"https?:|<script|<link", text)
    assert str(out) not in text


@pytest.mark.slow
def test_files_are_complete(done):
    out, result = done
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert results["about"]["images"] == IMAGES
    assert [f["verdict"] for f in results["findings"]] == [f.verdict for f in result.findings]
    written = pd.DataFrame(results["numbers"]).astype({"value": float})
    assert np.allclose(written["value"], result.numbers["value"], equal_nan=True)
    assert len((out / "runs.jsonl").read_text().splitlines()) == 3
    pictures = {p.stem for p in (out / "figures").iterdir() if p.suffix in (".svg", ".png")}
    tables = {p.stem for p in (out / "figures").iterdir() if p.suffix == ".csv"}
    assert pictures == tables
    assert {"assigners", "labels-and-scores", "neighbours", "score-and-iou", "reliability", "oracles"} < pictures
    assert {"suppressed", "lost-to-nms", "detections-fcos", "detections-dsla"} < pictures


@pytest.mark.slow
def test_tables_of_figures_agree_with_the_numbers(done):
    out, result = done

    def value(method, name):
        return result.numbers.query("method == @method and name == @name")["value"].iloc[0]

    for method in ("FCOS", "FCOS + centerness", "DSLA"):
        lost = pd.read_csv(out / "figures" / "lost-to-nms.csv").query("method == @method").set_index("loss")["share"]
        assert lost[0.05] == pytest.approx(value(method, "lost_over_0.05"), abs=1e-6)
        assert lost[0.1] == pytest.approx(value(method, "lost_over_0.1"), abs=1e-6)
        cells = pd.read_csv(out / "figures" / "score-and-iou.csv").query("method == @method")
        assert cells["count"].sum() == value(method, "detections")
        oracles = pd.read_csv(out / "figures" / "oracles.csv").query("method == @method").set_index("variant")["AP"]
        assert oracles["iou"] == pytest.approx(value(method, "AP_iou"), abs=1e-6)
        assert oracles["score"] == pytest.approx(value(method, "AP"), abs=1e-6)  # the oracle's baseline is COCO's AP


@pytest.mark.slow
def test_side_by_side_counts_are_the_assigners(done):
    out, _ = done
    data = Scenes("val", size=IMAGES)
    most = max(range(IMAGES), key=lambda i: (len(data.rows(i)), -i))
    target = data[most][1]
    grid = dsla.PointGrid((128, 128), (8, 16, 32), 0.5)
    expected = FCOS(((0, 32), (32, 64), (64, 1e8)))(grid, [target["boxes"]], [target["labels"]]).counts()
    table = pd.read_csv(out / "figures" / "assigners.csv").query("method == 'FCOS'")
    assert table["points"].tolist() == expected.tolist()


@pytest.mark.slow
def test_same_weights_same_bytes_and_no_second_line(done, models):
    out, _ = done
    before = {p.name: p.read_bytes() for p in [out / "report.html", *(out / "figures").iterdir()]}
    reproduce(out, models=models, images=IMAGES, progress=False)
    assert {p.name: p.read_bytes() for p in [out / "report.html", *(out / "figures").iterdir()]} == before
    assert len((out / "runs.jsonl").read_text().splitlines()) == 3


@pytest.mark.slow
def test_it_prints_the_table_and_the_place(done, models, undrawn, capsys, tmp_path):
    _, result = done
    text = str(result)
    assert text.splitlines()[-1] == f"report: {result.report.resolve()}"
    assert re.search(r"^AP +\d+\.\d +\d+\.\d +\d+\.\d$", text, re.M)
    assert "One seed cannot support a claim about training" in text
    assert "undecided" not in text  # eight times of eight claims: says nothing
    again = result.numbers.assign(seed=1)
    twice = dataclasses.replace(result, numbers=pd.concat([result.numbers, again], ignore_index=True))
    assert str(twice).count("  undecided  ") == len(result.findings)
    reproduce(tmp_path, models={"scenes-dsla": models["scenes-dsla"]}, images=4)
    printed = capsys.readouterr().out
    assert "DSLA: ranking, suppression and oracles" in printed
    assert printed.strip().endswith(f"report: {(tmp_path / 'report.html').resolve()}")


def test_study_equals_the_analyses_one_by_one(models):
    model, data = models["scenes-fcos-plain"], Scenes("val", size=IMAGES)
    studied = study(model, data)
    lost = suppression(studied.candidates, data, nms_threshold=0.6)
    pd.testing.assert_frame_equal(pd.DataFrame(studied.tables["suppression"]), pd.DataFrame(lost))
    coco = dsla.coco.evaluation.evaluate_detections(
        data.ground_truth(),
        dsla.data.to_coco_results(data, [data.image_id(i) for i in range(IMAGES)], studied.detections),
    )
    assert studied.value("evaluation", "AP") == coco.summary["AP"]
    steps = score_steps(studied.tables["adjacency"]).set_index("difference")["share"]
    gap = studied.tables["adjacency"]["d_score"].abs()
    assert steps[0.25] == pytest.approx((gap <= 0.25).mean())
    assert steps[1.0] == 1
    part = iou_losses(studied.tables["suppression"]).set_index("loss")["share"]
    assert part[0.1] == pytest.approx(studied.value("suppression", "lost_over_0.1"))


def test_points_of_an_object(models):
    model, data = models["scenes-dsla"], Scenes("val", size=4)
    image, target = data[1]
    points = object_points(model, image, target, 0)
    raw = model.forward_raw([image], [target])
    assignment = model.assign(raw)
    assert points["best"].sum() == 1
    best = points[points["best"]].iloc[0]
    assert best["label"] == points["label"].max()
    at = int(((raw.outputs.grid.xy == torch.tensor([best["x"], best["y"]])).all(1)
              & (raw.outputs.grid.level == int(best["level"]))).nonzero())  # fmt: skip
    assert assignment.gt_index[0, at] == 0
    expected = assignment.label[0, at] * assignment.iou(raw.outputs.boxes)[0, at]
    assert best["label"] == pytest.approx(float(expected))
    assert (points["level"] == best["level"]).all()


@pytest.mark.slow
def test_models_that_find_nothing_still_get_a_report(tmp_path):
    torch.manual_seed(0)
    model = dsla.build("scenes-dsla", class_names=Scenes.class_names).eval()  # scores of 0.01: no candidate
    result = reproduce(tmp_path, models={"scenes-dsla": model}, images=3, progress=False)
    assert {f.verdict for f in result.findings} == {"n/a"}
    text = result.report.read_text(encoding="utf-8")
    assert "n/a" in text
    assert evaluate(model, Scenes("val", size=3))["AP"] == 0
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^\"]+", "", text), re.I)
    json.loads((tmp_path / "results.json").read_text(), parse_constant=lambda c: pytest.fail(c))


@pytest.mark.slow
def test_training_is_resumed_not_repeated(undrawn, tmp_path, capsys):
    reproduce(tmp_path, train=True, seeds=2, images=3, steps=2)
    printed = capsys.readouterr().out
    assert printed.count("training, 2 steps") == 6
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 6
    weights = {p: p.read_bytes() for p in (tmp_path / "runs").rglob("model.safetensors")}
    assert {p.parent.name for p in weights} == {f"{n}-{s}" for n in AMOUNTS for s in (0, 1)}
    result = reproduce(tmp_path, train=True, seeds=2, images=3, steps=2)
    printed = capsys.readouterr().out
    assert "training," not in printed
    assert "6 runs, 6 of them there" in printed
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 6
    assert set(result.numbers["seed"]) == {0, 1}
    assert {p: p.read_bytes() for p in weights} == weights
    reproduce(tmp_path, train=True, images=3, steps=1, progress=False)  # another length: trained beside
    assert {p: p.read_bytes() for p in weights} == weights
    assert (tmp_path / "runs" / "scenes-dsla-0-2" / "model.safetensors").read_bytes() not in weights.values()


@pytest.mark.parametrize(("option", "name"), [("seeds", "several seeds"), ("steps", "steps"), ("jobs", "jobs")])
def test_options_of_training_need_training(tmp_path, option, name):
    with pytest.raises(DataError, match=f"{name} need training"):
        reproduce(tmp_path, **{option: 3})
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_notebook_beside_the_report_loads_its_tables_and_figures(done):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    out, _ = done
    notebook = nbformat.read(out / "report.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(out)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    pictures = [p.stem for p in (out / "figures").iterdir() if p.suffix in (".svg", ".png")]
    assert sorted(cell.source for cell in code[1:]) == sorted(f'show("{name}")' for name in pictures)
    assert all(any(kind.startswith("image/") for o in cell.outputs for kind in o.data) for cell in code[1:])


def test_ap_of_crowded_images_and_of_the_others():
    def image(number, *boxes):
        same = {"image_id": number, "category_id": 1, "iscrowd": 0}
        return [{**same, "id": 10 * number + i, "area": b[2] * b[3], "bbox": b} for i, b in enumerate(boxes)]

    near, far, single = [10.0, 10.0, 40.0, 40.0], [60.0, 60.0, 30.0, 30.0], [5.0, 5.0, 50.0, 50.0]
    truth = {
        "images": [{"id": i, "width": 100, "height": 100} for i in (1, 2, 3, 4)],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [*image(1, near, [15.0, 10.0, 40.0, 40.0]), *image(2, near, far), *image(3, single)],
    }
    rows = [
        {"image_id": i, "category_id": 1, "bbox": b, "score": 0.9}
        for i, b in ((1, near), (2, near), (2, far), (3, single))
    ]
    numbers = crowding(truth, rows)
    # one of two objects is found: precision 1 at the recalls 0 … 0.5, 51 of the 101
    assert numbers.to_dict() == pytest.approx({"AP_crowded": 51 / 101, "AP_apart": 1.0})
    assert numbers.attrs["reasons"] == {}
    apart = {**truth, "annotations": [a for a in truth["annotations"] if a["id"] != 11]}
    numbers = crowding(apart, rows)
    assert np.isnan(numbers["AP_crowded"])
    assert numbers.attrs["reasons"]["AP_crowded"]
    crowd = {**truth, "annotations": [{**a, "iscrowd": int(a["id"] == 11)} for a in truth["annotations"]]}
    assert np.isnan(crowding(crowd, rows)["AP_crowded"])
