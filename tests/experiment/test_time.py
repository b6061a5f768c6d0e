"""The files of the timing stage, and what the command says of a bad clock."""

from __future__ import annotations

import csv
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ddit_eval import cli
from ddit_eval.clock.raw import HEAD
from ddit_eval.experiment import time as stage
from ddit_eval.schema import Timing, read
from ddit_eval.system.read import file_digest
from tests.support.made_results import timing


def test_raw_times_give_every_speed_up_and_belong_to_the_file(tiny: Any, tmp_path: Path) -> None:
    content = stage.time_experiment(
        tiny.experiment(timing={"prompts": 2, "rounds": 3, "most": 3, "whole": 1}), tmp_path / "timing.json"
    )
    assert content.files == {"times.csv": file_digest(tmp_path / "times.csv")}
    assert read(tmp_path / "timing.json", Timing).plain() == content.plain()
    assert content.rounds == 3
    lines = list(csv.DictReader((tmp_path / "times.csv").open()))
    assert list(lines[0])[: len(HEAD)] == [*HEAD]
    assert len(lines) == (len(content.rows) + 1) * (2 * 3 + content.repeated)
    assert all(float(line["load"]) >= 0 and float(line["processor"]) > 0 for line in lines)
    times = {
        (line["method"], line["prompt"], line["round"]): float(line["denoise"])
        for line in lines
        if line["repeated"] == "0"
    }
    for row in content.rows:
        logs = [
            statistics.median(
                math.log(times["base", prompt, turn] / times[row.method, prompt, turn]) for turn in "012"
            )
            for prompt in "01"
        ]
        assert row.speedup.value == pytest.approx(math.exp(statistics.fmean(logs)))
        assert row.stages["denoise"] == pytest.approx(
            statistics.median(seconds for key, seconds in times.items() if key[0] == row.method)
        )


@pytest.mark.parametrize(
    ("words", "bad", "code"),
    [(["--strict"], "the fan failed", 1), (["--strict"], None, 0), ([], "the fan failed", 0)],
)
def test_a_bad_clock_is_told_and_ends_with_an_error_only_where_that_is_asked_for(
    words: list[str], bad: str | None, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "e.yaml").write_text("methods: [{name: base}]\n")
    monkeypatch.setattr(stage, "time_experiment", lambda *_, **__: timing({"base": 1.0}, bad=bad, repeated=2))
    done = CliRunner().invoke(cli.app, ["time", str(tmp_path / "e.yaml"), "--results", str(tmp_path), *words])
    assert done.exit_code == code
    assert ("these times decide nothing: the fan failed" in done.output) == (bad is not None)
    assert "1 round, 2 blocks run again" in done.output


def test_a_run_that_is_stopped_leaves_the_old_files(tiny: Any, tmp_path: Path) -> None:
    old = {name: f"old {name}" for name in ("timing.json", "times.csv")}
    for name, text in old.items():
        (tmp_path / name).write_text(text)

    def stop(done: int, total: int, label: str) -> None:
        if done > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage.time_experiment(tiny.experiment(), tmp_path / "timing.json", progress=stop)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == old
