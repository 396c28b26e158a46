"""On a pretended GPU: everything runs there, gives the CPU's numbers to the bit, and the host does not wait for it."""

from __future__ import annotations

import pytest
import torch
from pretend import GPU, OnGpu, pretend_gpu
from torch import nn

import dsla
from dsla.assigners.sparse.cells import Cells
from dsla.models.evaluation import predict_dataset
from dsla.training.recorder import Recorder
from dsla.training.schedule import optimizer_of

CLASSES = 5
# waits of a step whose count depends on predictions: how many candidates there are is read back
READS_BACK = {"simota": 9, "tal": 2}


def recipes():
    """One recipe of the scenes for each way to assign and to teach."""
    kinds = {}
    for name, recipe in dsla.RECIPES.items():
        if recipe.backbone == "small":
            kinds.setdefault((recipe.method, recipe.coupling, recipe.quality, recipe.box_loss, recipe.core_zone), name)
    return sorted(kinds.values())


def batch(crowds=False):
    """Noise in bytes, of two sizes, with 0 to 5 boxes an image."""
    g = torch.Generator().manual_seed(0)
    pictures = [torch.randint(0, 256, (3, *size), generator=g, dtype=torch.uint8) for size in ((128, 128), (100, 128))]
    targets = []
    for i in range(4):
        corner = torch.rand(2 * i % 7, 2, generator=g) * 70
        boxes = torch.cat((corner, corner + 6 + torch.rand(len(corner), 2, generator=g) * 50), 1).clamp(max=100)
        targets.append({"boxes": boxes, "labels": torch.randint(0, CLASSES, (len(boxes),), generator=g)})
        if crowds and i == 1:
            targets[-1]["crowd_boxes"] = torch.tensor([[4.0, 4.0, 60.0, 50.0]])
    return [*pictures, *pictures], targets


def model_of(name):
    torch.manual_seed(0)
    return dsla.build(name, CLASSES).train()


def step(model, optimizer, pictures, targets):
    optimizer.zero_grad(set_to_none=True)
    losses = model(pictures, targets)
    torch.stack(tuple(losses.values())).sum().backward()
    nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 35.0)
    optimizer.step()
    return losses


@pytest.mark.slow
@pytest.mark.parametrize("name", recipes())
def test_a_step_gives_the_cpus_numbers_and_the_host_does_not_wait(name):
    pictures, targets = batch()
    plain = model_of(name)
    optimizer = optimizer_of(plain, dsla.recipe(name))
    expected = [{k: float(v.detach()) for k, v in step(plain, optimizer, pictures, targets).items()} for _ in range(2)]
    with pretend_gpu() as gpu:
        model = model_of(name).to("cuda")
        optimizer = optimizer_of(model, dsla.recipe(name))
        there = [x.to("cuda") for x in pictures]
        first = step(model, optimizer, there, targets)
        gpu.waits.clear()  # tables are made at the first step, and kept
        second = step(model, optimizer, there, targets)
        waits = dict(gpu.waits)
        assert all(isinstance(v, OnGpu) and v.device == GPU for v in second.values())
        on_gpu = [{k: float(v.detach()) for k, v in losses.items()} for losses in (first, second)]
    assert on_gpu == expected
    assert sum(waits.values()) <= READS_BACK.get(dsla.recipe(name).method, 0), waits


def test_crowds_cost_one_copy_that_is_not_awaited():
    pictures, targets = batch(crowds=True)
    with pretend_gpu() as gpu:
        model, there = model_of("scenes-dsla").to("cuda"), [x.to("cuda") for x in pictures]
        model(there, targets)
        gpu.waits.clear()
        model(there, targets)
        assert not gpu.waits


class Inside(dsla.assigners.PairAssigner):
    name = "every point in a box"

    def factors(self, pairs):
        return {"label": (pairs.depth / pairs.measure).clamp(0, 1)}


@pytest.mark.parametrize(
    ("assigner", "largest"), [(Inside(), 1.0), (dsla.assigners.DSLA(), 0.2), (dsla.assigners.MaxIoU(), 1.0)]
)
def test_no_more_pairs_are_looked_at_than_there_are(assigner, largest):
    """Windows serve where ranges bound them; without ranges they would hold many times the points of the map."""
    grid = dsla.PointGrid((384, 512), (8, 16, 32, 64, 128))
    corner = torch.rand(60, 2, generator=torch.Generator().manual_seed(0)) * 300
    boxes = torch.cat((corner, corner + 10 + corner.flip(0) / 4), 1)
    expected = assigner(grid, [boxes], [torch.zeros(60)])
    with pretend_gpu():
        there, counts = grid.to("cuda"), []
        with pytest.MonkeyPatch.context() as patch:
            keys = Cells.keys
            patch.setattr(Cells, "keys", lambda c, v, into: counts.append(c.valid.numel()) or keys(c, v, into))
            assignment = assigner(there, [boxes], [torch.zeros(60)])
        for name in ("gt_index", "label"):
            assert torch.equal(getattr(assignment, name).cpu(), getattr(expected, name))
    assert 0 < sum(counts) <= largest * len(boxes) * len(grid)


def detecting():
    """A detector whose scores pass the threshold."""
    model = model_of("scenes-dsla").eval()
    with torch.no_grad():
        model.head.class_logits.weight.mul_(20)
        model.head.class_logits.bias.fill_(-2.0)
    return model


def test_detections_are_the_cpus_and_the_host_waits_once_a_batch_and_once_an_image():
    pictures, _ = batch()
    with torch.inference_mode():
        expected = detecting()(pictures)
    waits = []
    for count in (2, 4):
        with pretend_gpu() as gpu:
            model, there = detecting().to("cuda"), [x.to("cuda") for x in pictures[:count]]
            with torch.inference_mode():
                model(there)
                gpu.waits.clear()
                detections = model(there)
                waits.append(sum(gpu.waits.values()))
            assert all(v.device == GPU for one in detections for v in one.values())
            detections = [{k: v.cpu() for k, v in one.items()} for one in detections]
        for one, other in zip(detections, expected, strict=False):
            assert len(one["scores"]) > 5
            assert all(torch.equal(one[k], other[k]) for k in one)
    assert waits == [3, 5]  # how many candidates there are; what NMS leaves of each image


def test_evaluation_and_recording_run_on_a_gpu():
    scenes = dsla.Scenes("val", size=6).prepare(workers=1)
    model = dsla.load("scenes-dsla")
    expected = predict_dataset(model, scenes)
    with pretend_gpu():
        there = dsla.load("scenes-dsla").to("cuda")
        assert predict_dataset(there, scenes) == expected
        recorder = Recorder(scenes, (0, 1), every=1)
        recorder(1, there, {"loss": 1.0})
        frames = recorder.recording()
    assert len(frames.images) == 2


def test_what_the_pretended_gpu_objects_to():
    with pretend_gpu() as gpu:
        x = torch.rand(3).to("cuda")
        gpu.waits.clear()
        with pytest.raises(RuntimeError, match="in one operation"):
            x + torch.rand(3)
        assert not gpu.waits
        for work in (
            lambda: x.sum().item(),
            lambda: x[x > 0.5],
            lambda: x.cpu(),
            lambda: x.tolist(),
            lambda: torch.rand(3).to("cuda"),
            lambda: torch.rand(3).to("cuda", non_blocking=True),
            lambda: torch.tensor([1.0, 2.0], device="cuda"),
            lambda: x.nonzero(),
            lambda: bool(x.sum() > 0),
        ):
            gpu.waits.clear()
            work()
            assert sum(gpu.waits.values()) == 1
        gpu.waits.clear()
        assert torch.equal(torch.arange(3.0).pin_memory().to("cuda", non_blocking=True).held, torch.arange(3.0))
        assert x.new_zeros(2).device == torch.zeros(2, device="cuda").device == GPU
        assert not gpu.waits
    x = torch.rand(3, requires_grad=True)
    (x * 2).sum().backward()  # and nothing is left behind
    assert x.grad.tolist() == [2, 2, 2]
