"""dvc.yaml as DVC sees it: everything that a stage names is there or is another stage's."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ddit_eval.ddit.policies.calibration import load
from ddit_eval.experiment.config import load_experiment
from ddit_eval.experiment.setting import Setting
from tests.support.stages import EXPERIMENTS, ROOT, STAGES, outs


@pytest.mark.parametrize("stage", STAGES)
def test_every_dependency_is_there_or_made_by_another_stage(stage: str) -> None:
    made = set().union(*(outs(other) for other in STAGES if other != stage))
    lacking = [dep for dep in STAGES[stage].get("deps", ()) if dep not in made and not (ROOT / dep).exists()]
    assert lacking == []


@pytest.mark.parametrize("stage", STAGES)
def test_every_parameter_stands_in_its_file(stage: str) -> None:
    for entry in STAGES[stage].get("params", ()):
        for name, keys in entry.items():
            raw = yaml.safe_load((ROOT / name).read_text())
            assert [key for key in keys if key not in raw] == []  # DVC refuses to run a stage without them


def test_the_calibration_that_ships_is_of_the_weights_that_ship() -> None:
    experiment = load_experiment(ROOT / "experiments/quick.yaml")
    assert experiment.adapter is not None
    made, weights = load(experiment.adapter).made, Setting(experiment).weights
    assert (made["model_hash"], made["adapter_hash"]) == (weights.model_hash, weights.adapter_hash)
    assert experiment.oracle.calibration is None  # the adapter's own
    assert experiment.oracle.prompts <= experiment.prompts.count


def test_small_results_are_in_git_and_large_ones_in_the_cache() -> None:
    cached = {
        name
        for stage in STAGES.values()
        for entry in (*stage.get("outs", ()), *stage.get("metrics", ()))
        for name, options in (entry.items() if isinstance(entry, dict) else [(entry, {})])
        if options.get("cache", True)
    }
    assert cached == {f"runs/{p}" for p in EXPERIMENTS} | {
        f"results/{p}/{name}" for p in EXPERIMENTS for name in ("report.html", "films")
    }


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda path: path.stem)
def test_dvc_can_read_every_parameter(path: Path) -> None:
    """`dvc params diff` and `dvc exp show` stumble over whole numbers as keys inside a list."""
    from dvc.dependency.param import read_param_file
    from dvc.fs import LocalFileSystem

    raw = yaml.safe_load(path.read_text())
    assert read_param_file(LocalFileSystem(), str(path), list(raw)) == raw
