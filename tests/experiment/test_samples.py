"""samples.csv: what is written reads again, no spreadsheet runs a prompt, nothing else is taken for it."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from ddit_eval.errors import DditError
from ddit_eval.experiment.samples import read_samples, to_csv
from ddit_eval.judging.results import load
from ddit_eval.schema import Quality, read
from tests.support import fake_results

METHODS = ("base", "ddit-o3")
PROMPTS = (
    "=cmd|' /C calc'!A0",
    "'=1",
    "''@x",
    'a "red", star\nbelow\u2028it',
    "+1",
    "-1",
    "@a",
    "'tis",
    "\ta",
)


def quality(folder: Path, n: int) -> Quality:
    made = read(
        fake_results.write(folder, prompts=4, trials=1, only=("base", "steps-12")) / "quality.json", Quality
    )
    rows = tuple(row.model_copy(update={"n": n}) for row in made.rows)
    metrics = {name: made.metrics[name] for name in ("psnr",)}
    return made.model_copy(update={"n": n, "rows": rows, "metrics": metrics})


def lines(values: list[object]) -> list[list[object]]:
    return [
        [m, i, p, i, values[i % len(values)], 5, 6]
        for m in ("base", "steps-12")
        for i, p in enumerate(PROMPTS)
    ]


def test_prompts_and_values_come_through_and_no_cell_begins_like_a_formula(tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    path.write_bytes(to_csv(["psnr"], lines([1.5, "inf", None])).encode())
    samples, prompts = read_samples(path, quality(tmp_path, len(PROMPTS)))
    assert prompts == PROMPTS
    np.testing.assert_array_equal(samples["steps-12"]["psnr"], [1.5, math.inf, math.nan] * 3)
    with path.open(newline="") as file:
        assert not [row for row in csv.reader(file) if row[2].startswith(("=", "+", "-", "@", "\t"))]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda rows: [], "'base' has 0 of 9 prompts"),
        (lambda rows: rows[:-1], "'steps-12' has 8 of 9"),
        (lambda rows: [*rows, rows[-1]], "line"),
        (lambda rows: [*rows[:9], rows[10], rows[9], *rows[11:]], "prompt 1 is not where"),
        (lambda rows: [["other", *row[1:]] for row in rows], "'other'"),
        (lambda rows: [[*row[:4], "x", *row[5:]] for row in rows], "'x'"),
        (lambda rows: [[*row[:4], "nan", *row[5:]] for row in rows], "'nan' is no number"),
        (lambda rows: [row[:-1] for row in rows], "2 numbers"),
        (lambda rows: [["base", 0, "a"]], "values to unpack"),
    ],
)
def test_another_table_is_refused(tmp_path: Path, change, why: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "samples.csv"
    path.write_text(to_csv(["psnr"], change(lines([1.5]))))
    with pytest.raises(DditError, match=why) as caught:
        read_samples(path, quality(tmp_path, len(PROMPTS)))
    assert f"{path}, line " in str(caught.value)
    assert "`ddit-eval evaluate EXPERIMENT`" in str(caught.value)


@pytest.mark.parametrize("name", ["samples.csv", "traces.json"])
def test_what_evaluate_wrote_stays_together(tmp_path: Path, name: str) -> None:
    folder = fake_results.write(tmp_path, prompts=4, trials=1, only=METHODS)
    load(folder)
    other = fake_results.write(tmp_path / "other", prompts=4, trials=1, seed=1, only=METHODS)
    theirs, ours = (other / name).read_bytes(), (folder / name).read_bytes()
    for data in (theirs, b"", ours[: len(ours) // 2], None):
        (folder / name).unlink()
        if data is not None:
            (folder / name).write_bytes(data)
        with pytest.raises(
            DditError, match=rf"{name} is missing, or not as it was written .*`ddit-eval evaluate"
        ):
            load(folder)
