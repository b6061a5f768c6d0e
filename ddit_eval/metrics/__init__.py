"""Metrics, one a file. `get(name)` imports a metric when it is asked for, and not before.

values = metrics.get("psnr")(pictures, reference)      # {"psnr": [one value a picture]}
values = metrics.get("adherence")(pictures, prompts=prompts)
"""

from __future__ import annotations

from importlib import import_module

from ddit_eval.errors import DditError
from ddit_eval.metrics.metric import Column, Metric

# A module's METRIC is the metric. Third parties add theirs with `register`.
_MODULES = {
    "psnr": "ddit_eval.metrics.pictures.psnr",
    "ssim": "ddit_eval.metrics.pictures.ssim",
    "reader-lpips": "ddit_eval.metrics.pictures.reader_lpips",
    "lpips": "ddit_eval.metrics.pictures.lpips",
    "adherence": "ddit_eval.metrics.pictures.adherence",
    "clip-world": "ddit_eval.metrics.pictures.clip_score",
    "clip": "ddit_eval.metrics.pictures.clip_chosen",
    "image-reward": "ddit_eval.metrics.pictures.image_reward",
    "hpsv2": "ddit_eval.metrics.pictures.hpsv2",
    "aesthetic": "ddit_eval.metrics.pictures.aesthetic",
}
# The stand-in is always the shipped one, so that a file of results means the same on every machine.
_ALIASES = {"lpips-standin": "reader-lpips"}

__all__ = ["Column", "Metric", "get", "missing", "names", "register"]


def names() -> list[str]:
    """Names that `get` knows."""
    return list(_MODULES)


def get(name: str) -> Metric:
    """The metric called `name`; importing it loads no weights."""
    module = _MODULES.get(_ALIASES.get(name, name))
    if module is None:
        raise DditError(f"unknown metric {name!r}; there are {', '.join(sorted({*_MODULES, *_ALIASES}))}")
    metric = import_module(module).METRIC
    assert isinstance(metric, Metric)
    return metric


def register(name: str, module: str) -> None:
    """Add a metric: `module` is importable and has a `METRIC`."""
    if name in _MODULES or name in _ALIASES:
        raise DditError(f"there is a metric {name!r} already; choose another name")
    _MODULES[name] = module


def missing() -> dict[str, str | None]:
    """By metric: None where it can run here, else what is missing and where it belongs."""
    return {name: get(name).missing() for name in _MODULES}
