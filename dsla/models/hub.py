"""A detector as a folder, on disk or on the Hugging Face Hub: model.safetensors and config.json.

The conventions are `huggingface_hub.PyTorchModelHubMixin`'s; the package itself is needed for repositories only.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import DataError
from ..files import refuse_existing, write
from ..recipes.recipe import Recipe
from .detector import Detector
from .evaluation import usable
from .saving import detector_of, save
from .weights import read, read_about

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def save_pretrained(
    model: Detector, folder: str | Path, metric: Mapping[str, Any] | None = None, *, overwrite: bool = False
) -> Path:
    """Write the folder: weights as `dsla.save` does, and what they say about themselves as JSON, for readers.

    Args:
        model: from a recipe.
        folder: made if need be.
        metric: numbers to keep with the weights.
        overwrite: replace files that are there.
    Raises:
        DataError: a model without a recipe, or one of the files is there.
    """
    folder = Path(folder)
    refuse_existing([folder / WEIGHTS, folder / CONFIG], overwrite=overwrite)
    about = read_about(save(model, folder / WEIGHTS, metric, overwrite=overwrite))
    write(folder / CONFIG, json.dumps(about, indent=1))
    return folder


def from_pretrained(name: str | Path, *, device: torch.device | str = "cpu", **options: Any) -> Detector:
    """The detector of a folder or of a Hub repository, in evaluation mode. Its config.json decides the recipe.

    Args:
        name: a folder, or "owner/repository".
        device: to load to.
        options: of `huggingface_hub.snapshot_download`, such as revision and token.
    Raises:
        DataError: neither a folder nor a repository within reach; files that are not such a detector's; no such device.
    """
    device = usable(device)
    folder = Path(name)
    if not folder.is_dir():
        folder = Path(_hub("snapshot_download", str(name), allow_patterns=[WEIGHTS, CONFIG], **options))
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        recipe, names = Recipe.from_dict(config["recipe"]), list(config["class_names"])
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise DataError(f"{folder / CONFIG}: not the configuration of a detector ({error!r})") from error
    tensors = read(folder / WEIGHTS)[1]
    return detector_of(recipe, names, tensors, str(folder / WEIGHTS), config.get("category_ids")).to(device)


def push_to_hub(
    model: Detector,
    repository: str,
    metric: Mapping[str, Any] | None = None,
    *,
    private: bool = False,
    token: str | bool | None = None,
    **options: Any,
) -> str:
    """Upload the folder to "owner/repository", made if need be; gives the commit's address.

    Args:
        model: from a recipe.
        repository: its name.
        metric: numbers to keep with the weights.
        private: of a new one.
        token: of the Hub; by default the one that is logged in.
        options: of `huggingface_hub.upload_folder`, such as commit_message.
    Raises:
        DataError: huggingface_hub is not installed, or the Hub says no.
    """
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder, metric)
        _hub("create_repo", repository, private=private, exist_ok=True, token=token)
        return str(_hub("upload_folder", repository, folder_path=folder, token=token, **options))


def _hub(function: str, repository: str, **options: Any) -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise DataError(
            f'{repository} is no folder, and repositories of the Hub need pip install "dsla[hub]" ({error})'
        ) from error
    try:
        return getattr(huggingface_hub, function)(repo_id=repository, **options)
    except Exception as error:  # the Hub's own errors, and those of the client below it
        raise DataError(f"{repository}: {function} failed: {error}") from error
