"""Claims, kept quality and provenance: outcomes follow from the numbers alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddit_eval.judging.controls import compare, decide
from ddit_eval.judging.equivalence import fastest_kept, judged_metrics, keep
from ddit_eval.judging.paper_claims import judge_claims
from ddit_eval.judging.results import Results
from ddit_eval.judging.verdict import compare_orders, judge
from ddit_eval.report.provenance import collect, weights_of
from tests.support.made_results import BASE, DDIT, FIRST, N, column, made_record, make

SPREAD = np.random.default_rng(1).normal(0, 0.2, N)  # of the prompts, alike for all methods


def with_metric(results: Results, metric: str, losses: dict[str, float], noise: float = 0.02) -> Results:
    """`results` with one more metric: the base's value, less each method's loss, less noise."""
    swing = noise * np.tile([1.0, -1.0], N // 2)  # its mean is zero, so the mean loss is the one asked for
    samples = {
        method: {**values, metric: 0.6 + SPREAD - loss - swing * bool(loss)}
        for method, values in results.samples.items()
        for loss in (losses.get(method, 0.0),)
    }
    metrics = results.quality.metrics | {metric: column(metric)}
    quality = results.quality.model_copy(update={"metrics": metrics})
    return replace(results, quality=quality, samples=samples)


def rows(ddit: float = 1.6, quality: float = 35.0) -> list[Any]:
    return [
        BASE,
        ("steps-12", {"kind": "base"}, 12, 2.0, 36.0),
        ("coarse-first", FIRST, 24, 1.6, 25.0),
        ("ddit", DDIT, 24, ddit, quality),
    ]


def found(results: Results) -> dict[str, tuple[str, str]]:
    verdict = judge(results)
    claims = judge_claims(results, verdict, compare_orders(results))
    return {c.claim: (c.found, c.evidence) for c in claims}


def of(results: Results, word: str) -> tuple[str, str]:
    return next(pair for claim, pair in found(results).items() if word in claim)


def test_a_small_sure_loss_within_the_margin_is_kept_a_large_one_lost_a_vague_one_open() -> None:
    results = with_metric(make(rows()), "object-accuracy", {"steps-12": 0.01, "ddit": 0.2}, 0.01)
    by_method = {k.method: k for k in keep(results)}
    assert {m: k.verdict for m, k in by_method.items()} == {
        "steps-12": "kept", "coarse-first": "kept", "ddit": "lost",
    }  # fmt: skip
    assert by_method["coarse-first"].test.equivalent  # equal on every prompt
    vague = with_metric(make(rows()), "object-accuracy", {"ddit": 0.02}, 0.3)
    assert {k.method: k.verdict for k in keep(vague)}["ddit"] == "open"


def test_adherence_and_scores_are_judged_and_fidelity_only_shown() -> None:
    results = make(rows())
    for metric in ("clip-world", "shape", "ssim", "object-accuracy"):
        results = with_metric(results, metric, {})
    assert judged_metrics(results) == ["object-accuracy", "clip-world"]
    assert list(dict.fromkeys(k.metric for k in keep(results))) == ["object-accuracy", "clip-world", "ssim"]


def test_the_first_line_says_how_much_faster_at_no_loss_and_what_beats_it() -> None:
    results = with_metric(make(rows(1.6)), "object-accuracy", {"ddit": 0.001}, 0.01)
    assert judge(results).line.startswith(
        "DDiT is 1.60x [1.60, 1.60] faster at no measurable loss (ddit, within 0.05 object accuracy); fewer "
        "steps reaches 2.00x [2.00, 2.00] (steps-12). "
    )
    results = with_metric(make(rows(1.6)), "object-accuracy", {"ddit": 0.3}, 0.01)
    assert judge(results).line.startswith("No DDiT row is shown to be faster at no measurable loss")
    assert "; fewer steps is at 2.00x" in judge(results).line


def test_what_is_not_faster_is_no_speed_up_at_no_loss() -> None:
    results = with_metric(make(rows(0.97)), "object-accuracy", {})
    assert fastest_kept(results, keep(results), ["DDiT"]) is None


def test_orders_and_coarse_first_follow_the_comparisons() -> None:
    orders = [
        BASE,
        *((f"o{n}", DDIT | {"order": n}, 24, 1.6, v) for n, v in ((1, 20.0), (2, 22.0), (3, 25.0))),
    ]
    assert of(make(orders), "Third differences")[0] == "reproduced"
    orders[2] = ("o2", DDIT | {"order": 2}, 24, 1.6, 30.0)
    assert of(make(orders), "Third differences")[0] == "not reproduced"
    orders[2] = ("o2", DDIT | {"order": 2}, 24, 1.6, 25.0 + np.tile([3.0, -3.0], N // 2))
    assert of(make(orders), "Third differences")[0] == "undecided"
    assert of(make([BASE]), "Third differences")[0] == "not testable here"
    outcome, evidence = of(make(rows(quality=35.0)), "coarse-first")
    assert outcome == "reproduced"
    assert "N = 16" in evidence
    assert "[+" in evidence
    assert of(make(rows(quality=20.0)), "coarse-first")[0] == "not reproduced"


def test_no_loss_at_twice_the_speed_needs_a_row_that_is_as_fast() -> None:
    slow = with_metric(make(rows(1.6)), "object-accuracy", {})
    assert of(slow, "twice the speed") == (
        "not testable here", "No DDiT row reaches 1.8x: the fastest is ddit at 1.60x [1.60, 1.60], N = 16.",
    )  # fmt: skip
    for loss, outcome in ((0.001, "reproduced"), (0.3, "not reproduced")):
        fast = with_metric(make(rows(2.0)), "object-accuracy", {"ddit": loss}, 0.01)
        assert of(fast, "twice the speed")[0] == outcome


def test_a_stand_in_for_clip_is_called_one() -> None:
    outcome, evidence = of(with_metric(make(rows()), "clip-world", {"ddit": 0.001}), "CLIP")
    assert outcome == "reproduced"
    assert evidence.endswith("clip world stands in for the published score.")
    assert "stands in" not in of(with_metric(make(rows()), "clip", {"ddit": 0.001}), "CLIP")[1]
    assert of(make(rows()), "CLIP")[0] == "not testable here"


def test_what_has_no_data_says_why() -> None:
    for word in ("cache", "FID", "ImageReward", "VBench"):
        outcome, evidence = of(make(rows()), word)
        assert outcome == "not testable here"
        assert len(evidence) > 20


@pytest.mark.parametrize(
    ("speed", "loss", "noise", "outcome"),
    [
        (3.6, 0.001, 0.01, "reproduced"),
        (3.6, 0.2, 0.01, "not reproduced"),
        (3.6, 0.02, 0.3, "undecided"),
        (2.0, 0.001, 0.01, "not reproduced"),
    ],
)
def test_a_cache_on_top_is_judged_by_its_speed_and_by_what_it_loses(
    speed: float, loss: float, noise: float, outcome: str
) -> None:
    results = make([*rows(), ("both", DDIT | {"cache": {"kind": "taylor-seer"}}, 24, speed, 30.0)])
    judged, evidence = of(with_metric(results, "object-accuracy", {"both": loss}, noise), "cache")
    assert judged == outcome
    assert evidence.startswith(f"both: {speed:.2f}x [")
    assert "object accuracy" in evidence
    assert of(results, "cache") == ("undecided" if speed > 3 else "not reproduced", evidence_without(speed))
    assert of(replace(results, timing=None), "cache") == ("not testable here", "both was not timed.")


@pytest.mark.parametrize(
    ("losses", "speeds", "outcome"),
    [
        ({"a": 0.2, "b": 0.001}, (5.0, 3.6), "reproduced"),
        ({"a": 0.2, "b": 0.001}, (5.0, 3.0), "not reproduced"),
        ({"a": 0.2, "b": 0.04}, (5.0, 3.6), "undecided"),
    ],
)
def test_any_row_with_a_cache_is_enough(losses: Any, speeds: Any, outcome: str) -> None:
    both = [(n, DDIT | {"cache": {"kind": "mag"}}, 24, s, 30.0) for n, s in zip("ab", speeds, strict=True)]
    results = with_metric(
        make([*rows(), *both]), "object-accuracy", losses, 0.1 if outcome == "undecided" else 0.01
    )
    judged, evidence = of(results, "cache")
    assert judged == outcome
    assert evidence.startswith("a: 5.00x")
    assert f" b: {speeds[1]:.2f}x" in evidence


def test_a_score_is_not_dropped_by_the_rule_where_only_a_cache_beside_it_drops_it() -> None:
    both = ("both", DDIT | {"cache": {"kind": "mag"}}, 24, 3.6, 30.0)
    results = with_metric(make([*rows(), both]), "clip", {"ddit": 0.001, "both": 5.0}, 0.01)
    assert of(results, "CLIP")[0] == "reproduced"
    results = with_metric(make([*rows(), both]), "object-accuracy", {"ddit": 0.3}, 0.01)
    assert judge(results).line.startswith("No DDiT row is shown to be faster")


def evidence_without(speed: float) -> str:
    interval = f"{speed:.2f}x [{speed:.2f}, {speed:.2f}]"
    return f"both: {interval}, N = {N}; no metric with a margin tells whether the quality is kept."


def test_holm_counts_only_what_could_decide() -> None:
    results = make([*rows(), ("ddit-slow", DDIT, 24, 1.1, 40.0)])
    pairs = [compare(results, results.row(m), "coarse-first", "psnr") for m in ("ddit", "ddit-slow")]
    comparisons = [c for c in pairs if c is not None]
    assert [c.outcome for c in comparisons] == ["better", "not comparable"]
    assert decide(comparisons)[0].p == comparisons[0].p


def test_provenance_has_no_time_and_lists_what_made_the_pictures(tmp_path: Path) -> None:
    experiment = tmp_path / "e.yaml"
    experiment.write_text("model: mini-flux\n")
    names = {"model": "m", "model_hash": "ab", "adapter": None, "adapter_hash": None, "code": "cd"}
    record = made_record(**names)
    made = collect({"base": [record, record]}, experiment)
    assert made.weights == ["code that decides pictures: cd", "dtype float32", "model m: ab"]
    assert made.experiment == "model: mini-flux\n"
    assert made == collect({"base": [record]}, experiment)
    assert "torch" in made.libraries
    assert weights_of({}) == []


@pytest.mark.parametrize("missing", [None, Path("nowhere.yaml")])
def test_provenance_without_an_experiment(missing: Path | None) -> None:
    assert collect({}, missing).experiment is None
