"""Training checkpoints: one file, replaced only when it is whole, that knows which training it is of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddit_eval.errors import DditError
from ddit_eval.schema.measured import apart
from ddit_eval.training import tensors

FILE = "state.safetensors"
SHOWN = 3  # differences that a message names


def save(
    folder: Path,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    meta: dict[str, Any],
    made: Mapping[str, Any],
) -> None:
    """Write modules, the optimizer's state and `meta` (JSON) to `folder`. made: what decides them (JSON)."""
    state: dict[str, Tensor] = {}
    for name, module in modules.items():
        state |= {f"{name}.{k}": v for k, v in module.state_dict().items()}
    for index, entry in optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in entry.items()}
    # Scalars of the optimizer's groups (Prodigy keeps its step-size estimate there) travel in the JSON.
    groups = [
        {k: v for k, v in group.items() if isinstance(v, (int, float, bool))}
        for group in optimizer.state_dict()["param_groups"]
    ]
    # One file: a kill between two renames would pair the weights of one step with the count of another.
    facts = {"meta": json.dumps(meta | {"groups": groups}), "made": json.dumps(made)}
    tensors.write(folder / FILE, state, facts)


def load(
    folder: Path,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    made: Mapping[str, Any],
) -> dict[str, Any] | None:
    """Fill modules and optimizer from `folder`; its `meta`, or None where there is no checkpoint.

    Raises `DditError` where it is damaged, or of a training with another `made`, whose differences it names.
    """
    if not (folder / FILE).exists():
        return None
    state, facts = tensors.read(folder / FILE, f"remove {folder} to start afresh")
    check_same(folder / FILE, json.loads(facts["made"]), made, folder)
    meta: dict[str, Any] = json.loads(facts["meta"])
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
    try:
        for name, module in modules.items():
            prefix = name + "."
            own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            module.load_state_dict(own)
        optimizer.load_state_dict(whole)
    except (KeyError, ValueError, RuntimeError) as error:
        why = str(error).splitlines()[0]
        raise DditError(f"{folder / FILE} does not fit ({why}); remove {folder} to start afresh") from error
    return meta


def check_same(file: Path, there: Mapping[str, Any], now: Mapping[str, Any], remove: Path) -> None:
    """Raise `DditError` where what `file` was made of (`there`) is not what is asked for `now`.

    remove: what the user may remove to start afresh.
    """
    now = json.loads(json.dumps(now))  # keys are text there
    found = [item for name in sorted({*there, *now}) for item in apart(name, there.get(name), now.get(name))]
    if found:
        named = [f"{name} is {a!r} there and {b!r} now" for name, a, b in found[:SHOWN]]
        more = f" (and {len(found) - SHOWN} more)" if len(found) > SHOWN else ""
        raise DditError(
            f"{file} is of another training: {', '.join(named)}{more}; name another `out`, or remove "
            f"{remove} to start afresh"
        )
