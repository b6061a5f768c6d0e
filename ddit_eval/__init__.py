"""DDiT: dynamic patch scheduling for diffusion transformers (arXiv 2602.16968), and its evaluation.

    pipe = ddit_eval.load_pipeline("mini-flux")
    handle = ddit_eval.attach(pipe, adapter="mini-flux", policy=ddit_eval.policies.Threshold(tau=1e-3))

Names are imported on first use, so that `import ddit_eval` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddit_eval import policies as policies
    from ddit_eval import schedule as schedule
    from ddit_eval.attachment import Handle as Handle
    from ddit_eval.attachment import attach as attach
    from ddit_eval.errors import DditError as DditError
    from ddit_eval.models import load_pipeline as load_pipeline
    from ddit_eval.patching.adapter import Adapter as Adapter
    from ddit_eval.trace import StepTrace as StepTrace

__version__ = "0.1.0"

_HOMES = {
    "attach": "attachment",
    "Handle": "attachment",
    "Adapter": "patching.adapter",
    "DditError": "errors",
    "StepTrace": "trace",
    "load_pipeline": "models",
}
_MODULES = ("policies", "schedule")

__all__ = [*_HOMES, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"ddit_eval.{name}")
    if name in _HOMES:
        return getattr(import_module(f"ddit_eval.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'ddit_eval' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
