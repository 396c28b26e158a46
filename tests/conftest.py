"""Fixtures for all tests, and how those that run beside each other share a machine."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes: a thread for each, and for those they start
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Invariants are about values; how long an example takes depends on what else the machine does.
settings.register_profile("values", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("values")

SHARED = Path(__file__).resolve().parents[2] / "shared"
EXCERPT = Path(__file__).with_name("release") / "excerpt.npz"


def pytest_cmdline_main(config: pytest.Config) -> None:
    """Of tests that run beside each other (``-n auto``) those of a file stay together: they share what is trained."""
    if getattr(config.option, "dist", "no") == "load":
        config.option.dist = "loadfile"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The optional folder `../shared` beside the repository, with reference outputs and real data."""
    if not SHARED.is_dir():
        pytest.skip(f"no reference data: {SHARED} is not there")
    return SHARED


class Excerpt(Mapping[str, np.ndarray]):
    """One file of the recorded outputs, as far as `release/excerpt.npz` holds it; `files` as numpy's archives."""

    def __init__(self, name: str) -> None:
        self.name, self.archive = name, np.load(EXCERPT)
        self.files = [k.partition("/")[2] for k in self.archive.files if k.startswith(f"{name}/")]

    def __getitem__(self, key: str) -> np.ndarray:
        return self.archive[f"{self.name}/{key}"]

    def __iter__(self):
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


@pytest.fixture(scope="session")
def recorded() -> Callable[[str], Mapping[str, np.ndarray]]:
    """Outputs that the authors' code gave, by name: all of `../shared/parity`, or what of it lies in `release/`."""

    def load(name: str) -> Mapping[str, np.ndarray]:
        if SHARED.is_dir():
            return np.load(SHARED / "parity" / f"{name}.npz")
        excerpt = Excerpt(name)
        if not excerpt.files:
            pytest.skip(f"no recorded outputs {name!r}: {SHARED} is not there, and the excerpt has none")
        return excerpt

    return load
