"""Progress with the time left, on the terminal of the first process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from rich.console import Console
from rich.text import Text

from ddit_eval.system.text import visible

Progress = Callable[[int, int, str], None]  # done, to do, what is being done


class Terminal(Console):
    """A console that shows text as it is: no :emoji: is replaced, and no control character in it acts."""

    def render_str(self, text: str, **style: Any) -> Text:  # what is printed and what stands in tables
        return super().render_str(visible(text), **style)


stdout = Terminal(emoji=False)
stderr = Terminal(emoji=False, stderr=True)


def first() -> bool:
    """Whether this is the process that prints, of several."""
    return os.environ.get("RANK", "0") == "0"


def quiet(done: int, total: int, label: str) -> None:
    """Progress that nobody sees."""


@contextmanager
def progress(what: str) -> Iterator[Progress]:
    """A progress bar with the time left, as a callback (done, total, label). Only the first process draws."""
    from rich import progress as rich

    columns = (
        rich.TextColumn("{task.description}", style="bold", markup=False), rich.BarColumn(),
        rich.MofNCompleteColumn(), rich.TimeElapsedColumn(), rich.TextColumn("left"),
        rich.TimeRemainingColumn(), rich.TextColumn("{task.fields[label]}", markup=False),
    )  # fmt: skip
    bar = rich.Progress(*columns, console=stderr, disable=not first())
    task = bar.add_task(what, total=None, label="")

    def step(done: int, total: int, label: str) -> None:
        bar.start()  # with the work: what is refused before it is one line
        bar.update(task, completed=done, total=total, label=visible(label, one_line=True))

    try:
        yield step
    finally:
        if bar.live.is_started:
            bar.stop()


@contextmanager
def stages() -> Iterator[Callable[[str], Progress]]:
    """Progress bars one after another: the next by its name, as which the one before ends."""
    with ExitStack() as current:

        def begin(what: str) -> Progress:
            current.close()
            return current.enter_context(progress(what))

        yield begin
