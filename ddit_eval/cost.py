"""What a run costs on paper, from its trace: tokens and FLOPs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ddit_eval import flops
from ddit_eval.errors import DditError
from ddit_eval.models import locate, text_tokens


def flop_table(model: str | Path, adapter: str | Path | None, height: int, width: int) -> dict[int, int]:
    """FLOPs of one transformer call on one sample by scale; reads configurations, loads no base weights.

    height, width: pixels. Raises `DditError` where the model or the adapter is not here.
    """
    import diffusers
    import torch

    from ddit_eval.families import family_of
    from ddit_eval.patching.adapter import Adapter

    folder = locate(model)
    try:
        settings = json.loads((folder / "transformer" / "config.json").read_text())
        blocks = json.loads((folder / "vae" / "config.json").read_text())["block_out_channels"]
    except (OSError, KeyError, json.JSONDecodeError) as error:
        raise DditError(f"{folder} is no complete pipeline: {error}") from error
    with torch.device("meta"):
        transformer = getattr(diffusers, settings["_class_name"]).from_config(settings)
    side = 2 ** (len(blocks) - 1) * family_of(transformer).patch
    loaded = Adapter.from_pretrained(adapter) if adapter else None
    scales = loaded.scales if loaded else ()
    return flops.by_scale(transformer, (1, height // side, width // side), text_tokens(model), scales, loaded)


def tokens_of(trace: Sequence[Mapping[str, Any]]) -> int:
    """Image tokens that the transformer ran over all steps of a trace in JSON form."""
    return sum(step["tokens"] for step in trace)


def flops_of(trace: Sequence[Mapping[str, Any]], table: Mapping[int, int], calls: int = 1) -> int:
    """FLOPs of denoising over all steps of a trace in JSON form; `calls` of the transformer a step."""
    return flops.of_run((step["scale"] for step in trace), table, calls)
