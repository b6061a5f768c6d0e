"""The Pareto front of a study: cost against quality of every trial, and what held-out prompts say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ddit_eval.errors import DditError
from ddit_eval.figures.labels import label_points
from ddit_eval.figures.style import BLACK, BLUE, COLUMN, FAINT, ORANGE, VERMILION, darker, new_figure, styled


@dataclass(frozen=True)
class Trial:
    """A finished trial: its values on the two axes; `label` is written beside it if it is on the front.

    `stopped`: it was stopped early, and its values are those of the prompts that it saw.
    """

    x: float
    y: float
    pareto: bool
    label: str = ""
    feasible: bool = True
    stopped: bool = False


@dataclass(frozen=True)
class Confirmed:
    """A point of the front on two sets of prompts. `tuned`: (x, y); `x`, `y`: held out (value, low, high)."""

    tuned: tuple[float, float]
    x: tuple[float, float, float]
    y: tuple[float, float, float]


# In the order in which they are drawn.
STYLES: dict[str, dict[str, Any]] = {
    "dominated": {"linestyle": "", "marker": "o", "markersize": 3, "color": FAINT},
    "infeasible": {"linestyle": "", "marker": "o", "markersize": 3.5, "color": VERMILION, "mfc": "none"},
    "Pareto front": {"linewidth": 0.9, "marker": "o", "markersize": 4, "color": BLUE},
    "stopped early": {"linestyle": "", "marker": "x", "markersize": 3, "color": FAINT, "mew": 0.7},
}


@styled
def pareto_front(
    trials: Sequence[Trial],
    *,
    names: tuple[str, str] = ("cost", "quality"),
    confirmed: Sequence[Confirmed] = (),
    oracle: Sequence[tuple[float, tuple[float, float, float]]] = (),
) -> Figure:
    """All trials; those on the front joined by a line and labelled.

    Infeasible ones are hollow, those stopped early crosses. A dotted line leads from a point of the front to
    its values on held-out prompts: one that is longer than the others' is over-fitting. `oracle`: (x, y with
    its interval) of the best schedules that there are.
    """
    if not trials:
        raise DditError("the study has no finished trial to draw; run it first")
    figure = new_figure(COLUMN, 0.8 * COLUMN)
    axes = figure.subplots()
    kinds: dict[str, list[Trial]] = {"dominated": [], "Pareto front": []}  # named where they are empty, too
    for trial in sorted(trials, key=lambda t: (t.x, t.y)):
        kinds.setdefault(_kind(trial), []).append(trial)
    for kind, style in STYLES.items():
        if kind in kinds:
            axes.plot([t.x for t in kinds[kind]], [t.y for t in kinds[kind]], label=kind, **style)
    front = kinds["Pareto front"]
    for i, point in enumerate(confirmed):
        ends = zip(point.tuned, (point.x[0], point.y[0]), strict=True)
        axes.plot(*ends, ":", color=ORANGE, linewidth=0.9)
        axes.errorbar(
            point.x[0], point.y[0], xerr=_reach(point.x), yerr=_reach(point.y), fmt="D", color=ORANGE,
            markersize=3.5, elinewidth=0.9, label=None if i else "on held-out prompts",
        )  # fmt: skip
    if oracle:
        best = sorted(oracle)
        axes.errorbar(
            [x for x, _ in best], [y[0] for _, y in best],
            yerr=[[r[0] for r in reach] for reach in zip(*(_reach(y) for _, y in best), strict=True)],
            fmt="--*", color=BLACK, markersize=6, linewidth=0.9, elinewidth=0.9, label="oracle, held out",
        )  # fmt: skip
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.margins(0.1)
    axes.grid(True, zorder=-2)
    columns = 2 if "stopped early" in kinds or confirmed or oracle else 3
    figure.legend(loc="outside lower center", ncols=columns, columnspacing=1.2, handletextpad=0.4)
    named = _spread_out([t for t in front if t.label], 6)
    positions, colours = [(t.x, t.y) for t in named], [darker(BLUE)] * len(named)
    bars = [[(t.x, t.y) for t in front], *([(t.x, t.y), (t.x, t.y)] for t in trials)]
    label_points(axes, positions, [t.label for t in named], colours, bars)
    return figure


def _kind(trial: Trial) -> str:
    if trial.pareto:
        return "Pareto front"
    return "stopped early" if trial.stopped else "dominated" if trial.feasible else "infeasible"


def _spread_out(trials: Sequence[Trial], most: int) -> list[Trial]:
    """At most `most` of the trials, evenly picked, both ends kept."""
    if len(trials) <= most:
        return list(trials)
    return [trials[round(i * (len(trials) - 1) / (most - 1))] for i in range(most)]


def _reach(interval: tuple[float, float, float]) -> list[list[float]]:
    """Value, low and high as matplotlib wants them: lengths below and above."""
    value, low, high = interval
    return [[max(0.0, value - low)], [max(0.0, high - value)]]
