"""Files that strangers made: limits come before memory, wrappers of other trainers are opened."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import dsla
from dsla.errors import DataError
from dsla.models.build import build
from dsla.models.checkpoint import _class_names
from dsla.models.weights import read_checkpoint

SMALL = dsla.recipe("scenes-dsla", channels=16, head_convs=1)


def with_metadata(tmp_path, **changes):
    """A file of ours whose metadata say something else; the hash is of the tensors alone."""
    path = dsla.save(build(SMALL, 3), tmp_path / "m.safetensors")
    with safe_open(path, "pt") as file:
        about = {k: json.loads(v) for k, v in file.metadata().items()}
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    about["recipe"] |= changes.pop("recipe", {})
    about["category_ids"] = list(range(len(changes.get("class_names", about["class_names"]))))
    save_file(tensors, path, metadata={k: json.dumps(v) for k, v in (about | changes).items()})
    return path


@pytest.mark.robustness("strangers: metadata beyond sense are refused before anything is built")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"recipe": {"head_convs": 1_000_000}}, "head_convs=1000000; from 0 to 32 is possible"),
        ({"recipe": {"channels": 4096, "head_convs": 32}}, "does not fit the model"),
        ({"recipe": {"pixel_scale": float("nan")}}, "pixel_scale=nan: a finite number"),
        ({"recipe": {"backbone": "resnet101"}}, "does not fit the model"),
        ({"class_names": "abc"}, "its class_names is 'abc'"),
        ({"class_names": [1, 2, 3]}, r"its class_names is \[1, 2, 3\]"),
        ({"class_names": ["a"] * 70_000}, "num_classes is a whole number from 1 to 65536, got 70000"),
        ({"class_names": []}, "num_classes is a whole number from 1 to 65536, got 0"),
        ({"metric": 3}, "its metric is 3"),
    ],
)
def test_metadata_beyond_sense_are_refused_before_anything_is_built(tmp_path, monkeypatch, changes, reason):
    path = with_metadata(tmp_path, **changes)
    monkeypatch.setattr("dsla.models.saving.build", None)  # what is real is not reached
    with pytest.raises(DataError, match=reason):
        dsla.load(path)


@pytest.mark.robustness("strangers: tensors that claim more than is stored are refused")
def test_tensors_that_claim_more_than_is_stored(tmp_path):
    for claim in (torch.zeros(1).expand(10**9), torch.zeros(1, 1).expand(10**9, 256)):
        torch.save({"bbox_head.conv_cls.weight": claim}, tmp_path / "huge.pth")
        assert (tmp_path / "huge.pth").stat().st_size < 10_000
        with pytest.raises(DataError, match=r"bbox_head\.conv_cls\.weight claims \[1000000000"):
            read_checkpoint(tmp_path / "huge.pth")


@pytest.mark.robustness("unclear: wrappers and prefixes of trainers are opened")
@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model."])
def test_wrappers_and_prefixes_of_trainers_are_opened(tmp_path, wrapper, prefix):
    state = {"backbone.conv1.weight": torch.rand(2, 3), "neck.fpn_convs.0.conv.bias": torch.rand(2)}
    stored = {"epoch": 3, wrapper: {prefix + k: v for k, v in state.items()}, "optimizer": {"lr": 0.1}}
    torch.save(stored, tmp_path / "theirs.pth")
    read, _ = read_checkpoint(tmp_path / "theirs.pth")
    assert list(read) == list(state)
    assert all(torch.equal(read[k], v) for k, v in state.items())
    torch.save({"epoch": 3, wrapper: "nothing"}, tmp_path / "theirs.pth")
    with pytest.raises(DataError, match="neither a state dict nor a checkpoint"):
        read_checkpoint(tmp_path / "theirs.pth")


@pytest.mark.robustness("unclear: class names of mmdetection 2 and 3 are taken")
def test_class_names_of_mmdetection_2_and_3():
    assert _class_names({"CLASSES": ("a", "b")}, 2) == ["a", "b"]
    assert _class_names({"dataset_meta": {"classes": ("a", "b"), "palette": []}}, 2) == ["a", "b"]
    assert _class_names({"dataset_meta": {"CLASSES": ("a", "b")}}, 2) == ["a", "b"]
    assert _class_names({"dataset_meta": {"classes": ("a",)}}, 2) == ["class 0", "class 1"]
    assert _class_names({"dataset_meta": 3}, 1) == ["class 0"]


@pytest.mark.parametrize("classes", ["80", 2.5, 0, [80], float("nan"), 10**9])
def test_numbers_of_classes_that_are_none_are_refused(classes):
    with pytest.raises(DataError, match="num_classes is a whole number from 1 to 65536, got"):
        dsla.build("scenes-dsla", num_classes=classes)
