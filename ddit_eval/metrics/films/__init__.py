"""Video metrics by VBench's formulas, one dimension a file; `get(name)` imports one when asked for.

    clip = video.read("star.gif")                           # or a folder of frames; video.video(tensor)
    value = video.get("temporal_flickering")(clip)          # one raw number, higher is better
    values = video.get("motion_smoothness-classical").values(clips)
    interval = ddit_eval.stats.mean(values)

A dimension bears its plain name only with the network that VBench uses for it. Where that is not at
hand, `missing()` says what belongs where, and the stand-ins (`-classical`, `-reader`, `-clip-world`) can
be measured under their own names. `score.total` takes VBench's own dimensions, all 16 of them or none.

Figures are means over videos of equal length; VBench's own averages subject and background consistency
over all frames of all videos, which is the same for equal lengths.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ddit_eval.errors import DditError

if TYPE_CHECKING:
    from ddit_eval.metrics.films.frames import Video, read, video
    from ddit_eval.metrics.films.metric import VideoMetric

__all__ = ["Video", "VideoMetric", "get", "missing", "names", "read", "register", "video"]

_HERE = "ddit_eval.metrics.films"
# A metric is "module:attribute", or itself once it is registered.
_METRICS: dict[str, str | VideoMetric] = {
    "temporal_flickering": f"{_HERE}.flicker:METRIC",
    "motion_smoothness": f"{_HERE}.smoothness:METRIC",
    "motion_smoothness-classical": f"{_HERE}.smoothness:CLASSICAL",
    "dynamic_degree": f"{_HERE}.dynamics:METRIC",
    "dynamic_degree-classical": f"{_HERE}.dynamics:CLASSICAL",
    "subject_consistency": f"{_HERE}.consistency:SUBJECT",
    "subject_consistency-reader": f"{_HERE}.consistency:SUBJECT_READER",
    "background_consistency": f"{_HERE}.consistency:BACKGROUND",
    "background_consistency-clip-world": f"{_HERE}.consistency:BACKGROUND_WORLD",
    "aesthetic_quality": f"{_HERE}.quality:AESTHETIC_QUALITY",
    "imaging_quality": f"{_HERE}.quality:IMAGING_QUALITY",
    "overall_consistency": f"{_HERE}.overall:METRIC",
    "overall_consistency-clip-world": f"{_HERE}.overall:WORLD",
}
_LATE = {"Video": "frames", "read": "frames", "video": "frames", "VideoMetric": "metric"}


def __getattr__(name: str) -> object:
    if name in _LATE:
        return getattr(import_module(f"{_HERE}.{_LATE[name]}"), name)
    raise AttributeError(f"module {_HERE!r} has no attribute {name!r}")


def names() -> list[str]:
    """Names that `get` knows."""
    return list(_METRICS)


def get(name: str) -> VideoMetric:
    """The video metric called `name`; importing it loads no weights."""
    from ddit_eval.metrics.films.metric import VideoMetric

    found = _METRICS.get(name)
    if found is None:
        raise DditError(f"unknown video metric {name!r}; there are {', '.join(sorted(_METRICS))}")
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        found = getattr(import_module(module), attribute)
    assert isinstance(found, VideoMetric)
    return found


def register(metric: VideoMetric) -> None:
    """Add a metric, or replace one that cannot run here (VBench's network given by hand)."""
    if metric.name in _METRICS and get(metric.name).missing() is None:
        raise DditError(f"there is a video metric {metric.name!r} already; choose another label")
    _METRICS[metric.name] = metric


def missing() -> dict[str, str | None]:
    """By metric: None where it can run here, else what is missing and where it belongs."""
    return {name: get(name).missing() for name in _METRICS}
