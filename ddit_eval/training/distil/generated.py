"""Clean samples that the base model itself makes, as the paper distils on (2602.16968, section 4).

They are made once, before the training, and kept as latents: every step then takes new noise and new times.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddit_eval.ddit.call import call_arguments, set_guidance
from ddit_eval.errors import DditError
from ddit_eval.training import tensors
from ddit_eval.training.checkpoint import check_same
from ddit_eval.training.distil.config import Source
from ddit_eval.training.inputs import inputs_of

CHUNK = 8  # samples a file
PROBE = 10_000_000  # samples from this index on are for the error table alone

Prompts = Callable[[int, int], list[str]]
"""(start, count) -> prompts of those samples."""


def made_of(source: Source, text_tokens: int, model: Any) -> dict[str, Any]:
    """All that decides a sample but its number; model: a digest of the base."""
    return source.model_dump(mode="json", exclude={"path", "count"}) | {"tokens": text_tokens, "model": model}


def make(
    pipe: Any,
    source: Source,
    prompts: Prompts,
    text_tokens: int,
    folder: Path,
    probes: int,
    share: slice,
    made: Mapping[str, Any],
) -> None:
    """Write this process's `share` of the chunks; what is there already is kept.

    `folder` takes a safetensors file a chunk, latents (CHUNK, C, [F,] h, w) as the transformer sees them;
    `probes` samples beyond `source.count` are for the error table. made: of `made_of`, kept in each file.
    """
    pipe.set_progress_bar_config(disable=True)
    for path, start in _chunks(source, folder, probes)[share]:
        if path.exists():
            _read(path, made)
            continue
        texts = prompts(start, CHUNK)
        latents = _sample(pipe, source, texts, start, text_tokens)
        if not torch.isfinite(latents).all():
            raise DditError(f"samples {start} to {start + CHUNK - 1} of the base model hold NaN; use float32")
        facts = {"made": json.dumps(made), "prompts": json.dumps(texts)}
        tensors.write(path, {"latents": latents}, facts)


def load(
    source: Source, folder: Path, probes: int, device: torch.device | str, made: Mapping[str, Any]
) -> Callable[[int, int, int], tuple[Tensor, list[str]]]:
    """What `make` wrote: (start, count, side) -> latents and prompts, round and round; from PROBE on those
    that training never sees."""
    found = [_read(path, made) for path, _ in _chunks(source, folder, probes)]
    latents = torch.cat([part for part, _ in found])
    texts = [text for _, prompts in found for text in prompts]

    def draw(start: int, count: int, side: int) -> tuple[Tensor, list[str]]:
        first, size = (source.count, len(texts) - source.count) if start >= PROBE else (0, source.count)
        start = start - PROBE if start >= PROBE else start
        index = [first + (start + i) % size for i in range(count)]
        return latents[index].to(device), [texts[i] for i in index]

    return draw


def _chunks(source: Source, folder: Path, probes: int) -> list[tuple[Path, int]]:
    total = source.count + probes
    return [(folder / f"{start:06}.safetensors", start) for start in range(0, total, CHUNK)]


def _read(path: Path, made: Mapping[str, Any]) -> tuple[Tensor, list[str]]:
    state, facts = tensors.read(path, "remove it, and it is made again")
    check_same(path, json.loads(facts["made"]), made, path.parent)
    return state["latents"], json.loads(facts["prompts"])


@torch.no_grad()
def _sample(pipe: Any, source: Source, texts: list[str], start: int, text_tokens: int) -> Tensor:
    side = source.sides[0]
    seeds = range(source.seed + start, source.seed + start + len(texts))
    size = (side, side, source.frames)
    set_guidance(pipe, source.guidance_scale)
    call = call_arguments(
        pipe, texts, seeds, size, source.steps, text_tokens, source.guidance_scale, output_type="latent"
    )
    output = pipe(**call)
    out = output.frames if hasattr(output, "frames") else output.images
    return inputs_of(pipe).unpack(pipe, out, side, source.frames).float().cpu()
