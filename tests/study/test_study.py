from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Method, Study
from ddit_eval.experiment.prompts import prompts_hash
from ddit_eval.experiment.setting import Setting
from ddit_eval.study import export, run_study, slots
from ddit_eval.study.confirm import spread
from ddit_eval.study.measure import Score, prompt_sets, reseeded
from ddit_eval.study.space import Rules, check_scales
from ddit_eval.study.storage import Location
from ddit_eval.study.trials import Scores, bounds, dominates, finished, hopeless
from ddit_eval.study.worker import run
from tests.support.fake_evaluator import FakeEvaluator, OpenEvaluator
from tests.support.jobs import JOB

OF = JOB.of("0" * 12)
EVERY = (
    "threshold", "explicit", "coarse-first", "fine-first", "budget", "region", "base", "skip", "mixed",
)  # fmt: skip
SPACE = Study(trials=18, prompts=4, rule=EVERY, startup=6, confirm=3)


def text(study: Any, space: Study) -> str:
    return json.dumps(export(study, space, OF).plain(), sort_keys=True, allow_nan=False)


def place(path: Path) -> Location:
    return Location(str(path), "s")


class Killed(BaseException):
    pass


@dataclass(frozen=True)
class Interrupted(FakeEvaluator):
    """Raises after so many prompts."""

    after: int = 0
    calls: list[int] = field(default_factory=list)

    def measure(self, method: Method, prompt: int) -> Score:
        self.calls.append(prompt)
        if len(self.calls) > self.after:
            raise Killed
        return super().measure(method, prompt)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run(place(tmp_path_factory.mktemp("whole") / "s.journal"), SPACE, FakeEvaluator)


def test_an_interrupted_study_ends_as_the_uninterrupted_one(whole: Any, tmp_path: Path) -> None:
    journal = tmp_path / "s.journal"
    for after in (2, 9, 17):
        with pytest.raises(Killed):
            run(place(journal), SPACE, lambda after=after: Interrupted(after=after))
        with journal.open("ab") as file:
            file.write(b'{"op_code": 4, "worker')
    with pytest.warns(UserWarning, match="torn by a kill"):
        resumed = run(place(journal), SPACE, FakeEvaluator)
    assert len(resumed.trials) > len(whole.trials)  # the interrupted ones are there, failed
    assert text(resumed, SPACE) == text(whole, SPACE)


def test_a_study_may_be_extended(whole: Any, tmp_path: Path) -> None:
    journal = tmp_path / "s.journal"
    short = SPACE.model_copy(update={"trials": 7})
    run(place(journal), short, FakeEvaluator)
    assert text(run(place(journal), SPACE, FakeEvaluator), SPACE) == text(whole, SPACE)


def test_gp_goes_on_as_well(tmp_path: Path) -> None:
    space = Study(trials=6, prompts=1, sampler="gp", startup=3, generation=2, confirm=0)
    one = run(place(tmp_path / "a.journal"), space, FakeEvaluator)
    with pytest.raises(Killed):
        run(place(tmp_path / "b.journal"), space, lambda: Interrupted(after=4))
    assert text(run(place(tmp_path / "b.journal"), space, FakeEvaluator), space) == text(one, space)


def test_every_rule_is_tried_and_stopped_trials_say_where(whole: Any) -> None:
    rows = export(whole, SPACE, OF).plain()["trials"]
    assert [row["number"] for row in rows] == list(range(SPACE.trials))
    assert [row["params"]["rule"] for row in rows[: len(EVERY)]] == list(EVERY)
    stopped = [row for row in rows if row["state"] == "PRUNED"]
    assert stopped
    for row in stopped:
        assert row["values"] is None
        assert row["prompts"] in bounds(SPACE)[:-1]
        assert len(row["partial"]) == 2
        assert not row["pareto"]
    complete = [row for row in rows if row["state"] == "COMPLETE"]
    assert all(row["prompts"] == SPACE.prompts and len(row["values"]) == 2 for row in complete)
    assert all(row["schedules"] == ["1 2 1 2 1 2"] * row["prompts"] for row in rows)
    for row in complete:
        cost, quality = (row["intervals"][name] for name in ("cost", "quality"))
        assert [cost["value"], quality["value"]] == pytest.approx(row["values"])
        assert quality["low"] <= quality["value"] <= quality["high"]
    # Those of the first generation have nobody to be compared with.
    assert all(row["state"] == "COMPLETE" for row in rows[: SPACE.generation])
    for row in complete:
        assert row["pareto"] == (not any(dominates(r["values"], row["values"]) for r in complete))


def test_the_front_is_confirmed_on_other_prompts(whole: Any) -> None:
    content = export(whole, SPACE, OF).plain()
    front = {row["number"]: row for row in content["trials"] if row["pareto"]}
    points = content["confirmed"]
    assert len(points) == min(SPACE.confirm, len({tuple(r["values"]) for r in front.values()}))
    costs = [point["tuned"]["cost"]["value"] for point in points]
    assert costs == sorted(costs)
    assert costs[0] == pytest.approx(min(row["values"][0] for row in front.values()))
    for point in points:
        assert point["number"] in front
        assert (point["tuned"]["quality"]["n"], point["heldout"]["quality"]["n"]) == (4, 3)
        assert point["heldout"]["quality"]["low"] <= point["heldout"]["quality"]["high"]
    assert any(point["stands"] for point in points)


def test_constraints_reach_export_and_dashboard(tmp_path: Path) -> None:
    space = SPACE.model_copy(update={"floor": 34.0, "memory": 3.0, "rungs": ()})
    study = run(place(tmp_path / "s.journal"), space, FakeEvaluator)
    rows = export(study, space, OF).plain()["trials"]
    for row, trial in zip(rows, finished(study, space).values(), strict=True):
        assert row["constraints"] == [34 - row["values"][1], 2 - 3]
        assert trial.system_attrs["constraints"] == row["constraints"]
        assert not (row["pareto"] and row["values"][1] < 34)
    assert any(row["pareto"] for row in rows)


def test_tau_is_relative_to_the_signals_of_its_order(tmp_path: Path) -> None:
    space = Study(trials=8, prompts=1, startup=8, confirm=0)
    study = run(place(tmp_path / "s.journal"), space, lambda: FakeEvaluator(units=(0.5, 0.05, 0.01)))
    rows = export(study, space, OF).plain()["trials"]
    assert len({row["params"]["tau_relative"] for row in rows}) == len(rows)
    assert rows[0]["params"]["tau_relative"] == pytest.approx(5**0.5)
    for row in rows:
        unit = (0.5, 0.05, 0.01)[row["params"]["order"] - 1]
        assert row["tau"] == pytest.approx(row["params"]["tau_relative"] * unit)


def test_a_lower_quality_can_be_the_better_one(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Distance(FakeEvaluator):
        def measure(self, method: Method, prompt: int) -> Score:
            score = super().measure(method, prompt)
            return replace(score, quality=100 - score.quality)

    where = Location(str(tmp_path / "s.journal"), "s", "lower")
    content = export(run(where, SPACE, Distance), SPACE, OF).plain()
    assert content["objectives"][1]["direction"] == "minimize"
    front = sorted(row["values"] for row in content["trials"] if row["pareto"])
    assert [q for _, q in front] == sorted((q for _, q in front), reverse=True)


def test_hopeless_asks_for_the_same_prompts_and_a_margin() -> None:
    ours = Scores((0.5, 0.5), (30.0, 20.0))
    assert hopeless(ours, [Scores((0.5, 0.5, 9.0), (32.0, 22.0, 0.0))], margin=1.0)
    assert not hopeless(ours, [Scores((0.6, 0.5, 0.1), (32.0, 22.0, 99.0))], margin=1.0)  # dearer
    assert not hopeless(ours, [Scores((0.5, 0.5), (31.0, 21.0))], margin=1.0)
    assert not hopeless(ours, [Scores((0.5, 0.5), (39.0, 20.0))], margin=1.0)  # one prompt alone
    assert hopeless(ours, [Scores((0.5, 0.5), (28.0, 18.0))], margin=1.0, sign=-1)
    assert not hopeless(Scores((0.5,), (float("nan"),)), [Scores((0.5,), (50.0,))], margin=1.0)
    assert bounds(Study(prompts=8)) == [2, 4, 8]
    assert bounds(Study(prompts=1)) == [1]


@pytest.mark.parametrize("rule", EVERY)
def test_parameters_of_every_rule_are_a_policy(rule: Any) -> None:
    ways = Rules(Study(rule=(rule,), scales=((2,), (3,), (2, 3, 4)), segments=3))
    method = ways.method(ways.given(0), lambda order: 1.0)
    policy = method.policy
    assert policy.kind == rule
    assert method.steps == (12 if rule == "base" else 24)
    if rule == "explicit":
        assert policy.scales == (1,) * 16 + (2,) * 8


def test_scales_that_the_adapter_lacks_are_refused() -> None:
    space = Study(scales=((2,), (3,)), warmup=(1, 8))
    with pytest.raises(DditError, match=r"scale 3, 8 .* the adapter has 2, 4"):
        check_scales(space, (2, 4))
    check_scales(space.model_copy(update={"rule": ("base", "skip")}), ())
    check_scales(Study(), (2, 4))
    with pytest.raises(DditError, match=r"divide each other.* add \[2, 4\]"):
        check_scales(Study(rule=("region",), scales=((2, 3),)), (2, 3))


@pytest.mark.parametrize(
    ("change", "word"),
    [({"share": (0.5, 2)}, "share"), ({"scales": ((1, 2),)}, "scales"), ({"rule": ()}, "rule"),
     ({"rule": ("region",), "cost": "latency"}, "latency"), ({"budget": (0.9, 0.3)}, "budget"),
     ({"order": (1, 1)}, "order"), ({"hysteresis": (0.5, 2)}, "hysteresis"),
     ({"every": (3, 2)}, "every"), ({"first": (0, 1)}, "first"), ({"head": (0.5, 1.5)}, "head"),
     ({"gain": (0.0, 1.0)}, "gain"), ({"forecast": (2,)}, "forecast")],
)  # fmt: skip
def test_a_bad_space_is_refused(change: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Study(**change)


def test_points_are_spread_evenly() -> None:
    assert spread(range(9), 3) == [0, 4, 8]
    assert spread(range(3), 5) == [0, 1, 2]
    assert spread(range(3), 1) == [1]
    assert spread(range(3), 0) == []


def test_dominance() -> None:
    assert dominates([0.5, 30], [0.6, 30])
    assert not dominates([0.5, 30], [0.5, 30])
    assert not dominates([0.5, 30], [0.4, 20])
    assert dominates([0.5, 20], [0.5, 30], sign=-1)


def test_a_twin_is_never_run(tmp_path: Path) -> None:
    study = place(tmp_path / "s.journal").open()
    slots.fill(study, 2)
    study.add_trial(slots.waiting(0))
    space = Study(trials=2, prompts=1, confirm=0)
    run(place(tmp_path / "s.journal"), space, FakeEvaluator)
    assert [t.state.name for t in study.trials] == ["COMPLETE", "COMPLETE", "WAITING"]


KILL = Study(trials=40, prompts=3, rule=EVERY, startup=10, confirm=2, rungs=(0.3,))


def test_a_killed_worker_changes_nothing(tmp_path: Path) -> None:
    """Two processes share 40 trials, one is killed by SIGKILL in the middle."""
    one = run(place(tmp_path / "one.journal"), KILL, FakeEvaluator)
    log = tmp_path / "log"
    open_evaluator = OpenEvaluator(0.02, log, after=20, spare=os.getpid())
    with pytest.warns(UserWarning, match="worker"):
        study = run(place(tmp_path / "two.journal"), KILL, open_evaluator, workers=2)
    assert text(study, KILL) == text(one, KILL)
    failed = [t for t in study.trials if t.state.name == "FAIL"]
    assert len(failed) == 1  # the one that it was at
    pids = log.read_text().split()
    assert len(set(pids)) == 2
    assert pids.count(next(p for p in set(pids) if int(p) != os.getpid())) == 20


def test_tuning_and_held_out_prompts_are_disjoint(tiny: Any, tmp_path: Path) -> None:
    tuning, own = prompt_sets(Setting(tiny.experiment(study={"prompts": 4, "heldout": 2})))
    assert (len(tuning), len(own)) == (4, 2)
    assert not {p.index for p in tuning} & {p.index for p in own}
    path = tmp_path / "prompts.txt"
    path.write_text("a\nb\nc\n")
    source = {"source": "file", "path": str(path)}
    tuning, own = prompt_sets(Setting(tiny.experiment(prompts=source, study={"prompts": 2})))
    assert ([p.text for p in tuning], [p.text for p in own]) == (["a", "b"], ["c"])
    with pytest.raises(DditError, match=r"prompts\.txt has 3 prompts"):
        prompt_sets(Setting(tiny.experiment(prompts=source, study={"prompts": 3})))
    assert reseeded(own[0], 0) == own[0]
    assert len({reseeded(own[0], i).seed for i in range(4)}) == 4


def test_a_whole_study_on_the_tiny_pipeline(tiny: Any, tmp_path: Path) -> None:
    space = {"trials": 5, "prompts": 2, "seeds": 2, "steps": [2, 4], "confirm": 2, "heldout": 2,
             "generation": 2, "rule": ["threshold", "explicit", "coarse-first"], "margin": 0}  # fmt: skip
    experiment = tiny.experiment(study=space)
    first = run_study(experiment, tmp_path / "a" / "study.json", tmp_path / "state-a").plain()
    run_study(experiment, tmp_path / "b" / "study.json", tmp_path / "state-b", workers=2)
    assert (tmp_path / "a/study.json").read_bytes() == (tmp_path / "b/study.json").read_bytes()
    assert len(list((tmp_path / "state-a").glob("study-*.journal"))) == 1
    assert len(first["trials"]) == 5
    assert first["prompts_hash"] == prompts_hash(prompt_sets(Setting(experiment))[0])
    for row in first["trials"]:
        assert [len(line.split()) for line in row["schedules"]] == [row["params"]["steps"]] * row["prompts"]
    assert first["trials"][0]["tau"] != first["trials"][0]["params"]["tau_relative"]
    assert first["confirmed"]
    # Every trial has its two pictures, and there is a note that shows them.
    assert len(list((tmp_path / "state-a" / "artifacts").iterdir())) == 10
    assert "![" in (tmp_path / "state-a").glob("study-*.journal").__next__().read_text()
    # Nothing is left to do: a second call only exports.
    assert run_study(experiment, tmp_path / "a" / "study.json", tmp_path / "state-a").plain() == first


def test_latency_is_a_table_that_is_measured_once(tiny: Any, tmp_path: Path) -> None:
    space = {"trials": 2, "prompts": 1, "steps": [4], "cost": "latency", "memory": 1, "confirm": 0}
    experiment = tiny.experiment(study=space)
    with pytest.warns(UserWarning, match="memory ceiling"):
        first = run_study(experiment, tmp_path / "a.json", tmp_path / "state").plain()
    assert set(first["latency"]["seconds"]) == {"0", "1", "2", "4"}
    assert first["memory"] == {"ceiling": 1, "checked": False}
    assert len(list((tmp_path / "state").glob("latency-*.json"))) == 1
    journal = next((tmp_path / "state").glob("study-*.journal"))
    journal.unlink()  # the table stays, so the study ends as before
    with pytest.warns(UserWarning, match="memory ceiling"):
        assert run_study(experiment, tmp_path / "b.json", tmp_path / "state").plain() == first
