"""Every step of every recipe runs, by the recipe's own commands, on a few pictures in a temporary folder."""

from __future__ import annotations

import importlib
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from ddit_eval.cli import app as ddit_eval_app
from tests.support.tiny import tiny_transformer

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
RECIPES = sorted((EXPERIMENTS / "recipes").glob("*.yaml"))
ADAPTER = {"pictures": 2, "batch": 2, "probe_pictures": 2}
GENERATED = {"generated": {"count": 2, "steps": 2}}


def small_recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe with one step of two pictures for each cut of each stage."""
    if plan := recipe.get("plan"):
        plan |= {"unseen": 2} | ({"captions": 48} if "captions" in plan else {})
        for stage in plan["stages"]:
            cuts = [stage, *stage.get("others", [])]
            stage["pictures" if "pictures" in stage else "clips"] = 2 * len(cuts)
            for cut in cuts:
                cut["batch"] = 2
    return recipe


def small_adapter(config: dict[str, Any]) -> dict[str, Any]:
    """The distillation on two pictures, or two clips of two steps."""
    source = config["source"] | {"side": 32} | GENERATED.get(config["source"]["kind"], {})
    return config | ADAPTER | {"source": source}


def run(command: str, more: str) -> None:
    """What `command` would do in a process of its own; the last of two equal options counts."""
    words = shlex.split(command)
    if "-m" not in words:
        subprocess.run(words, check=True)
        return
    module, *options = words[words.index("-m") + 1 :]
    app = ddit_eval_app
    if module != "ddit_eval.cli":
        app = typer.Typer()
        app.command()(importlib.import_module(module).main)
    app([*options, *shlex.split(more)], standalone_mode=False)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_step_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ddit_eval.tracking.track_training", lambda out: False)
    # A small transformer, for the seconds' sake; mini-wan's own is quick enough.
    monkeypatch.setattr("experiments.recipes.pipeline.build_transformer", lambda channels: tiny_transformer())
    monkeypatch.setattr("experiments.recipes.train.MIDDLE", 1)
    for folder, small in (("recipes", small_recipe), ("train", small_adapter)):
        (tmp_path / "experiments" / folder).mkdir(parents=True)
        for file in (EXPERIMENTS / folder).glob("*.yaml"):
            text = yaml.safe_dump(small(yaml.safe_load(file.read_text())))
            (tmp_path / "experiments" / folder / file.name).write_text(text)
    for step in yaml.safe_load(path.read_text())["steps"]:
        assert step["minutes"] >= 0
        run(step["run"], step.get("small", ""))
    assert list((tmp_path / "runs").rglob("*.safetensors"))


def test_every_command_of_the_recipes_is_a_step_of_one() -> None:
    steps = [step["run"] for path in RECIPES for step in yaml.safe_load(path.read_text())["steps"]]
    told = {word for run in steps for word in run.split()}
    modules = [f"experiments.recipes.{p.stem}" for p in (EXPERIMENTS / "recipes").glob("*.py")]
    commands = [name for name in modules if hasattr(importlib.import_module(name), "main")]
    assert commands
    assert set(commands) <= told
