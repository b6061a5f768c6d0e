"""Prompt sets: captions of the world, or the prompts of a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ddit_eval.experiment.config import FilePrompts, PromptSource
from ddit_eval.system.files import digest
from ddit_eval.system.prompts import read_prompts
from ddit_eval.world import caption, caption_clip, sample_moving_scenes, sample_scenes


@dataclass(frozen=True)
class Prompt:
    """One prompt; `seed` alone decides its noise."""

    index: int
    text: str
    seed: int


def prompts_of(texts: Sequence[str], seed: int, start: int = 0) -> list[Prompt]:
    """Texts with their numbers and their seeds."""
    return [Prompt(i, text, int(digest([seed, i, text], 8), 16) >> 1) for i, text in enumerate(texts, start)]


def load_prompts(source: PromptSource) -> list[Prompt]:
    """The prompts of a set, always the same for the same set."""
    if isinstance(source, FilePrompts):
        texts = read_prompts(source.path)[source.start :]
        return prompts_of(texts[: source.count], source.seed, source.start)
    drawn = (source.seed, source.start, source.count, source.split)
    if source.source == "moving-world":
        texts = [caption_clip(clip) for clip in sample_moving_scenes(*drawn)]
    else:
        texts = [caption(scene) for scene in sample_scenes(*drawn)]
    return prompts_of(texts, source.seed, source.start)


def tuning_prompts(source: PromptSource, count: int) -> list[Prompt]:
    """Prompts to tune on: for the world those that follow the reported ones, so that none is used twice.

    A file has no others to give: there the first `count` are used.
    """
    if isinstance(source, FilePrompts):
        return load_prompts(source)[:count]
    return load_prompts(source.model_copy(update={"start": source.start + source.count, "count": count}))


def prompts_hash(prompts: Sequence[Prompt]) -> str:
    """12 hex digits that name the prompts and their seeds."""
    return digest([[p.index, p.text, p.seed] for p in prompts])
