"""dvc.yaml as DVC sees it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ("quick", "quick-video")


def resolved() -> dict[str, Any]:
    """The stages as DVC runs them, those under `foreach` one by one."""
    from dvc.parsing import DataResolver
    from dvc.repo import Repo

    with Repo(str(ROOT)) as repo:
        plain = yaml.safe_load((ROOT / "dvc.yaml").read_text())
        return dict(DataResolver(repo, str(ROOT), plain).resolve()["stages"])


STAGES = resolved()


def outs(stage: str) -> set[str]:
    """Paths that a stage writes."""
    found = [*STAGES[stage].get("outs", ()), *STAGES[stage].get("metrics", ())]
    return {name for entry in found for name in (entry if isinstance(entry, dict) else [entry])}


def command(stage: str) -> str:
    """What a stage calls: `python -m ddit_eval COMMAND ...`."""
    return str(STAGES[stage]["cmd"].split()[3])


def commands() -> list[str]:
    """All commands, in the order of the stages."""
    return list(dict.fromkeys(map(command, STAGES)))


def params(stage: str) -> set[tuple[str, str]]:
    """(file, name) of each parameter that a stage names."""
    entries = STAGES[stage].get("params", ())
    return {(file, name) for entry in entries for file, names in entry.items() for name in names}


def experiments(stage: str) -> list[str]:
    """The YAMLs that a stage's command names."""
    return [word for word in STAGES[stage]["cmd"].split() if word.endswith(".yaml")]


def uncovered(files: Iterable[str], covers: Iterable[str]) -> list[str]:
    """The files that are none of `covers` and in none of its folders."""
    covers = set(covers)
    return sorted(f for f in files if not {f, *map(str, Path(f).parents)} & covers)
