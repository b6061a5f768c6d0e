"""samples.csv: one line a sample, as text that a spreadsheet takes for text."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from ddit_eval import stats
from ddit_eval.errors import DditError
from ddit_eval.schema import Quality
from ddit_eval.system.read import read_text

HEAD, COST = ("method", "index", "prompt", "seed"), ("tokens", "flops")
Samples = dict[str, dict[str, stats.Floats]]  # by method and metric: one value a prompt, prompts in order


def plain(text: str) -> str:
    """A text that no spreadsheet runs: an apostrophe goes before what begins like a formula (OWASP)."""
    return f"'{text}" if re.match(r"'*[=+\-@\t\r]", text) else text


def unplain(cell: str) -> str:
    """The inverse of `plain`."""
    return cell[1:] if re.match(r"'+[=+\-@\t\r]", cell) else cell


def to_csv(metrics: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows of method, index, prompt, seed, a value for each metric (as JSON; None, an empty cell, where the
    prompt does not ask for it), tokens and FLOPs."""
    buffer = StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*HEAD, *metrics, *COST])
    for method, index, prompt, *others in rows:
        writer.writerow([method, index, plain(prompt), *others])
    return buffer.getvalue()


def read_samples(path: Path, quality: Quality) -> tuple[Samples, tuple[str, ...]]:
    """The values and the texts of the prompts.

    Raises `DditError` naming line and remedy where the file does not hold the prompts of each method, in
    order, and a number for each.
    """
    reader = csv.reader(StringIO(read_text(path), newline=""), strict=True)
    values: dict[str, list[list[float]]] = {row.method: [] for row in quality.rows}
    texts: list[tuple[str, ...]] = []
    try:
        head = next(reader, [])
        names = head[len(HEAD) : -len(COST)]
        if head != [*HEAD, *names, *COST] or sorted(names) != sorted(quality.metrics):
            raise ValueError("the heading is another")
        for method, index, prompt, seed, *cells in reader:
            if len(cells) != len(names) + len(COST):
                raise ValueError(f"{len(cells)} numbers")
            place = len(values[method])
            if len(texts) == place:
                texts.append((index, prompt, seed))
            if texts[place] != (index, prompt, seed):
                raise ValueError(f"prompt {index} is not where the methods before have it")
            values[method].append([*map(_number, cells[: len(names)])])
        if wrong := [method for method, same in values.items() if len(same) != quality.n]:
            raise ValueError(f"{wrong[0]!r} has {len(values[wrong[0]])} of {quality.n} prompts")
    except (ValueError, KeyError, csv.Error) as error:
        where = f"{path}, line {reader.line_num}"
        raise DditError(f"{where}: {error}; make it anew: {quality.made_by}") from None
    samples = {m: dict(zip(names, np.array(same).T, strict=True)) for m, same in values.items()}
    return samples, tuple(unplain(prompt) for _, prompt, _ in texts)


def _number(cell: str) -> float:
    value = float(cell or "nan")
    if cell not in ("", "inf", "-inf") and not math.isfinite(value):
        raise ValueError(f"{cell!r} is no number")
    return value
