"""Which prompt is whose: the files beside samples, or one file of prompts for all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ddit_eval.errors import DditError
from ddit_eval.system.pictures import files_in
from ddit_eval.system.prompts import caption, read_prompts
from ddit_eval.system.text import by_eye


def prompts_of(folder: Path, names: Sequence[str], file: Path | None) -> list[str] | None:
    """One prompt a sample: those of `file`, or the .txt beside each; None where there are none.

    `names`: of the samples, as a person counts. Those of `export --layout vbench` are their prompts;
    otherwise prompts stand in the samples' order, and numbers from 0 or 1 have none left out.
    """
    if file is not None:
        return _of_names(names, read_prompts(file), file)
    texts = files_in(folder, (".txt",))
    there = [name for name in names if name in texts]
    if not there:
        return None
    if missing := next((name for name in names if name not in texts), None):
        raise DditError(f"{len(there)} samples have a prompt, but {folder / missing}.txt is missing")
    return [caption(texts[name]) for name in names]


def _of_names(names: Sequence[str], texts: list[str], file: Path) -> list[str]:
    known = {by_eye(text): text for text in texts}
    said = [known.get(re.sub(r"-[0-9]+$", "", name)) for name in names]
    if all(said):
        return [text for text in said if text]
    numbers = [re.fullmatch(r"([^0-9]*)([0-9]+)([^0-9]*)", name) for name in names]
    counted = [int(found[2]) for found in numbers if found]
    if len({found and (found[1], found[3]) for found in numbers}) == 1 and counted and counted[0] in (0, 1):
        for number, found in enumerate(counted, counted[0]):
            if number != found:
                raise DditError(f"{file}: there is no sample {number} before {names[number - counted[0]]!r}")
    if len(texts) != len(names):
        gap = (
            f"{names[len(texts)]!r} has none" if len(names) > len(texts) else f"{texts[len(names)]!r} is left"
        )
        raise DditError(f"{file} has {len(texts)} prompts for {len(names)} samples, one for each: {gap}")
    return texts
