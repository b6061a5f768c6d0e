"""The stages in turn: what they write and what they tell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(900)


def test_what_is_there_is_kept(small_run: Path) -> None:
    count = len(list((small_run / "runs/quick/records").glob("*.json")))
    assert f"{count} made, 0 kept" in (small_run / "run.txt").read_text()
    assert f"0 made, {count} kept" in (small_run / "run-again.txt").read_text()


def test_evaluate_tells_what_it_wrote(small_run: Path) -> None:
    told = (small_run / "evaluate.txt").read_text()
    quality = json.loads((small_run / "results/quick/quality.json").read_text())
    assert "psnr: higher is better; network: none" in told
    assert "minus base" in told
    assert f"hash {quality['reference_hash'][:12]}" in told
    assert {"psnr", "clip-world"} <= {row["metric"] for row in quality["damage"]}


def test_every_stage_writes_its_files(small_run: Path) -> None:
    written = {path.name for path in (small_run / "results/quick").iterdir()}
    assert written >= {
        "quality.json", "samples.csv", "traces.json", "metrics.json", "timing.json", "study.json",
        "oracle.json", "report.md", "report.html", "figures", "films",
    }  # fmt: skip
    assert (small_run / "mlflow.db").stat().st_size > 0
