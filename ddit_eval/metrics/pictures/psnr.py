"""Peak signal-to-noise ratio to the base model's picture, in dB."""

from __future__ import annotations

import torch
from torch import Tensor

from ddit_eval.metrics.metric import Column, Metric, paired


def psnr(pictures: Tensor, reference: Tensor) -> Tensor:
    """-10 log10 of the mean squared error, one value a picture: (N, 3, H, W) in [0, 1] to (N,).

    Identical pictures have infinite PSNR, and that is a result. In float64, on the CPU: byte pictures wrap,
    and not every device has float64.
    """
    error = (pictures.cpu().double() - reference.cpu().double()).square().flatten(1).mean(1)
    return -10 * torch.log10(error)


METRIC = Metric(
    "psnr",
    (Column("psnr", "higher", 0.0, None, "PSNR to base", "dB", digits=1, role="fidelity"),),
    "reference",
    paired("psnr", psnr),
    source="-10 log10(MSE), peak 1, float64, per picture and then averaged",
    note="identical pictures are inf and counted apart",
)
