"""Training checkpoints: one safetensors file with JSON in its header, replaced only when it is whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ddit_eval.errors import DditError
from ddit_eval.system.files import whole

FILE = "state.safetensors"


def save(
    folder: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, meta: dict[str, Any]
) -> None:
    """Write modules, the optimizer's state and `meta` (JSON) to `folder`."""
    state: dict[str, Tensor] = {}
    for name, module in modules.items():
        state |= {f"{name}.{k}": v for k, v in module.state_dict().items()}
    for index, entry in optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in entry.items()}
    # Tied weights are cloned, since safetensors refuses tensors that share memory. Scalars of the
    # optimizer's groups (Prodigy keeps its step-size estimate there) travel in the JSON.
    groups = [
        {k: v for k, v in group.items() if isinstance(v, (int, float, bool))}
        for group in optimizer.state_dict()["param_groups"]
    ]
    # One file: a kill between two renames would pair the weights of one step with the count of another.
    header = {"meta": json.dumps(meta | {"groups": groups})}
    tensors = {k: v.detach().cpu().clone().contiguous() for k, v in state.items()}
    with whole(folder / FILE) as temporary:
        save_file(tensors, temporary, metadata=header)


def load(
    folder: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> dict[str, Any] | None:
    """Fill modules and optimizer from `folder`; its `meta`, or None where there is no checkpoint."""
    if not (folder / FILE).exists():
        return None
    try:
        with safe_open(folder / FILE, framework="pt") as file:
            meta: dict[str, Any] = json.loads((file.metadata() or {})["meta"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        for name, module in modules.items():
            prefix = name + "."
            module.load_state_dict(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )
    except (KeyError, json.JSONDecodeError, SafetensorError, OSError, RuntimeError) as error:
        raise DditError(
            f"checkpoint {folder} cannot be read ({error}); delete the folder to start afresh"
        ) from error
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in state.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            entries.setdefault(int(index), {})[name] = value
    whole = optimizer.state_dict()
    if entries:
        whole["state"] = entries
    for group, saved in zip(whole["param_groups"], meta.pop("groups", []), strict=False):
        group |= saved
    optimizer.load_state_dict(whole)
    return meta
