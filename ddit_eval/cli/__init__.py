"""The command `ddit-eval`. Every heavy import waits until a command runs."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from ddit_eval.cli import calibrate, make, stages

app = typer.Typer(
    help="""Dynamic patch scheduling for diffusion transformers, and the harness that measures it.

    Try it: `ddit-eval generate "a red star above a blue square" --out demo`

    A whole table of results is one YAML file that goes through the stages
    `run`, `evaluate`, `time`, `study`, `track`, `report`; `dvc repro` calls them in order.
    """,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_debug = False
INTERRUPTED = 130  # what a shell calls a command that Ctrl-C ended


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    global _debug
    _debug = debug
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command()(make.generate)
app.command()(make.train)
app.command()(make.models)
app.command("metrics")(make.measures)
app.command()(calibrate.calibrate)
app.command()(calibrate.oracle)
app.command()(stages.run)
app.command()(stages.evaluate)
app.command("time")(stages.time)
app.command()(stages.study)
app.command()(stages.advise)
app.command()(stages.track)
app.command()(stages.export)
app.command()(stages.report)


def main() -> None:
    """Run the command line; bad input is one line and exit code 2, an error of ours its traceback."""
    import warnings

    from ddit_eval.cli.show import complain, remark, told

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what it cannot show is no reason to die
    # A warning is one line, without the place in the code that it came from.
    warnings.showwarning = lambda message, category, *_: remark(str(message), category)
    try:
        if app(standalone_mode=False) == INTERRUPTED:
            complain("interrupted; what was written is kept, and the same command goes on from there")
            sys.exit(INTERRUPTED)
    except Exception as error:
        line = None if _debug else told(error)
        if line is None:
            raise
        complain(line)
        sys.exit(2)
