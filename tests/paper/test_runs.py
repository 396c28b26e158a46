"""Many recipes and seeds in one command: every run once, resumable, and a table that is the runs' means."""

import json
import multiprocessing
import time
from pathlib import Path

import pytest
import torch
from scipy import stats

import dsla
from dsla.cli.main import main
from dsla.errors import DataError
from dsla.paper import runs
from dsla.paper.definitions import ROWS
from dsla.paper.protocol import tuning
from dsla.paper.runs import FILE, chosen, experiments, key_of, read_curves, read_runs, stores, train_or_read
from dsla.paper.tables import methods_markdown
from dsla.recipes import GROUPS

FIGURES = Path(__file__).parents[2] / "figures"
OPTIONS = {"seeds": 2, "steps": 3, "images": 4}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("experiments")
    printed = []
    table = experiments("scenes-fcos, scenes-dsla-merged", out, say=printed.append, **OPTIONS)
    return out, table, printed


def read(out):
    return [json.loads(line) for line in (out / FILE).read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_every_run_is_a_line(done):
    out, _, _ = done
    rows = read(out)
    assert [(r["recipe"], r["seed"]) for r in rows] == [
        (name, seed) for seed in (0, 1) for name in ("scenes-fcos", "scenes-dsla-merged")
    ]
    assert len({r["weights"] for r in rows}) == 4
    for row in rows:
        assert (row["steps"], row["images"], row["batch_size"]) == (3, 4, 16)
        assert row["curve"][-1]["step"] == 3
        assert row["curve"][-1]["loss"] > 0
        names = {(n["analysis"], n["name"]) for n in row["numbers"]}
        assert set(map(tuple, ROWS["seeds"].values())) <= names
    assert rows[0]["evaluations"][-1]["step"] == 3  # of the recipes whose curves are shown
    value = {n["name"]: n["value"] for n in rows[0]["numbers"] if n["analysis"] == "assignment"}
    model = dsla.build("scenes-fcos", class_names=dsla.Scenes.class_names)
    data = dsla.Scenes("val", size=4)
    grid = dsla.PointGrid((128, 128), (8, 16, 32), 0.5)
    a = model.assigner(grid, *([data[i][1][k] for i in range(4)] for k in ("boxes", "labels")))
    assert value["points"] == pytest.approx(float(a.counts().double().mean()))
    assert value["unlearned"] == pytest.approx(float((a.counts() == 0).double().mean()))
    assert value["mass"] == pytest.approx(value["points"])  # hard labels
    assert value["ms"] > 0


@pytest.mark.slow
def test_the_table_is_their_mean(done):
    out, table, _ = done
    assert table["recipe"].tolist() == ["scenes-fcos", "scenes-dsla-merged"]
    assert table["seeds"].tolist() == [2, 2]
    mine = [
        next(n["value"] for n in row["numbers"] if n["name"] == "follows_iou")
        for row in read(out)
        if row["recipe"] == "scenes-fcos"
    ]
    assert table["follows IoU"][0] == pytest.approx(sum(mine) / 2)
    half = stats.t.ppf(0.975, 1) * abs(mine[0] - mine[1]) / 2
    assert table["follows IoU high"][0] - table["follows IoU"][0] == pytest.approx(half)
    assert "| FCOS + centerness | `scenes-fcos` |" in methods_markdown(table)


@pytest.mark.slow
def test_nothing_runs_twice(done, monkeypatch):
    out, table, _ = done
    before = (out / FILE).read_text(encoding="utf-8")
    monkeypatch.setattr("dsla.training.loop.train", None)
    printed = []
    again = experiments("scenes-fcos, scenes-dsla-merged", out, say=printed.append, **OPTIONS)
    assert printed == ["4 runs, 4 of them there"]
    assert again.equals(table)
    assert (out / FILE).read_text(encoding="utf-8") == before


@pytest.mark.slow
def test_another_budget_runs_again_and_mixes_with_nothing(done, monkeypatch):
    out, _, _ = done
    table = experiments("scenes-fcos", out, say=lambda _: None, **{**OPTIONS, "seeds": 1, "steps": 2})
    assert table["steps"].tolist() == [2]
    assert table["seeds"].tolist() == [1]
    assert len(read(out)) >= 5


def test_names():
    assert [r.name for r in chosen("gamma,scenes-dsla")] == list(GROUPS["gamma"])
    assert {r.name for r in chosen("all")} == {name for group in GROUPS.values() for name in group}
    recipe = dsla.recipe("scenes-dsla").replace(name="mine", relaxation=0.25)
    assert chosen([recipe, "scenes-fcos"])[0] is recipe
    for name in ("r50-1x", "scenes-dlsa", ""):
        with pytest.raises(DataError, match="no recipe of the embedded set"):
            chosen(name)


@pytest.mark.slow
def test_the_shell(tmp_path, capsys):
    options = ["--recipes", "scenes-fcos-plain", "--steps", "2", "--images", "2", "--out", str(tmp_path)]
    assert main(["reproduce", *options]) == 2
    assert "--train" in capsys.readouterr().err
    assert main(["reproduce", "--train", "--jobs", "2", *options]) == 0
    assert "| FCOS | `scenes-fcos-plain` |" in capsys.readouterr().out
    assert (tmp_path / "experiments.csv").exists()


def test_stores_that_shipped_load_as_one():
    figures = Path(__file__).parents[2] / "figures"
    assert [p.name for p in stores(figures)] == ["experiments.jsonl", "runs.jsonl"]
    runs = read_runs(*stores(figures))
    assert runs[["recipe", "seed", "steps", "images"]].drop_duplicates().shape[0] == 87
    assert runs.groupby("steps")["recipe"].nunique().to_dict() == {500: 2, 1000: 24, 2000: 3}
    ap = runs[(runs["steps"] == 2000) & (runs["analysis"] == "evaluation") & (runs["name"] == "AP")]
    assert ap.set_index(["recipe", "seed"])["value"]["scenes-fcos-plain", 0] == 0.405619016346969
    curves = read_curves(*stores(figures))
    assert set(curves["steps"]) == {500, 1000}  # the first store had no curves
    assert {"loss", "AP"} <= set(curves["name"])


def test_the_last_line_about_a_run_counts_and_earlier_lines_know_their_steps(tmp_path):
    row = {"recipe": "scenes-dsla", "method": "DSLA", "seed": 0, "images": 4, "weights": "a", "version": "0"}
    ap = {"analysis": "evaluation", "name": "AP"}
    lines = [{**row, "numbers": [{**ap, "value": v}]} for v in (0.1, None)]
    lines.append({**row, "steps": 7, "numbers": [{**ap, "value": 0.3}]})
    (tmp_path / "runs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    runs = read_runs(*stores(tmp_path))
    assert runs["steps"].tolist() == [2000, 7]
    assert runs["value"].isna().tolist() == [True, False]


def test_everything_that_decides_a_run_is_in_its_key():
    r = dsla.recipe("scenes-dsla")
    keys = [
        key_of(r, 0, 4),
        key_of(r, 1, 4),
        key_of(r, 0, 5),
        key_of(r.replace(relaxation=0.3), 0, 4),
        key_of(r, 0, 4, "weights"),
        key_of(None, 0, 4, "weights"),
    ]
    assert len(set(keys)) == len(keys)
    assert key_of(dsla.recipe("scenes-dsla"), 0, 4) == keys[0]


def test_a_run_of_another_training_order_is_another_run(monkeypatch):
    r = dsla.recipe("scenes-dsla")
    trained, given = key_of(r, 0, 4), key_of(r, 0, 4, "weights")
    monkeypatch.setattr("dsla.paper.runs.ORDER", 3)
    assert key_of(r, 0, 4) != trained
    assert key_of(r, 0, 4, "weights") == given  # weights that are given were trained before


def test_keys_of_finished_runs_stay():
    """A run that lies in the repository has the key that its recipe has today, with a coupling and without."""
    stored = [run for run in read(FIGURES) if run.get("stage") == "tuning"]
    runs = {(run["recipe"], run["start"], run["lr"]): run for run in stored}
    plans = [p for p in tuning() if (p.base, p.start, p.recipe.lr) in runs]
    assert {"scenes-fcos", "scenes-dsla"} <= {p.base for p in plans}
    for p in plans:
        run = runs[p.base, p.start, p.recipe.lr]
        assert key_of(p.recipe, p.seed, run["images"], data=list(run["data"].values())) == run["key"]


def test_a_finished_run_on_other_images_is_not_taken_for_this_one(tmp_path):
    r = dsla.recipe("scenes-dsla", channels=16, head_convs=1, batch_size=4, steps=2, warmup_steps=1)
    first, other = (dsla.Scenes("train", size=8, seed=seed) for seed in (0, 1))
    models = [train_or_read(r, 0, tmp_path, data)[0] for data in (first, other, first)]
    weights = [model.state_dict()["head.class_tower.0.weight"] for model in models]
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[1])


@pytest.mark.slow
def test_trainings_that_fail_end_no_process_of_others(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    process.start()
    broken = [("key", "no recipe", 0)]
    with pytest.raises(AttributeError):
        list(runs._each(broken, tmp_path, images=1, jobs=2, say=print, progress=False))
    process.join(0.5)
    assert process.exitcode is None
    process.terminate()
    process.join()
