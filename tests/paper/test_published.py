"""Published numbers: as in the documents they come from, and labelled as such."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dsla.paper import published
from dsla.recipes import RECIPES

TABLES = (published.results, published.ablation, published.gamma_sweep, published.release_ap, published.release_losses)


@pytest.mark.parametrize("table", TABLES)
def test_every_number_says_that_it_is_published_and_where(table):
    rows = table()
    assert rows.attrs == {"published": True, "data": "COCO val2017"}
    number = "loss" if "loss" in rows else "AP"
    assert (rows["source"].notna() == rows[number].notna()).all()
    assert set(rows["source"].dropna()) <= {"release log", "paper"}


def test_results_and_the_last_epochs_of_the_logs_agree():
    last = published.release_ap().groupby("recipe").last()
    rows = published.results().set_index("recipe")
    assert len(last) == 3
    for name in last.index:
        columns = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
        assert rows.loc[name, columns].tolist() == last.loc[name, columns].tolist(), name
        assert rows.loc[name, "epochs"] == last.loc[name, "epoch"]
    assert rows.loc["r50-1x", "AP"] == 0.381
    assert rows.loc["x101-64x4d-dcn-2x", "AP"] == 0.481


def test_ablation_and_sweep():
    assert published.ablation()["AP"].dropna().tolist() == [0.366, 0.369, 0.381, 0.352]
    sweep = published.gamma_sweep().set_index("gamma")["AP"]
    assert sweep.loc[[0.1, 0.2, 0.3, 0.4]].tolist() == [0.379, 0.381, 0.378, 0.377]
    assert np.isnan(sweep[0.0])
    for table in (published.ablation(), published.gamma_sweep()):
        for name in table["recipe"]:
            assert name in RECIPES
    for gamma, name in published.gamma_sweep()[["gamma", "recipe"]].itertuples(index=False):
        assert RECIPES[name].relaxation == gamma


def test_losses_of_the_release():
    rows = published.release_losses()
    first = rows[rows["recipe"] == "r50-1x"].iloc[0]
    assert first[["iteration", "loss_cls", "loss_bbox", "loss"]].tolist() == [50, 0.9919, 2.328, 3.32]
    assert first["epochs"] == pytest.approx(50 / 7330)
    assert (rows["loss"] - rows["loss_cls"] - rows["loss_bbox"]).abs().max() < 2e-4
    assert all(part["epochs"].is_monotonic_increasing for _, part in rows.groupby("recipe"))
    assert rows.groupby("recipe")["epochs"].max().round().to_dict() == {
        "r101-dcn-2x": 24,
        "r50-1x": 12,
        "swin-s-dcn-3x": 36,
    }


def test_curves_are_those_of_the_release(shared):
    for name, made in (("official_ap_per_epoch", published.release_ap()),
                       ("official_training_log", published.release_losses())):  # fmt: skip
        source = pd.read_csv(shared / "reference" / f"{name}.csv")
        columns = [c for c in source.columns if c in made and c != "model"]
        pd.testing.assert_frame_equal(made[columns], source[columns], check_frame_type=False)
