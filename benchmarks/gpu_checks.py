"""Sections of `gpu.py` that ask whether the card gives what the CPU gives, and whether the host waits for it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import dsla


def methods() -> list[str]:
    """Recipes of the scenes, one for each way to assign and to teach."""
    kinds: dict[str, str] = {}
    for name, recipe in dsla.RECIPES.items():
        if recipe.backbone == "small":
            kinds.setdefault(repr(replace(recipe, name="", steps=1, min_size=(128,), pretrained=False)), name)
    return list(kinds.values())


def batch(images: int = 4, seed: int = 0) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Noise with 0 to 8 boxes an image, five classes, 128 × 128."""
    g = torch.Generator().manual_seed(seed)
    pictures = [torch.rand(3, 128, 128, generator=g) for _ in range(images)]
    targets = []
    for i in range(images):
        corner = torch.rand(3 * i % 9, 2, generator=g) * 90
        size = 6 + torch.rand(len(corner), 2, generator=g) * 60
        boxes = torch.cat((corner, (corner + size).clamp(max=128)), 1)
        targets.append({"boxes": boxes, "labels": torch.randint(0, 5, (len(boxes),), generator=g)})
    return pictures, targets


def moved(value: Any, device: torch.device, pinned: bool = False) -> Any:
    """The tensors of dicts and lists on a device, or in pinned main memory."""
    if isinstance(value, Tensor):
        return value.pin_memory() if pinned else value.to(device)
    if isinstance(value, dict):
        return {k: moved(v, device, pinned) for k, v in value.items()}
    return [moved(v, device, pinned) for v in value]


def equality(report: Any) -> None:
    """The same outputs of the head on both devices: who teaches which point, losses, gradients."""
    pictures, targets = batch()
    for name in methods():
        try:
            torch.manual_seed(0)
            model = dsla.build(name, 5).train()
            with torch.no_grad():
                raw = model.forward_raw(pictures, targets)
            sides = [_taught(model, raw, device) for device in (torch.device("cpu"), report.device)]
        except Exception as error:  # one method is one row
            report.row("equality", name, error=f"{type(error).__name__}: {error}"[:300])
            continue
        (a, losses_a, grads_a), (b, losses_b, grads_b) = sides
        differ = (a.gt_index != b.gt_index.cpu()).sum()
        off = [_relative(losses_a[k], losses_b[k]) for k in losses_a]
        report.row(
            "equality",
            name,
            positives=int(a.positive.sum()),
            points_assigned_otherwise=int(differ),
            label_off=float((a.label - b.label.cpu()).abs().max()),
            losses_off=max(off),
            gradients_off=max(map(_relative, grads_a, grads_b)),
        )


def _taught(model: Any, raw: Any, device: torch.device) -> tuple[Any, dict[str, Tensor], list[Tensor]]:
    """Assignment, losses and the gradients of the head's outputs, all of it on a device."""
    outputs = raw.outputs
    logits, distances = (v.to(device).requires_grad_() for v in (outputs.logits, outputs.distances))
    quality = None if outputs.quality is None else outputs.quality.to(device).requires_grad_()
    outputs = dsla.HeadOutputs(logits, distances, outputs.grid.to(device), quality)
    raw = raw._replace(outputs=outputs, targets=moved(raw.targets, device))
    assignment = model.assign(raw)
    losses = model.criterion(outputs, assignment)
    leaves = [v for v in (logits, distances, quality) if v is not None]
    return assignment, losses, list(torch.autograd.grad(torch.stack(tuple(losses.values())).sum(), leaves))


def _relative(a: Tensor, b: Tensor) -> float:
    """‖a − b‖ / ‖a‖ in float64."""
    a, b = a.detach().double().cpu(), b.detach().double().cpu()
    return float((a - b).norm() / a.norm().clamp(min=1e-12))


def waits(report: Any, steps: int = 10) -> None:
    """Ten steps of each method: which line makes the host wait, once the images are on the card."""
    if report.device.type != "cuda":
        report.row("waits", "left out", reason="no GPU; tests/models/test_devices.py counts them on a pretended one")
        return
    for name in methods():
        try:
            lines = _waiting_lines(name, report.device, steps)
        except Exception as error:  # one method is one row
            report.row("waits", name, error=f"{type(error).__name__}: {error}"[:300])
            continue
        finally:
            torch.cuda.set_sync_debug_mode("default")
        report.row("waits", name, steps=steps, waits=sum(lines.values()), lines=dict(lines.most_common(8)))
    model, pictures = dsla.build("scenes-dsla", 5).to(report.device).eval(), moved(batch(16)[0], report.device)
    with torch.inference_mode():
        model(pictures)
        lines = _watched(lambda: model(pictures))
    report.row("waits", "detections of 16 images", waits=sum(lines.values()), lines=dict(lines.most_common(8)))


def _waiting_lines(name: str, device: torch.device, steps: int) -> Counter[str]:
    from dsla.training.schedule import optimizer_of

    torch.manual_seed(0)
    model = dsla.build(name, 5).to(device).train()
    optimizer = optimizer_of(model, dsla.recipe(name))
    parameters = [p for p in model.parameters() if p.requires_grad]
    pictures, targets = batch(16)
    pictures, targets = moved(pictures, device), moved(targets, device, pinned=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.stack(tuple(model(pictures, targets).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 35.0)
        optimizer.step()

    for _ in range(2):
        step()  # tables are made, kernels chosen
    torch.cuda.synchronize()
    lines = _watched(lambda: [step() for _ in range(steps)])
    if not lines:  # said by PyTorch itself, not only by the absence of warnings
        torch.cuda.set_sync_debug_mode("error")
        for _ in range(steps):
            step()
    return lines


def _watched(work: Any) -> Counter[str]:
    """Lines of Python in which the host waited for the card."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        work()
        torch.cuda.set_sync_debug_mode("default")
    where = [w for w in caught if "synchroniz" in str(w.message)]
    return Counter(f"{'/'.join(Path(w.filename).parts[-2:])}:{w.lineno}" for w in where)


def training(report: Any) -> None:
    """200 steps on scenes on both devices from one seed: they part by rounding, and end at the same level."""
    steps, size = (6, 16) if report.small else (200, 1600)
    recipe = dsla.recipe("scenes-dsla", steps=steps, warmup_steps=steps // 10)
    images, val = dsla.Scenes("train", size=size).prepare(), dsla.Scenes("val", size=size // 8).prepare()
    before = torch.get_num_threads()
    for device in dict.fromkeys(("cpu", str(report.device))):
        try:
            result = dsla.train(recipe, images, device=device, log_every=max(1, steps // 5), progress=False)
            last = [row for row in result.log if "loss" in row][-1]
            ap = dsla.evaluate(result.model, val, engine="numpy")["AP"]
            values = {k: last[k] for k in last if k.startswith("loss") or k == "images_per_s"}
            report.row("training", f"{recipe.name} on {device}", steps=steps, **values, AP=float(ap))
        except Exception as error:  # the other device's numbers are still of use
            report.row("training", f"{recipe.name} on {device}", error=f"{type(error).__name__}: {error}"[:400])
    if report.device.type == "cuda":
        model = dsla.load("scenes-dsla")
        by_device = {}
        for device in ("cpu", "cuda"):
            numbers = dsla.evaluate(model.to(device), val, engine="numpy")
            by_device[device] = {k: float(numbers[k]) for k in ("AP", "AP50", "AR@100")}
        report.row("training", "shipped weights, 200 scenes", **by_device)
    torch.set_num_threads(before)


_TWO = """
import sys, dsla
recipe = dsla.recipe("scenes-dsla", steps=20, warmup_steps=2)
dsla.train(recipe, dsla.Scenes("train", size=64).prepare(workers=1), out=sys.argv[1], progress=False)
"""


def processes(report: Any) -> None:
    """Two processes, each with a card of its own, end with the weights of one."""
    if report.device.type != "cuda" or torch.cuda.device_count() < 2:
        report.row("processes", "left out", reason="two cards are needed")
        return
    root = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "two.py"
        script.write_text(_TWO)
        weights = []
        for count in (1, 2):
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
            path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
            out = Path(folder) / str(count)
            subprocess.run([*command, script, out], check=True, env={**os.environ, "PYTHONPATH": path}, timeout=120)
            weights.append(dsla.load(out / "model.safetensors").state_dict())
    off = max(_relative(a, weights[1][k]) for k, a in weights[0].items() if a.is_floating_point())
    report.row("processes", "2 against 1, NCCL, 20 steps", weights_off=off)


SECTIONS = {"equality": equality, "waits": waits, "training": training, "processes": processes}
