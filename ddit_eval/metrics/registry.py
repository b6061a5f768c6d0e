"""All metrics by name: those that ship, and those that other packages add by entry point.

A new one that ships is its file and a line here. Another package's is an entry point of `ddit_eval.metrics`
that names a `Metric`, or any object that `metric.OutsideMetric` describes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from ddit_eval.errors import DditError
from ddit_eval.metrics.metric import AnyMetric, Column, Columns, Measure, Metric, Need, Subject
from ddit_eval.system.plugins import plugins
from ddit_eval.system.text import one_line

if TYPE_CHECKING:
    from torch import Tensor

GROUP = "ddit_eval.metrics"
# name: of what, where it is. Imported when it is asked for, and not before; then no weights are loaded.
_SHIPPED: dict[str, tuple[Subject, str]] = {
    "psnr": ("pictures", "pictures.psnr:METRIC"),
    "ssim": ("pictures", "pictures.ssim:METRIC"),
    # The stand-in is always the shipped one, so that a file of results means the same on every machine.
    "reader-lpips": ("pictures", "pictures.reader_lpips:METRIC"),
    "lpips": ("pictures", "pictures.lpips:METRIC"),
    "adherence": ("pictures", "pictures.adherence:METRIC"),
    "clip-world": ("pictures", "pictures.clip_score:WORLD"),
    "clip": ("pictures", "pictures.clip_score:CHOSEN"),
    "image-reward": ("pictures", "pictures.image_reward:METRIC"),
    "hpsv2": ("pictures", "pictures.hpsv2:METRIC"),
    "aesthetic": ("pictures", "pictures.aesthetic:METRIC"),
    "motion-adherence": ("films", "films.motion_adherence:METRIC"),
    "temporal_flickering": ("films", "films.flicker:METRIC"),
    "motion_smoothness": ("films", "films.smoothness:METRIC"),
    "motion_smoothness-classical": ("films", "films.smoothness:CLASSICAL"),
    "dynamic_degree": ("films", "films.dynamics:METRIC"),
    "dynamic_degree-classical": ("films", "films.dynamics:CLASSICAL"),
    "subject_consistency": ("films", "films.consistency:SUBJECT"),
    "subject_consistency-reader": ("films", "films.consistency:SUBJECT_READER"),
    "background_consistency": ("films", "films.consistency:BACKGROUND"),
    "background_consistency-clip-world": ("films", "films.consistency:BACKGROUND_WORLD"),
    "aesthetic_quality": ("films", "films.quality:AESTHETIC_QUALITY"),
    "imaging_quality": ("films", "films.quality:IMAGING_QUALITY"),
    "overall_consistency": ("films", "films.overall:METRIC"),
    "overall_consistency-clip-world": ("films", "films.overall:WORLD"),
}
_registered: dict[str, AnyMetric] = {}


def names(of: Subject | None = None) -> list[str]:
    """Names that `get` knows, of pictures, of films or of both."""
    kinds = {name: kind for name, (kind, _) in _SHIPPED.items()}
    kinds |= {name: metric.of for name, metric in (outside() | _registered).items()}
    return [name for name, kind in kinds.items() if of in (None, kind)]


def get(name: str) -> AnyMetric:
    """The metric called `name`. Raises `DditError` for an unknown one."""
    if name in _registered:
        return _registered[name]
    if name in _SHIPPED:
        module, _, attribute = _SHIPPED[name][1].partition(":")
        found: AnyMetric = getattr(import_module(f"ddit_eval.metrics.{module}"), attribute)
        return found
    if name not in (others := outside()):
        raise DditError(f"unknown metric {name!r}; there are {', '.join(sorted(names()))}")
    return others[name]


def suited(name: str, moving: bool) -> AnyMetric:
    """The metric called `name`, for samples that are `moving` or pictures. Raises `DditError` where it is
    unknown, or of films and the samples are pictures."""
    metric = get(name)
    if metric.of == "films" and not moving:
        raise DditError(f"{name} is a metric of films, and these are pictures; leave it out")
    return metric


def register(metric: AnyMetric) -> None:
    """Add a metric to this process, or replace one that cannot run here (its network given by hand)."""
    if metric.name in names() and get(metric.name).missing() is None:
        raise DditError(f"there is a metric {metric.name!r} already; choose another name")
    _registered[metric.name] = metric


def missing(of: Subject | None = None) -> dict[str, str | None]:
    """By metric: None where it can run here, else what is missing and where it belongs."""
    return {name: get(name).missing() for name in names(of)}


def measure(
    names: Sequence[str], pixels: Tensor, reference: Tensor | None = None, prompts: Sequence[str] = ()
) -> Columns:
    """Every column of the named metrics, one value a sample: pictures (N, 3, H, W), films (N, F, 3, H, W).

    A metric of pictures is over a film the mean over its frames. Raises `DditError` where a metric of films
    is asked of pictures, or two metrics give a column of the same name.
    """
    columns: Columns = {}
    for name in names:
        found = measured(suited(name, moving=pixels.ndim == 5), pixels, reference, prompts)
        if twice := set(found) & set(columns):
            raise DditError(f"{name}: another metric gives {min(twice)!r} as well; leave one of them out")
        columns |= found
    return columns


def measured(metric: AnyMetric, pixels: Tensor, reference: Tensor | None, prompts: Sequence[str]) -> Columns:
    """The values of a metric; of one of pictures over films (N, F, 3, H, W), the means over the frames."""
    if metric.of == "films" or pixels.ndim == 4:
        return metric(pixels, reference, prompts)
    texts = [text for text in prompts for _ in range(pixels.shape[1])]
    frames = metric(pixels.flatten(0, 1), None if reference is None else reference.flatten(0, 1), texts)
    means = {k: np.reshape(v, tuple(pixels.shape[:2])).mean(1) for k, v in frames.items()}
    return {k: [float(x) for x in v] for k, v in means.items()}


@cache
def outside() -> dict[str, AnyMetric]:
    """The metrics of other packages, each under the name of its entry point."""
    needs = ("of", "needs", "columns", "source", "measure", "missing")
    return {name: _adopted(name, made) for name, made in plugins(GROUP, needs, (*_SHIPPED,), _wrong).items()}


def _wrong(name: str, made: Any) -> str:
    """What is wrong with the facts of what an entry point names; "" where nothing is."""
    if made.needs not in get_args(Need):
        return f"needs must be one of {get_args(Need)}"
    if made.of not in get_args(Subject):
        return f"of must be one of {get_args(Subject)}"
    if not (isinstance(made.columns, list | tuple) and made.columns) or not all(
        isinstance(column, Column) for column in made.columns
    ):
        return "columns must be of ddit_eval.metrics.Column, one at least"
    taken = {column.name: other for other in _SHIPPED for column in get(other).columns}
    twice = next((column.name for column in made.columns if column.name in taken), None)
    return f"its column {twice!r} is one of the shipped metric {taken[twice]!r}" if twice else ""


def _adopted(name: str, made: Any) -> AnyMetric:
    """What an entry point names, as a metric of that name."""
    if callable(made) and hasattr(made, "describe") and not isinstance(made, Metric):  # a `FilmMetric`
        whole: AnyMetric = replace(made, name=name)
        return whole
    facts = {key: getattr(made, key, None) for key in ("network", "note", "weights")}
    measure = _guarded(name, made.measure)
    return Metric(
        name, (*made.columns,), made.needs, measure, made.source, missing=made.missing, of=made.of, **facts
    )


def _guarded(name: str, measure: Measure) -> Measure:
    """A measure of another's code: what it raises is named as the metric's, in one line."""

    def guarded(pixels: Tensor, reference: Tensor | None, prompts: Sequence[str]) -> Columns:
        try:
            return measure(pixels, reference, prompts)
        except DditError:
            raise
        except Exception as error:
            raise DditError(f"metric {name!r} failed ({one_line(error)}); mend it or leave it out") from error

    return guarded
