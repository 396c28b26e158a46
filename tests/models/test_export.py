"""The raw head as a program and as ONNX: equal to eager, for other batches and sizes than it was traced with."""

from __future__ import annotations

import json

import pytest
import torch

from dsla import DataError, HeadOutputs, PointGrid
from dsla.cli.main import main
from dsla.models import build
from dsla.models.deform import DeformConv
from dsla.models.export import RawHead, names_of, padding_of, to_exported_program, to_onnx
from dsla.models.saving import save
from dsla.recipes import recipe

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module")
def model():
    """Deformable towers, a quality branch, images in BGR bytes, and scores that pass the threshold."""
    torch.manual_seed(0)
    images = {"bgr": True, "pixel_scale": 255.0, "mean": (100.0, 110.0, 120.0), "std": (50.0, 60.0, 70.0)}
    model = build(recipe("scenes-fcos", channels=16, head_convs=1, dcn_head=True, **images), 3).eval()
    for tower in (model.head.class_tower, model.head.box_tower):
        torch.nn.init.normal_(tower[0].conv_offset.weight, std=0.1)  # looks elsewhere
    torch.nn.init.normal_(model.head.class_logits.weight, std=0.3)
    model.transform.min_size = ()  # images stay as they are
    return model


def images(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def test_what_goes_in_and_comes_out(model):
    """Normalised inside as the detector does; with points and NMS outside, the detector's own detections."""
    batch = images(2, 3, 128, 96)
    with torch.no_grad():
        outputs = dict(zip(names_of(model), RawHead(model)(batch), strict=True))
        expected = model(list(batch))
    grid = PointGrid((128, 96), model.head.strides, model.head.offset)
    candidates = model.postprocess.candidates(HeadOutputs(grid=grid, **outputs), [(128, 96)] * 2)
    for one, other in zip(map(model.postprocess.suppress, candidates), expected, strict=True):
        assert len(other["boxes"]) > 5
        torch.testing.assert_close(one["boxes"], other["boxes"], rtol=1e-4, atol=1e-2)
        torch.testing.assert_close(one["scores"], other["scores"], **CLOSE)
        assert torch.equal(one["labels"], other["labels"])


def onnxruntime():
    for module in ("onnx", "onnxscript"):
        pytest.importorskip(module)
    return pytest.importorskip("onnxruntime")


@pytest.mark.slow
def test_program_and_onnx_equal_eager(model, tmp_path):
    runtime = onnxruntime()
    weights, path = save(model, tmp_path / "m.safetensors"), tmp_path / "deep" / "raw.onnx"
    assert main(["export", str(weights), "--out", str(path)]) == 0
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [x.name for x in session.get_inputs()] == ["images"]
    assert [x.name for x in session.get_outputs()] == ["logits", "distances", "quality"]
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["recipe"])["name"] == "scenes-fcos"
    assert json.loads(about["point_offset"]) == 0.5
    for shape in ((1, 3, 64, 96), (3, 3, 160, 64)):
        batch = images(*shape)
        with torch.no_grad():
            expected = RawHead(model)(batch)
        for one, other in zip(session.run(None, {"images": batch.numpy()}), expected, strict=True):
            torch.testing.assert_close(torch.from_numpy(one), other, **CLOSE)


@pytest.mark.slow
def test_program_equals_eager_on_five_levels():
    torch.manual_seed(0)
    five = {"extra_levels": "output", "strides": "8,16,32,64,128", "ranges": "0-32,32-64,64-128,128-256,256-1e8"}
    model = build(recipe("scenes-dsla", channels=16, head_convs=1, **five), 3).eval()
    program = to_exported_program(model).module()
    for shape in ((1, 3, 160, 192), (3, 3, 288, 256)):
        batch = images(*shape)
        with torch.no_grad():
            for one, other in zip(program(batch), RawHead(model)(batch), strict=True):
                torch.testing.assert_close(one, other, **CLOSE)


@pytest.mark.parametrize("size", [(64,), "64", 64, (64, 0), (64.5, 64), (64, 64, 64)])
def test_a_size_is_two_numbers(model, size):
    with pytest.raises(DataError, match=r"size \(height, width\) must be 2 positive whole numbers, got"):
        to_exported_program(model, size=size)


@pytest.mark.slow
def test_a_fixed_size(model):
    program = to_exported_program(model, size=(64, 96)).module()
    assert program(images(3, 3, 64, 96))[0].shape == (3, 8 * 12 + 4 * 6 + 2 * 3, 3)
    with pytest.raises(AssertionError):
        program(images(1, 3, 96, 96))
    with pytest.raises(DataError, match="multiples of 32, got"):
        to_exported_program(model, size=(64, 100))


@pytest.mark.slow
def test_offsets_without_weights_and_in_groups_equal_eager(tmp_path):
    """DCN v1 as in a ResNeXt's stages: strided, in groups, 18 offsets."""
    runtime = onnxruntime()
    torch.manual_seed(0)
    model = build(recipe("scenes-dsla", channels=16, head_convs=0), 3).eval()
    block = model.backbone.stages[2]
    block.conv1 = DeformConv(block.conv1.in_channels, block.conv1.out_channels, stride=2, groups=8)
    batch = images(2, 3, 64, 96)
    with torch.no_grad():
        plain = RawHead(model)(batch)[0]
        torch.nn.init.normal_(block.conv1.conv_offset.weight, std=0.3)
        expected = RawHead(model)(batch)
    assert (expected[0] - plain).abs().max() > 1e-3  # it looks elsewhere
    session = runtime.InferenceSession(str(to_onnx(model, tmp_path / "m.onnx")), providers=["CPUExecutionProvider"])
    for one, other in zip(session.run(None, {"images": batch.numpy()}), expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(one), other, **CLOSE)


@pytest.mark.slow
def test_swin_equals_eager_at_its_size(tmp_path):
    """Windows that are padded, shifted, masked and merged: the first stage has both kinds of block, the others one."""
    runtime = onnxruntime()
    torch.manual_seed(0)
    model = build(recipe("swin-s-dcn-3x", channels=16, head_convs=1, groups=4), 3).eval()
    for stage in (3, 5, 7):
        model.backbone.features[stage] = model.backbone.features[stage][:1]
    batch = images(3, 3, 64, 96)
    with torch.no_grad():
        expected = RawHead(model)(batch)
    with pytest.raises(DataError, match=r"swin\.pt: give a path that ends in \.onnx"):
        to_onnx(model, tmp_path / "swin.pt", (64, 96))
    path = to_onnx(model, tmp_path / "swin.onnx", (64, 96))
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for one, other in zip(session.run(None, {"images": batch.numpy()}), expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(one), other, **CLOSE)
        assert other.std() > 0.01


def test_swin_asks_for_a_size():
    with torch.device("meta"):
        model = build(recipe("swin-s-dcn-3x"), 3)
    with pytest.raises(DataError, match="one size of images"):
        to_exported_program(model)


def test_an_image_padded_with_the_mean_colour_gives_what_the_detector_gives(model):
    image, (height, width) = images(3, 100, 90), (128, 96)
    padded = torch.tensor(padding_of(model)).view(3, 1, 1).expand(3, height, width).clone()
    padded[:, :100, :90] = image
    black = torch.zeros_like(padded)
    black[:, :100, :90] = image
    with torch.no_grad():
        raw = model.forward_raw([image]).outputs
        logits, distances, quality = RawHead(model)(padded[None])
        other = RawHead(model)(black[None])[0]
    torch.testing.assert_close(logits, raw.logits, **CLOSE)
    torch.testing.assert_close(distances, raw.distances, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(quality, raw.quality, **CLOSE)
    assert (other - raw.logits).abs().max() > 0.01
