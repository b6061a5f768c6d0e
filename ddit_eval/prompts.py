"""Prompt sets: a text file, a jsonl file, or captions of the world."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddit_eval.config import FilePrompts, WorldPrompts
from ddit_eval.errors import DditError
from ddit_eval.files import canonical
from ddit_eval.world import caption, sample_scenes


@dataclass(frozen=True)
class Prompt:
    """One prompt; `seed` alone decides its noise."""

    index: int
    text: str
    seed: int


def _seed(set_seed: int, index: int, text: str) -> int:
    digest = hashlib.sha256(canonical([set_seed, index, text]).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def prompts_of(texts: Sequence[str], seed: int, start: int = 0) -> list[Prompt]:
    """Texts with their numbers and their seeds."""
    return [Prompt(i, text, _seed(seed, i, text)) for i, text in enumerate(texts, start)]


def load_prompts(source: WorldPrompts | FilePrompts) -> list[Prompt]:
    """The prompts of a set, always the same for the same set."""
    if isinstance(source, FilePrompts):
        return prompts_of(read_file(source.path)[: source.count], source.seed)
    scenes = sample_scenes(source.seed, source.start, source.count, source.split)
    return prompts_of([caption(scene) for scene in scenes], source.seed, source.start)


def tuning_prompts(source: WorldPrompts | FilePrompts, count: int) -> list[Prompt]:
    """Prompts to tune on: for the world those that follow the reported ones, so that none is used twice.

    A file has no others to give: there the first `count` are used.
    """
    if isinstance(source, FilePrompts):
        return load_prompts(source)[:count]
    return load_prompts(source.model_copy(update={"start": source.start + source.count, "count": count}))


def prompts_hash(prompts: Sequence[Prompt]) -> str:
    """12 hex digits that name the prompts and their seeds."""
    rows = [[p.index, p.text, p.seed] for p in prompts]
    return hashlib.sha256(canonical(rows).encode()).hexdigest()[:12]


def read_file(path: Path) -> list[str]:
    """Prompts of a text file (one a line) or a .jsonl file (one object a line, with "prompt").

    Lines that start with # are comments. Raises `DditError` naming the line that is empty or malformed.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DditError(f"cannot read the prompt file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DditError(f"the prompt file {path} is not UTF-8 text: {error}") from error
    read = _jsonl if path.suffix == ".jsonl" else _text
    prompts = list(read(path, lines))
    if not prompts:
        raise DditError(f"the prompt file {path} holds no prompt; write one a line")
    return prompts


def _text(path: Path, lines: Sequence[str]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise DditError(f"{path}, line {number} is empty; delete it or write a prompt")
        if not line.startswith("#"):
            yield line.strip()


def _jsonl(path: Path, lines: Sequence[str]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DditError(f"{path}, line {number} is not JSON: {error}") from error
        prompt = row.get("prompt") if isinstance(row, dict) else None
        if not isinstance(prompt, str) or not prompt.strip():
            raise DditError(f'{path}, line {number} has no text under "prompt": {line[:80]}')
        yield prompt.strip()
