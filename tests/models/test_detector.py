"""The detector as a whole: batches and padding, empty images, overflow, crowds, errors."""

import dataclasses
import warnings

import pandas as pd
import pytest
import torch
from narrow import narrow
from torch import nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

import dsla
from dsla import DataError
from dsla.geometry import scaled
from dsla.models import Detector, Head, build
from dsla.models.backbone import SmallNet, pyramid
from dsla.models.resnet import ResNetFeatures
from dsla.models.transform import Transform
from dsla.recipes import recipe

RECIPES = ("scenes-dsla", "scenes-fcos")


def model_of(name="scenes-dsla", seed=0, **changes):
    """A small detector on images as they come, with scores that pass the threshold."""
    torch.manual_seed(seed)
    model = build(recipe(name, **changes), 5)
    model.transform = Transform((), mean=(0.5,) * 3, std=(0.25,) * 3)
    with torch.no_grad():
        model.head.class_logits.weight.mul_(20)
        model.head.class_logits.bias.fill_(-2.0)
    return model


def target(*boxes, **more):
    boxes = torch.tensor(boxes).reshape(-1, 4)
    return {"boxes": boxes, "labels": torch.arange(len(boxes)) % 5, **more}


def image(height, width, seed=0):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def test_number_of_parameters():
    model = build("scenes-dsla", 5)
    count = {k: sum(p.numel() for p in m.parameters()) for k, m in model.named_children() if k != "transform"}
    # hand count: convolutions 432 + 4 blocks (9ab + 9bb + ab) of widths 16/32/48/64/96, 2 values a norm
    assert count["backbone"] == 262_832 + 2 * (16 + 3 * (32 + 48 + 64 + 96))
    assert count["pyramid"] == 48 * (48 + 64 + 96 + 3) + 3 * (9 * 48 * 48 + 48)
    assert count["head"] == 4 * (9 * 48 * 48 + 2 * 48) + 9 * (9 * 48 + 1) + 3
    assert sum(count.values()) == 424_012


@pytest.mark.parametrize("name", RECIPES)
def test_empty_images_train(name):
    """A batch with one empty image, and an empty image alone."""
    model = model_of(name).train()
    for targets in ([target((20.0, 30.0, 70.0, 80.0)), target()], [target()]):
        losses = model([image(96, 128)] * len(targets), targets)
        assert losses["loss_cls"] > 0
        if len(targets) == 1:
            assert losses["loss_box"] == 0
        else:
            assert losses["loss_box"] > 0
        model.zero_grad()
        sum(losses.values()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", RECIPES)
def test_padding_teaches_and_finds_nothing(name):
    """100 × 80 beside 256 × 256, both orders."""
    model = model_of(name, score_threshold=0.01).eval()
    images = [image(80, 100, 1), image(256, 256, 2)]
    targets = [target((40.0, 30.0, 100.0, 80.0), (-5.0, -5.0, 130.0, 110.0)), target((10.0, 20.0, 200.0, 220.0))]
    with torch.no_grad():
        raw, swapped = model.forward_raw(images, targets), model.forward_raw(images[::-1], targets[::-1])
        detections, detections_swapped = model(images), model(images[::-1])
        candidates = model.candidates(images)[0]
    assert raw.image_sizes == [(80, 100), (256, 256)]
    assignment = model.assign(raw)
    x, y = assignment.grid.xy.unbind(-1)
    outside = (x >= 100) | (y >= 80)
    assert assignment.positive[0].any()
    assert not assignment.positive[0, outside].any()
    assert (assignment.label[0, outside] == 0).all()
    assert (assignment.category[0, outside] == -1).all()
    assert torch.equal(assignment.ignored[0], outside)
    assert not assignment.ignored[1].any()
    assert torch.equal(model.assign(swapped).gt_index, assignment.gt_index.flip(0))

    assert len(detections[0]["boxes"]) > 5
    assert (detections[0]["boxes"] >= 0).all()
    assert (detections[0]["boxes"] <= torch.tensor([100.0, 80.0, 100.0, 80.0])).all()
    assert not outside[candidates["points"]].any()
    for one, other in zip(detections, detections_swapped[::-1], strict=True):
        for key in ("boxes", "scores", "labels"):
            torch.testing.assert_close(one[key], other[key], rtol=0, atol=1e-4)
    alone = model.forward_raw(images[1:]).outputs  # the largest image has no padding: batch or not is the same
    torch.testing.assert_close(alone.logits[0], raw.outputs.logits[1], rtol=0, atol=1e-4)

    # what the head says in the padding is of no account for the losses
    losses = model.criterion(raw.outputs, assignment)
    raw.outputs.logits[0, outside] += 7.0
    for name_, value in model.criterion(raw.outputs, assignment).items():
        torch.testing.assert_close(value, losses[name_])


@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16, torch.float16])
def test_a_network_of_another_precision(precision):
    """model.half(), .bfloat16() and .double() take images as they come, and teach and detect much the same."""
    images, targets = [image(96, 128)], [target((10.0, 20.0, 70.0, 80.0))]
    whole, other = model_of().train(), model_of().to(precision).train()
    losses, others = whole(images, targets), other(images, targets)
    sum(others.values()).backward()
    for name, loss in losses.items():
        torch.testing.assert_close(others[name].float(), loss, rtol=0.02, atol=1e-3)
    assert all(p.grad.dtype == precision and p.grad.isfinite().all() for p in other.parameters() if p.grad is not None)
    with torch.no_grad():
        scores, lower = (model.eval()(images)[0]["scores"] for model in (whole, other))
    torch.testing.assert_close(lower[:3].float(), scores[:3], rtol=0.02, atol=1e-3)


@pytest.mark.parametrize(
    ("bias", "precision"), [(12.0, torch.float16), (12.0, torch.bfloat16), (100.0, None), (-100.0, None)]
)
@pytest.mark.parametrize(
    ("name", "coding"), [("scenes-dsla", "exp"), ("scenes-dsla", "relu_stride"), ("scenes-fcos", "exp_stride")]
)
def test_overflow(name, coding, bias, precision):
    """A box branch that explodes gives finite distances, boxes, losses and gradients."""
    model = model_of(name, box_coding=coding, box_bias=bias).train()
    size = 256 if precision is None else 96  # half precision is slow on a CPU
    images, targets = [image(size, size)], [target((10.0, 20.0, 0.8 * size, 0.85 * size))]
    with torch.autocast("cpu", dtype=precision, enabled=precision is not None):
        raw = model.forward_raw(images, targets)
        assignment = model.assign(raw)
        losses = model.criterion(raw.outputs, assignment)
    assert raw.outputs.distances.dtype == torch.float32
    assert raw.outputs.boxes.isfinite().all()
    assert assignment.label.dtype == assignment.matched_boxes.dtype == assignment.grid.xy.dtype == torch.float32
    assert all(v.isfinite() and v.dtype == torch.float32 for v in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    with torch.no_grad():
        detections = model.eval()(images)[0]
    assert detections["boxes"].isfinite().all()
    assert (detections["boxes"] <= size).all()


def test_crowds_follow_the_resized_image():
    model = model_of()
    model.transform = Transform((192,), 400)
    targets = [target((4.0, 4.0, 30.0, 40.0), crowd_boxes=torch.tensor([[40.0, 10.0, 90.0, 90.0]]))]
    raw = model.forward_raw([image(96, 96)], targets)
    x, y = raw.outputs.grid.xy.unbind(-1)
    inside = (x > 80) & (x < 180) & (y > 20) & (y < 180)
    assert inside.any()
    assert torch.equal(model.assign(raw).ignored[0], inside)
    model.crowd = "background"
    assert not model.assign(raw).ignored.any()
    assert torch.equal(targets[0]["crowd_boxes"], torch.tensor([[40.0, 10.0, 90.0, 90.0]]))


def test_detections_return_to_the_original_size():
    small, large = model_of(score_threshold=0.01).eval(), model_of(score_threshold=0.01).eval()
    large.transform = Transform((128,), 1000, (0.5,) * 3, (0.25,) * 3)
    picture = image(64, 96)
    resized = nn.functional.interpolate(picture[None], scale_factor=2, mode="bilinear")[0]
    with torch.no_grad():
        for one, two in zip(small([resized]), large([picture]), strict=True):
            torch.testing.assert_close(one["boxes"] / 2, two["boxes"], rtol=1e-4, atol=1e-3)
            assert len(one["boxes"]) > 5


def test_normalisation_of_byte_and_bgr_networks():
    transform = Transform((), mean=(1.0, 2.0, 3.0), std=(1.0, 1.0, 2.0), bgr=True, pixel_scale=255.0)
    picture = torch.tensor([0.2, 0.4, 0.6])[:, None, None].expand(3, 32, 32)
    batch, _, _ = transform([picture])
    expected = torch.tensor([0.6 * 255 - 1, 0.4 * 255 - 2, (0.2 * 255 - 3) / 2])
    torch.testing.assert_close(batch[0, :, 5, 5], expected)


def test_short_side_is_one_of_the_listed_values_in_training():
    transform = Transform((64, 96), 200)
    short = {min(transform([image(50, 60)])[1][0]) for _ in range(30)}
    assert short == {64, 96}
    assert {min(transform.eval()([image(50, 60)])[1][0]) for _ in range(10)} == {96}


@pytest.mark.parametrize("size", [(480, 640), (427, 640), (640, 426), (375, 500), (360, 640), (97, 120), (1000, 90)])
def test_sides_are_rounded_as_those_whose_weights_they_are_for(size):
    """mmcv: int(side · scale + 0.5), scale = min(1333 / long, 800 / short); torchvision: its own transform."""
    scale = min(1333 / max(size), 800 / min(size))
    picture = image(*size)
    near = Transform((800,), 1333, rounding="nearest").eval()([picture])[1][0]
    assert near == tuple(int(side * scale + 0.5) for side in size)
    down, down_sizes, _ = Transform((800,), 1333).eval()([picture])
    theirs = GeneralizedRCNNTransform(800, 1333, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]).eval()([picture])[0]
    assert down_sizes == theirs.image_sizes
    torch.testing.assert_close(down, theirs.tensors, rtol=0, atol=2e-6)  # theirs is normalised before it is resized


@pytest.mark.parametrize("options", [{}, {"min_size": (48,)}, {"bgr": True, "pixel_scale": 255.0, "min_size": ()}])
def test_bytes_are_what_floats_are_and_the_padding_is_0(options):
    transform = Transform(**{"min_size": (), **options}).eval()
    pictures = [(image(40, 64, 1) * 255).byte(), (image(33, 50, 2) * 255).byte()]
    batch, after, _ = transform(pictures)
    floats, same, _ = transform([x.float() / 255 for x in pictures])
    mixed, _, _ = transform([pictures[0], pictures[1].float() / 255])
    assert after == same
    assert batch.dtype == torch.float32
    if options.get("min_size", ()) == ():
        assert torch.equal(batch, floats)
        assert torch.equal(mixed, floats)
    torch.testing.assert_close(batch, floats, rtol=0, atol=1e-5 * transform.pixel_scale)
    for one, (h, w) in zip(batch, after, strict=True):
        assert (one[:, h:] == 0).all()
        assert (one[:, :, w:] == 0).all()
        assert (one[:, :h, :w] != 0).any()


def test_boxes_follow_the_image_to_the_bit_of_torchvision():
    before, after = (427, 640), (800, 1199)
    boxes = torch.rand(50, 4) * 400
    assert torch.equal(scaled(boxes, before, after), resize_boxes(boxes, before, after))


@pytest.mark.parametrize("factor", [255.0, -3.0, float("nan")])
def test_floats_that_are_no_images_are_refused_where_they_lie_in_main_memory(factor):
    model = model_of().eval()
    with pytest.raises(DataError, match=r"image 1 of the batch: floats from .* in 0…1 or bytes"):
        model([image(64, 64), image(64, 64) * factor])


def test_no_image_and_images_without_a_pixel_are_refused():
    model = model_of().eval()
    for images, words in (
        ([], "a batch without images"),
        ([image(64, 64), torch.zeros(3, 0, 9)], r"image 1 .*3, 0, 9"),
    ):
        with pytest.raises(DataError, match=words):
            model(images)


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (2, 3000), (1, 1)])
def test_images_of_extreme_aspect_keep_a_pixel_train_and_detect(size):
    model = model_of(score_threshold=0.0)
    model.transform = Transform((64,), 96, (0.5,) * 3, (0.25,) * 3)
    taught = {**target((0.0, 0.0, float(size[1]), float(size[0]))), "crowd_boxes": torch.zeros(0, 4)}
    losses = model.train()([image(*size)], [taught])
    assert all(v.isfinite() for v in losses.values())
    boxes = model.eval()([image(*size)])[0]["boxes"]
    assert len(boxes)
    assert boxes.isfinite().all()
    assert (boxes[:, 2:] <= torch.tensor([size[1], size[0]])).all()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (target((9.0, 5.0, 4.0, 20.0), image_id=139), r"image 139: box 0 is \[9.0, 5.0, 4.0, 20.0\]"),
        (target((1.0, 1.0, 5.0, 5.0), (1.0, 1.0, 5.0, float("nan")), image_id=7), "image 7: box 1"),
        (target((3.0, 3.0, 3.0, 8.0)), "image 1 of the batch: box 0"),
        (
            {"boxes": torch.tensor([[1.0, 1, 5, 5]]), "labels": torch.tensor([5])},
            "^image 1 of the batch: box 0 has label 5, but the model has 5 classes, labels 0…4$",
        ),
        ({"boxes": torch.tensor([[1.0, 1, 5, 5]]), "labels": torch.tensor([-1])}, "label -1"),
        ({"boxes": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}, r"boxes are \[0, 4\]"),
        ({"boxes": torch.zeros(0, 4)}, "'labels'"),
        (target((1.0, 1.0, 5.0, 5.0), crowd_boxes=None), r"image 1 .*: crowd_boxes must be a tensor, got None"),
        ({"boxes": [[1.0, 1, 5, 5]], "labels": torch.tensor([0])}, "boxes must be a tensor, got list"),
    ],
)
def test_targets_that_cannot_be_taught(bad, message):
    model = model_of().train()
    with pytest.raises(DataError, match=message):
        model([image(64, 64)] * 2, [target((1.0, 1.0, 30.0, 30.0)), bad])


@pytest.mark.filterwarnings("ignore:this model knows drawn scenes only")
def test_one_picture_of_any_form_is_one_picture():
    """An array's rows were taken for pictures."""
    model, pixels = dsla.load("scenes-dsla"), torch.randint(0, 256, (64, 80, 3), dtype=torch.uint8).numpy()
    floats = torch.from_numpy(pixels).permute(2, 0, 1).contiguous() / 255
    (expected,) = dsla.predict(model, [floats])
    column = pd.Series([pixels] * 2)
    for form, count in ((floats, 1), (pixels, 1), ([pixels] * 2, 2), (torch.stack([floats] * 3), 3), (column, 2)):
        detections = dsla.predict(model, form)
        assert len(detections) == count
        assert all(torch.equal(one["boxes"], expected["boxes"]) for one in detections)
    assert len(dsla.predict(model, pixels[..., 0])) == 1  # grey


def test_calls_that_make_no_sense():
    model = model_of()
    assert model.num_classes == 5
    with pytest.raises(AttributeError, match="num_classes"):  # another number would be that of no weights
        model.num_classes = 3
    with pytest.raises(DataError, match="one target for each of the 1 images"):
        model.train()([image(64, 64)])
    with pytest.raises(DataError, match=r"expected float \[3, H, W\]"):
        model.eval()([torch.zeros(3, 64, 64, dtype=torch.int16)])
    with pytest.raises(DataError, match=r"got torch.float32 \[1, 64, 64\]"):
        model([torch.zeros(1, 64, 64)])
    with pytest.raises(ValueError, match="2 class names for 5 classes"):
        build("scenes-dsla", 5, class_names=("a", "b"))
    with pytest.raises(DataError, match="no recipe 'scenes-dsl'"):
        build("scenes-dsl", 5)
    with pytest.raises(DataError, match="how many classes"):
        build("scenes-dsla")
    net = SmallNet()
    with pytest.raises(ValueError, match="crowd"):
        Detector(net, pyramid(net.out_channels, 8), Head(2, 8, 8, 1, (8, 16, 32), groups=2), crowd="skip")


def test_channels_last_gives_the_same():
    model, pictures = model_of().eval(), [image(96, 128)]
    with torch.no_grad():
        plain = model.forward_raw(pictures).outputs
        last = model.to(memory_format=torch.channels_last).forward_raw(pictures).outputs
    torch.testing.assert_close(plain.logits, last.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(plain.distances, last.distances, rtol=1e-4, atol=1e-3)


def test_backbone_styles_and_freezing():
    caffe, pytorch = narrow(8, style="caffe"), narrow(8)
    assert (caffe.layer3[0].conv1.stride, caffe.layer3[0].conv2.stride) == ((2, 2), (1, 1))
    assert (pytorch.layer3[0].conv1.stride, pytorch.layer3[0].conv2.stride) == ((1, 1), (2, 2))
    assert [tuple(v.shape[1:]) for v in caffe(image(64, 96)[None]).values()] == [(64, 8, 12), (128, 4, 6), (256, 2, 3)]

    net = narrow(8, frozen_stages=1, norm="train").train()
    learns = {k.split(".")[0] for k, p in net.named_parameters() if p.requires_grad}
    assert learns == {"layer2", "layer3", "layer4"}
    assert not net.bn1.training
    assert not net.layer1[0].bn1.training
    assert net.layer2[0].bn1.training
    net = narrow(8, frozen_stages=0, norm="eval").train()
    assert not any(m.training for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    assert net.layer4[0].bn1.weight.requires_grad


def test_weights_out_of_reach(monkeypatch):
    from torchvision.models import ResNet50_Weights

    def unreachable(self, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(ResNet50_Weights, "get_state_dict", unreachable)
    with pytest.raises(DataError, match=r"no route to host.*resnet50-.*checkpoints"):
        ResNetFeatures("resnet50", weights="imagenet")
    with pytest.raises(DataError, match="fit style 'pytorch'"):
        ResNetFeatures("resnet50", style="caffe", weights="imagenet")


@pytest.mark.parametrize("extra", ["none", "output", "input"])
def test_pyramid_levels(extra):
    neck = pyramid([8, 12, 16], 16, extra)  # C5 as wide as the pyramid: torchvision's own guess would be P5
    maps = {f"c{i + 3}": torch.rand(1, c, 16 >> i, 24 >> i) for i, c in enumerate((8, 12, 16))}
    out = list(neck(maps).values())
    shapes = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    assert [tuple(x.shape[2:]) for x in out] == (shapes[:3] if extra == "none" else shapes)
    if extra != "none":
        source = maps["c5"] if extra == "input" else out[2]
        torch.testing.assert_close(out[3], neck.extra_blocks.p6(source))
        torch.testing.assert_close(out[4], neck.extra_blocks.p7(out[3].relu()))


def test_padding_is_taught_as_background_and_detected_where_the_recipe_says_so():
    """A small image beside a large one: its points in the padding are left alone, or taught that nothing is there."""
    images, box = [torch.rand(3, 64, 64), torch.rand(3, 128, 128)], torch.tensor([[8.0, 8, 56, 56]])
    targets = [{"boxes": box, "labels": torch.tensor([1])}] * 2
    small = recipe("scenes-dsla", channels=16, head_convs=1, min_size="128", score_threshold=0.0)
    taught, losses = {}, {}
    for padding in ("ignore", "detect", "background"):
        torch.manual_seed(0)
        model = build(dataclasses.replace(small, padding=padding), 3).train()
        model.transform.min_size = ()
        raw = model.forward_raw(images, targets)
        inside = raw.outputs.grid.inside(raw.image_sizes)
        assignment = model.assign(raw)
        assert not assignment.positive[~inside].any()
        taught[padding] = int((~assignment.ignored & ~inside).sum())
        losses[padding] = float(model.criterion(raw.outputs, assignment)["loss_cls"].detach())
        points = model.postprocess.candidates(raw.outputs, raw.image_sizes)[0]["points"]
        assert (~inside[0, points]).any() == (padding != "ignore")
    assert (taught["ignore"], taught["detect"]) == (0, 0)
    assert taught["background"] == int((~inside).sum()) == 3 * (8 * 8 + 4 * 4 + 2 * 2)
    assert losses["ignore"] == losses["detect"] < losses["background"]


def test_pictures_are_predicted_in_whatever_form_they_come():
    model = dsla.load("scenes-dsla")
    image, target = dsla.Scenes("val", size=1)[0]
    (whole,) = dsla.predict(model, image)
    assert len(whole["boxes"]) > 0
    channels_last = (image * 255).round().byte().permute(1, 2, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for form in (channels_last, channels_last.numpy(), [(image, {"boxes": target["boxes"]})]):
            (one,) = dsla.predict(model, form)
            torch.testing.assert_close(one["boxes"], whole["boxes"], atol=1e-3, rtol=1e-4)
        with pytest.raises(DataError, match="nested lists may be one picture or several"):
            dsla.predict(model, channels_last.tolist())
        assert "image_id" in dsla.predict(model, [(image, target)])[0]
