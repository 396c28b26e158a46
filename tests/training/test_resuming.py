"""What resuming reads and refuses, and that it continues with parts of steps and chance in the network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import TINY, few_scenes, quiet

import dsla
from dsla.data.sampling import Part
from dsla.errors import DataError
from dsla.training.loop import read_log


@pytest.fixture(scope="module")
def scenes():
    return few_scenes()


def test_what_a_damaged_checkpoint_and_another_recipe_are_told(scenes, tmp_path):
    """Each names the file and, of a recipe, the fields with both values; none is taken for a beginning."""
    quiet(TINY, scenes, out=tmp_path, stop_after=2)
    with pytest.raises(DataError, match=r"checkpoint\.pt: of another recipe \(lr: 0\.004 there, 0\.5 here\)"):
        quiet(TINY.replace(lr=0.5), scenes, out=tmp_path, resume=True)
    with pytest.raises(DataError, match=r"of another images \(8 there, 4 here\)"):
        quiet(TINY, Part(scenes, range(4)), out=tmp_path, resume=True)
    whole = (tmp_path / "checkpoint.pt").read_bytes()
    other = tmp_path / "other.pt"
    torch.save({"step": 3}, other)
    for content in (b"", b"garbage", whole[: len(whole) // 2], other.read_bytes()):
        (tmp_path / "checkpoint.pt").write_bytes(content)
        with pytest.raises(DataError, match=r"checkpoint\.pt: no checkpoint of a run, or a damaged one"):
            quiet(TINY, scenes, out=tmp_path, resume=True)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(scenes, tmp_path, monkeypatch):
    def full(state, path):
        Path(path).write_bytes(b"half")
        raise OSError("No space left on device")

    quiet(TINY, scenes, out=tmp_path, stop_after=2)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    monkeypatch.setattr("dsla.training.folder.torch.save", full)
    with pytest.raises(OSError, match="No space"):
        quiet(TINY, scenes, out=tmp_path, resume=True)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_resuming_with_parts_and_chance_in_the_network_gives_the_same_weights(scenes, tmp_path):
    """Three parts a step of four images, multi-scale, drop path's stand-in: a dropout that every step draws anew."""
    r = TINY.replace(min_size=(96, 128), optimizer="adamw")

    def model():
        torch.manual_seed(2)
        new = dsla.build(r, class_names=scenes.class_names)
        new.pyramid = torch.nn.Sequential(new.pyramid, Dropped())
        return new

    options = {"accumulate": 3, "log_every": 1}
    through = quiet(r, scenes, out=tmp_path / "a", model=model(), **options)
    quiet(r, scenes, out=tmp_path / "b", model=model(), stop_after=3, **options)
    resumed = quiet(r, scenes, out=tmp_path / "b", model=model(), resume=True, **options)
    for x, y in zip(through.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(x, y)
    a, b = ([r.get("loss") for r in read_log(tmp_path / n / "log.jsonl")] for n in "ab")
    assert a == b


class Dropped(torch.nn.Module):
    def forward(self, maps):
        return {k: torch.nn.functional.dropout(v, 0.2, self.training) for k, v in maps.items()}
