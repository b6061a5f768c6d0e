"""dvc.yaml covers what its commands import and read: a result that is stale is made anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ddit_eval.cli import app
from ddit_eval.experiment.config import load_experiment
from ddit_eval.models.find import find
from tests.support.closure import files_of
from tests.support.stages import (
    EXPERIMENTS,
    ROOT,
    STAGES,
    command,
    commands,
    experiments,
    outs,
    params,
    uncovered,
)

FUNCTIONS = {c.name or getattr(c.callback, "__name__", ""): c.callback for c in app.registered_commands}


def modules(stage: str) -> set[str]:
    """Files of the modules that decide a stage's result."""
    function = FUNCTIONS[command(stage)]
    assert function is not None
    return files_of(function)


@pytest.fixture(scope="session")
def recorded(small_run: Path) -> dict[str, dict[str, list[str]]]:
    """By command: what it read of a small quick.yaml."""
    return {name: json.loads((small_run / f"{name}.json").read_text()) for name in commands()}


def needs(stage: str, recorded: dict[str, dict[str, list[str]]]) -> tuple[set[str], set[tuple[str, str]]]:
    """Files and parameters that a stage reads of each of its experiments, as the small one showed."""
    read, shown = recorded[command(stage)], load_experiment(ROOT / f"experiments/{EXPERIMENTS[0]}.yaml")
    files, fields = set[str](), set[tuple[str, str]]()
    for path in experiments(stage):
        config = load_experiment(ROOT / path)
        renamed = {
            f"weights/{shown.model}/": f"weights/{config.model}/",
            f"adapters/{shown.adapter}/": f"adapters/{config.adapter}/",
            f"runs/{shown.profile}/": f"runs/{config.profile}/",
            f"results/{shown.profile}/": f"results/{config.profile}/",
        }
        for file in read["files"]:
            for before, after in renamed.items():
                file = file.replace(before, after)
            files.add(file)
        # `profile` is the YAML's name and with it the folder of the results.
        fields |= {(path, name) for name in read["fields"] if name != "profile"}
    without_oracle = f"results/{EXPERIMENTS[1]}/oracle.json"
    return files - {without_oracle}, fields


def lacking(
    files: set[str], fields: set[tuple[str, str]], deps: set[str], named: set[tuple[str, str]]
) -> list[str]:
    """What a stage with these dependencies and parameters does not watch."""
    return uncovered(files, deps) + sorted(n for f, n in fields if f not in deps and (f, n) not in named)


@pytest.mark.parametrize("stage", STAGES)
def test_every_module_lies_under_a_dependency(stage: str) -> None:
    deps = set(STAGES[stage]["deps"])
    assert uncovered(modules(stage), deps) == []
    folders = {
        dep for dep in deps if dep.startswith("ddit_eval/") and uncovered(modules(stage), deps - {dep})
    }
    assert {"ddit_eval/experiment", "ddit_eval/system"} <= folders  # each of these, left out, would be missed


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", STAGES)
def test_all_that_a_command_reads_is_watched(stage: str, recorded: dict[str, dict[str, list[str]]]) -> None:
    files, fields = needs(stage, recorded)
    deps, named = set(STAGES[stage]["deps"]), params(stage)
    assert lacking(files, fields, deps | outs(stage), named) == []


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", STAGES)
def test_what_is_left_out_is_found(stage: str, recorded: dict[str, dict[str, list[str]]]) -> None:
    files, fields = needs(stage, recorded)
    files |= modules(stage)
    deps, named = set(STAGES[stage]["deps"]), params(stage)
    covers = deps | outs(stage)
    for dep in deps:
        used = any(Path(file).is_relative_to(dep) for file in files) or any(file == dep for file, _ in fields)
        assert bool(lacking(files, fields, covers - {dep}, named)) == used, dep
    assert {"ddit_eval/experiment", "ddit_eval/system"} <= deps
    for one in named & fields:
        assert lacking(files, fields, covers, named - {one}) == [one[1]]
    assert command(stage) in ("track", "report") or len(named & fields) > 5


def test_a_metric_does_not_time_the_methods_again() -> None:
    for profile in EXPERIMENTS:
        assert not {d for d in STAGES[f"time@{profile}"]["deps"] if d.startswith("ddit_eval/metrics")}
        assert (f"experiments/{profile}.yaml", "metrics") not in params(f"time@{profile}")


def test_the_weights_that_a_stage_names_are_its_experiments_own() -> None:
    for profile in EXPERIMENTS:
        model = find(load_experiment(ROOT / f"experiments/{profile}.yaml").model)
        assert model is not None
        assert str(Path(model).relative_to(ROOT)) in STAGES[f"generate@{profile}"]["deps"]
