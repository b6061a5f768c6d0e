"""Prompt sets: captions of the world, and the file formats that benchmarks come in."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddit_eval.errors import DditError
from ddit_eval.experiment.config import FilePrompts, PromptSource
from ddit_eval.system.files import digest
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
        return prompts_of(read_file(source.path)[: source.count], source.seed)
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


# What the prompt is called by GenEval and PartiPrompts, DrawBench, and VBench, in any case.
FIELDS = ("prompt", "prompts", "prompt_en")


def read_file(path: Path) -> list[str]:
    """Prompts of a file, in its order; the format is told by the ending.

    .txt   one a line; lines that start with # are comments
    .jsonl one object a line (GenEval)
    .json  a list of objects or of texts (VBench)
    .csv   a table with a heading (DrawBench); .tsv the same with tabs (PartiPrompts)

    Objects and tables hold the prompt under one of `FIELDS`. Raises `DditError` naming what is empty or
    malformed, and where.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DditError(f"cannot read the prompt file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DditError(f"the prompt file {path} is not UTF-8 text: {error}") from error
    prompts = list(_READERS.get(path.suffix.lower(), _text)(path, text))
    if not prompts:
        raise DditError(f"the prompt file {path} holds no prompt; write one a line")
    return prompts


def _text(path: Path, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            raise DditError(f"{path}, line {number} is empty; delete it or write a prompt")
        if not line.startswith("#"):
            yield line.strip()


def _jsonl(path: Path, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("#"):
            yield _field(_parse(line, f"{path}, line {number}"), f"{path}, line {number}")


def _json(path: Path, text: str) -> Iterator[str]:
    rows = _parse(text, str(path))
    if not isinstance(rows, list):
        raise DditError(f"{path} holds {type(rows).__name__}; a list of prompts is needed")
    for number, row in enumerate(rows, 1):
        yield _field({"prompt": row} if isinstance(row, str) else row, f"{path}, item {number}")


def _table(delimiter: str) -> Callable[[Path, str], Iterator[str]]:
    def rows(path: Path, text: str) -> Iterator[str]:
        table = csv.DictReader(text.splitlines(keepends=True), delimiter=delimiter)
        for row in table:
            yield _field(row, f"{path}, line {table.line_num}")

    return rows


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DditError(f"{where} is not JSON: {error}") from error


def _field(row: Any, where: str) -> str:
    """The prompt of one object or row of a table."""
    named = {str(k).strip().casefold(): v for k, v in row.items()} if isinstance(row, Mapping) else {}
    prompt = next((named[name] for name in FIELDS if name in named), None)
    if not isinstance(prompt, str) or not prompt.strip():
        raise DditError(f"{where} has no text under {' or '.join(FIELDS)}: {str(row)[:80]}")
    return prompt.strip()


_READERS = {".jsonl": _jsonl, ".json": _json, ".csv": _table(","), ".tsv": _table("\t")}
