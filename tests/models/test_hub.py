"""A detector as a folder, and as a repository of a Hub that the test plays."""

from __future__ import annotations

import json
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch

from dsla import DataError
from dsla.models import build, hub
from dsla.models.weights import content_hash
from dsla.recipes import recipe

NAMES = ("disc", "ring")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build(recipe("scenes-fcos", channels=16, head_convs=1), class_names=NAMES)


def test_a_folder(tmp_path, model):
    model.category_ids = (4, 9)
    folder = hub.save_pretrained(model, tmp_path / "mine", metric={"AP": 0.5})
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    config = json.loads((folder / "config.json").read_text())
    assert (config["class_names"], config["metric"], config["point_offset"]) == (list(NAMES), {"AP": 0.5}, 0.5)
    again = hub.from_pretrained(folder)
    assert not again.training
    assert again.class_names == NAMES
    assert again.category_ids == (4, 9)
    assert again.recipe == model.recipe
    assert content_hash(again.state_dict()) == content_hash(model.state_dict())
    config["recipe"]["score_threshold"] = 0.2  # what a reader changes holds
    (folder / "config.json").write_text(json.dumps(config))
    assert hub.from_pretrained(folder).postprocess.score_threshold == 0.2
    (folder / "config.json").write_text(json.dumps(config | {"category_ids": [5, 6]}))
    assert hub.from_pretrained(folder).category_ids == (5, 6)
    (folder / "config.json").write_text(json.dumps(config | {"category_ids": [5]}))
    with pytest.raises(DataError, match=r"2 classes, but category_ids \(5\)"):
        hub.from_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config | {"recipe": config["recipe"] | {"method": "mine"}}))
    with pytest.raises(DataError, match=r"a method of its author's, 'mine': name the file that registers it"):
        hub.from_pretrained(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(DataError, match=r"config\.json: not the configuration"):
        hub.from_pretrained(folder)


def test_a_repository(tmp_path, model, monkeypatch):
    calls = []

    def create_repo(repo_id, *, token, private, exist_ok):
        calls.append((repo_id, token, private, exist_ok))

    def upload_folder(*, repo_id, folder_path, token, commit_message=None):
        calls.append((repo_id, token, commit_message))
        shutil.copytree(folder_path, tmp_path / repo_id)
        return f"https://hub/{repo_id}/commit/1"

    def snapshot_download(repo_id, **options):
        if not (tmp_path / repo_id).exists():
            raise OSError("404: no such repository")
        return str(tmp_path / repo_id)

    package = SimpleNamespace(create_repo=create_repo, upload_folder=upload_folder, snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", package)
    options = {"private": True, "token": "hf_x", "commit_message": "first"}
    assert hub.push_to_hub(model, "me/detector", **options) == "https://hub/me/detector/commit/1"
    assert calls == [("me/detector", "hf_x", True, True), ("me/detector", "hf_x", "first")]
    again = hub.from_pretrained("me/detector")
    assert content_hash(again.state_dict()) == content_hash(model.state_dict())
    with pytest.raises(DataError, match="me/nothing: snapshot_download failed: 404"):
        hub.from_pretrained("me/nothing")
    package.create_repo = lambda repo_id, **options: (_ for _ in ()).throw(Unreachable("no route"))
    with pytest.raises(DataError, match="me/other: create_repo failed: no route"):
        hub.push_to_hub(model, "me/other")


class Unreachable(Exception):
    """As the client of the package has its own, which are not the system's."""


def test_without_the_package_only_folders_work(tmp_path, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    hub.save_pretrained(model, tmp_path / "mine")
    hub.from_pretrained(tmp_path / "mine")
    for call in (lambda: hub.from_pretrained("me/detector"), lambda: hub.push_to_hub(model, "me/detector")):
        with pytest.raises(DataError, match=r'me/detector.*pip install "dsla\[hub\]"'):
            call()
