"""What all figures share: sizes, the palette, fonts, and how a figure reaches the disk."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ddit_eval.system.files import whole

P = ParamSpec("P")
R = TypeVar("R")

COLUMN, PAGE = 3.3, 7.0  # inches: one column of a two-column paper, and the whole page
INK, FAINT = "#222222", "#9a9a9a"

# Okabe and Ito (2008), safe for the common kinds of colour blindness.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip

# Of Tol's muted scheme (2021), for families beyond those.
INDIGO, WINE, TEAL, OLIVE, BROWN = "#332288", "#882255", "#44AA99", "#999933", "#661100"


@dataclass(frozen=True)
class MethodGroup:
    """A family of methods in figures: colour and marker together, so that grey print still tells them
    apart. `joined`: it is one knob turned, so its points are joined by a line."""

    name: str
    colour: str
    marker: str
    joined: bool = False


# Of those without a coarse patch; the others have their policy's colour and the markers in turn.
OWN_GROUPS = {
    group.name: group
    for group in (
        MethodGroup("base", BLACK, "*"),
        MethodGroup("base again (null)", FAINT, "*"),
        MethodGroup("fewer steps", VERMILION, "s", joined=True),
        MethodGroup("another solver", BROWN, "h"),
        MethodGroup("cache", INDIGO, "D"),
        MethodGroup("skipped steps", WINE, "P"),
        MethodGroup("set up", TEAL, "8"),
        MethodGroup("mixed plan", OLIVE, "d"),
    )
}
MARKERS = "^Xovp<>" * 4

# Scales are ordered, so is their lightness: the coarser, the darker. A skipped step is none of them.
SCALES = {0: ORANGE, 1: "#E9EEF3", 2: SKY, 4: BLUE, 8: "#00304F"}

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same figure on every machine
    "font.size": 7.5,
    "axes.titlesize": 8.0,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "legend.handlelength": 1.2,
    "legend.borderpad": 0.2,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "grid.linewidth": 0.4,
    "grid.color": "#e3e3e3",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "text.parse_math": False,  # a prompt may hold two $
}


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw under the project's style; the caller's rcParams are left as they were."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context(RC), warnings.catch_warnings():
            # A character that the font lacks is drawn as a box, and that is all there is to say of it.
            warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from")
            return draw(*args, **kwargs)

    return wrapper


def new_figure(width: float = COLUMN, height: float = 2.4) -> Figure:
    """An empty figure of `width` x `height` inches, with no pyplot state behind it."""
    return Figure(figsize=(width, height), layout="constrained")


@styled
def save(figure: Figure, path: str | Path, dpi: int = 200) -> Path:
    """Write `path`.png, byte for byte the same for the same data; returns its path."""
    stem = Path(path)
    target = stem.with_name(f"{stem.name}.png")  # with_suffix would cut a name at its first dot
    with whole(target) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi, metadata={"Software": None})
    return target


def scale_colour(scale: int) -> str | tuple[float, float, float]:
    """The colour of a patch scale: known ones from `SCALES`, others between their neighbours."""
    if scale in SCALES:
        return SCALES[scale]
    below = max((s for s in SCALES if s < scale), default=1)
    above = min((s for s in SCALES if s > scale), default=None)
    if above is None:
        return SCALES[max(SCALES)]
    part = (scale - below) / (above - below)
    low, high = to_rgb(SCALES[below]), to_rgb(SCALES[above])
    return tuple((1 - part) * a + part * b for a, b in zip(low, high, strict=True))  # type: ignore[return-value]


def scale_patches(scales: Iterable[int], alpha: float = 1.0, **edge: Any) -> list[Patch]:
    """The handles of a legend of scales; `edge`: how their edges are drawn."""
    known = {0: "skipped", 1: "scale 1 (base)"}
    names = {s: known.get(s, f"scale {s}") for s in scales}
    return [Patch(facecolor=to_rgba(scale_colour(s), alpha), label=n, **edge) for s, n in names.items()]


def darker(colour: str, part: float = 0.35) -> tuple[float, float, float]:
    """The colour mixed with black, e.g. for text: the light ones are hard to read on white."""
    red, green, blue = to_rgb(colour)
    return (red * (1 - part), green * (1 - part), blue * (1 - part))


def shorten(text: str, limit: int) -> str:
    """`text`, cut to `limit` characters with an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1].rstrip(" ,") + "…"
