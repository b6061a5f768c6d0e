from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ddit_eval.advise import advise
from ddit_eval.advise.arms import RULE, WITH, WITHOUT
from ddit_eval.advise.estimate import Estimate, estimate
from ddit_eval.advise.pick import KINDS, Found, best, fastest
from ddit_eval.advise.run import fitting
from ddit_eval.advise.search import arms_of, pace, space_of, tuning_prompts
from ddit_eval.ddit.policies import CoarseFirst, Explicit, Skip
from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Advise, Method, parse_experiment
from ddit_eval.schema.study import Latency
from ddit_eval.study.storage import Location
from ddit_eval.study.trials import finished
from ddit_eval.study.worker import run
from tests.support.fake_evaluator import FakeEvaluator

TABLE = Latency(
    seconds={0: 0.001, 1: 0.1, 2: 0.03, 4: 0.02}, signal=0.001, beside=0.001, worker=(0.15, 0.2), memory=None
)
CACHE = {"kind": "first-block", "threshold": 0.1}


def experiment(**changes: Any) -> Any:
    methods = [
        {"name": "base"},
        {"name": "base-again"},
        {"name": "steps-8", "steps": 8},
        {"name": "kept", "policy": {"kind": "skip", "every": 3}},
        {"name": "coarse", "policy": {"kind": "coarse-first", "steps": 8, "scale": 4}},
    ]
    plain = {"profile": "p", "steps": 16, "methods": methods, "advise": {"prompts": 2, "cache": [CACHE]}}
    return parse_experiment(plain | changes, "test")


def test_searches_take_turns_and_every_plan_reaches_its_speed(tmp_path: Path) -> None:
    config = experiment()
    space = space_of(config, (2, 4)).model_copy(update={"trials": 3 * 16})
    arms = arms_of(config, (2, 4), TABLE, space)
    study = run(Location(str(tmp_path / "s.journal"), "s"), space, FakeEvaluator, ways=arms)
    trials = [trial.params for trial in finished(study, space).values()]
    assert [t["arm"] for t in trials[:6]] == [WITHOUT, WITH, RULE] * 2
    assert {arm: sum(t["arm"] == arm for t in trials) for arm in arms.ways} == dict.fromkeys(arms.ways, 16)
    assert {t["row"] for t in trials if t["arm"] == WITHOUT and t["way"] == "row"} == {"steps-8", "kept"}
    assert {t["row"] for t in trials if t["arm"] == WITH and t["way"] == "row"} == {"coarse"}
    base = 16 * (0.1 + 0.001)
    plans = [t for t in trials if t.get("way") == "plan"]
    assert len(plans) > 20
    for params in plans:
        method = arms.method(params, lambda order: 1.0)
        scales = method.policy.scales if isinstance(method.policy, Explicit) else (1,) * (method.steps or 0)
        cost = sum(TABLE.seconds[scale] + TABLE.beside for scale in scales)
        assert base / cost >= params["speed_up"] * 0.98
        assert (max(scales) > 1) == (params["arm"] == WITH)
    caches = [arms.method(t, lambda order: 1.0) for t in trials if t.get("way") == "cache"]
    assert caches
    assert {isinstance(m.policy, CoarseFirst) for m in caches} == {True, False}


def test_a_search_goes_on_with_the_same_trials(tmp_path: Path) -> None:
    config = experiment(advise={"prompts": 2})
    found = []
    for name, sizes in (("once", (12,)), ("twice", (8, 12))):
        for size in sizes:
            space = space_of(config, (2, 4)).model_copy(update={"trials": 3 * size})
            arms = arms_of(config, (2, 4), TABLE, space)
            study = run(Location(str(tmp_path / f"{name}.journal"), "s"), space, FakeEvaluator, ways=arms)
        found.append([trial.params for trial in finished(study, space).values()])
    assert found[0] == found[1]


def test_without_an_adapter_there_is_one_search() -> None:
    config = experiment(adapter=None, methods=[{"name": "base"}])
    assert list(arms_of(config, (), TABLE, space_of(config, ())).ways) == [WITHOUT]


def test_tuning_prompts_are_none_that_is_confirmed_on(tmp_path: Path) -> None:
    config = experiment(prompts={"source": "world", "count": 4}, advise={"prompts": 3, "heldout": 6})
    assert [p.index for p in tuning_prompts(config)] == [6, 7, 8]
    file = tmp_path / "prompts.txt"
    file.write_text("a\nb\nc\nd\n")
    config = experiment(prompts={"source": "file", "path": str(file)}, advise={"prompts": 2})
    assert [p.text for p in tuning_prompts(config)] == ["a", "b"]


def test_the_best_is_fast_enough_and_of_its_kind() -> None:
    def found(cost: float, quality: float, coarse: bool = False, rule: bool = False) -> Found:
        return Found(Method(name="m", policy=Skip(every=2)), cost, quality, coarse, rule)

    tried = [found(0.5, 30), found(0.34, 29, coarse=True), found(0.33, 28), found(0.6, 35, True, True)]
    assert best([replace(tried[0], cost=0.51, timed=True)], 2) is not None  # 1.96x as measured will do
    assert best([replace(tried[0], cost=0.51)], 2) is None
    assert best(filter(KINDS["best"], [replace(tried[2], apart=True)]), 2) is None
    assert best(tried, 3) == tried[2]  # 1 / .34 is too slow
    assert best(tried, 2.9) == tried[1]
    assert best(filter(KINDS["best_without_coarse"], tried), 2.9) == tried[2]
    assert best(filter(KINDS["best_ddit"], tried), 2) is None
    assert fastest(tried) == tried[2]


def test_trials_fit_into_the_minutes_and_too_few_are_refused() -> None:
    long, short = (
        estimate(Advise(minutes=minutes), TABLE, 20, arms=3, starts=16, workers=2) for minutes in (30, 20)
    )
    assert 20 < short.trials < long.trials
    assert long.searching + long.confirming == pytest.approx(30, abs=0.5)
    assert estimate(Advise(minutes=1, trials=5), TABLE, 20, 1, 1, 2).trials == 5
    with pytest.raises(DditError, match=r"1 minutes are too few.* needs \d+; give it --minutes"):
        estimate(Advise(minutes=1), TABLE, 20, 3, 16, 2)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"solver": ["foo"]}, r"solver 'foo'.*'euler'"),
        ({"solver": ["unipc:x"]}, r"solver 'unipc:x'"),
        ({"solver": ["heun"]}, r"heun evaluates a step twice"),
        ({"solver": []}, r"advise.solver: .*at least 1"),
        ({"shift": [2, 1]}, r"the range 2.0 to 1.0 is empty"),
        ({"cache": [{"kind": "first-block", "treshold": 1}]}, r"treshold.*did you mean 'threshold'"),
        ({"speed_ups": [1]}, r"greater than 1"),
        ({"heldout": 1}, r"heldout"),
    ],
)
def test_what_cannot_be_searched_is_refused_with_the_file(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(DditError, match=said) as error:
        experiment(advise=asked)
    assert "\n" not in str(error.value)


def test_only_the_unchanged_model_is_a_reference(tmp_path: Path) -> None:
    config = experiment(reference="steps-8")
    with pytest.raises(DditError, match=r"'steps-8' is another row"):
        advise(config, tmp_path, tmp_path, tmp_path)


def test_how_many_trials_fit_is_decided_once_by_the_pace_of_the_first(tmp_path: Path) -> None:
    config, place = experiment(), Location(str(tmp_path / "s.journal"), "s")
    space = space_of(config, (2, 4))
    arms = arms_of(config, (2, 4), TABLE, space)
    looked: list[int] = []

    def look(trials: int) -> list[object]:
        looked.append(trials)
        run(place, space.model_copy(update={"trials": trials}), FakeEvaluator, ways=arms)
        return []

    estimate = Estimate(trials=100, searching=1, confirming=1, first=8, limit=0.0)
    assert fitting(look, place, space, estimate, 3, 10) == 8  # the first ones took all the time
    assert looked == [24]
    taken, of_one = pace(place.open(), space)
    assert taken == pytest.approx(4 * of_one)  # 24 trials, 6 a generation
    longer = Estimate(trials=100, searching=1, confirming=1, first=8, limit=taken + 5.2 * of_one)
    assert fitting(look, place, space, longer, 3, 20) == 8 + 10  # a generation has two of each search
    # decided once, whatever the clock says later
    assert fitting(look, place, space, estimate, 3, 20) == 18
    assert looked == [24, 24]
