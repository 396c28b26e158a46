"""The protocol: its document says what its data say, and its runs come in its order, each once."""

import json
import re
from pathlib import Path

import pytest

from dsla.cli.main import main
from dsla.data import Scenes
from dsla.paper import protocol
from dsla.paper.protocol import PLAN, follow, missing, planned, tuned, tuning
from dsla.paper.runs import FILE, read, read_runs
from dsla.paper.tables import protocol_table
from dsla.plots import trends

ROOT = Path(__file__).parents[2]
TEXT = " ".join((ROOT / "docs" / "protocol.md").read_text(encoding="utf-8").split())


def test_the_document_says_what_the_runs_are_made_from():
    for name, (split, seed, size) in PLAN["scenes"].items():
        shown = {"train": "training"}.get(name, name)
        assert f"| {shown} | {split} | {seed} | {size:,} |" in TEXT
    assert len({seed for _, seed, _ in PLAN["scenes"].values()} | {0}) == 5  # the recipes were made on seed 0
    low, middle, high = PLAN["tuning"]["rates"]
    grid, seed = f"the best of {low:g}, {middle:g} and {high:g}", PLAN["tuning"]["seed"]
    assert f"{grid} in AP on the tuning scenes, after {PLAN['tuning']['steps']} steps with seed {seed}" in TEXT
    assert f"4 methods × 2 starts × {PLAN['seeds']} seeds (0 to {PLAN['seeds'] - 1}) × {PLAN['steps']:,} steps" in TEXT
    assert f"the curve of AP, every {PLAN['curve_every']} steps" in TEXT
    assert f"AP on the validation scenes at step {PLAN['early']:,}" in TEXT
    assert f"its AP on {PLAN['resamples']} resamples of the test scenes" in TEXT
    assert f"is {100 * PLAN['effect']:g} AP" in TEXT
    assert f"# The protocol of the runs, version {PLAN['version']}" in TEXT
    for start, bias in PLAN["starts"].items():
        assert f"*{start}*, `box_bias` {bias:g}".replace("-", "−") in TEXT
    assert all(f"`{name}`" in TEXT for name in PLAN["methods"])


def line(p, ap=0.3):
    """The run of a plan as the store has it, with what the plan reads of it."""
    numbers = [{"analysis": "evaluation", "name": "AP", "value": ap}]
    return {"stage": p.stage, "start": p.start, "recipe": p.base, "lr": p.recipe.lr, "seed": p.seed, "numbers": numbers}


def test_the_grid_is_every_rate_of_every_method_from_every_start():
    grid = tuning()
    assert len(grid) == 4 * 2 * 3
    assert {(p.base, p.start, p.recipe.lr) for p in grid} == {
        (base, start, rate) for base in PLAN["methods"] for start in ("warm", "cold") for rate in (2e-3, 4e-3, 8e-3)
    }
    assert {p.recipe.box_bias for p in grid if p.start == "cold"} == {-2.0}
    assert {p.recipe.box_bias for p in grid if p.start == "warm"} == {0.7}
    assert {(p.recipe.steps, p.seed) for p in grid} == {(PLAN["tuning"]["steps"], 0)}
    assert planned([]) == grid  # nothing of the main stage before


def test_the_main_stage_trains_at_the_rate_that_was_best_and_seed_after_seed():
    grid = tuning()
    best = {(p.start, p.base): p for p in grid if p.recipe.lr == (8e-3 if p.start == "cold" else 2e-3)}
    runs = [line(p, 0.2 + 0.1 * (p is best[p.start, p.base])) for p in grid]
    assert tuned(runs) == {where: p.recipe.lr for where, p in best.items()}
    main_stage = [p for p in planned(runs) if p.stage == "main"]
    assert [p.seed for p in main_stage] == [seed for seed in range(8) for _ in range(8)]
    assert len({(p.base, p.start) for p in main_stage[:8]}) == 8
    assert {(p.start, p.recipe.lr) for p in main_stage} == {("warm", 2e-3), ("cold", 8e-3)}
    assert {p.recipe.steps for p in main_stage} == {PLAN["steps"]}
    names = [p.recipe.name for p in planned(runs)]
    assert len({(name, p.seed) for name, p in zip(names, planned(runs), strict=True)}) == len(names)


def test_of_equal_rates_the_lower_is_taken_and_what_did_not_train_is_last():
    grid = tuning()
    aps = {2e-3: None, 4e-3: 0.3, 8e-3: 0.3}
    assert set(tuned([line(p, aps[p.recipe.lr]) for p in grid]).values()) == {4e-3}


def test_the_next_run_is_the_first_that_is_missing():
    runs = [line(p) for p in tuning()]
    left = missing(runs[1:])
    assert (left[0], len(left)) == (tuning()[0], 1)
    assert len(missing(runs)) == 64
    done = [line(p) for p in missing(runs)[:3]]
    assert missing([*runs, *done]) == missing(runs)[3:]


@pytest.fixture
def small(monkeypatch):
    """Two methods, one seed, runs of two or four steps on a few scenes."""
    scenes = {"train": ["train", 1, 16], "tuning": ["val", 2, 4], "validation": ["val", 3, 3], "test": ["test", 4, 6]}
    changes = {"methods": ["scenes-fcos", "scenes-dsla"], "seeds": 1, "steps": 4, "curve_every": 2, "resamples": 5}
    for key, value in (changes | {"scenes": scenes}).items():
        monkeypatch.setitem(PLAN, key, value)
    monkeypatch.setitem(PLAN, "tuning", {"rates": [2e-3, 4e-3], "steps": 2, "seed": 0})
    protocol.scenes.cache_clear()
    yield PLAN
    protocol.scenes.cache_clear()


def test_every_run_is_made_once_and_what_is_there_stays(small, tmp_path, monkeypatch):
    said = []
    table = follow(tmp_path, said.append)
    assert table["stage"].tolist() == ["tuning"] * 8 + ["main"] * 4
    assert set(table["seed"]) == {0}
    lines = [json.loads(text) for text in (tmp_path / FILE).read_text(encoding="utf-8").splitlines()]
    run = lines[-1]
    assert (run["protocol"], run["stage"], run["recipe"], run["start"]) == (1, "main", "scenes-dsla", "cold")
    assert [e["step"] for e in run["evaluations"]] == [2, 4]
    assert len(run["resampled"]) == 5
    assert (run["images"], lines[0]["images"]) == (6, 4)  # test scenes, tuning scenes
    assert "ranking" in {n["analysis"] for n in run["numbers"]}
    assert {n["analysis"] for n in lines[0]["numbers"]} == {"evaluation"}
    assert re.fullmatch(r"([0-9a-f]{40}(-dirty)?)?", run["commit"])
    assert run["data"] == {
        "train": Scenes("train", size=16, seed=1).fingerprint(),
        "judged": Scenes("test", size=6, seed=4).fingerprint(),
    }
    assert len({r["key"] for r in lines}) == 12
    monkeypatch.setattr("dsla.training.loop.train", None)
    assert follow(tmp_path, said.append).equals(table)
    assert len(said) == 24


def test_runs_of_the_protocol_are_not_among_the_earlier_ones(small, tmp_path):
    follow(tmp_path, lambda _: None)
    assert read_runs(tmp_path / FILE).empty
    assert len(read(tmp_path / FILE, protocol=1)) == 12
    assert len(read_runs(tmp_path / FILE, protocol=1)["lr"].unique()) <= 2


def test_the_shell_refuses_what_the_protocol_decides(small, tmp_path, capsys):
    out = ["--out", str(tmp_path)]
    for wrong in (["--protocol"], ["--train", "--protocol", "--seeds", "3"], ["--train", "--protocol", "--steps", "9"]):
        assert main(["reproduce", *wrong, *out]) == 2
        assert "protocol" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main(["reproduce", "--train", "--protocol", *out]) == 0
    assert capsys.readouterr().out.count("scenes-dsla") > 6


def test_the_figure_shows_every_run_as_a_point():
    runs = [line(p) for p in tuning()]
    done = missing(runs)[:9]
    for i, p in enumerate(done):
        curve = [{"step": 500, "AP": 0.1 + i / 100}, {"step": 4000, "AP": 0.3}]
        runs.append(line(p, 0.4 + i / 100) | {"steps": 4000, "evaluations": curve})
    table = protocol_table(runs)
    assert len(table) == 9 * 3
    assert table[table["scenes"] == "test"]["AP"].tolist() == pytest.approx([0.4 + i / 100 for i in range(9)])
    assert table["seed"].value_counts().to_dict() == {0: 24, 1: 3}
    figure = trends.protocol(table)
    points = [c.get_offsets().data for ax in figure.axes for c in ax.collections]
    shown = sorted(float(y) for offsets in points for y in offsets[:, 1])
    assert shown == pytest.approx(sorted(100 * table["AP"]))
    assert "1 to 2 of its seeds" in figure.caption
