"""Where a model's weights lie on this machine, and what identifies them."""

from __future__ import annotations

import hashlib
import json
import re
from importlib import resources
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from ddit_eval.errors import DditError
from ddit_eval.models.names import MODELS, known

SHIPPED = Path(str(resources.files("ddit_eval"))) / "weights"
INDEX = "model_index.json"  # what makes a folder a diffusers pipeline
_WHOLE_FILE = 64 * 2**20  # bytes; of a larger file only both ends are hashed


def find(name_or_path: str | Path) -> Path | None:
    """The folder that holds a model's weights on this machine, or None. Never goes to the network."""
    path, model = Path(name_or_path), known(str(name_or_path))
    if path.is_dir() and model is None:
        return path
    if model and model.hub is None:
        folder: Path | None = SHIPPED / model.name
    else:
        folder = _cached(model.hub if model and model.hub else str(name_or_path))
    return folder if folder and (folder / INDEX).is_file() else None


def _cached(repo: str) -> Path | None:
    """The folder of a repository in the local Hugging Face cache."""
    try:
        return Path(snapshot_download(repo, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        return None


def locate(name_or_path: str | Path) -> Path:
    """The folder that holds a model's weights; raises `DditError` saying how to get what is missing."""
    folder = find(name_or_path)
    name = str(name_or_path)
    if folder and (folder / INDEX).is_file():
        return folder
    if folder:
        raise DditError(f"{name} is no diffusers pipeline: it has no {INDEX}")
    if model := known(name):
        raise DditError(f"the weights of {model.name} are not on this machine. To get them: {model.get}")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise DditError(
            f"{name} is neither a folder nor in the local Hugging Face cache. "
            f"To get it from the hub: hf download {name}"
        )
    raise DditError(
        f"unknown model {name!r}; known are {', '.join(MODELS)}, any folder of a pipeline, or a hub id"
    )


def text_tokens(name_or_path: str | Path) -> int:
    """How many tokens of text a model was made for; its last tokenizer's limit if not registered."""
    if model := known(str(name_or_path)):
        return model.text_tokens
    folder = locate(name_or_path)
    for name in ("tokenizer_2", "tokenizer"):
        file = folder / name / "tokenizer_config.json"
        if file.is_file():
            return min(int(json.loads(file.read_text()).get("model_max_length", 512)), 512)
    return 512


def fingerprint(folder: Path) -> str:
    """12 hex digits of a folder's configuration and weights: other weights, other records."""
    if not folder.is_dir():
        raise DditError(
            f"there is no folder {folder}; give the folder, or a name that `ddit-eval models` lists"
        )
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".json", ".safetensors") or not path.is_file():
            continue
        if path.name == "calibration.json":  # no part of the weights; its policy has a digest of its own
            continue
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()}:{size}:".encode())
        with open(path, "rb") as file:
            if size <= _WHOLE_FILE:
                digest.update(file.read())
            else:
                digest.update(file.read(2**20))
                file.seek(-(2**20), 2)
                digest.update(file.read())
    return digest.hexdigest()[:12]
