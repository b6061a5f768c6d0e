"""Commands over an experiment: each reads what the one before it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ddit_eval.cli.options import Workers
from ddit_eval.cli.show import say, show_advice, show_columns, show_quality, show_timing
from ddit_eval.errors import DditError
from ddit_eval.system.progress import progress, stages
from ddit_eval.system.quiet import quiet_libraries, quiet_transformers

if TYPE_CHECKING:
    from ddit_eval.experiment.config import Experiment

Yaml = Annotated[Path, typer.Argument(help="The experiment, e.g. experiments/quick.yaml.")]
Runs = Annotated[
    Path, typer.Option(help="Where pictures and records go, in a folder named after the experiment.")
]
Results = Annotated[
    Path, typer.Option(help="Where small results go, in a folder named after the experiment.")
]
State = Annotated[Path, typer.Option(help="Where the study keeps its journal.")]
Storage = Annotated[
    str | None,
    typer.Option(
        envvar="DDIT_STUDY_STORAGE",
        help="For several machines: postgresql://..., mysql://..., or a file *.journal on a shared disk. "
        "Others see a command line: give an address with a password in the variable.",
    ),
]
RUNS, RESULTS, STATE = Path("runs"), Path("results"), Path(".state")


def _load(path: Path) -> Experiment:
    """Before a command's libraries are imported, which takes seconds: a mistake in the file shows at once."""
    from ddit_eval.experiment.config import load_experiment

    return load_experiment(path)


def run(experiment: Yaml, workers: Workers = 1, runs: Runs = RUNS) -> None:
    """Make the pictures of an experiment: one record for each method and prompt.

    What is there is kept, so after a crash the same command goes on where it was.
    On several GPUs: `accelerate launch -m ddit_eval run experiments/quick.yaml`
    """
    config = _load(experiment)
    from ddit_eval.experiment.generate import generate

    quiet_libraries()
    with progress("pictures") as step:
        outcome = generate(config, runs / config.profile, workers=workers, progress=step)
    made = f"{outcome.made} made" + (f" ({outcome.damaged} were damaged)" if outcome.damaged else "")
    say(f"{outcome.total} records in {runs / config.profile}: {made}, {outcome.there} kept")


def evaluate(
    target: Annotated[Path, typer.Argument(help="An experiment's YAML, or a folder of pictures or videos.")],
    reference: Annotated[
        str | None,
        typer.Argument(help="For a folder: pictures to compare with, or world:heldout:512:seed1:64px."),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="For a folder: one prompt a line; else a .txt beside each picture.")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="For a folder: this metric only; may be given again.")
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="For a folder: features of the set metrics, of the reader by default.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="For a folder: write the numbers here, as JSON.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="For a folder: keep features here from one call to the next.")
    ] = None,
    runs: Runs = RUNS,
    results: Results = RESULTS,
) -> None:
    """Measure the pictures of an experiment, or of any folder, with intervals over prompts.

    Prints every metric that applies, with its N and its network. An experiment: writes quality.json,
    samples.csv and traces.json as well. `ddit-eval evaluate mine theirs --prompts prompts.txt`
    """
    if target.suffix not in (".yaml", ".yml"):
        from ddit_eval.folders.compare import compare
        from ddit_eval.system.files import check_place, write_json

        quiet_transformers()
        if out:
            check_place(out)
        content = compare(
            target, reference, prompts, metric or (), "reader" if network is None else network, cache
        )
        show_columns(content)
        if out:
            write_json(out, content.plain())
        return
    if reference is not None or prompts or metric or network is not None or out or cache:
        raise DditError(f"{target} is an experiment: it names its own reference, prompts and metrics")
    config = _load(target)
    from ddit_eval.experiment.evaluate import evaluate as measure

    quiet_transformers()
    with progress("methods") as step:
        quality = measure(config, runs / config.profile, results / config.profile, progress=step)
    show_quality(quality)
    say(f"wrote {results / config.profile / 'quality.json'}")


def time(
    experiment: Yaml,
    results: Results = RESULTS,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Exit with code 1 where the clock was too bad to decide anything."),
    ] = False,
) -> None:
    """Measure wall-clock: methods interleaved on the same prompts, the base against itself as a null row.

    Leave the machine alone meanwhile: a disturbed one is measured for longer, and if that does not help, its
    times decide nothing. Every single time is in times.csv.
    """
    config = _load(experiment)
    from ddit_eval.experiment.time import time_experiment

    quiet_libraries()
    with progress("timed runs") as step:
        content = time_experiment(config, results / config.profile / "timing.json", progress=step)
    show_timing(content)
    say(f"wrote {results / config.profile / 'timing.json'}; `ddit-eval report` draws its figures")
    if strict and content.bad:
        raise typer.Exit(1)


def study(
    experiment: Yaml,
    results: Results = RESULTS,
    state: State = STATE,
    workers: Workers = 1,
    storage: Storage = None,
) -> None:
    """Search schedules for the Pareto front of cost and quality, and confirm it on held-out prompts.

    Killed at any moment, the same command goes on and ends with the same result, whatever the number of
    workers. Several machines: the same command on each, with one --storage. `make dashboard` shows it.
    """
    config = _load(experiment)
    from ddit_eval.study import run_study

    quiet_libraries()
    written = results / config.profile / "study.json"
    with progress("trials") as step:
        exported = run_study(config, written, state, workers=workers, storage=storage, progress=step)
    trials = exported.trials
    front = sum(trial.pareto for trial in trials)
    stopped = sum(trial.state == "PRUNED" for trial in trials)
    say(
        f"wrote {written}: {front} of {len(trials)} trials are on the front, {stopped} were stopped early, "
        f"{len(exported.confirmed)} confirmed on held-out prompts"
    )


def advise(
    experiment: Yaml,
    more: Annotated[list[float] | None, typer.Argument(help="Further speed-ups.", hidden=True)] = None,
    speed_up: Annotated[
        list[float] | None, typer.Option(help="How many times as fast, e.g. --speed-up 2 3 5.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="How long it may take; the experiment's where not given.")
    ] = None,
    runs: Runs = RUNS,
    results: Results = RESULTS,
    state: State = STATE,
    workers: Workers = 1,
    storage: Storage = None,
) -> None:
    """Find the best way to run the model so many times as fast, and say what it loses.

    Searches steps, solver, time schedule, caches, skipped steps and coarse patches together, on prompts that
    nothing is reported on; confirms on held-out ones, on the clock. Killed, the same command goes on.
    """
    config = _load(experiment)
    from ddit_eval.advise import advise as find
    from ddit_eval.experiment.config import with_advice
    from ddit_eval.schema import Quality, read

    config = with_advice(config, [*(speed_up or ()), *(more or ())], minutes)
    quiet_libraries()
    folder = results / config.profile
    with stages() as stage:
        frontier = find(
            config, folder, runs / config.profile, state,
            workers=workers, storage=storage, say=say, stage=stage,
        )  # fmt: skip
    show_advice(frontier, read(folder / "advise" / "quality.json", Quality).metrics)
    say(f"wrote {folder / 'frontier.json'}; `ddit-eval report` draws its figure")


def track(
    experiments: Annotated[list[Path], typer.Argument(help="YAML of one or several experiments.")],
    runs: Runs = RUNS,
    results: Results = RESULTS,
) -> None:
    """Show the results in MLflow: one run a method, each logged once. Then: `make ui`"""
    configs = [_load(path) for path in experiments]
    from ddit_eval.judging.wording import counted
    from ddit_eval.tracking import track as log

    for config in configs:
        new = log(results / config.profile, runs / config.profile, experiment=config)
        say(f"logged {counted(new, 'new run')} of {config.profile} in MLflow; `make ui` shows them")


def export(
    experiment: Yaml,
    method: Annotated[str, typer.Argument(help="The row whose samples to write, e.g. base.")],
    out: Annotated[Path, typer.Argument(help="Folder to write them to.")],
    layout: Annotated[
        Literal["vbench", "plain"],
        typer.Option(help='"vbench" ({prompt}-{index}.mp4) or "plain" (000.png and 000.txt).'),
    ] = "vbench",
    gif: Annotated[bool, typer.Option("--gif", help="VBench's names with .gif, without PyAV.")] = False,
    runs: Runs = RUNS,
) -> None:
    """Write a method's samples with the names that other suites look for, VBench's above all.

    `ddit-eval export experiments/video.yaml ddit-o3 samples`, then VBench's own evaluation on `samples`.
    """
    config = _load(experiment)
    from ddit_eval.experiment.export import export as write
    from ddit_eval.judging.wording import counted

    count = write(config, runs / config.profile, method, out, layout, ".gif" if gif else ".mp4")
    say(f"wrote {counted(count, 'sample')} of {method} to {out}")


def report(
    experiments: Annotated[
        list[Path], typer.Argument(help="One or several; the first is the one that matters most.")
    ],
    runs: Runs = RUNS,
    results: Results = RESULTS,
    readme: Annotated[
        Path | None, typer.Option(help="Write the table into this README's results block too.")
    ] = None,
    workers: Workers = 1,
) -> None:
    """Write report.md, report.html, the figures and results/summary.json from the result files."""
    profiles = [(path, _load(path).profile) for path in experiments]
    from ddit_eval.report import Part, build_all

    parts = [Part(profile, runs / profile, path) for path, profile in profiles]
    for written in build_all(results, parts, readme, workers):
        say(f"wrote {written} and report.html")
