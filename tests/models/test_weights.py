"""Saving and loading: the same bits and the same recipe, or one clear error."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torchvision.models import resnet50

import dsla
from dsla import DataError
from dsla.models import build, saving, weights
from dsla.models.backbone import SmallNet
from dsla.models.checkpoint import from_mmdetection, from_torchvision_fcos
from dsla.models.weights import content_hash, mismatches
from dsla.recipes import recipe

NAMES = ("disc", "ring", "bar")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build("scenes-fcos", class_names=NAMES)


@pytest.mark.parametrize("name", ["scenes-dsla", "scenes-fcos", "scenes-fcos-plain"])
def test_round_trip(tmp_path, name):
    model = build(recipe(name, score_threshold=0.01, lr=1e-3), class_names=NAMES)
    model.to(memory_format=torch.channels_last)
    path = dsla.save(model, tmp_path / "deep" / "model.safetensors", metric={"AP": 0.25})
    again = dsla.load(path)
    assert again.recipe == model.recipe
    assert again.class_names == NAMES
    assert not again.training
    assert again.postprocess.score_threshold == 0.01
    stored, wanted = again.state_dict(), model.state_dict()
    assert list(stored) == list(wanted)
    assert all(torch.equal(stored[k], wanted[k]) and stored[k].dtype == wanted[k].dtype for k in wanted)
    picture = [torch.rand(3, 96, 96)]
    with torch.no_grad():
        one, two = (m.eval().forward_raw(picture).outputs for m in (model, again))
    torch.testing.assert_close(one.logits, two.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(one.boxes, two.boxes, rtol=1e-4, atol=1e-3)


def test_what_the_file_says(tmp_path, model):
    path = dsla.save(model, tmp_path / "m.safetensors", metric={"AP": 0.25})
    with safe_open(path, "pt") as file:
        about = {k: json.loads(v) for k, v in file.metadata().items()}
    assert about["recipe"]["name"] == "scenes-fcos"
    assert about["class_names"] == list(NAMES)
    assert about["metric"] == {"AP": 0.25}
    assert about["point_offset"] == 0.5
    assert about["normalisation"]["mean"] == list(model.recipe.mean)
    assert about["sha256"] == content_hash(model.state_dict())


def test_hash_sees_names_types_shapes_and_bits():
    base = {"a": torch.arange(4.0), "b": torch.tensor(2)}
    assert content_hash(base) == content_hash(dict(reversed(base.items())))
    others = (
        {"a": torch.arange(4.0), "c": torch.tensor(2)},
        {"a": torch.arange(4.0).reshape(2, 2), "b": torch.tensor(2)},
        {"a": torch.arange(4), "b": torch.tensor(2)},
        {"a": torch.tensor([-0.0, 1.0, 2.0, 3.0]), "b": torch.tensor(2)},
    )
    assert len({content_hash(base), *map(content_hash, others)}) == 5


def test_a_failed_write_leaves_the_old_file(tmp_path, model, monkeypatch):
    path = dsla.save(model, tmp_path / "m.safetensors")
    before = path.read_bytes()

    def broken(tensors, target, metadata):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(weights, "save_file", broken)
    with pytest.raises(OSError, match="disk full"):
        dsla.save(model, path, overwrite=True)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_wrong_files(tmp_path, model):
    with pytest.raises(DataError, match="no weights at"):
        dsla.load(tmp_path / "nothing.safetensors")
    dsla.save(model, tmp_path / "best.safetensors")
    with pytest.raises(DataError, match=r"no weights at .*, a folder with best\.safetensors: name one of them"):
        dsla.load(tmp_path)

    pickled = tmp_path / "model.pth"
    torch.save(model.state_dict(), pickled)
    with pytest.raises(DataError, match=r"model\.pth is not a safetensors file"):
        dsla.load(pickled)

    bare = tmp_path / "bare.safetensors"
    save_file({"a": torch.zeros(2)}, bare)
    with pytest.raises(DataError, match=r"not written by dsla\.save"):
        dsla.load(bare)

    path = dsla.save(model, tmp_path / "m.safetensors")
    data = bytearray(path.read_bytes())
    (tmp_path / "cut.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"cut\.safetensors"):
        dsla.load(tmp_path / "cut.safetensors")
    data[-5] ^= 1
    (tmp_path / "flipped.safetensors").write_bytes(data)
    with pytest.raises(DataError, match="stored hash"):
        dsla.load(tmp_path / "flipped.safetensors")


def test_no_recipe(tmp_path, model):
    model.recipe = None
    with pytest.raises(DataError, match="no recipe"):
        dsla.save(model, tmp_path / "m.safetensors")


def test_weights_of_another_model(tmp_path, model):
    path = dsla.save(model, tmp_path / "m.safetensors")
    same = build("scenes-fcos", class_names=NAMES, weights=path)
    assert content_hash(same.state_dict()) == content_hash(model.state_dict())
    with pytest.raises(DataError) as error:
        build("scenes-dsla", 7, weights=path)
    text = str(error.value)
    assert "unexpected: head.quality.weight [1, 48, 3, 3]" in text
    assert "shape: head.class_logits.bias is [3], the model has [7]" in text
    assert mismatches({"a": torch.zeros(2)}, {}) == ["missing: a [2]"]


def test_foreign_names():
    renamed = from_mmdetection(
        {
            "backbone.layer1.0.conv1.weight": torch.zeros(1),
            "neck.lateral_convs.0.conv.weight": torch.zeros(2),
            "neck.fpn_convs.0.conv.bias": torch.zeros(3),
            "neck.fpn_convs.1.conv.bias": torch.zeros(4),
            "neck.fpn_convs.2.conv.weight": torch.zeros(5),
            "bbox_head.cls_convs.3.gn.weight": torch.zeros(6),
            "bbox_head.reg_convs.2.conv.conv_offset.bias": torch.zeros(7),
            "bbox_head.scales.1.scale": torch.tensor(2.0),
            "bbox_head.scales.0.scale": torch.tensor(1.0),
        }
    )
    assert {k: v.numel() for k, v in renamed.items()} == {
        "backbone.layer1.0.conv1.weight": 1,
        "pyramid.inner_blocks.0.0.weight": 2,
        "pyramid.layer_blocks.0.0.bias": 3,
        "pyramid.extra_blocks.p6.bias": 4,
        "pyramid.extra_blocks.p7.weight": 5,
        "head.class_tower.10.weight": 6,
        "head.box_tower.6.conv_offset.bias": 7,
        "head.scales": 2,
    }
    assert renamed["head.scales"].tolist() == [1.0, 2.0]
    with pytest.raises(DataError, match=r"rpn_head\.conv\.weight \[3, 3\]"):
        from_mmdetection({"rpn_head.conv.weight": torch.zeros(3, 3)})
    with pytest.raises(DataError, match="1 names that are not of torchvision's"):
        from_torchvision_fcos({"roi_heads.bias": torch.zeros(3)})


def test_a_model_for_other_classes_adopts_the_tensors_that_fit(tmp_path):
    small = recipe("scenes-dsla", channels=16, head_convs=1)
    path = saving.save(build(small, num_classes=5), tmp_path / "five.safetensors")
    model = build(small, num_classes=2)
    left = saving.adopt(model, path)
    given, loaded = weights.read(path)[1], model.state_dict()
    other = {k for k in loaded if loaded[k].shape != given[k].shape}
    assert len(left) == len(other) == 2  # weight and bias of the class logits
    assert all(torch.equal(loaded[k], given[k]) for k in loaded if k not in other)
    with pytest.raises(DataError, match="nothing of its backbone fits"):
        saving.adopt(build(small, num_classes=5).head, path)


def test_numbers_kept_with_weights_may_be_numpys(tmp_path):
    model = build(recipe("scenes-dsla", channels=16, head_convs=1), num_classes=2)
    metric = {"AP": np.float32(0.5), "images": np.int64(3), "AP_large": float("nan"), "data": "mine"}
    about = weights.read_about(saving.save(model, tmp_path / "w.safetensors", metric=metric))
    assert about["metric"] == {"AP": 0.5, "images": 3, "AP_large": None, "data": "mine"}


@pytest.mark.robustness("wrong: weights of another backbone, of which only the head fits, start no run")
def test_weights_of_another_backbone_are_refused():
    model = build(recipe("scenes-dsla"), num_classes=5)
    model.backbone = SmallNet((8, 24, 40, 72, 88))
    with pytest.raises(DataError, match="nothing of its backbone fits the model"):
        saving.adopt(model, "scenes-dsla")


def test_a_file_is_what_it_holds_whatever_its_ending(tmp_path):
    """Ours as .pt, and a backbone's state dict as .ckpt, start a run; a checkpoint is no weights under any name."""
    model, other = (build(recipe("scenes-dsla", channels=16, head_convs=1), num_classes=5) for _ in range(2))
    assert saving.adopt(other, saving.save(model, tmp_path / "ours.pt")) == []
    assert weights.content_hash(other.state_dict()) == weights.content_hash(model.state_dict())
    torch.save(model.backbone.state_dict(), tmp_path / "backbone.ckpt")
    assert saving.adopt(other, tmp_path / "backbone.ckpt") == []
    with pytest.raises(DataError, match="`dsla convert` makes one of a checkpoint"):
        weights.read(tmp_path / "backbone.ckpt")


@pytest.mark.slow
def test_a_run_starts_from_a_backbone_that_somebody_else_trained(tmp_path):
    """A state dict under torchvision's names, classifier and counters included, into a deformable caffe ResNet."""
    torch.manual_seed(3)
    state = resnet50().state_dict()
    torch.save({"state_dict": state}, tmp_path / "msra.pth")
    small = recipe("r50-1x", channels=16, head_convs=1, groups=4, dcn_stages=(5,))
    model = build(small, num_classes=2)
    head = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith("backbone.")}
    assert saving.adopt(model, tmp_path / "msra.pth") == []
    loaded = model.state_dict()
    shared = {k: v for k, v in state.items() if f"backbone.{k}" in loaded}
    assert len(shared) > 260
    assert all(torch.equal(loaded[f"backbone.{k}"], v) for k, v in shared.items())
    assert all(torch.equal(loaded[k], v) for k, v in head.items())
    assert all(not loaded[k].any() for k in loaded if "conv_offset" in k)
    del state["layer1.0.conv1.weight"]
    state["layer4.2.conv3.weight"] = torch.zeros(7, 512, 1, 1)
    torch.save(state, tmp_path / "cut.pt")
    with pytest.raises(DataError) as error:
        saving.adopt(model, tmp_path / "cut.pt")
    assert "missing: layer1.0.conv1.weight [64, 64, 1, 1]" in str(error.value)
    assert "shape: layer4.2.conv3.weight is [7, 512, 1, 1], the model has [2048, 512, 1, 1]" in str(error.value)
    with pytest.raises(DataError, match="`dsla convert` makes one of a checkpoint"):
        weights.read(tmp_path / "cut.pt")


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        ({}, []),
        ({"offset": 0.5}, ["offset was 0.0, is 0.5"]),
        ({"bgr": True, "pixel_scale": 255.0}, ["bgr was False, is True", "pixel_scale was 1.0, is 255.0"]),
        ({"box_coding": "exp", "mean": (0.0, 0.0, 0.0)}, [r"mean was \[.*\], is \[0.0, 0.0", "box_coding was"]),
    ],
)
def test_weights_of_other_conventions_are_adopted_with_a_word(fields, lines):
    """Tensors fit whatever images and boxes they were trained for; the detector is another one."""
    left = saving.adopt(build(recipe("scenes-dsla", **fields), num_classes=5), "scenes-dsla")
    assert len(left) == len(lines)
    assert all(re.match(line, word) for line, word in zip(lines, left, strict=True))


def test_ids_of_categories_are_kept_with_the_weights(tmp_path):
    model = build(recipe("scenes-dsla", channels=16, head_convs=1), class_names=("a", "b"))
    assert model.category_ids == (1, 2)
    model.category_ids = (3, "b7")
    path = saving.save(model, tmp_path / "m.safetensors")
    assert saving.load(path).category_ids == (3, "b7")
    assert saving.load("scenes-dsla").category_ids == (1, 2, 3, 4, 5)  # a file of before they were kept
    tensors = weights.read(path)[1]
    for n, wrong in enumerate(([3], [3, 3], [3, None], {"a": 3})):
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        save_file(tensors, tmp_path / f"{n}.safetensors", metadata=metadata | {"category_ids": json.dumps(wrong)})
        with pytest.raises(DataError, match=r"its category_ids is .* which dsla.save does not write"):
            saving.load(tmp_path / f"{n}.safetensors")
