"""Any metric of pictures as a torchmetrics metric, for loops that make pictures batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric as Accumulator

from ddit_eval import metrics
from ddit_eval.metrics.metric import Metric


class Values(NamedTuple):
    """A column over all pictures: `samples`, one value each, in the order of updates (of processes, where
    several are joined), and their `mean`, without nan (not asked for); infinite where a sample is."""

    # A named tuple and not a dataclass: torchmetrics walks through what `compute` returns.
    mean: float
    samples: list[float]


class PictureMetric(Accumulator):
    """A metric over all pictures seen, by column: {"psnr": Values(31.2, [...])}.

        metric = PictureMetric("psnr")
        metric.update(pictures, reference)
        metric.compute()["psnr"].mean

    `update` takes what the metric takes: float (N, 3, H, W) in [0, 1], reference pictures, one prompt each.
    Samples are kept, so processes join exactly. Intervals: `stats.mean(values.samples)`.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False
    samples: list[Tensor]

    def __init__(self, metric: str | Metric, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.metric = metrics.get(metric) if isinstance(metric, str) else metric
        self.names = [column.name for column in self.metric.columns]
        self.add_state("samples", default=[], dist_reduce_fx="cat")

    def update(self, pictures: Tensor, reference: Tensor | None = None, prompts: Sequence[str] = ()) -> None:
        """Add pictures."""
        values = self.metric(pictures, reference, prompts)
        # In float32: not every device has float64, and torchmetrics' own .float() would narrow it unseen.
        rows = torch.tensor([values[name] for name in self.names], dtype=torch.float32).T
        self.samples.append(rows.to(self.device))

    def compute(self) -> dict[str, Values]:
        """Every column over all pictures so far."""
        rows = self.samples if isinstance(self.samples, Tensor) else torch.cat(self.samples)
        columns = rows.cpu().double().T
        return {
            name: Values(float(column.nanmean()), column.tolist())
            for name, column in zip(self.names, columns, strict=True)
        }
