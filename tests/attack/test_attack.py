"""A sample of the attack; `make attack` is the whole."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FILES, SEED, STRIDE = 300, 7, 47
KILLED = ("run", "evaluate", "time", "train", "report")  # the cheap ones

# What still fails, as the fixture calls it, and why.
KNOWN: dict[str, str] = {}


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """How often each kind of failure came, of damaged files and of kills. In a process of its own: torch
    must not have used threads before a fork."""
    out = tmp_path_factory.mktemp("attack") / "found.json"
    options = ["--files", FILES, "--seed", SEED, "--kills", STRIDE, "--workers", 1, "--out", out]
    options += [word for name in KILLED for word in ("--command", name)]
    command = [sys.executable, "-W", "ignore", "-m", "tests.support.attack", *map(str, options)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout)
    assert out.exists(), done.stderr[-2000:]
    found: dict[str, Any] = json.loads(out.read_text())
    assert len(found["cases"]) == FILES
    kinds = Counter(
        f"{c['format']}: {c['why'].split(':')[0]}" for c in found["cases"] if c["verdict"] == "FAILED"
    )
    return kinds + Counter({f"killed {name}": len(o["wrong"]) for name, o in found["kills"].items()})


def test_damaged_files_are_refused_or_mended_and_killed_commands_go_on(failed: Counter[str]) -> None:
    assert {kind: count for kind, count in failed.items() if kind not in KNOWN} == {}
    assert [kind for kind in KNOWN if not failed[kind]] == []  # no longer fails: take it off
    if KNOWN:
        pytest.xfail("; ".join(f"{kind} ({why})" for kind, why in KNOWN.items()))
