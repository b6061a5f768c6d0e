"""Metrics of pictures, videos and runs as torchmetrics metrics, for loops that make them batch by batch.

Those of sets are in `ddit_eval.metrics.sets.accumulate`: their value is no mean over samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric as Accumulator

from ddit_eval import metrics
from ddit_eval.errors import DditError
from ddit_eval.metrics import films as video
from ddit_eval.metrics.films.frames import Video
from ddit_eval.metrics.films.metric import VideoMetric
from ddit_eval.metrics.metric import Metric
from ddit_eval.metrics.trajectory import ERRORS, Trajectory, latent_error, velocity_error


class Values(NamedTuple):
    """A column over all pictures: `samples`, one value each, in the order of updates (of processes, where
    several are joined), and their `mean`, without nan (not asked for); infinite where a sample is."""

    # A named tuple and not a dataclass: torchmetrics walks through what `compute` returns.
    mean: float
    samples: list[float]


class Samples(Accumulator):
    """Rows of samples, one column a value; what the metrics below have in common.

    Samples are kept, not sums, so processes join exactly. Intervals: `stats.mean(values.samples)`.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False
    samples: list[Tensor]

    def __init__(self, names: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.names = list(names)
        self.add_state("samples", default=[], dist_reduce_fx="cat")

    def add(self, values: Mapping[str, Sequence[float]]) -> None:
        """One value a sample for every column."""
        # In float32: not every device has float64, and torchmetrics' own .float() would narrow it unseen.
        rows = torch.tensor([list(values[name]) for name in self.names], dtype=torch.float32).T
        self.samples.append(rows.to(self.device))

    def compute(self) -> dict[str, Values]:
        """Every column over all samples so far."""
        if not len(self.samples):
            raise DditError("nothing was measured yet: call update before compute")
        rows = self.samples if isinstance(self.samples, Tensor) else torch.cat(self.samples)
        columns = rows.cpu().double().T
        return {
            name: Values(float(column.nanmean()), column.tolist())
            for name, column in zip(self.names, columns, strict=True)
        }


class PictureMetric(Samples):
    """A metric over all pictures seen, by column: {"psnr": Values(31.2, [...])}.

        metric = PictureMetric("psnr")
        metric.update(pictures, reference)
        metric.compute()["psnr"].mean

    `update` takes what the metric takes: float (N, 3, H, W) in [0, 1], reference pictures, one prompt each.
    """

    def __init__(self, metric: str | Metric, **kwargs: Any) -> None:
        found = metrics.get(metric) if isinstance(metric, str) else metric
        super().__init__([column.name for column in found.columns], **kwargs)
        self.metric = found

    def update(self, pictures: Tensor, reference: Tensor | None = None, prompts: Sequence[str] = ()) -> None:
        """Add pictures."""
        self.add(self.metric(pictures, reference, prompts))


class VideoMetrics(Samples):
    """A metric over all videos seen, by its name: {"temporal_flickering": Values(0.97, [...])}.

    `update` takes one video, or frames (T, 3, H, W), bytes or floats in [0, 1], and its prompt. All videos
    must have one shape, as VBench's do.
    """

    def __init__(self, metric: str | VideoMetric, **kwargs: Any) -> None:
        found = video.get(metric) if isinstance(metric, str) else metric
        super().__init__([found.name], **kwargs)
        self.metric = found
        self.shape: tuple[int, ...] = ()

    def update(self, film: Video | Tensor, prompt: str = "") -> None:
        """Add a video."""
        film = video.video(film) if isinstance(film, Tensor) else film
        shape = tuple(film.frames.shape)
        if self.shape and shape != self.shape:
            raise DditError(f"a video is {shape} and others are {self.shape}: resize or cut them alike")
        self.add({self.metric.name: [self.metric(film, prompt)]})
        self.shape = shape

    def reset(self) -> None:
        """Forget all videos."""
        super().reset()
        self.shape = ()


class RunErrors(Samples):
    """Errors of accelerated runs against the base's from the same noise, by step: {"latent-error 01": ...,
    "velocity-error 02": ...}, one sample a picture. `update` takes two trajectories of `steps` steps."""

    def __init__(self, steps: int, **kwargs: Any) -> None:
        if steps < 2:
            raise DditError(f"velocities need runs of at least 2 steps, not {steps}")
        latent, velocity = (column.name for column in ERRORS)
        names = [f"{latent} {t:02}" for t in range(1, steps + 1)]
        super().__init__([*names, *(f"{velocity} {t:02}" for t in range(2, steps + 1))], **kwargs)

    def update(self, ours: Trajectory, theirs: Trajectory) -> None:
        """Add the pictures of two runs."""
        rows = torch.cat([latent_error(ours, theirs), velocity_error(ours, theirs)]).tolist()
        if len(rows) != len(self.names):
            raise DditError(
                f"runs of {len(ours.timesteps)} steps do not go with others: give runs of equal steps"
            )
        self.add(dict(zip(self.names, rows, strict=True)))
