"""DDiT: dynamic patch scheduling for diffusion transformers (arXiv 2602.16968), and its evaluation.

    pipe = ddit_eval.load_pipeline("mini-flux")
    handle = ddit_eval.attach(pipe, adapter="mini-flux", policy=ddit_eval.policies.Threshold(tau=1e-3))

Names are imported on first use, so that `import ddit_eval` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddit_eval import metrics as metrics
    from ddit_eval.ddit import policies as policies
    from ddit_eval.ddit import schedule as schedule
    from ddit_eval.ddit.adapter.adapter import Adapter as Adapter
    from ddit_eval.ddit.handle import Handle as Handle
    from ddit_eval.ddit.handle import attach as attach
    from ddit_eval.ddit.trace import StepTrace as StepTrace
    from ddit_eval.errors import DditError as DditError
    from ddit_eval.models.load import load_pipeline as load_pipeline

__version__ = "0.1.0"

_HOMES = {
    "attach": "ddit_eval.ddit.handle",
    "Handle": "ddit_eval.ddit.handle",
    "Adapter": "ddit_eval.ddit.adapter.adapter",
    "DditError": "ddit_eval.errors",
    "StepTrace": "ddit_eval.ddit.trace",
    "load_pipeline": "ddit_eval.models.load",
}
_MODULES = {
    "metrics": "ddit_eval.metrics",
    "policies": "ddit_eval.ddit.policies",
    "schedule": "ddit_eval.ddit.schedule",
}

__all__ = [*_HOMES, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ddit_eval' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
