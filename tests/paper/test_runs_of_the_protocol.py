"""The protocol: its document says what its data say, and its runs come in its order, each once."""

import json
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dsla.assigners.registry import METHODS
from dsla.cli.main import main
from dsla.data import Scenes
from dsla.errors import DataError
from dsla.files import InUse
from dsla.geometry import PointGrid
from dsla.models.build import assigner
from dsla.paper import protocol
from dsla.paper.claims import ablation_names
from dsla.paper.definitions import title_of
from dsla.paper.protocol import PLAN, follow, missing, plan, planned, settings, tuned, tuning
from dsla.paper.results import _protocol
from dsla.paper.runs import FILE, read, read_runs
from dsla.paper.tables import protocol_table
from dsla.plots import trends
from dsla.recipes import RECIPES

ROOT = Path(__file__).parents[2]
TEXT = " ".join((ROOT / "docs" / "protocol.md").read_text(encoding="utf-8").split())


def test_the_document_says_what_the_runs_are_made_from():
    for name, (split, seed, size) in PLAN["scenes"].items():
        title = {"train": "training"}.get(name, name)
        assert f"| {title} | {split} | {seed} | {size:,} |" in TEXT
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
    for start, fields in PLAN["starts"].items():
        assert f"*{start}*, `box_bias` {fields['box_bias']:g}".replace("-", "−") in TEXT
    assert all(f"`{name}`" in TEXT for name in PLAN["methods"])


FURTHER = TEXT.split("# Further parts")[1]


def test_the_document_says_what_the_other_methods_are_run_with():
    text, part = FURTHER.split("## Photographs")[0], plan("methods")
    assert re.findall(r"\(`(scenes-[\w-]+)`\)", text) == part["methods"]
    count, grid = len(part["methods"]), part["tuning"]
    assert f"{count} methods × 2 starts × {len(grid['rates'])} rates × {grid['steps']} steps" in text
    runs = f"{count} methods × 2 starts × {part['seeds']} seeds (0 to {part['seeds'] - 1}) × {part['steps']:,} steps"
    assert runs in text
    assert part["beside"] == ["scenes-fcos", "scenes-dsla"]
    taught = {RECIPES[name].method for name in (*part["methods"], *PLAN["methods"])}
    assert taught == set(METHODS)
    assert (RECIPES["scenes-simota"].quality, PLAN["parts"]["scenes"]) == ("iou", {})


@pytest.mark.slow
def test_ranges_of_the_other_methods_leave_as_few_objects_without_a_point_as_said():
    scenes = Scenes("train", size=400, seed=PLAN["scenes"]["train"][1]).prepare()
    targets = [scenes[i][1] for i in range(len(scenes))]

    def without(name):
        grid, rule = PointGrid((128, 128), RECIPES[name].strides, RECIPES[name].offset), assigner(RECIPES[name])
        index = rule(grid, [t["boxes"] for t in targets], [t["labels"] for t in targets]).gt_index
        taught = sum(len(i[i >= 0].unique()) for i in index)
        return 100 * (1 - taught / sum(len(t["boxes"]) for t in targets))

    says = re.search(
        r"with which ([\d.]+) % of the objects .*? against ([\d.]+) % with .*? at most ([\d.]+) %", FURTHER
    )
    wide, early, most = map(float, says.groups())
    assert without("scenes-fovea-wide") == pytest.approx(wide, abs=0.05)
    assert without("scenes-fovea-dsla-wide") == pytest.approx(wide, abs=0.05)
    assert without("scenes-fovea") == pytest.approx(early, abs=0.05)
    others = [name for name in plan("methods")["methods"] if "fovea" not in name]
    assert max(without(name) for name in others if not assigner(RECIPES[name]).needs_predictions) <= most


def test_the_document_says_what_photographs_are_run_with():
    text, part = FURTHER.split("## Photographs")[1], plan("photographs")
    assert ", ".join(f"`{name}`" for name in part["methods"]) in text
    low, middle, high = part["tuning"]["rates"]
    assert f"the best of {low:g}, {middle:g} and {high:g} after {part['tuning']['steps']} steps" in text
    assert "4 methods × 2 starts × 3 rates, seed 0" in text
    runs = f"4 methods × 2 starts × {part['seeds']} seeds (0 to {part['seeds'] - 1}) × {part['steps']} steps"
    assert runs in text
    assert f'every {part["curve_every"]}; "learns faster" asks at step {part["early"]}' in text
    assert {RECIPES[n].steps for n in part["methods"]} == {part["steps"]}
    assert {(RECIPES[n].min_size, RECIPES[n].max_size, RECIPES[n].batch_size) for n in part["methods"]} == {
        ((240,), 320, 8)
    }
    first = [name.replace("cells", "scenes") for name in part["methods"]]
    assert first == PLAN["methods"]
    assert [ablation_names()[name] for name in first] == [title_of(name) for name in part["methods"]]
    assert part["early"] / part["steps"] == PLAN["early"] / PLAN["steps"] == 0.25


def test_the_document_says_what_the_parts_about_a_rate_and_a_start_are_run_with():
    text, (rate, head) = FURTHER.split("## One rate")[1], map(plan, ("rate", "head"))
    runs = f"warm, at {rate['rate']:g}, without a tuning × {rate['seeds']} seeds (0 to 7) × {rate['steps']:,} steps"
    assert runs in text
    assert tuning("rate") == []
    assert tuned([], "rate") == {("warm", "scenes-fcos"): 8e-3}
    assert [(p.recipe.lr, p.recipe.box_bias, p.seed) for p in planned([], "rate")] == [(8e-3, 0.7, s) for s in range(8)]
    assert f"4 methods × 3 rates × {head['tuning']['steps']} steps, seed 0" in text
    grid = tuning("head")
    assert planned([line(p) for p in grid], "head") == grid
    assert {(p.start, p.recipe.box_coding, p.recipe.box_bias) for p in grid} == {("published", "exp", 0.0)}
    published = RECIPES["r50-1x"]
    assert (published.box_coding, published.box_bias) == ("exp", 0.0)


def test_every_part_is_named_where_parts_are_chosen(capsys):
    with pytest.raises(SystemExit):
        main(["reproduce", "--help"])
    told = " ".join(capsys.readouterr().out.split()).split("the runs of docs/protocol.md")[1].split("by default all")[0]
    for part in PLAN["parts"]:
        assert re.search(rf"\b{part}\b", told)
        assert f"`{part}`" in TEXT


def test_photographs_are_split_by_the_rule(shared):
    sets = {
        name: protocol.images("photographs", name, str(shared / "data/bccd")) for name in plan("photographs")["files"]
    }
    files = {name: {image["file_name"] for image in each.ground_truth()["images"]} for name, each in sets.items()}
    counts = {name: len(each) for name, each in sets.items()}
    assert counts == {name: size for name, (*_, size) in plan("photographs")["files"].items()}
    assert counts == {"train": 218, "tuning": 37, "validation": 37, "test": 72}
    assert len(set.union(*files.values())) == 364
    ordered = sorted(files["train"] | files["tuning"] | files["validation"])
    assert files["tuning"] == set(ordered[::8])
    assert files["validation"] == set(ordered[1::8])
    for number in ("validation | those where it is 1: 37", "training | the others: 218", "is 0: 37", "test | the 72"):
        assert number in FURTHER


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


@pytest.mark.slow
def test_parts_are_apart_and_none_changes_the_first():
    first = [line(p) for p in tuning()]
    for part in ("methods", "photographs"):
        grid = tuning(part)
        assert len(grid) == len(settings(part)) * 3
        assert missing(first, part) == grid
        assert missing([line(p) for p in grid]) == tuning()  # of the first
        runs = [*first, *map(line, grid)]
        assert [p.seed for p in missing(runs, part)][:: len(settings(part))] == list(range(plan(part)["seeds"]))
        assert len(missing(runs)) == 64
        done = [line(p) for p in missing(runs, part)]
        assert missing([*runs, *done], part) == []
        assert len(missing([*runs, *done])) == 64
    names = [(p.recipe.name, p.seed) for part in PLAN["parts"] for p in tuning(part)]
    assert len(set(names)) == len(names)
    with pytest.raises(DataError, match=r"no part of the protocol 'photos': did you mean 'photographs'"):
        plan("photos")


EXTRA = {"method": "x", "images": 4, "curve": [], "evaluations": [], "protocol": 1, "commit": ""}


@pytest.fixture
def small(monkeypatch):
    """Two methods, one seed, runs of two or four steps on a few scenes; other methods: one more."""
    scenes = {"train": ["train", 1, 16], "tuning": ["val", 2, 4], "validation": ["val", 3, 3], "test": ["test", 4, 6]}
    changes = {"methods": ["scenes-fcos", "scenes-dsla"], "seeds": 1, "steps": 4, "curve_every": 2, "resamples": 5}
    for key, value in (changes | {"scenes": scenes}).items():
        monkeypatch.setitem(PLAN, key, value)
    monkeypatch.setitem(PLAN, "tuning", {"rates": [2e-3, 4e-3], "steps": 2, "seed": 0})
    places = {"train": (0, 8, 16), "tuning": (0, 4, 8), "validation": (4, 8, 8), "test": (0, 8, 16)}
    files = {name: ["val" if name == "test" else "train", *ends] for name, ends in places.items()}
    others = {"methods": ["scenes-tal"], "beside": ["scenes-fcos", "scenes-dsla"]}
    photographs = {"methods": ["scenes-dsla-merged"], "early": 2, "files": files}
    monkeypatch.setitem(PLAN, "parts", {"scenes": {}, "methods": others, "photographs": photographs})
    protocol.scenes.cache_clear()
    yield PLAN
    protocol.scenes.cache_clear()


@pytest.mark.slow
def test_every_run_is_made_once_and_what_is_there_stays(small, tmp_path, monkeypatch):
    printed = []
    table = follow(tmp_path, printed.append, part="scenes")
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
    assert follow(tmp_path, printed.append, part="scenes").equals(table)
    assert len(printed) == 24


def test_processes_side_by_side_make_each_run_once_and_wait_for_one_another(small, tmp_path, monkeypatch):
    """Threads stand for processes: the lock is the same. Each run takes longer than the look at the store."""
    made, first = [], threading.Barrier(3)

    def make(maker, p):
        if len(made) == 0:
            first.wait(30)  # for the other two: three runs are made at a time
        made.append((p.stage, p.base, p.start, p.recipe.lr, p.seed))
        return line(p) | EXTRA

    monkeypatch.setattr(protocol._Maker, "make", make)
    monkeypatch.setattr(protocol, "_WAIT", 0.02)
    printed = []
    with ThreadPoolExecutor(3) as pool:
        tables = list(pool.map(lambda _: follow(tmp_path, printed.append, part="scenes"), range(3)))
    about = ("stage", "recipe", "start", "lr", "seed")
    assert sorted(made) == sorted(tuple(r[k] for k in about) for r in read(tmp_path / FILE, protocol=1))
    assert len(made) == 8 + 4
    assert [stage for stage, *_ in made] == ["tuning"] * 8 + ["main"] * 4  # the grid is whole before a rate is chosen
    assert all(len(table) == 12 for table in tables)
    assert not list(tmp_path.rglob(".lock"))


def test_what_stops_a_run_is_told_and_leaves_no_claim(small, tmp_path, monkeypatch):
    """Also that its folder is that of another training, which is none of the protocol's."""
    for error in (InUse("in use by process 1"), DataError("the disk is full")):

        def make(*_, error=error):
            raise error

        monkeypatch.setattr(protocol._Maker, "make", make)
        with pytest.raises(DataError, match=str(error)):
            follow(tmp_path, lambda _: None, part="scenes")
        assert not list(tmp_path.rglob(".lock"))


@pytest.mark.slow
def test_further_parts_are_made_on_their_images_and_shown_once_they_are_there(small, tmp_path, monkeypatch, capsys):
    annotations = Scenes("train", size=16).to_coco(tmp_path / "cells")
    for split in ("train", "val"):
        shutil.copy(annotations, annotations.with_name(f"instances_{split}.json"))
    follow(tmp_path, lambda _: None, part="scenes")
    pages = [_protocol(read(tmp_path / FILE, protocol=1), part) for part in small["parts"]]
    assert [page["done"] for page in pages] == [{"tuning": 8, "main": 4}, *[{"tuning": 0, "main": 0}] * 2]
    assert [bool(page["methods"]) for page in pages] == [True, False, False]
    command = ["reproduce", "--train", "--quiet", "--out", str(tmp_path), "--protocol"]
    assert main([*command, "photographs"]) == 2
    assert "'photographs' of the protocol needs photographs: --data FOLDER" in capsys.readouterr().err
    assert main([*command, "methods", "--data", str(annotations.parent)]) == 2
    assert "'methods' of the protocol is trained on scenes: leave out --data" in capsys.readouterr().err
    assert main([*command]) == 0
    assert "without the part photographs, which needs --data FOLDER" in capsys.readouterr().out
    assert main([*command, "--data", str(annotations.parent)]) == 0
    runs = read(tmp_path / FILE, protocol=1)
    made = [tuple(run[name] for name in ("stage", "recipe", "start", "images")) for run in runs[12:]]
    assert [about for about in made if about[0].endswith("-main")] == [
        ("methods-main", "scenes-tal", "warm", 6),
        ("methods-main", "scenes-tal", "cold", 6),
        ("photographs-main", "scenes-dsla-merged", "warm", 16),
        ("photographs-main", "scenes-dsla-merged", "cold", 16),
    ]
    assert [run["images"] for run in runs if run["stage"] == "photographs-tuning"] == [8] * 4
    assert len({run["key"] for run in runs}) == len(runs) == 24
    first, others, photographs = (_protocol(runs, part) for part in small["parts"])
    assert first == pages[0]
    assert others["methods"].count("| TAL | ") == 2
    assert others["methods"].count("| DSLA | ") == others["methods"].count("| FCOS + centerness | ") == 2
    assert "| TAL does better than DSLA | AP | 1.5 | – | " in others["others"]
    assert (others["seeds"], photographs["seeds"]) == (1, 1)
    assert photographs["methods"].count("| centerness as the class label | ") == 2
    table = protocol_table(runs, "photographs-main")
    assert table["scenes"].value_counts().to_dict() == {"validation": 4, "test": 2}
    monkeypatch.setattr("dsla.training.loop.train", None)
    assert main([*command, "--data", str(annotations.parent)]) == 0


@pytest.mark.slow
def test_runs_of_the_protocol_are_not_among_the_earlier_ones(small, tmp_path):
    follow(tmp_path, lambda _: None, part="scenes")
    assert read_runs(tmp_path / FILE).empty
    assert len(read(tmp_path / FILE, protocol=1)) == 12
    assert len(read_runs(tmp_path / FILE, protocol=1)["lr"].unique()) <= 2


@pytest.mark.slow
def test_the_shell_refuses_what_the_protocol_decides(small, tmp_path, capsys):
    out = ["--out", str(tmp_path)]
    for wrong in (["--protocol"], ["--train", "--protocol", "--seeds", "3"], ["--train", "--protocol", "--steps", "9"]):
        assert main(["reproduce", *wrong, *out]) == 2
        assert "protocol" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main(["reproduce", "--train", "--data", "cells", *out]) == 2
    assert "--data is for --protocol" in capsys.readouterr().err
    assert main(["reproduce", "--train", "--protocol", "photos", *out]) == 2
    assert "did you mean 'photographs'" in capsys.readouterr().err
    assert main(["reproduce", "--train", "--protocol", "scenes", *out]) == 0
    assert capsys.readouterr().out.count("scenes-dsla") > 6


def test_the_figure_shows_every_run_as_a_point():
    runs = [line(p) for p in tuning()]
    done = missing(runs)[:9]
    for i, p in enumerate(done):
        curve = [{"step": 500, "AP": 0.1 + i / 100}, {"step": 4000, "AP": 0.3}]
        runs.append(line(p, 0.4 + i / 100) | {"steps": 4000, "evaluations": curve})
    table = protocol_table(runs)
    assert len(table) == 9 * 3
    assert list(dict.fromkeys(table["start"])) == ["warm", "cold"]
    ends = table.loc[table["scenes"] == "test", "AP"].tolist()
    assert ends == pytest.approx([0.4 + i / 100 for i in (0, 2, 4, 6, 8, 1, 3, 5, 7)])
    assert table["seed"].value_counts().to_dict() == {0: 24, 1: 3}
    figure = trends.protocol(table)
    points = [c.get_offsets().data for ax in figure.axes for c in ax.collections]
    heights = sorted(float(y) for offsets in points for y in offsets[:, 1])
    assert heights == pytest.approx(sorted(100 * table["AP"]))
    assert "1 to 2 of its seeds" in figure.caption
