"""The Pareto front of a study: cost against quality of every trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ddit_eval.errors import DditError
from ddit_eval.figures.labels import label_points
from ddit_eval.figures.style import BLUE, COLUMN, FAINT, VERMILION, darker, new_figure, styled


@dataclass(frozen=True)
class Trial:
    """A finished trial: its values on the two axes; `label` is written beside it if it is on the front."""

    x: float
    y: float
    pareto: bool
    label: str = ""
    feasible: bool = True


@styled
def pareto_front(
    trials: Sequence[Trial],
    *,
    names: tuple[str, str] = ("cost", "quality"),
    width: float = COLUMN,
    height: float | None = None,
) -> Figure:
    """All trials; those on the front joined by a line and labelled. Infeasible ones are hollow."""
    if not trials:
        raise DditError("the study has no finished trial to draw; run it first")
    figure = new_figure(width, height or 0.8 * width)
    axes = figure.subplots()
    front = sorted((t for t in trials if t.pareto), key=lambda t: (t.x, t.y))
    rest = [t for t in trials if not t.pareto and t.feasible]
    outside = [t for t in trials if not t.pareto and not t.feasible]
    axes.plot([t.x for t in rest], [t.y for t in rest], "o", color=FAINT, markersize=3, label="dominated")
    if outside:
        axes.plot(
            [t.x for t in outside],
            [t.y for t in outside],
            "o",
            color=VERMILION,
            markerfacecolor="none",
            markersize=3.5,
            label="infeasible",
        )
    axes.plot(
        [t.x for t in front],
        [t.y for t in front],
        "-o",
        color=BLUE,
        markersize=4,
        linewidth=0.9,
        label="Pareto front",
    )
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.margins(0.1)
    axes.grid(True, zorder=-2)
    figure.legend(loc="outside lower center", ncols=3, columnspacing=1.2, handletextpad=0.4)
    named = _spread_out([t for t in front if t.label], 6)
    label_points(
        axes,
        [(t.x, t.y) for t in named],
        [t.label for t in named],
        [darker(BLUE)] * len(named),
        [[(t.x, t.y) for t in front], *([(t.x, t.y), (t.x, t.y)] for t in trials)],
        fontsize=5.8,
    )
    return figure


def _spread_out(trials: Sequence[Trial], most: int) -> list[Trial]:
    """At most `most` of the trials, evenly picked, both ends kept."""
    if len(trials) <= most:
        return list(trials)
    return [trials[round(i * (len(trials) - 1) / (most - 1))] for i in range(most)]
