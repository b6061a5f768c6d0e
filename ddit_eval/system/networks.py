"""Networks of diffusers and transformers, each loaded whole from its folder, or refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ddit_eval.errors import DditError
from ddit_eval.system.loading import loading
from ddit_eval.system.read import read_object
from ddit_eval.system.tensors import check_memory, no_larger, shapes

CONFIG = "config.json"
# In the order in which diffusers, and then transformers, look for them.
WEIGHTS = (
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "model.safetensors.index.json",
)
# The shapes of a network larger than any that is published: the bound where the weights are not here.
LARGEST = ((2**25,),) * 2500


def load_networks(
    kinds: Mapping[Path, Any], dtype: torch.dtype, remedy: str = "copy it again"
) -> dict[Path, Any]:
    """Networks in evaluation mode by folder, given their classes.

    Raises `DditError` where one lacks a tensor or has one to spare, and, before the first is loaded, where a
    file is not whole, a configuration is of another size or all need more memory than there is.
    """
    needed = [_bytes(kind, folder, dtype, remedy) for folder, kind in kinds.items()]
    check_memory(sum(needed), " and ".join(map(str, kinds)))
    return {folder: _load(kind, folder, dtype, remedy) for folder, kind in kinds.items()}


def _bytes(kind: Any, folder: Path, dtype: torch.dtype, remedy: str) -> int:
    """What a network takes in memory: its weights, and the tables that it computes."""
    computed = sum(buffer.nbytes for buffer in build(kind, folder, remedy).buffers())
    values = sum(map(math.prod, stored(folder, remedy).values()))
    return values * (1 if _packed(folder, remedy) else dtype.itemsize) + computed


def _packed(folder: Path, remedy: str) -> bool:
    return "quantization_config" in read_object(folder / CONFIG, remedy)


def _load(kind: Any, folder: Path, dtype: torch.dtype, remedy: str) -> Any:
    with loading(folder, kind.__name__, remedy):
        network, found = kind.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    # What packed weights bring beside themselves has no place of its own.
    for fault in ("missing", "mismatched", "unexpected")[: 2 if _packed(folder, remedy) else 3]:
        if names := sorted(map(str, found[f"{fault}_keys"])):
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise DditError(
                f"{folder}: {fault} in the weights of {kind.__name__}: {names[0]}{more}: {remedy}"
            )
    return network


def stored(folder: Path, remedy: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in a network's folder, in one file or in those that its index names."""
    for path in (folder / name for name in WEIGHTS):
        if path.is_file():
            return _sharded(path, remedy) if path.suffix == ".json" else shapes(path, remedy)
    raise DditError(f"{folder} holds no weights as safetensors (the only format that is read): {remedy}")


def _sharded(index: Path, remedy: str) -> dict[str, tuple[int, ...]]:
    named = read_object(index, remedy).get("weight_map")
    if not isinstance(named, dict) or not all(type(f) is str and Path(f).name == f for f in named.values()):
        raise DditError(f"{index} has no weight_map of file names: {remedy}")
    held = {file: shapes(index.parent / file, remedy) for file in sorted(set(named.values()))}
    for name, file in named.items():
        if name not in held[file]:
            raise DditError(f"{index.parent / file} lacks {name}, which {index.name} names: {remedy}")
    return {name: shape for one in held.values() for name, shape in one.items()}


def build(kind: Any, folder: Path, remedy: str) -> Any:
    """A network on the meta device by its configuration, which may be no larger than its weights fill."""
    path = folder / CONFIG
    config = read_object(path, remedy)
    here = any((folder / name).is_file() for name in WEIGHTS)
    held = stored(folder, remedy).values() if here else LARGEST
    with loading(path, kind.__name__, remedy), no_larger(held, str(path)), torch.device("meta"):
        if hasattr(kind, "config_class"):  # of transformers
            return kind(kind.config_class.from_pretrained(folder))
        return kind.from_config(config)
