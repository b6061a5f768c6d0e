"""An adapter on disk: safetensors beside a readable config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ddit_eval.ddit.adapter.config import AdapterConfig, parse_config
from ddit_eval.ddit.adapter.places import CONFIG, WEIGHTS, find
from ddit_eval.errors import DditError
from ddit_eval.system.files import digest, whole, write_text
from ddit_eval.system.read import read_object
from ddit_eval.system.tensors import header

AGAIN = "fetch or train the adapter again"


def write(
    path: str | Path, config: AdapterConfig, weights: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> None:
    """Write both files into the folder `path`, each replaced only when it is whole.

    A kill between the two leaves weights whose header names another configuration.
    """
    folder = Path(path)
    tensors = {k: v.detach().to("cpu", dtype).contiguous() for k, v in weights.items()}
    # Adapters without time growth stay readable to versions that know none.
    exclude = None if config.time else {"time"}
    text = config.model_dump_json(indent=2, exclude=exclude) + "\n"
    with whole(folder / WEIGHTS) as hidden:
        save_file(tensors, hidden, metadata={CONFIG: digest(json.loads(text), 64)})
        write_text(folder / CONFIG, text)


def read_config(path: str | Path) -> AdapterConfig:
    """Configuration of the adapter in a folder, or of the one that ships under that name."""
    folder = find(path)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise DditError(
                f"no adapter at {folder}: {name} is missing; give a folder written by "
                "Adapter.save_pretrained, or train one (ddit-eval train)"
            )
    data = read_object(folder / CONFIG, AGAIN)
    # Those of earlier versions name none.
    if (named := header(folder / WEIGHTS, AGAIN).get(CONFIG)) and named != digest(data, 64):
        raise DditError(
            f"{folder / WEIGHTS} was written with another {CONFIG} than the one beside it: {AGAIN}"
        )
    try:
        return parse_config(data)
    except DditError as error:
        raise DditError(f"{folder / CONFIG}: {error}; {AGAIN}") from None
