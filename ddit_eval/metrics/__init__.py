"""Metrics, one a file; `registry` names them all, those of other packages too.

values = metrics.get("psnr")(pictures, reference)           # {"psnr": [one value a picture]}
values = metrics.measure(["psnr", "adherence"], pixels, reference, prompts)     # of pictures or films
"""

from __future__ import annotations

from ddit_eval.metrics.metric import AnyMetric, Column, Metric, OutsideMetric
from ddit_eval.metrics.registry import get, measure, measured, missing, names, register, suited

__all__ = [
    "AnyMetric", "Column", "Metric", "OutsideMetric", "get", "measure", "measured", "missing", "names",
    "register", "suited",
]  # fmt: skip
