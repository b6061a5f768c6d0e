"""Prompts of files: the formats that benchmarks come in, and captions beside samples."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from ddit_eval.errors import DditError
from ddit_eval.system.read import lines, parse_json, read_text
from ddit_eval.system.text import check_prompt

# What the prompt is called by GenEval and PartiPrompts, DrawBench, and VBench, in any case.
FIELDS = ("prompt", "prompts", "prompt_en")


def read_prompts(path: Path) -> list[str]:
    """Prompts of a file, in its order; the format is told by the ending.

    .txt   one a line, spaces around it dropped; lines that start with # are comments
    .jsonl one object a line (GenEval)
    .json  a list of objects or of texts (VBench)
    .csv   a table with a heading (DrawBench); .tsv the same with tabs (PartiPrompts)

    Objects and tables hold the prompt under one of `FIELDS`, as it is. Raises `DditError` naming what is
    empty, malformed or no text, and where.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DditError(f"{path}: prompts are read from {', '.join(filter(None, _READERS))}; save it as one")
    prompts = [check_prompt(text, where) for where, text in reader(path, read_text(path))]
    if not prompts:
        raise DditError(f"the prompt file {path} holds no prompt; write one a line")
    return prompts


def caption(path: Path) -> str:
    """The prompt in a file beside a sample, less the line ends after it."""
    return check_prompt(read_text(path).rstrip("\r\n"), f"the prompt in {path}")


Read = Iterator[tuple[str, str]]  # where it stands, the prompt


def _text(path: Path, text: str) -> Read:
    for number, line in enumerate(lines(text), 1):
        if not line.startswith("#"):
            yield f"{path}, line {number}", line.strip(" \t")


def _jsonl(path: Path, text: str) -> Read:
    for number, line in enumerate(lines(text), 1):
        where = f"{path}, line {number}"
        if not line.startswith("#"):
            yield where, _field(_named(parse_json(line, where), where), where)


def _json(path: Path, text: str) -> Read:
    rows = parse_json(text, str(path))
    if not isinstance(rows, list):
        raise DditError(f"{path} holds {type(rows).__name__}; a list of prompts is needed")
    for number, row in enumerate(rows, 1):
        where = f"{path}, item {number}"
        yield where, row if isinstance(row, str) else _field(_named(row, where), where)


def _table(delimiter: str) -> Callable[[Path, str], Read]:
    def rows(path: Path, text: str) -> Read:
        table = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            head = next(table, [])
            for row in filter(None, table):
                where = f"{path}, line {table.line_num}"
                if len(row) > len(head):
                    raise DditError(
                        f"{where} has {len(row)} cells under {len(head)} heads; put quotes around what holds "
                        f"{delimiter!r}"
                    )
                yield where, _field(_named(list(zip(head, row, strict=False)), where), where)
        except csv.Error as error:
            raise DditError(f"{path}, line {table.line_num}, is no row of a table: {error}") from None

    return rows


def _named(row: Any, where: str) -> dict[str, Any]:
    """The fields of an object or a row by their names in small letters, each there once."""
    pairs: Sequence[tuple[str, Any]] = list(row.items()) if isinstance(row, Mapping) else row
    if not isinstance(pairs, list):
        raise DditError(f"{where} has no text under {' or '.join(FIELDS)}: {str(row)[:80]}")
    named: dict[str, Any] = {}
    for key, value in ((str(key).strip().casefold(), value) for key, value in pairs):
        if key and key in named:
            raise DditError(f"{where}: {key!r} is there twice; keep the one that is meant")
        named[key] = value
    return named


def _field(named: Mapping[str, Any], where: str) -> str:
    prompt = next((named[name] for name in FIELDS if name in named), None)
    if not isinstance(prompt, str) or not prompt.strip():
        raise DditError(f"{where} has no text under {' or '.join(FIELDS)}: {str(dict(named))[:80]}")
    return prompt


_READERS = {
    ".txt": _text, "": _text, ".jsonl": _jsonl, ".json": _json, ".csv": _table(","), ".tsv": _table("\t"),
}  # fmt: skip
