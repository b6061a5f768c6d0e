"""What the commands print: progress with the time left, errors and warnings of one line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

stdout = Console()
stderr = Console(stderr=True)


def _first() -> bool:
    return os.environ.get("RANK", "0") == "0"


def complain(message: str) -> None:
    """One clean red line."""
    stderr.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True, highlight=False)


def remark(message: str, category: type[Warning]) -> None:
    """Our warnings are for the user; those of libraries about their own future are not."""
    if issubclass(category, DeprecationWarning | PendingDeprecationWarning | FutureWarning):
        return
    stderr.print(f"[yellow]warning:[/] {escape(message)}", soft_wrap=True, highlight=False)


def say(message: str) -> None:
    """A line of result, from the first process."""
    if _first():
        stdout.print(message, soft_wrap=True, highlight=False)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar with the time left, as a callback (done, total, label). Only the first process draws."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[label]}"),
    )  # fmt: skip
    with Progress(*columns, console=stderr, disable=not _first()) as bar:
        task = bar.add_task(what, total=None, label="")
        yield lambda done, total, label: bar.update(task, completed=done, total=total, label=label)


def quiet_libraries() -> None:
    """No progress bars and no advice from the libraries underneath."""
    import diffusers.utils.logging
    import transformers.utils.logging

    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
