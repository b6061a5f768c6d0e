"""An adapter on disk: safetensors beside a readable config.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ddit_eval.ddit.adapter.config import AdapterConfig, parse_config
from ddit_eval.ddit.adapter.places import CONFIG, WEIGHTS, find
from ddit_eval.errors import DditError
from ddit_eval.system.files import whole, write_text
from ddit_eval.system.read import read_object

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


def read_config(path: str | Path) -> AdapterConfig:
    """Configuration of the adapter in a folder, or of the one that ships under that name."""
    folder = find(path)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise DditError(
                f"no adapter at {folder}: {name} is missing; give a folder written by "
                "Adapter.save_pretrained, or train one (ddit-eval train)"
            )
    try:
        return parse_config(read_object(folder / CONFIG, AGAIN))
    except DditError as error:
        raise DditError(f"{folder / CONFIG}: {error}; {AGAIN}") from None
