"""GenEval's files: a folder a prompt with its metadata and samples; results as lines of JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from ddit_eval.errors import DditError
from ddit_eval.metrics.geneval.metadata import Metadata, parse_metadata
from ddit_eval.metrics.geneval.protocol import OFFICIAL, Detector, Result, Rules, measure
from ddit_eval.system.files import write_text


def read_prompts(path: Path) -> list[Metadata]:
    """Every line of an `evaluation_metadata.jsonl`."""
    return [parse_metadata(data, f"{path}, line {number}") for number, data in _lines(path)]


def evaluate(folder: Path, detector: Detector, rules: Rules = OFFICIAL) -> list[Result]:
    """Verdicts on all pictures of `<folder>/<index>/samples/<number>.png`, in order.

    Raises `DditError` where a folder has no metadata, a picture cannot be read, or there is none at all.
    """
    from ddit_eval.metrics.pictures.read import read_picture

    if not folder.is_dir():
        raise DditError(f"there is no folder {folder}; give GenEval's: <index>/metadata.jsonl and samples/")
    results = []
    for place in sorted((p for p in folder.iterdir() if p.is_dir() and p.name.isdigit()), key=_number):
        found = read_prompts(place / "metadata.jsonl")
        if len(found) != 1:
            raise DditError(f"{place / 'metadata.jsonl'} has {len(found)} lines; it must have one")
        samples = place / "samples"
        files = [p for p in samples.iterdir() if re.match(r"\d+\.png", p.name)] if samples.is_dir() else []
        for path in sorted(files, key=_number):
            results.append(measure(read_picture(path), found[0], detector, str(path), rules))
    if not results:
        raise DditError(f"{folder} holds no <index>/samples/0000.png; see GenEval's layout")
    return results


def write_results(path: Path, results: Iterable[Result]) -> None:
    """A line a picture with GenEval's keys, so that its own scripts read it."""
    lines = [
        json.dumps(
            {
                "filename": r.filename,
                "tag": r.tag,
                "prompt": r.metadata.prompt,
                "correct": r.correct,
                "reason": r.reason,
                "metadata": json.dumps(r.metadata.to_json()),
                "details": json.dumps(r.boxes),
            }
        )
        for r in results
    ]
    write_text(path, "".join(f"{line}\n" for line in lines))


def _lines(path: Path) -> Iterable[tuple[int, dict[str, object]]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DditError(f"cannot read {path} ({error}); it holds GenEval's metadata") from error
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise DditError(f"{path}, line {number} is no JSON ({error}); copy the file again") from error


def _number(path: Path) -> int:
    return int(re.match(r"\d+", path.name)[0])  # type: ignore[index]
