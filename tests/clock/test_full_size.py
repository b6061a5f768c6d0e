"""The script for a GPU, on tiny models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from experiments import full_size


def test_the_script_runs_whole_on_tiny_models(tmp_path: Path) -> None:
    out = tmp_path / "full.json"
    full_size.main(out, minutes=5, only=None, rounds=2, compiled=False, small=True)
    found = json.loads(out.read_text())
    assert found["weights"] == "random"
    for case in found["cases"].values():
        rows = {row["layout"]: row for row in case["layouts"]["rows"]}
        assert rows["plain"]["tokens"] == rows["1p"]["tokens"] == 4 * rows["2p"]["tokens"]
        assert rows["plain"]["tokens"] > rows["mixed, 40 % of the tokens"]["tokens"]
        assert case["paper 1.2x"]["token_ratio"] >= 1.2
        assert case["paper 1.2x"]["scales"].startswith("2")
        assert case["text"]["4p, an eighth of the text"]["n"] == 2


def test_a_cpu_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="--tiny"):
        full_size.main(tmp_path / "x.json", minutes=1, only=None, rounds=2, compiled=False, small=False)


@pytest.mark.parametrize("wanted", [1.0, 2.18, 3.52, 10.0])
def test_forced_schedules_save_what_they_are_asked_to(wanted: float) -> None:
    schedule = full_size.forced(50, wanted, {2: 4.0, 4: 16.0})
    tokens = sum(1 if s == 1 else 1 / s**2 for s in schedule)
    assert wanted <= 50 / tokens < wanted * 1.1
    assert schedule == sorted(schedule, reverse=True)
