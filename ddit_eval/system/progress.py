"""Progress with the time left, on the terminal of the first process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

stdout = Console()
stderr = Console(stderr=True)


def first() -> bool:
    """Whether this is the process that prints, of several."""
    return os.environ.get("RANK", "0") == "0"


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
    with Progress(*columns, console=stderr, disable=not first()) as bar:
        task = bar.add_task(what, total=None, label="")
        yield lambda done, total, label: bar.update(task, completed=done, total=total, label=label)
