"""Commands of the oracle: measure what coarse steps do, and hold every policy against the best schedule."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddit_eval.cli.options import AdapterName, Model, PromptFile, Side, Workers
from ddit_eval.cli.show import say, table_of
from ddit_eval.cli.stages import RESULTS, STATE, Results, State, Yaml
from ddit_eval.errors import DditError
from ddit_eval.system.progress import progress, stdout
from ddit_eval.system.quiet import quiet_libraries

if TYPE_CHECKING:
    from ddit_eval.oracle.table import HarmTable
    from ddit_eval.schema import Oracle

COSTS = (0.9, 0.8, 0.7, 0.6, 0.5)  # of the table that is printed


def calibrate(
    model: Model = "mini-flux",
    adapter: AdapterName = None,
    prompts: Annotated[
        int, typer.Option(help="Prompts of the world's training split.", min=2, max=100_000)
    ] = 8,
    file: PromptFile = None,
    steps: Annotated[
        list[int] | None, typer.Option(help="Denoising steps, 24 by default; may be given again.")
    ] = None,
    side: Side = None,
    every: Annotated[
        int,
        typer.Option(
            help="Measure each so-many-th step only; between them is interpolated.", min=1, max=1000
        ),
    ] = 1,
    batch: Annotated[int, typer.Option(help="Prompts at a time.", min=1, max=100_000)] = 8,
    out: Annotated[
        Path | None, typer.Option(help="Folder for calibration.json; the adapter's own by default.")
    ] = None,
    state: State = STATE,
) -> None:
    """Measure the harm of every coarse step and write the calibration that `kind: calibrated` reads.

    Killed at any moment, the same command goes on. About three minutes for mini-flux on two CPU cores.
    """
    from ddit_eval.ddit.adapter.places import find
    from ddit_eval.ddit.policies.calibration import FILE
    from ddit_eval.experiment.config import FilePrompts, parse_experiment
    from ddit_eval.experiment.prompts import load_prompts
    from ddit_eval.system.files import check_writable, write_json

    numbers = sorted(set(steps or [24]), reverse=True)
    experiment = parse_experiment(
        {
            "model": model, "adapter": adapter or model, "side": side, "steps": numbers[0],
            "methods": [{"name": "base"}],
        },
        "options",
    )  # fmt: skip
    folder = out or find(adapter or model)
    if not os.access(folder if folder.exists() else folder.parent, os.W_OK):
        raise DditError(f"{folder} cannot be written to; name another folder with --out FOLDER")
    check_writable(folder)
    check_writable(state)
    from ddit_eval.experiment.generate import Generator
    from ddit_eval.experiment.setting import Setting
    from ddit_eval.oracle.bench import Bench
    from ddit_eval.oracle.calibrate import CALIBRATION
    from ddit_eval.oracle.calibrate import calibrate as measure_all

    source = (
        FilePrompts(source="file", path=file, count=prompts)
        if file
        else CALIBRATION.model_copy(update={"count": prompts})
    )
    chosen = load_prompts(source)
    quiet_libraries()
    with progress("harm") as step, Generator(Setting(experiment)) as generator:
        bench = Bench(generator, batch)
        found, tables = measure_all(bench, chosen, numbers, state, every=every, progress=step)
    write_json(folder / FILE, found.model_dump(mode="json"))
    for table in tables:
        _show(table)
    for run in found.runs:
        points = ", ".join(f"{100 * p.cost:.0f} % at {_decibels(p.harm)}" for p in run.curve[1:])
        say(f"the rule over {run.steps} steps, as measured: {points}")
    say(f"wrote {folder / FILE}; the signal is of order {found.order}")


def _show(table: HarmTable) -> None:
    one = "one for all prompts"
    heads = ("cost", one, "its PSNR", "a schedule each: PSNR")
    shown = table_of(f"best schedules of {table.steps} steps, by the table", heads, [one])
    for budget in COSTS:
        if budget < min(table.cost):
            continue
        shared, own = table.shared(budget), table.per_prompt(budget)
        mean = sum(o.harm for o in own) / len(own)
        scales = "".join(map(str, shared.scales))
        shown.add_row(f"{100 * shared.cost:.0f} %", scales, _decibels(shared.harm), _decibels(mean))
    stdout.print(shown)


def _decibels(harm: float) -> str:
    from math import log10

    return f"{-10 * log10(harm):.1f} dB" if harm > 0 else "no loss"


def oracle(experiment: Yaml, workers: Workers = 1, results: Results = RESULTS, state: State = STATE) -> None:
    """Hold the calibrated policy, DDiT's rule and the fixed schedules against the best schedule there is.

    Writes oracle.json; `ddit-eval report` draws it. Run `ddit-eval calibrate` first. Killed at any moment,
    the same command goes on.
    """
    from ddit_eval.experiment.config import load_experiment

    config = load_experiment(experiment)
    if config.adapter is None:
        raise DditError(f"{experiment} names no adapter, so there is no coarse step to measure; add one")
    from ddit_eval.ddit.policies.calibration import load
    from ddit_eval.experiment.generate import Generator
    from ddit_eval.experiment.setting import Setting
    from ddit_eval.oracle.bench import Bench
    from ddit_eval.oracle.compare import compare
    from ddit_eval.schema import write
    from ddit_eval.system.files import check_writable, sweep

    table = load(config.oracle.calibration or config.adapter)
    folder = results / config.profile
    for place in (folder, state):
        check_writable(place)
        sweep(place)
    quiet_libraries()
    with progress("oracle") as step, Generator(Setting(config)) as generator:
        content = compare(Bench(generator), table, state, workers=workers, progress=step)
    write(folder / "oracle.json", content)
    _show_rows(content)
    say(f"wrote {folder / 'oracle.json'}; `ddit-eval report` draws its figure")


def _show_rows(content: Oracle) -> None:
    heads = ("schedule", "cost", "PSNR to base (dB)")
    shown = table_of(f"{content.n} held-out prompts, {content.steps} steps", heads, ["schedule"])
    for row in sorted(content.rows, key=lambda r: (-round(r.cost, 1), r.name)):
        psnr = row.psnr
        shown.add_row(
            row.name, f"{100 * row.cost:.0f} %", f"{psnr.value:.1f} \\[{psnr.low:.1f}, {psnr.high:.1f}]"
        )
    stdout.print(shown)
    for item in content.gap:
        if item.share is not None and item.fixed == "fine-first":
            share = item.share.scaled(100)
            say(
                f"{item.name} closes {share.value:.0f} % [{share.low:.0f}, {share.high:.0f}] of the gap "
                f"between {item.fixed} and the oracle"
            )
