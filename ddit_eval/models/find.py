"""Where a model's weights lie on this machine, and what identifies them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from ddit_eval.ddit.adapter.places import CONFIG, WEIGHTS
from ddit_eval.errors import DditError
from ddit_eval.models.names import MODELS, known
from ddit_eval.system.loading import loading
from ddit_eval.system.read import LARGE, file_digest, read_bytes, read_object

INDEX = "model_index.json"  # what makes a folder a diffusers pipeline
SHIPPED = Path(str(resources.files("ddit_eval"))) / "weights"
# What changes no picture. A calibration is no part of the weights; its policy has a digest of its own.
_ASIDE = re.compile(
    r"(\.|readme|licen[cs]e|notice).*|calibration\.json|.*\.(md|pdf|png|jpe?g|webp|gif|mp4|svg|tmp)", re.I
)


def find(name_or_path: str | Path) -> Path | None:
    """The folder that holds a model's weights on this machine, or None. Never goes to the network.

    A registered name is that model even where a folder is called so: write ./NAME, or hand over a Path.
    """
    path, model = Path(name_or_path), known(str(name_or_path))
    if path.is_dir() and (model is None or isinstance(name_or_path, Path)):
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


def remedy(name_or_path: str | Path) -> str:
    """How to mend a model's broken folder."""
    model = known(str(name_or_path))
    return model.get if model else "copy the whole folder again"


def text_tokens(name_or_path: str | Path) -> int:
    """How many tokens of text a model was made for; its last tokenizer's limit if not registered."""
    if model := known(str(name_or_path)):
        return model.text_tokens
    folder = locate(name_or_path)
    for name in ("tokenizer_2", "tokenizer"):
        file = folder / name / "tokenizer_config.json"
        if file.is_file():
            settings = read_object(file, remedy(name_or_path))
            with loading(file, "a tokenizer's settings", remedy(name_or_path)):
                limit = settings.get("model_max_length")  # null: none
                return 512 if limit is None else min(int(limit), 512)
    return 512


def fingerprint(folder: Path) -> str:
    """12 hex digits of all in a folder that can change a picture: other weights, other records.

    Of a pipeline these are its index and its parts, of an adapter the two files of `places`. Links are
    followed.
    """
    if not folder.is_dir():
        raise DditError(
            f"there is no folder {folder}; give the folder, or a name that `ddit-eval models` lists"
        )
    found = list(_files(folder))
    if (folder / INDEX).is_file():
        parts = set(read_object(folder / INDEX, remedy(folder)))
        found = [p for p in found if p == folder / INDEX or p.relative_to(folder).parts[0] in parts]
    elif (folder / WEIGHTS).is_file():
        found = [folder / CONFIG, folder / WEIGHTS]
    digest = hashlib.sha256()
    for path in sorted(found):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()}:{size}:".encode())
        digest.update(read_bytes(path) if size <= LARGE else file_digest(path).encode())
    return digest.hexdigest()[:12]


def _files(folder: Path) -> Iterator[Path]:
    """Files in a folder and below, links followed, each folder once."""
    seen = set()
    for place, below, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        below[:] = sorted(n for n in below if not n.startswith(".")) if real not in seen else []
        for name in names if real not in seen else ():
            if not _ASIDE.fullmatch(name) and (Path(place) / name).is_file():
                yield Path(place) / name
        seen.add(real)
