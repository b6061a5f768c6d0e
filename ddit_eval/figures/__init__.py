"""Figures: one function a figure, plain data in, a matplotlib `Figure` out; `save` writes it as PNG."""

from __future__ import annotations

from ddit_eval.figures.distillation import distillation_error
from ddit_eval.figures.heatmaps import schedule_heatmap, signal_heatmap
from ddit_eval.figures.pictures import picture_grid
from ddit_eval.figures.regions import parse_sizes, region_film, region_maps
from ddit_eval.figures.roofline import Bar, step_roofline
from ddit_eval.figures.steptime import StepTimes, time_per_step
from ddit_eval.figures.study import Confirmed, Trial, pareto_front
from ddit_eval.figures.style import MethodGroup, save
from ddit_eval.figures.tradeoff import Point, speed_quality

__all__ = [
    "Bar", "Confirmed", "MethodGroup", "Point", "StepTimes", "Trial", "distillation_error",
    "pareto_front", "parse_sizes", "picture_grid", "region_film", "region_maps", "save",
    "schedule_heatmap", "signal_heatmap", "speed_quality", "step_roofline", "time_per_step",
]  # fmt: skip
