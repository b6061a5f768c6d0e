"""What commands read: their files, and the parts of the experiment, seen while they run.

    python -m tests.support.reads quick FOLDER run evaluate    # commands in turn, on a small quick.yaml

writes FOLDER/COMMAND.json for each: `files`, and `fields` of the experiment's YAML; and COMMAND.txt, what it
printed (a second time: COMMAND-again). Each runs in a fork,
so that nothing is kept from one to the next and the libraries are imported once. A process of its own,
because an audit hook stays and torch must not have computed before a fork.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from tests.support.closure import ROOT

LIBRARIES = (
    "diffusers.pipelines.flux.pipeline_flux",
    "transformers",
    "torchmetrics",
    "open_clip",
    "matplotlib.pyplot",
    "scipy.stats",
    "mlflow",
    "optuna",
)
WATCHED = ("ddit_eval", "results", "runs")


def watch_files(files: set[str]) -> None:
    """From now on, add every file that is opened to read."""
    import safetensors
    import safetensors.torch

    def opened(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[0], str) and not (args[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            files.add(args[0])

    sys.addaudithook(opened)
    for module, name in ((safetensors.torch, "load_file"), (safetensors, "safe_open")):
        setattr(module, name, _noting(getattr(module, name), files))  # their opening is not Python's


def _noting(function: Callable[..., Any], files: set[str]) -> Callable[..., Any]:
    def noting(path: Any, *args: Any, **kwargs: Any) -> Any:
        files.add(os.fspath(path))
        return function(path, *args, **kwargs)

    return noting


def watch_fields(fields: set[str]) -> None:
    """From now on, add every field of an experiment that is read as the YAML gives it, not as replaced."""
    from ddit_eval.experiment.config import Experiment

    names, replaced, checking = set(Experiment.model_fields), dict[int, tuple[Any, set[str]]](), [False]
    read, copy, dump = Experiment.__getattribute__, Experiment.model_copy, Experiment.model_dump
    check = Experiment.model_validate_json

    def reading(self: Any, name: str) -> Any:
        if name in names and not checking[0] and name not in replaced.get(id(self), (None, ()))[1]:
            fields.add(name)
        return read(self, name)

    def copying(self: Any, *, update: Any = None, deep: bool = False) -> Any:
        made = copy(self, update=update, deep=deep)
        replaced[id(made)] = made, set(update or ()) | set(replaced.get(id(self), (None, ()))[1])
        return made

    def dumping(self: Any, **options: Any) -> Any:
        left_out = set(options.get("exclude") or ()) | set(replaced.get(id(self), (None, ()))[1])
        fields.update(set(options.get("include") or names) - left_out)
        return dump(self, **options)

    def validating(*args: Any, **options: Any) -> Any:
        checking[0] = True
        try:
            return check(*args, **options)
        finally:
            checking[0] = False

    Experiment.__getattribute__ = reading  # type: ignore[method-assign,assignment]
    Experiment.model_copy = copying  # type: ignore[method-assign]
    Experiment.model_dump = dumping  # type: ignore[method-assign]
    Experiment.model_validate_json = validating  # type: ignore[method-assign]


def forked(work: Callable[[], None]) -> None:
    """Run `work` in a fork of this process; an error ends this one too."""
    sys.stdout.flush()
    if (child := os.fork()) == 0:
        try:
            work()
            sys.stdout.flush()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("a command failed")


def small(name: str, root: Path) -> Path:
    """The shipped experiment with few prompts and steps, and of its methods those that bear it; and a metric
    and a policy of the package in tests/support/plugin."""
    shipped = yaml.safe_load((ROOT / "experiments" / f"{name}.yaml").read_text())
    bearing = [m for m in shipped["methods"] if not {"steps", "mix"} & {*m, *m.get("policy", {})}]
    methods = list({m.get("policy", {}).get("kind"): m for m in reversed(bearing)}.values())  # one of a kind
    path = root / f"{name}.yaml"
    changed = {
        "side": 32,
        "steps": 2,
        "prompts": shipped["prompts"] | {"count": 4},
        "methods": [*methods, {"name": "every-other", "policy": {"kind": "every-other"}}],
        "metrics": [*shipped["metrics"], "brightness"],
        "sets": shipped["sets"]
        and shipped["sets"] | {"reference": "world:heldout:16:seed9:32px", "families": ["cmmd"]},
        "timing": {"prompts": 2, "rounds": 1, "most": 1, "whole": 1, "methods": ["base", methods[0]["name"]]},
        "study": {
            "trials": 1,
            "prompts": 1,
            "confirm": 1,
            "heldout": 2,
            "steps": [2],
            "rule": ["every-other"],
        },
        "oracle": {"prompts": 2, "costs": [0.7], "every": 2},
    }
    path.write_text(yaml.safe_dump(shipped | changed))
    return path


def run(root: Path, command: str, *options: str) -> None:
    """The command; what it read as COMMAND.json and what it printed as COMMAND.txt."""
    from ddit_eval.cli import app

    name = command if not (root / f"{command}.json").exists() else f"{command}-again"
    os.dup2(os.open(root / f"{name}.txt", os.O_WRONLY | os.O_CREAT), 1)
    files, fields = set[str](), set[str]()
    watch_files(files)
    watch_fields(fields)
    app([command, *options], standalone_mode=False)
    places = {path: _place(Path(path), root) for path in files}
    read = {"files": sorted({p for p in places.values() if p}), "fields": sorted(fields)}
    (root / f"{name}.json").write_text(json.dumps(read))


def _place(path: Path, root: Path) -> str | None:
    """As the repository would name it; None for what is no stage's business."""
    path = Path(os.path.realpath(path))
    for folder in (root.resolve(), ROOT):
        if path.is_relative_to(folder):
            inside = path.relative_to(folder)
            return str(inside) if inside.parts[0] in WATCHED and path.suffix not in (".py", ".pyc") else None
    return None


def main(name: str, folder: str, *commands: str) -> None:
    root = Path(folder)
    os.chdir(root)
    os.environ["COLUMNS"] = "300"
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{root / 'mlflow.db'}"
    for library in LIBRARIES:
        import_module(library)
    experiment = small(name, root)
    for command in commands:
        forked(partial(run, root, command, str(experiment)))


if __name__ == "__main__":
    main(*sys.argv[1:])
