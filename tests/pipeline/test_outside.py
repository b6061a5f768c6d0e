"""A metric and a policy of another package go through every stage like those that ship."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.plugins import install, write_metadata
from tests.support.stages import ROOT

pytestmark = pytest.mark.timeout(900)


def test_run_and_evaluate(small_run: Path) -> None:
    quality = json.loads((small_run / "results/quick/quality.json").read_text())
    row = next(row for row in quality["rows"] if row["method"] == "every-other")
    assert row["policy"] == {"kind": "every-other", "scale": 2}
    assert (row["family"], row["colour"]) == ("every other step", "#aa3377")
    assert 0 < row["quality"]["brightness"]["value"] < 1
    assert quality["metrics"]["brightness"]["title"] == "mean brightness"


def test_study(small_run: Path) -> None:
    study = json.loads((small_run / "results/quick/study.json").read_text())
    assert [trial["params"]["rule"] for trial in study["trials"]] == ["every-other"]
    assert study["trials"][0]["state"] == "COMPLETE"


def test_report(small_run: Path) -> None:
    report = (small_run / "results/quick/report.md").read_text()
    assert "every-other" in report
    assert "brightness" in report
    summary = json.loads((small_run / "results/summary.json").read_text())
    assert "every-other" in {row["method"] for row in summary["rows"]}


def command(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *install(site)]), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "ddit_eval", *words], env=environment, capture_output=True, text=True
    )


def test_the_command_line_knows_both(tmp_path: Path) -> None:
    assert "brightness" in command(tmp_path / "a", "metrics").stdout
    refused = command(tmp_path / "b", "generate", "a red star", "--policy", "{kind: every-other, scale: x}")
    assert refused.returncode == 2
    assert "scale" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_broken_package_is_one_line(tmp_path: Path) -> None:
    write_metadata(tmp_path / "site", "broken-one", "1", {"ddit_eval.metrics": {"thing": "nowhere:Thing"}})
    told = command(tmp_path / "site", "metrics")
    assert told.returncode == 2
    assert "entry point 'thing' of broken-one in ddit_eval.metrics" in " ".join(told.stderr.split())
    assert "Traceback" not in told.stderr
