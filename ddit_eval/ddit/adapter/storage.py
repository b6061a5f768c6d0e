"""An adapter on disk: safetensors beside a readable config.json."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ddit_eval.ddit.adapter.adapter import Adapter
from ddit_eval.ddit.adapter.config import parse_config
from ddit_eval.ddit.adapter.places import CONFIG, WEIGHTS, find
from ddit_eval.errors import DditError


def save(adapter: Adapter, path: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write both files into the folder `path`, each replaced only when it is whole."""
    folder = Path(path)
    tensors = {k: v.detach().to("cpu", dtype).contiguous() for k, v in adapter.state_dict().items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".tmp-") as hidden:
            scratch = Path(hidden)
            save_file(tensors, scratch / WEIGHTS)
            # Adapters without time growth stay readable to versions that know none.
            exclude = None if adapter.config.time else {"time"}
            (scratch / CONFIG).write_text(adapter.config.model_dump_json(indent=2, exclude=exclude) + "\n")
            for name in (WEIGHTS, CONFIG):
                os.replace(scratch / name, folder / name)
    except OSError as error:
        raise DditError(
            f"cannot write the adapter to {folder}: {error}; choose a folder that is writable"
        ) from None


def load(path: str | Path) -> Adapter:
    """The adapter in a folder, or the one that ships under that name, in evaluation mode."""
    folder = find(path)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise DditError(
                f"no adapter at {folder}: {name} is missing; give a folder written by "
                "Adapter.save_pretrained, or train one (ddit-eval train)"
            )
    again = "fetch or train the adapter again"
    try:
        config = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise DditError(f"{folder / CONFIG} cannot be read ({error}); {again}") from None
    if not isinstance(config, dict):
        raise DditError(f"{folder / CONFIG} holds no configuration; {again}")
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise DditError(f"{folder / WEIGHTS} cannot be read ({error}); {again}") from None
    adapter = Adapter(parse_config(config))
    try:
        adapter.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:300]
        raise DditError(f"{folder / WEIGHTS} does not fit its {CONFIG}: {detail}; {again}") from None
    return adapter.eval()
