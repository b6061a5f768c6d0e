"""An experiment's samples as files that other suites read."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ddit_eval.errors import DditError
from ddit_eval.experiment.generate import records_of
from ddit_eval.experiment.records import Store
from ddit_eval.schema import Record
from ddit_eval.system.files import check_writable, write_text
from ddit_eval.system.films import write_film, write_sample
from ddit_eval.system.text import by_eye

if TYPE_CHECKING:
    from ddit_eval.experiment.config import Experiment

Layout = Literal["vbench", "plain"]
_LONGEST = 240  # bytes of a file's name that every usual file system takes


def export(
    experiment: Experiment,
    runs: Path,
    method: str,
    out: Path,
    layout: Layout = "vbench",
    ending: str = ".mp4",
) -> int:
    """Write one method's samples to `out`; how many there are.

    vbench  `{prompt}-{index}.mp4` (or `ending` .gif), index counting the samples of a prompt from 0, as the
            VBench suite looks them up; for clips
    plain   000.png (of clips .mp4 or .gif) and its prompt in 000.txt beside it

    Raises `DditError` where the samples are not made yet, or a prompt cannot be a file's name.
    """
    found = records_of(experiment, runs)
    if method not in found:
        raise DditError(f"the experiment has no method {method!r}, it has {', '.join(found)}")
    check_writable(out)
    store, records = Store(runs / "records"), found[method]
    if layout == "plain":
        for number, record in enumerate(records):
            write_sample(store.frames(record), out / f"{number:03d}", record.fps)
            write_text(out / f"{number:03d}.txt", record.prompt + "\n")
        return len(records)
    if records[0].frames == 1:
        raise DditError("the experiment makes pictures, and VBench rates clips; use --layout plain")
    for name, record in _named(records, ending):
        write_film(store.frames(record), out / name, record.fps)
    return len(records)


def _named(records: list[Record], ending: str) -> list[tuple[str, Record]]:
    """Records with VBench's names for them."""
    seen: Counter[str] = Counter()
    read: dict[str, str] = {}  # names by how a file system may read them
    named = []
    for record in records:
        prompt = record.prompt
        name = f"{prompt}-{seen[prompt]}{ending}"
        why = None
        if re.search(r"[/\\\x00-\x1f\x7f]", name):
            why = "has a character that no file name may hold"
        elif len(name.encode()) > _LONGEST:
            why = "is too long for a file's name"
        elif (twin := read.setdefault(by_eye(name).casefold(), name)) != name:
            why = f"gives a file's name that some file systems take for {twin!r}"
        if why:
            raise DditError(f"the prompt {prompt!r} {why}; change it, or use --layout plain")
        seen[prompt] += 1
        named.append((name, record))
    return named
