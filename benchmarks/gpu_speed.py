"""Sections of `gpu.py` that measure: assignment and losses, inference, the training step; torchvision's FCOS beside.

Both detectors: ResNet-50 with frozen batch norm, conv1 and stage 1 frozen, the same images on the card, the same
optimiser (SGD with momentum in its fused form) and clipping. Loading images is not part of it.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from assigners import by_definition
from floors import Counts, median_ms, precision, wait
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.resnet import resnet50
from torchvision.ops import FrozenBatchNorm2d, batched_nms
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

import dsla

STRIDES = (8, 16, 32, 64, 128)
CLASSES = 80
OURS, LIKE_FOR_LIKE = "r50-1x-torchvision", "torchvision-fcos-r50"
# name → (autocast to bf16, TF32, channels last)
SETTINGS = {
    "fp32": (False, False, False),
    "tf32": (False, True, False),
    "bf16 channels-last": (True, True, True),
}


def scenes_of_boxes(count: int, images: int, height: int = 800, width: int = 1333) -> tuple[list[Tensor], list[Tensor]]:
    """Boxes of log-uniform size, 10 to 660 pixels, anywhere in the image; and their labels."""
    g = torch.Generator().manual_seed(0)
    boxes, labels = [], []
    for _ in range(images):
        size = torch.exp(torch.rand(count, 2, generator=g) * 4.2 + 2.3)
        centre = torch.rand(count, 2, generator=g) * torch.tensor([float(width), float(height)])
        limit = torch.tensor([width, height, width, height], dtype=torch.float32)
        whole = torch.minimum(torch.cat((centre - size / 2, centre + size / 2), 1).clamp(min=0), limit)
        keep = (whole[:, 2:] - whole[:, :2]).amin(1) > 2
        boxes.append(whole[keep])
        labels.append(torch.randint(0, CLASSES, (int(keep.sum()),), generator=g))
    return boxes, labels


def frame(report: Any) -> tuple[int, int, int]:
    """Images, height and width."""
    return getattr(report, "frame", None) or ((2, 96, 128) if report.small else (16, 800, 1333))


def assignment(report: Any) -> None:
    """DSLA and FCOS alone, against every point with every box; then the losses with their gradients."""
    device, (images, height, width) = report.device, frame(report)
    repeats = 3 if report.small else 20
    grid = dsla.PointGrid((height, -(-width // 32) * 32), STRIDES).to(device)
    points = images * len(grid)
    floor = 21 * points / report.rates.bytes * 1e3  # two int64, a float32 and a bool for each point
    for count in (7, 50, 200):
        boxes, labels = ([x.to(device) for x in v] for v in scenes_of_boxes(count, images, height, width))
        for assigner in (dsla.assigners.DSLA(), dsla.assigners.FCOS()):
            fast, (label, gt, _) = assigner(grid, boxes, labels), by_definition(assigner, grid, boxes, labels)
            ours = median_ms(lambda a=assigner, b=boxes, c=labels: a(grid, b, c), device, repeats)
            theirs = median_ms(lambda a=assigner, b=boxes, c=labels: by_definition(a, grid, b, c), device, repeats)
            report.row(
                "assignment",
                f"{assigner.name}, {images} images of {count} boxes",
                ms=ours,
                dense_ms=theirs,
                times_faster=theirs / ours,
                bytes_floor_ms=floor,
                equal=bool(torch.equal(fast.gt_index, gt) and torch.allclose(fast.label, label, atol=1e-6)),
                equal_on_cpu=_same(fast, assigner(grid.to("cpu"), *([x.cpu() for x in v] for v in (boxes, labels)))),
            )
    _losses(report, grid, images, repeats)


def _same(a: Any, b: Any) -> bool:
    """Two assignments, each on its device."""
    return all(torch.equal(getattr(a, k).cpu(), getattr(b, k).cpu()) for k in ("gt_index", "label", "category"))


def _losses(report: Any, grid: dsla.PointGrid, images: int, repeats: int) -> None:
    device, points = report.device, images * len(grid)
    boxes, labels = ([x.to(device) for x in v] for v in scenes_of_boxes(7, images))
    for name in (OURS, LIKE_FOR_LIKE):
        model = dsla.build(dsla.recipe(name, pretrained=False), CLASSES)
        assigned = model.assigner(grid, boxes, labels)
        quality = torch.randn(images, len(grid), device=device, requires_grad=True) if model.head.quality else None
        for dtype in (torch.float32, torch.bfloat16):
            logits = (torch.randn(images, len(grid), CLASSES, device=device) - 4).to(dtype).requires_grad_()
            distances = (torch.rand(images, len(grid), 4, device=device) * 64).requires_grad_()
            leaves = [v for v in (logits, distances, quality) if v is not None]

            def both(logits=logits, distances=distances, quality=quality, leaves=leaves, model=model, a=assigned):
                outputs = dsla.HeadOutputs(logits, distances, grid, quality)
                torch.autograd.grad(torch.stack(tuple(model.criterion(outputs, a).values())).sum(), leaves)

            moved = 2 * points * CLASSES * logits.element_size()  # logits in, gradient out
            peak = _peak_gb(both, device)
            report.row(
                "assignment",
                f"losses of {name}, {str(dtype)[6:]} logits",
                ms=median_ms(both, device, repeats),
                peak_gb=peak,
                bytes_floor_ms=moved / report.rates.bytes * 1e3,
                logits_gb=moved / 2e9,
            )


def _peak_gb(work: Callable[[], Any], device: torch.device) -> float:
    """Memory that `work` takes at its worst beyond what is there before."""
    if device.type != "cuda":
        return float("nan")
    work()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    wait(device)
    return (torch.cuda.max_memory_allocated(device) - before) / 1e9


def ours(name: str, report: Any) -> nn.Module:
    _, height, width = frame(report)
    torch.manual_seed(0)
    recipe = dsla.recipe(name, pretrained=False, min_size=(height,), max_size=width)
    return _calm(dsla.build(recipe, CLASSES)).to(report.device)


def torchvisions(report: Any) -> nn.Module:
    """`fcos_resnet50_fpn` with three trainable stages, as it is built where ImageNet's weights are given."""
    _, height, width = frame(report)
    torch.manual_seed(0)
    trunk = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
    neck = _resnet_fpn_extractor(trunk, 3, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256))
    return _calm(FCOS(neck, CLASSES, min_size=height, max_size=width)).to(report.device)


def _calm(model: nn.Module) -> nn.Module:
    """Random weights under frozen norms would grow from block to block: a fifth of each branch keeps them finite."""
    for name, module in model.named_modules():
        if name.endswith("bn3"):
            module.weight.fill_(0.2)
    return model


def pictures(report: Any) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    images, height, width = frame(report)
    g = torch.Generator().manual_seed(0)
    boxes, labels = scenes_of_boxes(7, images, height, width)
    return (
        [torch.rand(3, height, width, generator=g).to(report.device) for _ in range(images)],
        [{"boxes": b.to(report.device), "labels": c.to(report.device)} for b, c in zip(boxes, labels, strict=True)],
    )


class Step:
    """A training step as a function without arguments, in one of `SETTINGS`."""

    def __init__(self, model: nn.Module, report: Any, setting: str) -> None:
        half, self.tf32, last = SETTINGS[setting]
        self.model = model.train().to(memory_format=torch.channels_last) if last else model.train()
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        fused = report.device.type == "cuda"
        self.optimizer = torch.optim.SGD(self.parameters, lr=1e-5, momentum=0.9, weight_decay=1e-4, fused=fused)
        self.images, self.targets = pictures(report)
        self.cast = lambda: torch.autocast(report.device.type, dtype=torch.bfloat16, enabled=half)

    def __call__(self) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        with precision(self.tf32):
            with self.cast():
                losses = self.model(self.images, self.targets)
            loss = torch.stack([v.float() for v in losses.values()]).sum()
            loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 35.0)
        self.optimizer.step()
        return loss.detach()


def step(report: Any) -> None:
    """Each setting: the detectors one after the other."""
    kinds: dict[str, Callable[[], nn.Module]] = {
        "torchvision": lambda: torchvisions(report),
        OURS: lambda: ours(OURS, report),
        LIKE_FOR_LIKE: lambda: ours(LIKE_FOR_LIKE, report),
    }
    for setting in report.settings or (("fp32", "bf16 channels-last") if report.small else SETTINGS):
        rows = {}
        for name, make in kinds.items():
            with _own_row(report, "step", f"{name}, {setting}"):
                rows[name] = _measured(report, f"{name}, {setting}", Step(make(), report, setting), setting)
        if {"torchvision", OURS} <= set(rows):
            ratios = {k: rows["torchvision"] / v for k, v in rows.items() if k != "torchvision"}
            report.row("step", f"torchvision's time over ours, {setting}", **ratios)


def _measured(report: Any, name: str, work: Step, setting: str, counts: Counts | None = None) -> float:
    """Milliseconds of a step, with its floors, into the report."""
    device = report.device
    kind = "bf16" if setting.startswith("bf16") else setting
    counts = counts or Counts.of(work)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    ms = median_ms(work, device, 2 if report.small else 6, warm_up=1 if report.small else 3)
    peak = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else float("nan")
    floors = report.rates.floor_ms(counts, kind)
    report.row(
        "step", name, ms=ms, images_per_s=len(work.images) / ms * 1e3, peak_gb=peak, loss=float(work()), **floors
    )
    return ms


@contextlib.contextmanager
def _own_row(report: Any, section: str, name: str):
    """What fails inside becomes a row, and the next measurement goes on."""
    try:
        yield
    except Exception as error:
        report.row(section, name, error=f"{type(error).__name__}: {error}"[:300])
    finally:
        if report.device.type == "cuda":
            torch.cuda.empty_cache()


def compiled(report: Any) -> None:
    """Our step with the network compiled for one shape, as `dsla train --compile` does."""
    setting = "bf16 channels-last"
    for name in (OURS, LIKE_FOR_LIKE):
        with _own_row(report, "compiled", f"{name}, {setting}"):
            if report.left < 60 and not report.small:
                raise TimeoutError("no time left")
            model = ours(name, report)
            work = Step(model, report, setting)
            counts = Counts.of(work)  # compiled kernels are not counted
            backend = "eager" if report.small else "inductor"
            vars(model)["network"] = torch.compile(model.network, dynamic=False, backend=backend)
            began = time.perf_counter()
            work()
            wait(report.device)
            report.row("compiled", f"{name}, first step", seconds=time.perf_counter() - began)
            _measured(report, f"{name}, {setting}, compiled", work, setting, counts)


def kernels(report: Any) -> None:
    """Where the time of our step in bf16 goes: kernels of the card by their share, and the share it is busy."""
    from torch.profiler import ProfilerActivity, profile

    work = Step(ours(OURS, report), report, "bf16 channels-last")
    runs = 1 if report.small else 3
    whole = median_ms(work, report.device, runs, warm_up=runs)
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (report.device.type == "cuda")
    with profile(activities=kinds) as recorded:
        for _ in range(runs):
            work()
        wait(report.device)
    attribute = "self_device_time_total" if report.device.type == "cuda" else "self_cpu_time_total"
    rows = [(getattr(e, attribute) / 1e3 / runs, e.count // runs, e.key) for e in recorded.key_averages()]
    rows = sorted(row for row in rows if row[0] > 0)[::-1]
    if report.device.type == "cuda":  # operations count the kernels that they start once more
        rows = [row for row in rows if not row[2].startswith(("aten::", "autograd::", "Optimizer", "torch"))]
    report.row("kernels", f"{OURS}, bf16 channels-last", ms=whole, busy_ms=sum(row[0] for row in rows))
    for ms, count, name in rows[:25]:
        report.row("kernels", _short(name), ms=ms, share=ms / whole, count=count)


def _short(kernel: str) -> str:
    """A kernel's name without what all of PyTorch's have in common."""
    for word in ("void ", "at::native::", "(anonymous namespace)::", "gpu_kernel_impl_nocast", "gpu_kernel_impl"):
        kernel = kernel.replace(word, "")
    return kernel[:160]


def inference(report: Any) -> None:
    """Detections of 1 and 16 images, of scores as training leaves them and of scores of which many pass; NMS alone."""
    device = report.device
    images, _ = pictures(report)
    kinds = {"torchvision": torchvisions(report), OURS: ours(OURS, report), LIKE_FOR_LIKE: ours(LIKE_FOR_LIKE, report)}
    for setting in report.settings or (("fp32",) if report.small else ("tf32", "bf16 channels-last")):
        half, tf32, channels_last = SETTINGS[setting]
        for scores, count in product(("trained", "many"), (1, len(images))):
            speed = {}
            for name, model in kinds.items():
                if channels_last:
                    model.to(memory_format=torch.channels_last)

                def detect(model=model, count=count, half=half, tf32=tf32):
                    with torch.inference_mode(), precision(tf32), torch.autocast(device.type, torch.bfloat16, half):
                        return model(images[:count])

                row = f"{name}, {count} images, {scores} scores, {setting}"
                with _own_row(report, "inference", row):
                    _score(model.eval(), images, scores)
                    counts = Counts.of(detect)
                    speed[name] = median_ms(detect, device, 2 if report.small else 6, warm_up=2)
                    report.row(
                        "inference",
                        row,
                        ms=speed[name],
                        images_per_s=count / speed[name] * 1e3,
                        detections=statistics.mean(len(d["boxes"]) for d in detect()),
                        **report.rates.floor_ms(counts, "bf16" if half else setting),
                    )
            if len(speed) == len(kinds):
                ratios = {k: speed["torchvision"] / v for k, v in speed.items() if k != "torchvision"}
                title = f"torchvision's time over ours, {count} images, {scores} scores, {setting}"
                report.row("inference", title, **ratios)
    _nms(report)


def _score(model: Any, images: list[Tensor], scores: str, passing: int = 1000) -> None:
    """Weights and bias of the class output: of the first image so many pairs of a point and a class pass ("trained").

    With "many" the bias is −3.5: tens of thousands pass, and every image has its 100 detections.
    """
    last = model.head.classification_head.cls_logits if hasattr(model.head, "classification_head") else None
    last = last or model.head.class_logits
    torch.manual_seed(0)
    nn.init.normal_(last.weight, std=0.02)
    nn.init.constant_(last.bias, -3.5)
    if scores == "many":
        return
    logits: list[Tensor] = []
    hook = last.register_forward_hook(lambda _module, _inputs, out: logits.append(out.float().flatten()))
    with torch.inference_mode():
        model(images[:1])
    hook.remove()
    every = torch.cat(logits)
    highest = every.topk(min(passing, len(every) // 10)).values[-1]
    threshold = 0.05 if getattr(model.head, "quality", 1) is None else 0.08  # √(class · quality) > 0.2 at quality 0.5
    with torch.no_grad():
        last.bias += math.log(threshold / (1 - threshold)) - highest.item()


def _nms(report: Any) -> None:
    boxes, labels = (v[0] for v in scenes_of_boxes(500 if report.small else 5000, 1))
    scores = torch.rand(len(boxes), generator=torch.Generator().manual_seed(0))
    kept, ms = [], {}
    for device in dict.fromkeys((torch.device("cpu"), report.device)):
        there = [v.to(device) for v in (boxes, scores, labels)]
        kept.append(batched_nms(*there, 0.6).cpu())
        ms[f"ms_{device.type}"] = median_ms(lambda t=there: batched_nms(*t, 0.6), device)
    report.row("inference", f"NMS of {len(boxes)} boxes", kept=len(kept[0]), equal=torch.equal(kept[0], kept[-1]), **ms)


SECTIONS = {"assignment": assignment, "inference": inference, "step": step, "kernels": kernels, "compiled": compiled}
