"""What figure, table and MLflow make of study.json."""

from __future__ import annotations

import numpy as np

from ddit_eval.figures.of_results import study as draw
from ddit_eval.judging.frontier import confirmed_points, schedule_of, study_counts
from ddit_eval.schema import Study
from ddit_eval.schema.study import Trial
from tests.support import fake_results
from tests.support.made_results import measured


def content() -> Study:
    return fake_results.study(12, np.random.default_rng(0))


def trial(params: dict[str, object], tau: float | None = None) -> Trial:
    return Trial(
        number=0, of=measured({"kind": "base"}, 24), params=params, prompts=8, values=None, constraints=(),
        state="COMPLETE", pareto=False, schedules=(), tau=tau,
    )  # fmt: skip


def test_rows_show_both_sets_of_prompts() -> None:
    study = content()
    points = confirmed_points(study)
    assert len(points) == len(study.confirmed) == 2
    for point in points:
        assert point.trial.params["rule"] == "threshold"
        assert point.confirmed.tuned.quality.value > point.confirmed.heldout.quality.value
        assert "24 steps" in schedule_of(point.trial)
    assert confirmed_points(study.model_copy(update={"confirmed": ()})) == []


def test_counts_say_how_trials_ended() -> None:
    counts = study_counts(content())
    assert (counts["trials"], counts["complete"], counts["stopped"]) == (12, 11, 1)


def test_schedules_in_words() -> None:
    explicit = {"rule": "explicit", "steps": 18, "segment_0": 1, "segment_1": 4}
    assert schedule_of(trial(explicit)) == "explicit, 1-4, 18 steps"
    coarse = {"rule": "coarse-first", "share": 0.4, "scale": 2, "steps": 12}
    assert schedule_of(trial(coarse)) == "coarse-first, 40% coarse, at 2p, 12 steps"
    rule = {"rule": "threshold", "order": 3, "rho": 0.4, "dwell": 1, "warmup": 1, "steps": 24}
    assert schedule_of(trial(rule, 0.0123)) == "threshold, tau 0.012, order 3, rho 0.40, 24 steps"
    assert schedule_of(trial(rule, 0.0123), brief=True) == "tau 0.012, 24 steps"


def test_the_figure_shows_stopped_and_confirmed_points() -> None:
    figure = draw(content(), {})
    assert figure is not None
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"Pareto front", "stopped early", "on held-out prompts"} <= names
    assert draw(content().model_copy(update={"confirmed": ()}), {}) is not None
