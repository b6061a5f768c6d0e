"""What the report says of given results."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ddit_eval.figures.of_results import study as draw_study
from ddit_eval.judging.gap import determined, gap_line
from ddit_eval.judging.verdict import judge
from ddit_eval.judging.wording import show, times
from ddit_eval.report.blocks import Code, Table, Text, to_markdown
from ddit_eval.report.document import document
from ddit_eval.report.page import to_html
from ddit_eval.schema.oracle import Gap
from ddit_eval.schema.quality import Sighting
from ddit_eval.stats import Interval
from tests.support import fake_results
from tests.support.made_results import BASE, DDIT, NOISE, RANDOM, N, changed, column, field_of, make


def test_numbers_that_are_none_or_infinite_are_shown_in_words() -> None:
    psnr = column("psnr")
    assert show(None, psnr) == "–"
    assert show(Interval(math.nan, math.nan, math.nan), psnr) == "–"
    assert show(Interval(math.inf, math.inf, math.inf), psnr) == "∞"
    assert times(Interval(1.614, 1.58, 1.64)) == "1.61x [1.58, 1.64]"
    assert show(Interval(30.0, 29.0, 31.0, n=8, infinite=2), psnr) == "30.0 [29.0, 31.0], 2 of 8 infinite"


def test_the_damage_table_says_what_a_metric_is_blind_to() -> None:
    results = make([("base", {"kind": "base"}, 24, 1.0, 30.0)])
    assert "damage" not in to_html(document(results, judge(results), {}), "")
    loss = Interval(0.2, 0.1, 0.3, 16)
    cells = [
        ("psnr", "blur", 40.0, 21.27, "seen"), ("psnr", "swap", math.inf, 21.0, "seen"),
        ("place", "blur", 0.5, 0.25, "blind"), ("place", "swap", math.nan, math.nan, "not asked"),
    ]  # fmt: skip
    names = ("metric", "damage", "before", "after", "sight")
    damage = tuple(Sighting(**dict(zip(names, cell, strict=True)), loss=loss) for cell in cells)
    shown = changed(results, damage=damage)
    page = to_html(document(shown, judge(shown), {}), "")
    assert "PSNR to base (dB)</th><td>seen: 40.0 → 21.3</td><td>seen: ∞ → 21.0</td>" in page
    assert "place</th><td>blind: 0.500 → 0.250</td><td>not asked</td>" in page


def test_markup_is_escaped() -> None:
    table = Table(["a"], [["x|<b>"]])
    assert r"x\|\<b>" in to_markdown([table])
    odd = Table(["a"], [["`a` | *b*\r\nc\\|", "p < 0.001"]])
    assert r"| \`a\` \| \*b\* c\\\| | p < 0.001 |" in to_markdown([odd])
    assert to_markdown([Code("a: '```'")]) == "````yaml\na: '```'\n````\n"
    assert "x|&lt;b&gt;" in to_html([table, Text("t")], "<title>")
    assert "<p>say <code>x &lt;b&gt;</code></p>" in to_html([Text("say `x <b>`")], "t")


def test_the_study_is_shown_where_it_is_there() -> None:
    results = field_of(30.0)
    study = fake_results.study(1, np.random.default_rng(0))
    full = replace(results, study=study)
    text = to_markdown(document(full, judge(full), {}))
    assert "1 trial, 1 complete, 0 stopped early, 0 infeasible; 1 on the front." in text
    assert "## The study" not in to_markdown(document(results, judge(results), {}))


def test_a_share_of_the_gap_is_said_only_where_its_interval_lies_within_0_and_100_percent() -> None:
    oracle = fake_results.oracle()  # the DDiT rule at -50 %, ours at 25 % [24, 26]
    assert "what the DDiT rule closes is not determined; our calibrated policy closes 25 %" in gap_line(
        oracle
    )
    wide = oracle.gap[2].model_copy(update={"share": Interval(0.72, -3.25, 1.71)})
    text = gap_line(oracle.model_copy(update={"gap": (wide,)}))
    assert text == "Of the oracle's lead at equal cost, what our calibrated policy closes is not determined."
    assert not determined(None)
    assert not determined(Interval(0.5, 0.2, 1.1))
    results = replace(field_of(30.0), oracle=oracle)
    text = to_markdown(document(results, judge(results), {}))
    assert gap_line(oracle) in text
    assert "oracle" not in to_markdown(document(field_of(30.0), judge(results), {}))


def test_shares_at_several_costs_are_a_range_and_none_is_told() -> None:
    oracle = fake_results.oracle()

    def line(*gaps: Gap) -> str:
        return gap_line(oracle.model_copy(update={"gap": gaps}))

    share = oracle.gap[2].share
    assert share is not None
    again = oracle.gap[2].model_copy(update={"share": replace(share, value=0.4)})
    assert "policy closes 25 to 40 % [24, 26] over fine-first" in line(*oracle.gap, again)
    assert line().endswith("no share of a gap can be given.")
    update = {"fixed": "fewer steps", "share": None, "gap": Interval(-9.0, -12.0, -6.0)}
    lost = oracle.gap[0].model_copy(update=update)
    assert line(lost).endswith("The oracle itself loses to fewer steps.")


def test_the_oracle_bounds_the_study_only_where_both_measure_the_same() -> None:
    study = fake_results.study(12, np.random.default_rng(0))
    tokens = study.objectives[0].model_copy(update={"name": "relative_tokens"})
    other = study.model_copy(update={"objectives": (tokens, study.objectives[1])})
    for data, bounded in ((study, True), (other, False)):
        figure = draw_study(data, {"psnr": column("psnr")}, fake_results.oracle())
        assert figure is not None
        names = [text.get_text() for text in figure.legends[0].get_texts()]
        assert ("oracle, held out" in names) == bounded


def test_comparisons_are_counted_and_the_decided_ones_shown() -> None:
    text = to_markdown(document(field_of(30.0), judge(field_of(30.0)), {}))
    assert "| DDiT | coarse-first | 1 | 0 | 0 | 0 |" in text
    assert "| ddit | 1.60x | coarse-first at 1.55x | PSNR to base +" in text


def test_better_and_worse_are_said_only_below_an_adjusted_p_of_5_percent() -> None:
    swing = np.tile([1.0, -1.0], N // 2)
    vague = [(f"ddit-{i}", DDIT, 24, 1.6, 25.0 + 3 * swing) for i in range(8)]
    rows = [BASE, ("random", RANDOM, 24, 1.6, 25.0), ("ddit", DDIT, 24, 1.6, 25.6 + swing), *vague]
    results = make(rows)
    text = to_markdown(document(results, judge(results), {}))
    assert "| DDiT | random | 0 | 0 | 9 | 0 |" in text
    assert "Nothing is decided." in text
    assert "DDiT beats" not in text


def test_a_method_and_a_metric_meet_in_one_cell() -> None:
    results = field_of(30.0)
    samples = {
        method: {**by, "ssim": np.full(N, 0.9) - (0.3 + NOISE[0] / 10 if method == "ddit" else 0.0)}
        for method, by in results.samples.items()
    }
    metrics = results.quality.metrics | {"ssim": column("ssim")}
    results = changed(replace(results, samples=samples), metrics=metrics)
    text = to_markdown(document(results, judge(results), {}))
    assert "| method | SSIM to base, margin 0.05 |" in text
    assert "| steps-12 | kept +0.000 [+0.000, +0.000] |" in text
    assert "| ddit | lost +0." in text
