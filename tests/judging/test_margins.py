"""Margins by name, both ways and of whole sets, and how many prompts they need."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Experiment, parse_experiment
from ddit_eval.judging.equivalence import enough_prompts, judged_metrics, keep
from ddit_eval.judging.margins import Margin, Margins, check_margins, margin_of
from ddit_eval.judging.results import Results
from ddit_eval.judging.verdict import judge
from ddit_eval.report.blocks import to_markdown
from ddit_eval.report.document import document
from ddit_eval.schema.quality import SetRow
from ddit_eval.stats import Interval
from tests.support.made_results import BASE, DDIT, N, changed, column, make

ROWS = [BASE, ("steps-12", {"kind": "base"}, 12, 2.0, 36.0), ("ddit", DDIT, 24, 1.6, 35.0)]
SWING = np.tile([1.0, -1.0], N // 2)


def results_with(metric: str, loss: float, noise: float, margins: Margins, level: float = 30.0) -> Results:
    """The base at `level` on every prompt; ddit loses `loss`, give or take the noise."""
    results = make(ROWS)
    values = {"base": np.full(N, level), "steps-12": np.full(N, level), "ddit": level - loss + noise * SWING}
    samples = {method: {**by, metric: values[method]} for method, by in results.samples.items()}
    source = "VBench" if metric.startswith("subject") else "made up"
    role = {"role": "score", "source": source} if source == "VBench" else {}
    results = changed(results, metrics=results.quality.metrics | {metric: column(metric, **role)})
    return replace(results, samples=samples, margins=margins)


def test_margins_by_name() -> None:
    clip, base = column("clip"), np.full(N, 30.0)
    assert margin_of("own", "clip", clip, base) == Margin(1.0)
    assert margin_of("strict", "clip", clip, base) == Margin(0.5)
    assert margin_of({"clip": 0.2}, "clip", clip, base) == Margin(0.2)
    assert margin_of({"ssim": 0.2}, "clip", clip, base) == Margin(1.0)
    mlperf = margin_of("mlperf", "clip", clip, base)
    assert mlperf == Margin(pytest.approx(0.06), 0.002, two_sided=True)
    assert str(mlperf) == "±0.2 %"
    assert margin_of("mlperf", "object-accuracy", column("object-accuracy"), base) is None
    vbench = column("subject_consistency", role="score", source="VBench (a citation)")
    assert margin_of("mlperf", "subject_consistency", vbench, np.array([0.8, np.nan])) == Margin(0.008, 0.01)
    assert margin_of("mlperf", "clip", clip, np.full(N, np.nan)) is None


@pytest.mark.parametrize(
    ("loss", "noise", "verdict"),
    [(0.0, 0.02, "kept"), (0.2, 0.02, "lost"), (-0.2, 0.02, "open"), (0.05, 0.2, "open")],
)
def test_within_the_margins_of_mlperf_a_gain_is_no_more_kept_than_a_loss(
    loss: float, noise: float, verdict: str
) -> None:
    found = {k.method: k for k in keep(results_with("clip", loss, noise, "mlperf"))}
    assert found["ddit"].verdict == verdict
    assert found["steps-12"].verdict == "kept"
    if loss < 0:
        own = {k.method: k for k in keep(results_with("clip", loss, noise, "own"))}
        assert own["ddit"].verdict == "kept"


def test_strict_asks_for_half_and_vbench_for_99_percent() -> None:
    for margins, verdict in (("own", "kept"), ("strict", "open"), ({"clip": 0.5}, "open")):
        found = {k.method: k for k in keep(results_with("clip", 0.0, 1.3, margins))}
        assert found["ddit"].verdict == verdict, margins
    for loss, verdict in ((0.004, "kept"), (0.012, "lost")):
        results = results_with("subject_consistency", loss, 0.001, "mlperf", level=0.8)
        assert {k.method: k.verdict for k in keep(results)}["ddit"] == verdict


def set_row(method: str, value: float, difference: tuple[float, float, float]) -> SetRow:
    return SetRow(
        method=method, metric="frechet-reader", network="reader", direction="lower", n=N, n_reference=N,
        interval=Interval(value, value - 1, value + 1, N), difference=Interval(*difference, N), pictures="p",
        pictures_hash="h", reference="r", reference_hash="h", preset="p", source="made up",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        ((0.0, -0.1, 0.1), "kept"),
        ((1.0, 0.8, 1.2), "lost"),
        ((-1.0, -1.2, -0.8), "open"),
        ((0.1, -0.5, 0.7), "open"),
    ],
)
def test_a_frechet_distance_is_held_to_2_percent_both_ways(
    difference: tuple[float, float, float], verdict: str
) -> None:
    results = replace(make(ROWS), margins="mlperf")
    zero = (0.0, 0.0, 0.0)
    rows = (set_row("base", 10.0, zero), set_row("steps-12", 10.0, zero), set_row("ddit", 10.0, difference))
    results = changed(results, sets=rows)
    assert judged_metrics(results) == ["frechet-reader"]
    assert {k.method: k.verdict for k in keep(results)} == {"steps-12": "kept", "ddit": verdict}
    assert judged_metrics(replace(results, margins="own")) == []
    line = judge(results).line
    assert "within the margins of MLPerf: ±2 % frechet reader" in line
    assert "frechet reader, margin ±2 %" in to_markdown(document(results, judge(results), {}))


def test_a_verdict_says_how_many_prompts_it_needs() -> None:
    results = results_with("object-accuracy", 0.02, 0.2, "own", level=0.8)
    kept = keep(results)
    ddit = next(k for k in kept if k.method == "ddit")
    assert ddit.verdict == "open"
    assert ddit.needs is not None
    assert ddit.shows > 0.05
    assert ddit.needs > N
    assert enough_prompts(results, kept, "DDiT") == ddit.needs
    assert f"{N} prompts, too few for that: {ddit.needs} could show it)" in judge(results).line
    text = to_markdown(document(results, judge(results), {}))
    assert f"], needs {ddit.needs} |" in text
    assert f"{N} prompts show a margin of {ddit.shows:.3f}" in text
    sure = keep(results_with("object-accuracy", 0.2, 0.02, "own", level=0.8))
    assert enough_prompts(results, sure, "DDiT") is None


def test_an_undecided_comparison_says_what_it_could_have_shown() -> None:
    rows = [BASE, ("random", {"kind": "random"}, 24, 1.6, 25 + 3 * SWING), ("ddit", DDIT, 24, 1.6, 25.0)]
    verdict = judge(make(rows))
    assert verdict.comparisons[0].shows > 1
    assert f"{N} prompts show {verdict.comparisons[0].shows:.1f} dB at best)" in verdict.line


def test_margins_are_checked_where_they_are_read() -> None:
    def config(margins: object) -> Experiment:
        return parse_experiment({"methods": [{"name": "base"}], "margins": margins}, "x.yaml")

    assert config({"psnr": 1}).margins == {"psnr": 1.0}
    assert config("strict").margins == "strict"
    for wrong in ("loose", {"psnr": -1}, {"psnr": True}, 3):
        with pytest.raises(DditError, match=r"^x.yaml: margins"):
            config(wrong)
    with pytest.raises(DditError, match=r"margins: 'clipp' was not measured; there are psnr"):
        check_margins({"clipp": 1.0}, make(ROWS).quality)
