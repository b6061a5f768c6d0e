"""An adapter on disk: safetensors beside a readable config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ddit_eval.ddit.adapter.config import AdapterConfig, parse_config
from ddit_eval.ddit.adapter.places import CONFIG, WEIGHTS, find
from ddit_eval.errors import DditError
from ddit_eval.system.files import whole, write_text

AGAIN = "fetch or train the adapter again"


def write(
    path: str | Path, config: AdapterConfig, weights: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> None:
    """Write both files into the folder `path`, each replaced only when it is whole."""
    folder = Path(path)
    tensors = {k: v.detach().to("cpu", dtype).contiguous() for k, v in weights.items()}
    # Adapters without time growth stay readable to versions that know none.
    exclude = None if config.time else {"time"}
    with whole(folder / WEIGHTS) as hidden:
        save_file(tensors, hidden)
        write_text(folder / CONFIG, config.model_dump_json(indent=2, exclude=exclude) + "\n")


def read(path: str | Path) -> tuple[AdapterConfig, dict[str, Tensor]]:
    """Configuration and weights of the adapter in a folder, or of the one that ships under that name."""
    folder = find(path)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise DditError(
                f"no adapter at {folder}: {name} is missing; give a folder written by "
                "Adapter.save_pretrained, or train one (ddit-eval train)"
            )
    try:
        config = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise DditError(f"{folder / CONFIG} cannot be read ({error}); {AGAIN}") from None
    if not isinstance(config, dict):
        raise DditError(f"{folder / CONFIG} holds no configuration; {AGAIN}")
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise DditError(f"{folder / WEIGHTS} cannot be read ({error}); {AGAIN}") from None
    return parse_config(config), tensors
