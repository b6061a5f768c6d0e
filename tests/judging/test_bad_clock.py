"""A clock that is known to be bad decides nothing: FLOPs stand in, and everything that is read says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ddit_eval.errors import DditError
from ddit_eval.figures.of_results import note
from ddit_eval.judging.paper_claims import judge_claims
from ddit_eval.judging.results import Results, load
from ddit_eval.judging.verdict import compare_orders, judge
from ddit_eval.report.blocks import to_markdown
from ddit_eval.report.document import document
from ddit_eval.report.readme import BEGIN, END, readme_table
from ddit_eval.report.summary import summarise
from ddit_eval.schema import Timing, read, write
from tests.support import fake_results
from tests.support.made_results import field_of

BAD = "the base against itself came out at 1.10x [1.05, 1.20]"


def by_a_bad_clock(results: Results) -> Results:
    assert results.timing is not None
    return replace(results, timing=results.timing.model_copy(update={"bad": BAD}))


def test_comparisons_are_held_at_equal_flops() -> None:
    results = field_of(30.0)
    assert {c.speed for c in judge(results).comparisons} == {1.6}
    bad = by_a_bad_clock(results)
    verdict = judge(bad)
    assert {c.speed for c in verdict.comparisons} == {1.5}  # the rows' FLOP ratio
    assert "comparison" in verdict.line
    assert "at equal FLOPs" in verdict.line
    assert "at equal time" not in verdict.line


def test_first_line_readme_and_claims_say_it(tmp_path: Path) -> None:
    bad = by_a_bad_clock(field_of(30.0))
    verdict = judge(bad)
    first = f"The clock decides nothing here, FLOPs stand in for time: {BAD}. "
    assert verdict.line.startswith(first)
    text = to_markdown(document(bad, verdict, {}))
    assert first in text.splitlines()[0]
    assert "equal time" not in text.partition("The paper's claims")[0]
    assert "bad clock" in text
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN}\n{END}\n")
    readme_table(readme, [(bad, verdict)])
    assert first in readme.read_text()
    claims = {c.claim: c for c in judge_claims(bad, verdict, compare_orders(bad))}
    clocked = [c for c in claims.values() if c.found == "not testable: clock"]
    assert [c.evidence for c in clocked] == [f"T{BAD[1:]}."] * 4
    assert all("time" in c.claim or "speed" in c.claim or "x." in c.claim for c in clocked)


def test_no_speed_up_is_printed() -> None:
    bad = by_a_bad_clock(field_of(30.0))
    assert {row.speedup.value for row in summarise(bad).rows} == {None}
    assert note(bad, "ddit").startswith("1.50× FLOPs")
    assert bad.timed("ddit") is None


def test_raw_times_belong_to_their_timing(tmp_path: Path) -> None:
    folder = fake_results.write(tmp_path, prompts=4, trials=2)
    timing = read(folder / "timing.json", Timing)
    write(folder / "timing.json", timing.model_copy(update={"files": {"times.csv": "0" * 64}}))
    with pytest.raises(DditError, match=r"times.csv is missing.*timing.json.*`ddit-eval time"):
        load(folder)
    (folder / "times.csv").write_text("another\n")
    with pytest.raises(DditError, match=r"times.csv is missing, or not as it was written"):
        load(folder)
