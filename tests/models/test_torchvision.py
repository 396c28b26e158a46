"""Our FCOS with torchvision's conventions against torchvision's own, the same random weights in both."""

import pytest
import torch
from torchvision.models.detection import fcos_resnet50_fpn
from torchvision.models.detection.image_list import ImageList

from dsla.models import build
from dsla.models.checkpoint import from_torchvision_fcos
from dsla.models.weights import fit
from dsla.recipes import recipe

CLASSES = 5
HEIGHT, WIDTH = 128, 128  # multiples of 128: torchvision's ⌊image / map⌋ is then the stride at every level


@pytest.fixture(scope="module")
def pair():
    """(theirs, ours). Output layers are widened, so that scores pass 0.2 and boxes are not all alike."""
    torch.manual_seed(0)
    theirs = fcos_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=CLASSES, min_size=HEIGHT, max_size=WIDTH
    )
    with torch.no_grad():
        theirs.head.classification_head.cls_logits.weight.normal_(std=0.05)
        theirs.head.classification_head.cls_logits.bias.fill_(-2.0)
        theirs.head.regression_head.bbox_reg.weight.normal_(std=0.05)
        theirs.head.regression_head.bbox_reg.bias.fill_(1.5)
        theirs.head.regression_head.bbox_ctrness.weight.normal_(std=0.05)
    ours = build(
        recipe("torchvision-fcos-r50", norm="train", frozen_stages=-1, offset=0.0, min_size=(HEIGHT,), max_size=WIDTH),
        CLASSES,
    )
    fit(ours, from_torchvision_fcos(theirs.state_dict()), "torchvision")
    return theirs, ours


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(1)
    images = [torch.rand(3, HEIGHT, WIDTH, generator=generator) for _ in range(2)]
    targets = []
    for count, large in ((7, [-31.0, -52.0, 171.0, 140.0]), (4, [-210.0, -170.0, 330.0, 290.0])):
        corner = torch.rand(count, 2, generator=generator) * 88
        size = 12 + torch.rand(count, 2, generator=generator) * 80
        # the last one reaches beyond the image, so that coarse levels have positives, too
        boxes = torch.cat((torch.cat((corner, (corner + size).clamp(max=127)), 1), torch.tensor([large])))
        targets.append({"boxes": boxes, "labels": torch.randint(0, CLASSES, (count + 1,), generator=generator)})
    return images, targets


def test_points(pair):
    """torchvision's points carry no half stride: its anchors are centred on j·s."""
    theirs, ours = pair
    maps = [torch.zeros(1, 1, HEIGHT // s, WIDTH // s) for s in ours.recipe.strides]
    image = torch.zeros(1, 3, HEIGHT, WIDTH)
    anchors = theirs.anchor_generator(ImageList(image, [(HEIGHT, WIDTH)]), maps)[0]
    grid = ours.head([torch.zeros(1, 256, *m.shape[-2:]) for m in maps]).grid
    torch.testing.assert_close((anchors[:, :2] + anchors[:, 2:]) / 2, grid.xy)


def test_outputs_and_matches(pair, batch, monkeypatch):
    theirs, ours = (m.eval() for m in pair)
    images, targets = batch
    with torch.no_grad():
        batched, _ = theirs.transform(images)
        expected = theirs.head(list(theirs.backbone(batched.tensors).values()))
        raw = ours.forward_raw(images, targets)
    torch.testing.assert_close(raw.outputs.logits, expected["cls_logits"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(raw.outputs.quality, expected["bbox_ctrness"].squeeze(-1), rtol=1e-4, atol=1e-4)
    pixels = expected["bbox_regression"] * raw.outputs.grid.stride[:, None]
    torch.testing.assert_close(raw.outputs.distances, pixels, rtol=1e-4, atol=1e-3)

    matched = []
    monkeypatch.setattr(theirs.head, "compute_loss", lambda *args: matched.extend(args[3]))
    anchors = theirs.anchor_generator(batched, [torch.zeros(2, 1, *shape) for shape in raw.outputs.grid.shapes])
    theirs.compute_loss(targets, expected, anchors, list(raw.outputs.grid.num_points))
    assignment = ours.assign(raw)
    assert torch.equal(assignment.gt_index, torch.stack(matched))
    assert assignment.positive.sum() > 20
    assert len(raw.outputs.grid.level[assignment.positive.any(0).nonzero().flatten()].unique()) >= 4


@pytest.mark.slow
def test_losses_and_gradients(pair, batch):
    theirs, ours = (m.train() for m in pair)
    images, targets = batch
    expected = theirs(images, targets)
    losses = ours(images, targets)
    for name, other in (
        ("loss_cls", "classification"),
        ("loss_box", "bbox_regression"),
        ("loss_quality", "bbox_ctrness"),
    ):
        torch.testing.assert_close(losses[name], expected[other], rtol=1e-4, atol=1e-6)
    sum(expected.values()).backward()
    sum(losses.values()).backward()
    gradients = from_torchvision_fcos({k: p.grad for k, p in theirs.named_parameters()})
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(
            parameter.grad, gradients[name], rtol=1e-2, atol=1e-4 * float(gradients[name].abs().max()), msg=name
        )


def test_detections(pair, batch):
    theirs, ours = (m.eval() for m in pair)
    images, _ = batch
    with torch.no_grad():
        expected, detections = theirs(images), ours(images)
    for theirs_, ours_ in zip(expected, detections, strict=True):
        assert len(theirs_["boxes"]) > 20
        assert torch.equal(ours_["labels"], theirs_["labels"])
        torch.testing.assert_close(ours_["scores"], theirs_["scores"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours_["boxes"], theirs_["boxes"], rtol=1e-4, atol=1e-2)
