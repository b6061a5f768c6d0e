"""The parts of a pipeline's folder: each is loaded whole, and is what its name says, or is refused."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args

import torch

from ddit_eval.errors import DditError
from ddit_eval.models.find import INDEX
from ddit_eval.system.loading import loading
from ddit_eval.system.networks import load_networks
from ddit_eval.system.read import read_object

LIBRARIES = ("diffusers", "transformers")  # all that parts are made of; code in a folder is never run
PLAIN = {bool, int, float, str}


def pipeline_class(folder: Path, remedy: str) -> Any:
    """The class of the pipeline in a folder."""
    import diffusers

    name = read_object(folder / INDEX, remedy).get("_class_name")
    found = getattr(diffusers, name, None) if isinstance(name, str) else None
    if not (inspect.isclass(found) and issubclass(found, diffusers.DiffusionPipeline)):
        raise DditError(f"{folder / INDEX}: _class_name {name!r} is no pipeline of diffusers: {remedy}")
    return found


def classes(folder: Path, remedy: str) -> dict[str, Any]:
    """The class of each part that a pipeline's index names; all are of diffusers or transformers."""
    wanted = inspect.signature(pipeline_class(folder, remedy).__init__).parameters
    index = read_object(folder / INDEX, remedy)
    found = {}
    for part in [part for part in wanted if isinstance(index.get(part), list) and any(index[part])]:
        kind = _class_of(index[part])
        if kind is None:
            raise DditError(
                f"{folder / INDEX}: {part} is {index[part]}, which is no class of {' or '.join(LIBRARIES)} "
                f"(code in a model's folder is never run): {remedy}"
            )
        if not (folder / part).is_dir():
            raise DditError(f"{folder / part} is missing: {remedy}")
        _check_settings(kind, folder / part, remedy)
        found[part] = kind
    return found


def _check_settings(kind: Any, folder: Path, remedy: str) -> None:
    """Refuse a part that is not what its name says, and settings that would only fail in a run."""
    from diffusers import ModelMixin, SchedulerMixin
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

    bases: dict[str, Any] = {
        "scheduler": SchedulerMixin,
        "tokenizer": (PreTrainedTokenizerBase, ProcessorMixin),
    }
    bases |= dict.fromkeys(("transformer", "vae", "text_encoder"), (ModelMixin, PreTrainedModel))
    for name, base in bases.items():
        if folder.name.startswith(name) and not issubclass(kind, base):
            raise DditError(f"{folder} is {kind.__name__}, which is no {name}: {remedy}")
    if issubclass(kind, PreTrainedTokenizerBase):
        read_object(folder / "tokenizer_config.json", remedy)
        if (folder / "tokenizer.json").exists():
            read_object(folder / "tokenizer.json", remedy)
    if issubclass(kind, SchedulerMixin):
        path = folder / kind.config_name
        settings = read_object(path, remedy)
        for name, parameter in inspect.signature(kind.__init__).parameters.items():
            union = isinstance(parameter.annotation, UnionType)
            types = {*(get_args(parameter.annotation) if union else [parameter.annotation])} - {NoneType}
            value = settings.get(name)
            if value is None or not all(t in PLAIN for t in types) or isinstance(value, tuple(types)):
                continue
            if not (float in types and type(value) is int):
                raise DditError(f"{path}: {name} is {value!r}, which is no {parameter.annotation}: {remedy}")


def load_parts(folder: Path, dtype: torch.dtype, remedy: str) -> dict[str, Any]:
    """The networks, tokenizers and schedulers of a pipeline by part."""
    from diffusers import ModelMixin
    from transformers import PreTrainedModel

    kinds = {folder / part: kind for part, kind in classes(folder, remedy).items()}
    found: dict[str, Any] = {}
    for place, kind in kinds.items():
        if not issubclass(kind, (ModelMixin, PreTrainedModel)):
            with loading(place, kind.__name__, remedy):
                found[place.name] = kind.from_pretrained(place, local_files_only=True)
    nets = {place: kind for place, kind in kinds.items() if place.name not in found}
    found |= {place.name: network for place, network in load_networks(nets, dtype, remedy).items()}
    for part in [part for part in found if part.startswith("tokenizer")]:
        if encoder := found.get(part.replace("tokenizer", "text_encoder")):
            _check_tokens(found[part], encoder, folder / part, remedy)
    return found


def _check_tokens(tokenizer: Any, encoder: Any, place: Path, remedy: str) -> None:
    """Refuse a tokenizer whose tokens the text encoder does not have."""
    rows = getattr(encoder.get_input_embeddings(), "num_embeddings", None)
    if rows is None or not hasattr(tokenizer, "pad_token_id"):
        return
    with loading(place, "a tokenizer", remedy):
        padded = tokenizer("a red star", max_length=16, padding="max_length", truncation=True)
        last = max(padded.input_ids)
    if last >= rows:
        raise DditError(f"{place} gives token {last}, and the text encoder has {rows}: {remedy}")


def _class_of(entry: list[Any]) -> Any:
    """The class that an entry of the index names: [library, class]; None where it names none."""
    if len(entry) != 2 or entry[0] not in LIBRARIES or not isinstance(entry[1], str):
        return None
    found = getattr(importlib.import_module(entry[0]), entry[1], None)
    return found if inspect.isclass(found) else None
