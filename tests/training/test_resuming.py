"""What resuming reads and refuses, and that it continues with parts of steps and chance in the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import TINY, few_scenes, quiet

import dsla
from dsla.data.sampling import Part
from dsla.errors import DataError
from dsla.models.weights import read
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


class Moved(Part):
    """The same images under other ids."""

    def image_id(self, i):
        return super().image_id(i) + 1000


@pytest.mark.robustness("lost: a run goes on with its own images alone, and not with as many others")
def test_a_run_goes_on_with_its_own_images_alone(scenes, tmp_path):
    """As many images, of another seed or under other ids, are told apart; a checkpoint from before this is resumed."""
    quiet(TINY, scenes, out=tmp_path, stop_after=2)
    others = dsla.Scenes("train", size=len(scenes), seed=1), Moved(scenes, range(len(scenes)))
    for other in others:
        with pytest.raises(DataError, match=r"checkpoint\.pt: of other images or annotations, though as many"):
            quiet(TINY, other, out=tmp_path, resume=True)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["identity"].pop("data") == scenes.fingerprint() != others[0].fingerprint()
    torch.save({**state, "sha256": "of before checksums"}, tmp_path / "checkpoint.pt")
    assert quiet(TINY, scenes, out=tmp_path, resume=True).log[-1]["step"] == TINY.steps


@pytest.mark.robustness("lost: best and the numbers of weights say on which data they were measured")
def test_numbers_are_of_the_data_that_they_were_measured_on(scenes, tmp_path):
    """Resumed with other images to evaluate on: evaluated on these, whatever the best on the others was."""
    first, second = dsla.Scenes("val", size=4), dsla.Scenes("val", size=2)
    quiet(TINY, scenes, out=tmp_path, val=first)
    kept, _ = read(tmp_path / "model.safetensors")
    assert kept["metric"]["fingerprint"] == first.fingerprint()
    rows = quiet(TINY, scenes, out=tmp_path, val=second, resume=True).log
    assert [row["fingerprint"] for row in rows if row.get("event") == "evaluate"][-1] == second.fingerprint()
    for name in ("model", "best"):
        about, _ = read(tmp_path / f"{name}.safetensors")
        assert about["metric"]["fingerprint"] == second.fingerprint()
        assert about["metric"]["steps"] == TINY.steps


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(scenes, tmp_path, monkeypatch):
    def full(state, file):
        file.write(b"half")
        raise OSError("No space left on device")

    quiet(TINY, scenes, out=tmp_path, stop_after=2)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    monkeypatch.setattr("dsla.training.folder.torch.save", full)
    with pytest.raises(OSError, match="No space"):
        quiet(TINY, scenes, out=tmp_path, resume=True)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


@pytest.mark.slow
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


def test_a_run_that_is_resumed_to_where_it_stopped_stays_there(scenes, tmp_path):
    for resume in (False, True):
        quiet(TINY, scenes, out=tmp_path, log_every=1, stop_after=3, resume=resume)
        assert read_log(tmp_path / "log.jsonl")[-1]["step"] == 3
    assert not (tmp_path / "model.safetensors").exists()
    quiet(TINY, scenes, out=tmp_path, log_every=1, stop_after=1, resume=True)
    assert read_log(tmp_path / "log.jsonl")[-1]["step"] == 3
    quiet(TINY, scenes, out=tmp_path, log_every=1, stop_after=9, resume=True)
    assert (tmp_path / "model.safetensors").exists()
    with pytest.raises(DataError, match="stop_after is 1 or more, a whole number, got 0"):
        quiet(TINY, scenes, stop_after=0)


@pytest.mark.robustness("lost: a run that began with weights of its own is resumed where those of ImageNet are not")
def test_resuming_asks_for_no_weights_of_imagenet(scenes, tmp_path):
    """As of `r50-1x`, whose caffe-style weights are given by --weights, and on a machine without network."""
    recipe = TINY.replace(pretrained=True)
    with pytest.raises(DataError, match="no ImageNet weights"):
        quiet(recipe, scenes)
    quiet(recipe, scenes, out=tmp_path, model=dsla.build(recipe, class_names=scenes.class_names), stop_after=2)
    assert quiet(recipe, scenes, out=tmp_path, resume=True).log[-1]["step"] == TINY.steps


@pytest.mark.robustness("wrong: a run of pictures with another value range is another run")
def test_a_value_range_is_of_the_data(tmp_path):
    (tmp_path / "a.json").write_text(
        '{"images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 9}], "categories": [{"id": 1, "name": "a"}],'
        '"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}]}'
    )
    ranges = (None, (0, 4095), [0.0, 4095.0], (0, 1023))
    prints = [dsla.CocoDataset(tmp_path, tmp_path / "a.json", value_range=r).fingerprint() for r in ranges]
    assert prints[1] == prints[2]
    assert len(set(prints)) == 3


def test_what_a_killed_process_left_half_written_goes_and_nothing_else(scenes, tmp_path):
    quiet(TINY, scenes, out=tmp_path, stop_after=2)
    mine, rest = tmp_path / ".film.mkv.part", tmp_path / ".checkpoint.pt.123.part"
    for path in (mine, rest):
        path.write_bytes(b"half")
    quiet(TINY, scenes, out=tmp_path, resume=True)
    assert (mine.exists(), rest.exists()) == (True, False)


@pytest.mark.robustness("unclear: numbers of a training that mean nothing are refused before it takes its folder")
@pytest.mark.parametrize(
    "number",
    [
        {"eval_every": 0}, {"eval_every": float("nan")}, {"eval_every": "1"}, {"checkpoint_every": 0},
        {"checkpoint_every": -1}, {"workers": -1}, {"workers": None}, {"accumulate": 1.5}, {"seed": 1.5},
        {"seed": 2**70}, {"seed": None}, {"stop_after": 2.5}, {"stop_after": True}, {"log_every": None},
    ],
)  # fmt: skip
def test_numbers_that_mean_nothing_are_refused_before_the_folder_is_taken(scenes, tmp_path, number):
    with pytest.raises(DataError, match=f"^{next(iter(number))} is "):
        quiet(TINY, scenes, val=scenes, out=tmp_path / "run", **number)
    assert not (tmp_path / "run").exists()


def test_whole_numbers_of_other_types(scenes, tmp_path):
    numbers = {"seed": np.int64(3), "workers": 0.0, "accumulate": 2.0, "stop_after": 2.0, "eval_every": float("inf")}
    result = quiet(TINY, scenes, val=scenes, out=tmp_path, **numbers)
    assert (result.log[0]["seed"], torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"]) == (3, 2)
