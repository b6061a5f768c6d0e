"""Tensors in a file that tells whether it is as it was written: whole and unchanged, or refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.system.files import whole
from ddit_eval.system.read import check_regular


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write `tensors`, and `facts` in the header, so that a reader sees the old file or the new one.

    Raises `DditError` where the folder is read-only or the disk is full.
    """
    # Tied weights are cloned, since safetensors refuses tensors that share memory.
    state = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
    with whole(path) as temporary:
        # One entry: safetensors writes several in any order, and equal states would differ in bytes.
        about = json.dumps({**facts, "digest": _digest(state, facts)}, sort_keys=True)
        save_file(state, temporary, metadata={"about": about})


def read(path: Path, remedy: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What `write` wrote. Raises `DditError` with the `remedy` where the file is not what was written."""
    check_regular(path)
    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, str] = dict(json.loads((file.metadata() or {}).get("about", "{}")))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        raise DditError(f"{path} is damaged ({error}); {remedy}") from None
    if facts.pop("digest", None) != _digest(state, facts):
        raise DditError(f"{path} is damaged or of another version: its digest does not fit; {remedy}")
    return state, facts


def _digest(state: Mapping[str, Tensor], facts: Mapping[str, str]) -> str:
    found = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in sorted(state.items()):
        found.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}:".encode())
        found.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
