from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from ddit_eval.config import Study
from ddit_eval.policies import Threshold
from ddit_eval.study import dominates, export, mend_journal, open_study, run_study, run_trials

SPACE = Study(trials=14, prompts=1, steps=(12, 18, 24))


def model(policy: Threshold, steps: int) -> tuple[float, float]:
    """A made-up landscape, smooth in tau and rho."""
    spent = steps / 24 * (1 - 0.2 * len(policy.scales) * policy.tau)
    return spent, 30 + 10 * spent - abs(math.log(policy.tau)) - policy.rho - 0.1 * policy.dwell


class Killed(BaseException):
    pass


def dying(after: int) -> Any:
    calls = []

    def measure(policy: Threshold, steps: int) -> tuple[float, float]:
        calls.append(1)
        if len(calls) > after:
            raise Killed
        return model(policy, steps)

    return measure


@pytest.mark.parametrize(("sampler", "kills"), [("tpe", [1, 3, 6]), ("gp", [5])])
def test_a_killed_study_ends_as_the_uninterrupted_one(tmp_path: Path, sampler: str, kills: list[int]) -> None:
    space = SPACE.model_copy(update={"sampler": sampler, "trials": 14 if sampler == "tpe" else 7})
    whole = open_study("s", tmp_path / "whole.journal")
    run_trials(whole, space, model)
    journal = tmp_path / "killed.journal"
    for after in kills:
        with pytest.raises(Killed):
            run_trials(open_study("s", journal), space, dying(after))
        with journal.open("ab") as file:
            file.write(b'{"op_code": 4, "worker')
        with pytest.warns(UserWarning, match=r"killed\.journal"):
            mend_journal(journal)
    resumed = open_study("s", journal)
    run_trials(resumed, space, model)
    assert len(resumed.trials) > len(whole.trials)  # the killed ones are there, failed
    assert json.dumps(export(resumed, space), sort_keys=True) == json.dumps(
        export(whole, space), sort_keys=True
    )


def test_a_study_tries_different_points(tmp_path: Path) -> None:
    study = open_study("s", tmp_path / "j.journal")
    run_trials(study, SPACE, model)
    rows = export(study, SPACE)["trials"]
    assert len({row["params"]["tau_relative"] for row in rows}) == SPACE.trials
    assert rows[0]["tau"] == rows[0]["params"]["tau_relative"]
    assert rows[0]["params"] == {
        "tau_relative": pytest.approx(5**0.5), "rho": 0.4,
        "order": 3, "scales": "2,4", "dwell": 1, "steps": 24
    }  # fmt: skip


def test_tau_is_relative_to_the_signals_of_its_order(tmp_path: Path) -> None:
    study = open_study("s", tmp_path / "j.journal")
    units = {1: 0.5, 2: 0.05, 3: 0.01}
    run_trials(study, SPACE, model, units)
    rows = export(study, SPACE)["trials"]
    assert {row["params"]["order"] for row in rows} == {1, 2, 3}
    for row in rows:
        expected = row["params"]["tau_relative"] * units[row["params"]["order"]]
        assert row["tau"] == pytest.approx(expected)


def test_the_front_is_what_nothing_dominates_and_keeps_the_floor(tmp_path: Path) -> None:
    space = SPACE.model_copy(update={"floor": 34.0})
    study = open_study("s", tmp_path / "j.journal")
    run_trials(study, space, model)
    rows = export(study, space)["trials"]
    assert any(row["values"][1] < 34 for row in rows)
    for row in rows:
        feasible = row["values"][1] >= 34
        better = [r for r in rows if r["values"][1] >= 34 and dominates(r["values"], row["values"])]
        assert row["pareto"] == (feasible and not better)
        assert row["constraints"] == [34 - row["values"][1]]
    assert any(row["pareto"] for row in rows)


def test_dominance() -> None:
    assert dominates([0.5, 30], [0.6, 30])
    assert not dominates([0.5, 30], [0.5, 30])
    assert not dominates([0.5, 30], [0.4, 20])


def test_a_whole_study_on_the_tiny_pipeline(tiny: Any, tmp_path: Path) -> None:
    experiment = tiny.experiment()
    first = run_study(experiment, tmp_path / "a" / "study.json", tmp_path / "state-a")
    run_study(experiment, tmp_path / "b" / "study.json", tmp_path / "state-b")
    assert (tmp_path / "a/study.json").read_bytes() == (tmp_path / "b/study.json").read_bytes()
    assert len(list((tmp_path / "state-a").glob("study-*.journal"))) == 1
    assert len(first["trials"]) == 5
    assert all(row["tau"] != row["params"]["tau_relative"] for row in first["trials"])
    assert all(row["values"][0] > 0 and 0 < row["values"][1] <= 100 for row in first["trials"])
    # Nothing is left to do: a second call only exports.
    assert run_study(experiment, tmp_path / "a" / "study.json", tmp_path / "state-a") == first
