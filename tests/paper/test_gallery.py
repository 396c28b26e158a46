"""The figures of the method and of the assigners: their tables hold what the functions compute."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dsla.assigners import METHODS
from dsla.paper import gallery
from dsla.plots import diagrams
from dsla.plots.network import network_table


def test_interval_table_by_hand():
    table = diagrams.interval_table().set_index(["kind", "level", "m"])["h"]
    assert table["hard", 0, 64.0] == table["hard", 1, 64.0] == 1
    assert table["hard", 0, 65.0] == 0
    assert table["relaxed", 0, 70.0] == pytest.approx((76 - 70) / 12)
    assert table["relaxed", 1, 60.0] == pytest.approx((60 - 51) / 13)
    assert table.max() == 1
    assert table.min() == 0


def test_the_core_zone_changes_labels_only_within_half_a_stride_of_the_centre():
    table = diagrams.centerness_table().pivot(index=["x", "y"], columns="core_zone", values="label")
    changed = table[table[True] != table[False]].reset_index()
    assert len(changed) > 3
    assert changed["x"].sub(80).abs().max() <= 4
    assert changed["y"].sub(68).abs().max() <= 4
    assert (changed[True] == 1).all()


def test_quality_focal_table_vanishes_at_its_target():
    table = diagrams.quality_focal_table()
    at = table[(table["target"] - table["score"]).abs() < 1e-6]
    assert list(at["target"]) == [0.3, 0.7]
    np.testing.assert_allclose(at[["loss", "gradient"]], 0, atol=1e-6)
    np.testing.assert_allclose(at["entropy"], 0.6108643, rtol=1e-6)


@pytest.mark.slow
def test_own_figures_have_tables_and_captions_and_equal_bytes_on_a_second_run():
    from dsla.plots.style import picture_bytes

    first = list(gallery._method_figures())
    photographs = ["compare", "methods", "label-maps", "label-maps-trained"]
    names = [*photographs, "intervals", "core-zone", "quality-focal-loss", "network", "reactions"]
    assert [name for name, _, _ in first] == names
    for _, figure, table in first:
        assert figure.caption
        assert len(table)
    methods = {n: t for n, _, t in first}["methods"]
    assert methods["method"].nunique() == len(METHODS)
    second = {n: (f, t) for n, f, t in gallery._method_figures()}
    for name, figure, table in first:
        pd.testing.assert_frame_equal(table, second[name][1])
        if name not in photographs:
            assert picture_bytes(figure, "svg") == picture_bytes(second[name][0], "svg")


def test_figures_over_seeds_hold_the_runs_and_the_published_numbers(tmp_path, capsys):
    figures = {name: (figure, table) for name, figure, table in gallery._figures_over_seeds(tmp_path, True)}
    assert {"protocol", "photographs"} <= set(figures)  # runs of their main stages are there
    early = ["ablation", "gamma", "conditions", "training-curves"]
    assert [name for name in figures if name not in ("protocol", "photographs")] == early
    for name in early:
        assert "3 seeds" in figures[name][0].caption
    table = figures["ablation"][1].set_index(["recipe", "source"])
    assert table.loc[("scenes-dsla", "paper, COCO"), "AP"] == 0.381
    mine = table.loc[("scenes-dsla", "embedded set")]
    seeds = mine[mine["seed"].notna()]["AP"]
    assert len(seeds) == 3
    assert mine[mine["seed"].isna()]["AP"].item() == pytest.approx(seeds.mean())
    gain = mine[mine["seed"] == 1]["gain"].item()
    base = table.loc[("scenes-fcos", "embedded set")].set_index("seed")["AP"]
    assert gain == pytest.approx(mine[mine["seed"] == 1]["AP"].item() - base[1])


def test_without_runs_they_are_left_out(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gallery, "repository_file", lambda name: None)
    assert list(gallery._figures_over_seeds(tmp_path, True)) == []
    assert "left out" in capsys.readouterr().out


@pytest.mark.slow
def test_the_network_is_the_built_one():
    import dsla

    table = {n: t for n, _, t in gallery._method_figures()}["network"].set_index("name")
    assert table.loc["P3", ["channels", "height", "width", "stride"]].tolist() == [256, 100, 168, 8]
    assert table.loc["P7", ["height", "width"]].tolist() == [7, 11]
    model = dsla.build("r50-1x", num_classes=80)
    scales = 5  # of the levels, which no map holds
    assert table["parameters"].sum() == pytest.approx(sum(p.numel() for p in model.parameters()), abs=scales + 1)
    with pytest.raises(dsla.DataError, match="Swin-S"):
        network_table("swin-s-dcn-3x", 80, (224, 224))
