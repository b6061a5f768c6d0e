"""The report: its verdict is computed, its first line honest, its summary the contract."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from ddit_eval import report
from ddit_eval.errors import DditError
from ddit_eval.figures.of_results import chosen
from ddit_eval.figures.of_results import study as draw_study
from ddit_eval.judging.controls import COMBINED, compare, fewer_steps_at
from ddit_eval.judging.results import Results, load
from ddit_eval.judging.verdict import compare_orders, judge, orders_line
from ddit_eval.judging.wording import show
from ddit_eval.report.blocks import Table, Text, to_markdown
from ddit_eval.report.document import document
from ddit_eval.report.oracle_blocks import gap_line
from ddit_eval.report.page import to_html
from ddit_eval.stats import Interval
from tests.support import fake_results

N = 16
NOISE = np.random.default_rng(0).normal(0, 0.3, (40, N))


def make(rows: list[tuple[str, dict[str, Any], int, float, Any]], direction: str = "higher") -> Results:
    """Results from (method, policy, steps, speed-up, mean quality or one value a prompt)."""
    samples, table, timing = {}, [], []
    for i, (name, policy, steps, speed, value) in enumerate(rows):
        values = value + NOISE[i] if np.isscalar(value) else np.asarray(value, float)
        samples[name] = {"psnr": values}
        fires = policy["kind"] not in ("base",) and not policy.get("idle")
        share = {"1": 0.5, "2": 0.5} if fires else {"1": 1.0}
        table.append(
            {
                "method": name,
                "policy": policy,
                "steps": steps,
                "n": N,
                "scale_share": share,
                "token_ratio": 1.5,
                "flop_ratio": 1.5,
                "verdict": None,
                "quality": {"psnr": {"value": 1.0, "low": 1.0, "high": 1.0}},
                "difference": {},
            }
        )
        timing.append(
            {"method": name, "speedup": {"value": speed, "low": speed, "high": speed}, "seconds": {}}
        )
    about = {"direction": direction, "range": None, "network": None, "n_note": None, "source": "test"}
    quality = {"profile": "t", "model": "m", "n": N, "prompts_hash": "h", "reference": "base", "rows": table,
               "metrics": {"psnr": about}}  # fmt: skip
    return Results(quality, {"machine": {}, "batch": 1, "rows": timing, "null": None}, samples=samples)


BASE: tuple[str, dict[str, Any], int, float, Any] = ("base", {"kind": "base"}, 24, 1.0, np.full(N, np.inf))
DDIT = {"kind": "threshold", "tau": 0.5, "order": 3}
FIRST = {"kind": "coarse-first", "steps": 8, "scale": 2}
RANDOM = {"kind": "random", "mix": {"1": 0.5, "2": 0.5}}


def field_of(ddit: Any, steps: float = 35.0, first: float = 25.0, random: float = 24.0) -> Results:
    return make(
        [
            BASE,
            ("steps-18", {"kind": "base"}, 18, 1.3, steps + 4),
            ("steps-12", {"kind": "base"}, 12, 2.0, steps - 4),
            ("coarse-first", FIRST, 24, 1.55, first),
            ("random", RANDOM, 24, 1.65, random),
            ("ddit", DDIT, 24, 1.6, ddit),
        ]
    )


def test_a_baseline_that_wins_is_named_first() -> None:
    verdict = judge(field_of(28.0))
    assert verdict.line.startswith("A simple baseline wins: fewer steps beats DDiT at equal time")
    assert verdict.standings == {
        "fewer steps": "beats it", "coarse-first": "beaten", "random": "beaten", COMBINED: "absent",
    }  # fmt: skip
    assert "DDiT beats coarse-first and random at equal time" in verdict.line


def test_two_baselines_that_win_are_both_named() -> None:
    line = judge(field_of(24.5, first=26.0, random=23.0)).line
    assert line.startswith("A simple baseline wins: fewer steps and coarse-first beat DDiT")


def test_the_method_wins_only_where_it_beats_every_control() -> None:
    verdict = judge(field_of(40.0))
    assert verdict.line.startswith("DDiT beats every simple control: fewer steps, coarse-first and random")
    assert {verdict.standings[kind] for kind in ("fewer steps", "coarse-first", "random")} == {"beaten"}


def test_intervals_that_hold_zero_decide_nothing() -> None:
    near = fewer_steps_at(field_of(0.0), 1.6, "psnr")
    assert near is not None
    verdict = judge(
        field_of(
            near.values + np.tile([3.0, -3.0], N // 2), first=near.values.mean(), random=near.values.mean()
        )
    )
    assert set(verdict.standings.values()) == {"undecided", "absent"}
    assert "nothing is decided at equal time" in verdict.line
    assert "beats" not in verdict.line


def test_lower_is_better_turns_the_sign() -> None:
    rows = [BASE[:4] + (np.zeros(N),), ("random", RANDOM, 24, 1.6, 0.9), ("ddit", DDIT, 24, 1.6, 5.0)]
    results = make(rows, direction="lower")
    found = compare(results, results.row("ddit"), "random", "psnr")
    assert found is not None
    assert found.outcome == "worse"
    assert found.gain.value == pytest.approx(-4.1, abs=0.3)


def test_better_but_slower_is_no_win() -> None:
    rows = [BASE, ("random", RANDOM, 24, 2.0, 20.0), ("ddit", DDIT, 24, 1.5, 30.0)]
    verdict = judge(make(rows))
    assert verdict.comparisons[0].outcome == "not comparable"
    assert verdict.line.startswith("No verdict")


def test_better_and_faster_is_a_win_at_any_time() -> None:
    rows = [BASE, ("random", RANDOM, 24, 1.2, 20.0), ("ddit", DDIT, 24, 1.8, 30.0)]
    assert judge(make(rows)).standings["random"] == "beaten"


def test_wins_and_losses_of_one_control_are_mixed() -> None:
    rows = [
        BASE,
        ("random", RANDOM, 24, 1.6, 25.0),
        ("ddit-a", DDIT, 24, 1.6, 28.0),
        ("ddit-b", DDIT, 24, 1.6, 22.0),
    ]
    verdict = judge(make(rows))
    assert verdict.standings["random"] == "mixed"
    assert "mixed: better in 1 comparisons, worse in 1" in verdict.line


def test_a_policy_that_never_fires_is_no_rival() -> None:
    rows = [
        BASE,
        ("random", RANDOM, 24, 1.6, 25.0),
        ("ddit", DDIT | {"idle": True}, 24, 1.0, np.full(N, np.inf)),
    ]
    assert judge(make(rows)).line.startswith("No verdict: no DDiT row ran a coarse step")


def test_infinite_prompts_may_not_decide() -> None:
    """Half the prompts equal the base (inf), the others are worse: no mean tells which is better."""
    mixed = np.where(np.arange(N) % 2, np.inf, 22.0)
    results = make([BASE, ("random", RANDOM, 24, 1.6, 25.0), ("ddit", DDIT, 24, 1.6, mixed)])
    assert judge(results).standings["random"] == "undecided"


def test_infinite_prompts_do_not_hide_a_clear_loss() -> None:
    mixed = np.where(np.arange(N) == 0, np.inf, 10.0)
    results = make([BASE, ("random", RANDOM, 24, 1.6, 25.0), ("ddit", DDIT, 24, 1.6, mixed)])
    assert judge(results).comparisons[0].gain.infinite == 1
    assert judge(results).comparisons[0].gain.value < 0


def test_fewer_steps_are_interpolated_monotonically_and_never_extrapolated() -> None:
    results = field_of(30.0)
    inside, slow, fast = (fewer_steps_at(results, s, "psnr") for s in (1.6, 1.1, 3.0))
    assert inside is not None
    assert slow is not None
    assert fast is not None
    assert 31 < inside.values.mean() < 39
    assert inside.speed == 1.6
    assert (slow.name, slow.speed) == ("steps-18", 1.3)  # the base is infinite, so it is no end of the curve
    assert (fast.name, fast.speed) == ("steps-12", 2.0)
    curve = [fewer_steps_at(results, speed, "psnr") for speed in np.linspace(1.3, 2, 9)]
    means = [control.values.mean() for control in curve if control is not None]
    assert len(means) == 9
    assert all(a > b for a, b in pairwise(means))


def test_without_timing_there_is_no_verdict() -> None:
    full = field_of(30.0)
    line = judge(Results(full.quality, None, samples=full.samples)).line
    assert line == "No verdict: no method was timed."


def test_fewer_steps_with_coarse_first_is_a_control_of_its_own() -> None:
    rows = [
        BASE,
        ("coarse-first", FIRST, 24, 1.6, 25.0),
        ("both", FIRST, 12, 1.61, 30.0),
        ("ddit", DDIT, 24, 1.61, 28.0),
    ]
    verdict = judge(make(rows))
    assert verdict.standings["coarse-first"] == "beaten"
    assert verdict.standings[COMBINED] == "beats it"
    assert verdict.line.startswith(f"A simple baseline wins: {COMBINED} beats DDiT")


def test_a_disturbed_null_row_is_told() -> None:
    results = field_of(30.0)
    results.timing["null"] = {"value": 1.1, "low": 1.05, "high": 1.2, "note": "the machine was disturbed"}  # type: ignore[index]
    text = to_markdown(document(results, judge(results), {}))
    assert "Take the times with care: the machine was disturbed." in text


def test_orders() -> None:
    rows = [BASE, *((f"o{n}", DDIT | {"order": n}, 24, 1.6, v) for n, v in ((1, 20.0), (2, 30.0), (3, 25.0)))]
    assert orders_line(compare_orders(make(rows))) == "Order 3 beats order 1 and loses to order 2."


METHODS = (
    "base", "base-again", "steps-18", "steps-12", "steps-7", "always-2p", "coarse-first-8", "random",
    "ddit-o3", "ddit-o3-low", "budget-50",
)  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    fake_results.write(root, prompts=6, trials=6, only=METHODS)
    (root / "README.md").write_text("# Title\n\n<!-- results:begin -->\nold\n<!-- results:end -->\n\nEnd.\n")
    stale = root / "results" / "quick" / "figures" / "schedule-gone.png"
    stale.parent.mkdir()
    stale.write_bytes(b"old")
    report.build(root / "results", "quick", root / "README.md")
    return root


def test_the_summary_is_the_contract(built: Path) -> None:
    data = json.loads((built / "results" / "summary.json").read_text())
    summary = report.Summary.model_validate(data)
    assert [row.method for row in summary.rows] == list(METHODS)
    assert set(data["rows"][0]) == {
        "model", "method", "params", "n", "steps", "token_ratio", "flop_ratio", "speedup", "quality",
    }  # fmt: skip
    assert data["rows"][0]["quality"]["psnr"] == {"value": "inf", "low": "inf", "high": "inf"}
    with pytest.raises(ValidationError):
        report.Summary.model_validate(data | {"extra": 1})


def test_the_first_line_is_the_verdict(built: Path) -> None:
    lines = (built / "results" / "quick" / "report.md").read_text().splitlines()
    assert lines[0].startswith(
        "**No DDiT row is shown to be faster at no measurable loss (within 0.05 object-accuracy, 6 prompts)"
    )
    assert "A simple baseline wins: fewer steps beats DDiT" in lines[0]
    assert lines[0] == f"**{judge(load(built / 'results' / 'quick')).line}**"


def test_the_report_names_policies_that_never_fired_and_links_what_exists(built: Path) -> None:
    folder = built / "results" / "quick"
    text = (folder / "report.md").read_text()
    assert "- ddit-o3-low: the policy never fired" in text
    linked = [part.split(")")[0] for part in text.split("](")[1:]]
    assert "figures/speed-quality-psnr.png" in linked
    assert {"figures/pictures.png", "figures/step-times.png"} <= set(linked)
    assert all((folder / path).is_file() for path in linked)
    assert not (folder / "figures" / "schedule-gone.png").exists()
    page = (folder / "report.html").read_text()
    assert "<table>" in page
    assert 'src="figures/' not in page  # they are inside
    assert 'data-found="not testable here"' in page
    assert len(page) < 4_000_000


def test_building_again_changes_nothing(built: Path) -> None:
    files = [p for p in (built / "results").rglob("*") if p.is_file()]
    before = {p: p.read_bytes() for p in files}
    report.build(built / "results", "quick", built / "README.md")
    assert {p: p.read_bytes() for p in (built / "results").rglob("*") if p.is_file()} == before


def test_the_readme_keeps_all_but_its_block(built: Path) -> None:
    text = (built / "README.md").read_text()
    assert text.startswith("# Title\n\n<!-- results:begin -->\n**")
    assert text.endswith("<!-- results:end -->\n\nEnd.\n")
    assert "| ddit-o3 | DDiT | 24 |" in text
    assert "old" not in text.split("<!-- results:begin -->")[1].split("\n")[1]


def test_a_readme_without_marks_is_an_error(built: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Title\n")
    results = load(built / "results" / "quick")
    with pytest.raises(DditError, match="needs the marks"):
        report.readme_table(tmp_path / "README.md", [(results, judge(results))])


def test_a_profile_without_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DditError, match=r"quality\.json is missing"):
        report.build(tmp_path, "nothing")


def test_two_profiles_share_summary_and_readme_and_name_each_other(tmp_path: Path) -> None:
    folder = fake_results.write(tmp_path, prompts=4, trials=3)
    other = folder.parent / "video"
    shutil.copytree(folder, other)
    quality = json.loads((other / "quality.json").read_text())
    (other / "quality.json").write_text(json.dumps(quality | {"profile": "video", "model": "mini-wan"}))
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results:begin -->\n<!-- results:end -->\n")
    parts = [report.Part("quick"), report.Part("video")]
    first, second = report.build_all(tmp_path / "results", parts, readme)
    alone = {p: p.read_bytes() for p in (tmp_path / "results").rglob("*") if p.is_file()}
    assert report.build_all(tmp_path / "results", parts, readme, workers=2) == [first, second]
    assert {p: p.read_bytes() for p in (tmp_path / "results").rglob("*") if p.is_file()} == alone
    assert "../video/report.md" in first.read_text()
    assert "../quick/report.md" in second.read_text()
    assert 'href="../video/report.html"' in first.with_suffix(".html").read_text()
    rows = json.loads((tmp_path / "results" / "summary.json").read_text())["rows"]
    half = len(rows) // 2
    assert [row["model"] for row in rows] == ["mini-flux"] * half + ["mini-wan"] * half
    assert "results/quick/report.md" in readme.read_text()
    assert "mini-wan, profile video" in readme.read_text()
    counts = [part.count("\n| ") for part in readme.read_text().split("profile quick")]
    assert counts[0] > counts[1] > 3  # after the first profile a choice of rows


def test_only_quality_is_needed(tmp_path: Path) -> None:
    folder = fake_results.write(tmp_path, prompts=4, trials=2)
    for name in ("timing.json", "traces.json", "study.json", "samples.csv"):
        (folder / name).unlink()
    text = report.build(tmp_path / "results", "quick", runs=tmp_path / "none").read_text()
    assert text.startswith("**No verdict: ")
    summary = json.loads((tmp_path / "results" / "summary.json").read_text())
    assert summary["machine"] is None
    assert summary["rows"][3]["speedup"] == {"value": None, "low": None, "high": None}


def test_pictures_show_the_base_first_and_every_family(built: Path) -> None:
    picked = chosen(load(built / "results" / "quick"))
    assert picked[0] == "base"
    assert len(picked) == 8
    assert {"random", "budget-50"} <= set(picked)
    assert "ddit-o3-low" not in picked


def test_numbers_that_are_none_or_infinite_are_shown_in_words() -> None:
    assert show(None, "psnr") == "–"
    assert show(Interval(math.nan, math.nan, math.nan), "psnr") == "–"
    assert show(Interval(math.inf, math.inf, math.inf), "psnr") == "∞"
    assert show(Interval(1.614, 1.58, 1.64), "x") == "1.61x [1.58, 1.64]"
    assert show(Interval(30.0, 29.0, 31.0, n=8, infinite=2), "psnr") == "30.0 [29.0, 31.0], 2 of 8 infinite"


def test_the_damage_table_says_what_a_metric_is_blind_to() -> None:
    results = make([("base", {"kind": "base"}, 24, 1.0, 30.0)])
    assert "damage" not in to_markdown(document(results, judge(results), {}))
    loss = {"value": 0.2, "low": 0.1, "high": 0.3, "n": 16}
    rows = [
        {"metric": "psnr", "damage": "blur", "before": 40, "after": 21.27, "loss": loss, "sight": "seen"},
        {"metric": "psnr", "damage": "swap", "before": "inf", "after": 21, "loss": loss, "sight": "seen"},
        {"metric": "place", "damage": "blur", "before": 0.5, "after": 0.25, "loss": loss, "sight": "blind"},
        {
            "metric": "place",
            "damage": "swap",
            "before": None,
            "after": None,
            "loss": loss,
            "sight": "not asked",
        },
    ]
    results.quality["damage"] = rows
    text = to_markdown(document(results, judge(results), {}))
    assert "| PSNR to base (dB) | seen: 40.0 → 21.3 | seen: ∞ → 21.0 |" in text
    assert "| place | blind: 0.500 → 0.250 | not asked |" in text


def test_markup_is_escaped() -> None:
    table = Table(["a"], [["x|<b>"]])
    assert "x\\|<b>" in to_markdown([table])
    assert "x|&lt;b&gt;" in to_html([table, Text("t")], "<title>")


def test_the_study_is_shown_where_it_is_there() -> None:
    results = field_of(30.0)
    trial = {"number": 0, "params": {"steps": 24}, "tau": 0.1, "values": [0.5, 30.0], "pareto": True,
             "state": "COMPLETE", "constraints": []}  # fmt: skip
    study = {"objectives": [{"name": "relative_flops"}, {"name": "psnr"}], "trials": [trial]}
    full = replace(results, study=study)
    text = to_markdown(document(full, judge(full), {}))
    assert "The study: 1 trials, 1 complete, 0 stopped early, 0 infeasible; 1 on the front." in text
    assert "The study:" not in to_markdown(document(results, judge(results), {}))


def test_the_report_says_how_much_of_the_gap_to_the_oracle_is_closed() -> None:
    results = field_of(30.0)
    full = replace(results, oracle=fake_results.oracle())
    text = to_markdown(document(full, judge(full), {}))
    assert "the DDiT rule closes -50 % [-51, -49] over fine-first; our calibrated policy closes 25 %" in text
    assert "| oracle-70 | 70 % | 34.0 [" in text
    (ours,) = [line for line in text.splitlines() if line.startswith("| calibrated-70 | 70 % | fine-first")]
    assert "| 25 % [" in ours
    (unsure,) = [line for line in text.splitlines() if line.startswith("| ddit-70 | 70 % | coarse-first")]
    assert unsure.endswith("| – |")
    assert "oracle" not in to_markdown(document(results, judge(results), {}))


def test_shares_at_several_costs_are_a_range_and_none_is_told() -> None:
    oracle = fake_results.oracle()
    again = {**oracle["gap"][2], "share": {**oracle["gap"][2]["share"], "value": 0.4}}
    assert "policy closes 25 to 40 % [24, 26] over fine-first" in gap_line(
        {**oracle, "gap": [*oracle["gap"], again]}
    )
    assert gap_line({**oracle, "gap": []}).endswith("no share of a gap can be given.")
    lost = {"name": "ddit-70", "fixed": "fewer steps", "cost": 0.7, "share": None,
            "gap": {"value": -9.0, "low": -12.0, "high": -6.0}}  # fmt: skip
    assert gap_line({**oracle, "gap": [lost]}).endswith("The oracle itself loses to fewer steps.")


def test_the_oracle_bounds_the_study_only_where_both_measure_the_same() -> None:
    study = fake_results._study(12, np.random.default_rng(0))
    other = {**study, "objectives": [{"name": "relative_tokens"}, {"name": "psnr"}]}
    for data, bounded in ((study, True), (other, False)):
        figure = draw_study(data, fake_results.oracle())
        assert figure is not None
        names = [text.get_text() for text in figure.legends[0].get_texts()]
        assert ("oracle, held out" in names) == bounded


def test_the_comparisons_say_what_holm_leaves_of_them() -> None:
    text = to_markdown(document(field_of(30.0), judge(field_of(30.0)), {}))
    assert "3 of 3 comparisons are decided by their own interval, 3 of them also after Holm's" in text
