"""Training checkpoints as safetensors plus JSON, replaced only when they are whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ddit_eval.errors import DditError


def save(
    folder: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, meta: dict[str, Any]
) -> None:
    """Write modules, the optimizer's state and `meta` (JSON) to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
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
    save_file({k: v.detach().cpu().clone().contiguous() for k, v in state.items()}, folder / "state.tmp")
    (folder / "meta.tmp").write_text(json.dumps(meta | {"groups": groups}))
    (folder / "state.tmp").replace(folder / "state.safetensors")
    (folder / "meta.tmp").replace(folder / "meta.json")


def load(
    folder: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> dict[str, Any] | None:
    """Fill modules and optimizer from `folder`; its `meta`, or None where there is no checkpoint."""
    if not (folder / "meta.json").exists():
        return None
    try:
        meta: dict[str, Any] = json.loads((folder / "meta.json").read_text())
        state = load_file(folder / "state.safetensors")
        for name, module in modules.items():
            prefix = name + "."
            module.load_state_dict(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )
    except (json.JSONDecodeError, SafetensorError, OSError, RuntimeError) as error:
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
