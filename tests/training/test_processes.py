"""Two processes on the CPU learn, evaluate and resume as one does with the same images a step."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import dsla
from dsla.data import DetectionDataset
from dsla.data.sampling import Order
from dsla.training.folder import read_log
from dsla.training.loop import train
from dsla.training.processes import agree, averaged, evaluate_together, gathered, process_group, rank, world
from dsla.training.step import _reseed

DSLA_OFF = dsla.recipe(
    "scenes-dsla", channels=16, head_convs=1, batch_size=4, steps=5, warmup_steps=0, optimizer="sgd", lr=0.02,
    coupling="off", schedule="step", milestones="90",
)  # fmt: skip
FCOS = dsla.recipe(
    "scenes-fcos", channels=16, head_convs=1, batch_size=3, steps=4, warmup_steps=0, optimizer="sgd", lr=0.02,
    schedule="step", milestones="90",
)  # fmt: skip
RUNS = {"dsla": DSLA_OFF, "fcos": FCOS, "one image": FCOS.replace(batch_size=1)}


class Some(DetectionDataset):
    """Nine pictures of noise, 96x96, with a large box each; without boxes in those of `bare`."""

    name, class_names, category_ids = "some", ("a", "b", "c", "d", "e"), (1, 2, 3, 4, 5)

    def __init__(self, bare=()):
        self.bare = bare

    def __len__(self):
        return 9

    def image_id(self, i):
        return 100 + i

    def image_size(self, i):
        return 96, 96

    def load(self, i):
        image = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(i))
        boxes = torch.tensor([[8.0, 8, 60 + 3 * i, 70], [40, 40, 90, 90]])[: 0 if i in self.bare else 2]
        rest = {"crowd_boxes": torch.zeros(0, 4), "image_id": self.image_id(i)}
        return image, {"boxes": boxes, "labels": torch.tensor([i % 5, 4])[: len(boxes)], **rest}

    def ground_truth(self):
        rows = [(self.image_id(i), b, c) for i in range(9) for b, c in zip(*self._of(i), strict=True)]
        return {
            "images": [{"id": self.image_id(i), "width": 96, "height": 96, "file_name": f"{i}.png"} for i in range(9)],
            "categories": [{"id": c, "name": n} for c, n in zip(self.category_ids, self.class_names, strict=True)],
            "annotations": [
                {"id": n, "image_id": i, "category_id": c + 1, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
                for n, (i, b, c) in enumerate(rows, 1)
            ],
        }

    def _of(self, i):
        target = self.load(i)[1]
        boxes = target["boxes"]
        return torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).tolist(), target["labels"].tolist()


def data_of(name):
    return Some(bare=(0, 1, 4, 8) if name == "dsla" else ())


def model_of(recipe):
    """With group instead of batch norm, which would see other images in each process."""
    torch.manual_seed(0)
    model = dsla.build(recipe, class_names=Some.class_names)
    for parent in list(model.backbone.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.BatchNorm2d):
                setattr(parent, name, torch.nn.GroupNorm(4, child.num_features))
    return model


def work(folder):
    """All that several processes are asked; each leaves what it got."""
    with process_group("cpu"):
        report = {}
        for name, recipe in RUNS.items():
            result = train(
                recipe, data_of(name), out=folder / name, model=model_of(recipe), log_every=1, progress=False
            )
            report[name] = {"rows": result.log, "weights": result.model.state_dict()}
        r = RUNS["dsla"]
        options = {"out": folder / "resumed", "log_every": 1, "progress": False}
        train(r, data_of("dsla"), model=model_of(r), stop_after=2, **options)
        result = train(r, data_of("dsla"), model=model_of(r), resume=True, **options)
        report["resumed"] = {"rows": result.log, "weights": result.model.state_dict()}
        parts = {**options, "accumulate": 2, "out": folder / "parts"}
        whole = train(r, data_of("dsla"), model=model_of(r), **{**parts, "out": folder / "whole"})
        train(r, data_of("dsla"), model=model_of(r), stop_after=2, **parts)
        result = train(r, data_of("dsla"), model=model_of(r), resume=True, **parts)
        report["in parts"] = {"weights": result.model.state_dict(), "unbroken": whole.model.state_dict()}
        low = dsla.build(r.replace(score_threshold=0.0), class_names=Some.class_names)
        low.load_state_dict(dsla.build(r, class_names=Some.class_names).state_dict())
        torch.manual_seed(5)
        for p in low.parameters():
            torch.nn.init.normal_(p, std=0.1)
        report["evaluation"] = {k: float(v) for k, v in evaluate_together(low, Some()).items()}
        normed = dsla.build(r, class_names=Some.class_names)
        for buffer in normed.buffers():
            buffer += rank()
        evaluate_together(normed, Some())
        report["buffers"] = list(normed.buffers())
        report["gathered"] = gathered({"rank": rank()})
        report["averaged"] = averaged({"a": torch.tensor(1.0 + rank()), "b": torch.tensor(4.0)})
        try:
            agree(rank() if world() > 1 else 0, "ranks")
            report["refused"] = ""
        except dsla.errors.DataError as error:
            report["refused"] = str(error)
        torch.save(report, folder / f"rank{rank()}.pt")


def torchrun(*command, cwd=None):
    """Two processes on this machine; one that hangs is stopped after two minutes."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command]
    # the address of the loopback interface, whatever the machine's name resolves to
    env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else ""}
    env = {k: v for k, v in env.items() if v}
    done = subprocess.run(launch, env=env, capture_output=True, text=True, timeout=300, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """What one process got, and each of two."""
    if not torch.distributed.is_available():
        pytest.skip("this PyTorch is built without torch.distributed")
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    work(one)
    torchrun(__file__, str(two))
    read = [torch.load(path, weights_only=False) for path in (one / "rank0.pt", two / "rank0.pt", two / "rank1.pt")]
    return *read, two


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_losses_and_weights_are_those_of_one_process(reports, name):
    """fcos: 3 images in 1 and 2; dsla: some processes without a box; one image: the first process has none at all."""
    one, *both, folder = reports
    rows = [r for r in one[name]["rows"] if "loss" in r]
    for two in both:
        for a, b in zip(rows, (r for r in two[name]["rows"] if "loss" in r), strict=True):
            for key in (k for k in a if k.startswith("loss") or k in ("grad_norm", "lr", "epoch", "step")):
                assert b[key] == pytest.approx(a[key], rel=2e-4, abs=2e-6), key
        for key, value in one[name]["weights"].items():
            torch.testing.assert_close(two[name]["weights"][key], value, atol=1e-5, rtol=1e-4)
    for a, b in zip(both[0][name]["weights"].values(), both[1][name]["weights"].values(), strict=True):
        assert torch.equal(a, b)
    before = model_of(RUNS[name]).state_dict()
    assert max((one[name]["weights"][k] - before[k]).abs().max().item() for k in before) > 1e-2
    assert read_log(folder / name / "log.jsonl") == both[0][name]["rows"]


def test_some_processes_had_no_box_and_some_no_image():
    """Else the test above would not say what it says."""
    boxes = [
        [sum(i not in data_of("dsla").bare for i, _ in b) for b in Order(9, 4, 0, 5, seed=0, part=r, parts=2)]
        for r in (0, 1)
    ]
    assert any(a == 0 < b for a, b in zip(*boxes, strict=True))
    assert all(b == [] for b in Order(9, 1, 0, 4, seed=0, part=0, parts=2))


@pytest.mark.slow
def test_resuming_gives_the_weights_of_a_run_that_never_stopped(reports):
    for two in reports[1:3]:
        for a, b in zip(two["dsla"]["weights"].values(), two["resumed"]["weights"].values(), strict=True):
            assert torch.equal(a, b)
    for each in reports[:3]:  # with accumulation, in one process and in two
        for a, b in zip(each["in parts"]["weights"].values(), each["in parts"]["unbroken"].values(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.slow
def test_every_image_is_evaluated_once(reports):
    """Nine images in two processes; an image evaluated twice, or not, would change the numbers."""
    one, *both, _ = reports
    assert one["evaluation"]["AR@100"] > 0
    for two in both:
        assert two["evaluation"] == pytest.approx(one["evaluation"], nan_ok=True)


@pytest.mark.robustness("wrong: the numbers of a run in several processes are those of the weights that are saved")
@pytest.mark.slow
def test_all_processes_evaluate_the_model_that_is_saved(reports):
    """Each has batch norm's statistics of its own images; those of the first are saved."""
    one, *both, _ = reports
    for two in both:
        assert all(torch.equal(a, b) for a, b in zip(one["buffers"], two["buffers"], strict=True))


def test_more_processes_than_gpus_are_one_message(monkeypatch):
    for name, value in {"RANK": "3", "LOCAL_RANK": "3", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(dsla.errors.DataError, match="cuda:3: no such GPU; PyTorch finds 2"), process_group():
        raise AssertionError("it was joined")


def test_chance_is_of_the_gpu_that_is_used(monkeypatch):
    """Also where that is not the first one, as with --device cuda:1."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: chosen.append(device) or contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "manual_seed", chosen.append)
    _reseed(0, 5, torch.device("cuda:1"))
    assert chosen == [torch.device("cuda:1"), 5 * 1024]


@pytest.mark.slow
def test_what_ranks_tell_each_other(reports):
    one, *both, _ = reports
    assert (one["averaged"], one["refused"]) == ({"a": 1.0, "b": 4.0}, "")
    assert [each["gathered"] for each in (one, *both)] == [[{"rank": 0}], [{"rank": 0}, {"rank": 1}], []]
    for two in both:
        assert two["averaged"] == {"a": 1.5, "b": 4.0}
        assert "the processes have different ranks: [0, 1]" in two["refused"]


@pytest.mark.slow
def test_the_shell_command_under_torchrun(tmp_path):
    """One process writes and prints; the log is there line by line."""
    printed = torchrun(
        *("-m", "dsla", "train", "scenes-dsla", "steps=4", "channels=16", "head_convs=1", "warmup_steps=0"),
        *("--batch-size", "4", "--accumulate", "2", "--size", "6", "--out", str(tmp_path / "run"), "--device", "cpu"),
    )
    assert printed.count("spread over 2 processes and 2 parts one after another") == 1
    assert "learning rate 0.001 " in printed  # 0.004 at 16 images a step
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows] == [0, 4, 4]
    assert rows[0]["plan"] in printed
    assert rows[-1]["event"] == "evaluate"
    assert dsla.load(tmp_path / "run" / "model.safetensors").class_names == dsla.Scenes("val", size=1).class_names


if __name__ == "__main__":
    work(Path(sys.argv[1]))
