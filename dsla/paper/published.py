"""What others have published about DSLA, as tables: results, ablation, sweep of γ, the release's training curves.

Nothing here was measured by this package. Every table has a column `source`: "release log" for numbers of the training
logs that the authors published with their code (first-hand), "paper" for those of the paper (Su et al., Pattern
Recognition 131, 2022, arXiv 2208.00817) as public summaries quote them. AP is box AP on COCO val2017, 0…1; NaN where
nothing is published.
"""

from importlib.resources import files

import pandas as pd

ITERATIONS = 7330  # an epoch: COCO train2017, 16 images a step
DATA = "COCO val2017"
RELEASE = "release log"


def results() -> pd.DataFrame:
    """recipe, backbone, epochs, AP, AP50, AP75, APs, APm, APl, source."""
    return _table("results")


def ablation(study: str = "ablation") -> pd.DataFrame:
    """setting, recipe (of the embedded set, with the same setting), AP, source: ResNet-50, 12 epochs.

    Args:
        study: "ablation", or "gamma", see `gamma_sweep`.

    Settings for which nothing is published have no AP and no source; the embedded set fills them in.
    """
    table = _table("ablation")
    return table[table["study"] == study].drop(columns="study").reset_index(drop=True)


def gamma_sweep() -> pd.DataFrame:
    """gamma, recipe (of the embedded set, with this γ), AP, source: all of DSLA, ResNet-50, 12 epochs."""
    return ablation("gamma").rename(columns={"setting": "gamma"}).astype({"gamma": float})


def release_ap() -> pd.DataFrame:
    """Of the release's runs after each epoch: recipe, epoch, AP, AP50, AP75, APs, APm, APl, source."""
    return _table("release_ap").assign(source=RELEASE)


def release_losses() -> pd.DataFrame:
    """Of the release's runs while training, means over the 50 iterations before, nothing smoothed.

    recipe, epoch (from 1), iteration (in the epoch), epochs (done, a fraction), lr, loss_cls, loss_bbox, loss, source.
    """
    table = _table("release_losses").assign(source=RELEASE)
    table.insert(3, "epochs", table["epoch"] - 1 + table["iteration"] / ITERATIONS)
    return table


def _table(name: str) -> pd.DataFrame:
    with files("dsla").joinpath("paper", "reference", f"{name}.csv").open(encoding="utf-8") as file:
        table = pd.read_csv(file)
    table.attrs = {"published": True, "data": DATA}
    return table
