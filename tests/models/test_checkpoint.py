"""Checkpoints of mmdetection and torchvision → our files: names one to one, what is told, what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models.swin_transformer import PatchMerging, ShiftedWindowAttention

import dsla
from dsla import DataError
from dsla.cli.main import main
from dsla.models import build, checkpoint
from dsla.models.checkpoint import convert, from_mmdetection
from dsla.models.weights import content_hash, mismatches, read, read_checkpoint
from dsla.recipes import recipe

STORED = {  # of parity/state_dict_names.json → the recipe that its tensors are told to be, and where P6 comes from
    "dsla_r50_config_as_published": ("r50-1x", "input"),
    "dsla_r50_as_in_training_log": ("r50-1x", "output"),
    "dsla_r101_config_as_published": ("r101-dcn-2x", "input"),
    "fcos_r50_caffe_gn": ("fcos-r50-1x", "output"),
}


def theirs(names):
    return {name: torch.empty(shape, device="meta") for name, shape, *_ in names}


@pytest.mark.parametrize("stored", STORED)
def test_official_names_map_one_to_one(shared, stored):
    names = json.loads((shared / "parity/state_dict_names.json").read_text())
    assert set(names) == set(STORED)
    given = from_mmdetection(theirs(names[stored]))
    name, extra = STORED[stored]
    with torch.device("meta"):
        model = build(recipe(name, extra_levels=extra), 80)
    assert mismatches(model.state_dict(), given) == []
    trainable = {k for k, p in model.named_parameters() if p.requires_grad}
    expected = set(from_mmdetection(theirs(n for n in names[stored] if n[3])))
    if model.recipe.norm == "frozen":  # buffers, where mmdetection has parameters that do not learn
        expected -= {k for k in expected if ".bn" in k or "downsample.1" in k}
    assert trainable == expected


def resnext_names():
    """mmdetection's ResNeXt-101 64x4d with DCN in C4–C5, by its rules: width 4 · 64 groups in the first stage."""

    def norm(name, width):
        return [(f"{name}.{k}", (width,)) for k in ("weight", "bias", "running_mean", "running_var")]

    names = [("backbone.conv1.weight", (64, 3, 7, 7)), *norm("backbone.bn1", 64)]
    inside = 64
    for stage, blocks in enumerate((3, 4, 23, 3)):
        width, out = 256 << stage, 256 << stage
        for i in range(blocks):
            block = f"backbone.layer{stage + 1}.{i}"
            names += [(f"{block}.conv1.weight", (width, inside, 1, 1)), *norm(f"{block}.bn1", width)]
            names += [(f"{block}.conv2.weight", (width, width // 64, 3, 3)), *norm(f"{block}.bn2", width)]
            names += [(f"{block}.conv3.weight", (out, width, 1, 1)), *norm(f"{block}.bn3", out)]
            if stage >= 2:
                names.append((f"{block}.conv2.conv_offset.weight", (18, width, 3, 3)))
                names.append((f"{block}.conv2.conv_offset.bias", (18,)))
            if i == 0:
                names.append((f"{block}.downsample.0.weight", (out, inside, 1, 1)))
                names += norm(f"{block}.downsample.1", out)
            inside = out
    return names


def swin_names():
    """Of the release's Swin-S, as its training log lists them, and each block's index of positions."""
    names = [("patch_embed.projection.weight", (96, 3, 4, 4)), ("patch_embed.projection.bias", (96,))]
    names += [(f"patch_embed.norm.{k}", (96,)) for k in ("weight", "bias")]
    for stage, (blocks, heads) in enumerate(zip((2, 2, 18, 2), (3, 6, 12, 24), strict=True)):
        c = 96 << stage
        for i in range(blocks):
            block = f"stages.{stage}.blocks.{i}"
            names.append((f"{block}.attn.w_msa.relative_position_bias_table", (169, heads)))
            names.append((f"{block}.attn.w_msa.relative_position_index", (49, 49)))
            for layer, shape in (
                ("attn.w_msa.qkv", (3 * c, c)),
                ("attn.w_msa.proj", (c, c)),
                ("ffn.layers.0.0", (4 * c, c)),
                ("ffn.layers.1", (c, 4 * c)),
            ):
                names += [(f"{block}.{layer}.weight", shape), (f"{block}.{layer}.bias", shape[:1])]
            names += [(f"{block}.{n}.{k}", (c,)) for n in ("norm1", "norm2") for k in ("weight", "bias")]
        if stage < 3:
            names.append((f"stages.{stage}.downsample.reduction.weight", (2 * c, 4 * c)))
            names += [(f"stages.{stage}.downsample.norm.{k}", (4 * c,)) for k in ("weight", "bias")]
        if stage > 0:
            names += [(f"norm{stage}.{k}", (c,)) for k in ("weight", "bias")]
    return [(f"backbone.{name}", shape) for name, shape in names]


def neck_and_head_names(channels):
    names = []
    for i, c in enumerate(channels):
        at = f"neck.lateral_convs.{i}.conv"
        names += [(f"{at}.weight", (256, c, 1, 1)), (f"{at}.bias", (256,))]
    for i in range(5):
        at = f"neck.fpn_convs.{i}.conv"
        names += [(f"{at}.weight", (256, 256, 3, 3)), (f"{at}.bias", (256,))]
    for tower in ("cls_convs", "reg_convs"):
        for i in range(4):
            at = f"bbox_head.{tower}.{i}"
            names += [(f"{at}.conv.weight", (256, 256, 3, 3)), (f"{at}.conv.bias", (256,))]
            names += [(f"{at}.gn.{k}", (256,)) for k in ("weight", "bias")]
        names.append((f"{at}.conv.conv_offset.weight", (27, 256, 3, 3)))
        names.append((f"{at}.conv.conv_offset.bias", (27,)))
    for layer, c in (("conv_cls", 80), ("conv_reg", 4)):
        names += [(f"bbox_head.{layer}.weight", (c, 256, 3, 3)), (f"bbox_head.{layer}.bias", (c,))]
    return names + [(f"bbox_head.scales.{i}.scale", ()) for i in range(5)]


@pytest.mark.parametrize(
    ("name", "names", "channels"),
    [("swin-s-dcn-3x", swin_names, (192, 384, 768)), ("x101-64x4d-dcn-2x", resnext_names, (512, 1024, 2048))],
)
def test_names_of_the_other_released_models_map_one_to_one(name, names, channels):
    given = from_mmdetection(theirs(names() + neck_and_head_names(channels)))
    with torch.device("meta"):
        assert mismatches(build(name, 80).state_dict(), given) == []


class Merging(nn.Module):
    """mmdetection's: nn.Unfold collects 2×2 positions of each channel, then norm and reduction."""

    def __init__(self, c):
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * c), nn.Linear(4 * c, 2 * c, bias=False)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)

    def forward(self, x):
        patches = nn.functional.unfold(x.permute(0, 3, 1, 2), 2, stride=2).transpose(1, 2)
        return self.reduction(self.norm(patches)).reshape(len(x), x.shape[1] // 2, x.shape[2] // 2, -1)


def test_swins_merging_gives_the_same_after_translation():
    torch.manual_seed(0)
    source, ours = Merging(6), PatchMerging(6)
    given = from_mmdetection({f"backbone.stages.1.downsample.{k}": v for k, v in source.state_dict().items()})
    ours.load_state_dict({k.removeprefix("backbone.features.4."): v for k, v in given.items()})
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(ours(x), source(x), rtol=1e-5, atol=1e-5)


def test_swins_relative_positions_are_torchvisions():
    """mmdetection's formula for the index, flattened as we do."""
    rows = (torch.arange(7)[:, None] * 13 + torch.arange(7)).reshape(1, -1)
    index = (rows + rows.T).flip(1)
    given = from_mmdetection({"backbone.stages.0.blocks.0.attn.w_msa.relative_position_index": index})
    ours = ShiftedWindowAttention(6, [7, 7], [0, 0], 3).relative_position_index
    assert torch.equal(given["backbone.features.1.0.attn.relative_position_index"], ours)


@pytest.fixture
def small(monkeypatch):
    """Recipes small enough to store; P6 from P5 or C5 is told by shape, since C5 is wider."""
    change = {"channels": 16, "head_convs": 1, "groups": 4, "backbone": "resnet50"}
    recipes = tuple(recipe(n).replace(**change) for n in ("r50-1x", "r50-1x-static", "fcos-r50-1x"))
    monkeypatch.setattr("dsla.models.checkpoint.COCO_RECIPES", recipes)
    return recipes


def as_mmdetection(model):
    """Our names → mmdetection's, enough of them for a ResNet."""
    state = {}
    for name, value in model.state_dict().items():
        parts = name.split(".")
        if name == "head.scales":
            state |= {f"bbox_head.scales.{i}.scale": v for i, v in enumerate(value)}
        elif name.startswith("pyramid."):
            at = {"inner_blocks": "lateral_convs", "layer_blocks": "fpn_convs"}.get(parts[1], "fpn_convs")
            place = {"p6": "3", "p7": "4"}.get(parts[2], parts[2])
            state[f"neck.{at}.{place}.conv.{parts[-1]}"] = value
        elif "_tower" in name:
            at = "cls_convs" if "class" in name else "reg_convs"
            state[f"bbox_head.{at}.{int(parts[2]) // 3}.{('conv', 'gn')[int(parts[2]) % 3]}.{parts[-1]}"] = value
        elif name.startswith("head."):
            at = {"class_logits": "conv_cls", "box": "conv_reg", "quality": "conv_centerness"}[parts[1]]
            state[f"bbox_head.{at}.{parts[-1]}"] = value
        else:
            state[name] = value
    return state


@pytest.mark.slow
def test_a_checkpoint_becomes_a_file_that_gives_the_same(tmp_path, small, capsys):
    torch.manual_seed(0)
    source = build(small[0].replace(extra_levels="input"), 3).eval()
    meta = {"CLASSES": ("disc", "ring", "bar"), "epoch": 12}
    torch.save({"meta": meta, "state_dict": as_mmdetection(source), "optimizer": {}}, tmp_path / "theirs.pth")
    converted = convert(tmp_path / "theirs.pth", tmp_path / "ours.safetensors")
    assert converted.others == ("r50-1x-static",)  # only what it was taught differs
    again = dsla.load(converted.path)
    assert again.recipe.name == "r50-1x"
    assert again.recipe.extra_levels == "input"
    assert again.class_names == ("disc", "ring", "bar")
    assert again.recipe.bgr
    batch = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        one, two = (m.head(m.features(batch)) for m in (source, again))
    assert torch.equal(one.logits, two.logits)
    assert torch.equal(one.distances, two.distances)
    assert convert(tmp_path / "theirs.pth", recipe=small[1]).model.recipe.coupling == "off"
    assert main(["convert", str(tmp_path / "theirs.pth"), "--out", str(tmp_path / "shell.safetensors")]) == 0
    printed = capsys.readouterr().out
    assert "r50-1x, P6 from the input, 3 classes" in printed
    assert "its tensors also fit r50-1x-static: --recipe chooses" in printed
    assert content_hash(read(tmp_path / "shell.safetensors")[1]) == content_hash(read(converted.path)[1])


def test_what_does_not_fit_is_listed_against_the_nearest(tmp_path, small):
    state = as_mmdetection(build(small[2], 3))
    del state["bbox_head.scales.4.scale"]
    state["bbox_head.conv_centerness.weight"] = torch.zeros(2, 16, 3, 3)
    torch.save(state, tmp_path / "theirs.pth")
    with pytest.raises(DataError) as error:
        convert(tmp_path / "theirs.pth")
    text = str(error.value)
    assert "fits no recipe; against the nearest, fcos-r50-1x" in text
    assert "shape: head.scales is [4], the model has [5]" in text
    assert "shape: head.quality.weight is [2, 16, 3, 3], the model has [1, 16, 3, 3]" in text


class Trap:
    """Pickled as a call: unpickling it would run print."""

    def __reduce__(self):
        return print, ("executed",)


def test_nothing_is_executed(tmp_path, capsys):
    torch.save({"state_dict": {}, "meta": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(DataError, match=r"trap\.pth: not read, since it holds .+, which could run code"):
        convert(tmp_path / "trap.pth")
    assert "executed" not in capsys.readouterr().out
    (tmp_path / "text.pth").write_text("no checkpoint")
    with pytest.raises(DataError, match=r"text\.pth: not read, since it is no file of torch.save"):
        read_checkpoint(tmp_path / "text.pth")
    save_file({"a": torch.zeros(9)}, tmp_path / "whole.safetensors")  # torch reads those, too
    for name, content in (
        ("empty.pth", b""),
        ("cut.safetensors", (tmp_path / "whole.safetensors").read_bytes()[:-5]),
        ("cut.pth", (tmp_path / "trap.pth").read_bytes()[:-40]),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}: not read, since it is no file of torch.save, or a cut one"):
            read_checkpoint(tmp_path / name)
    with pytest.raises(DataError, match="no checkpoint at"):
        read_checkpoint(tmp_path / "none.pth")
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(DataError, match="neither a state dict"):
        read_checkpoint(tmp_path / "list.pth")
    torch.save({"bbox_head.scales.0.scale": torch.zeros(())}, tmp_path / "part.pth")
    with pytest.raises(DataError, match="not a detector"):
        convert(tmp_path / "part.pth")


@pytest.mark.slow
def test_torchvisions_91_outputs_become_cocos_80_categories(tmp_path, monkeypatch):
    from torchvision.models.detection import fcos_resnet50_fpn

    monkeypatch.setattr(checkpoint, "save", lambda model, out, overwrite: out)
    theirs_ = fcos_resnet50_fpn(weights=None, weights_backbone=None)
    torch.save(theirs_.state_dict(), tmp_path / "fcos.pth")
    converted = convert(tmp_path / "fcos.pth", tmp_path / "ours.safetensors")
    assert converted.model.recipe.name == "torchvision-fcos-r50"
    assert converted.model.num_classes == 80
    names = converted.model.class_names
    assert (names[0], names[11], names[-1]) == ("person", "stop sign", "toothbrush")
    ids = converted.model.category_ids
    assert (ids[0], ids[11], ids[-1]) == (1, 13, 90)
    bias = theirs_.head.classification_head.cls_logits
    assert torch.equal(converted.model.head.class_logits.weight[11], bias.weight[13])
    assert torch.equal(converted.model.head.class_logits.weight[79], bias.weight[90])
