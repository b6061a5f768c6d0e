"""Known damage, and which metric sees it: the negative controls of an evaluation.

A metric that a figure rests on must get worse when a picture is blurred, recoloured, mirrored or
swapped for another prompt's. Where it does not, it is blind to that damage, and the table says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from ddit_eval import stats
from ddit_eval.errors import DditError
from ddit_eval.metrics.metric import AnyMetric, Columns
from ddit_eval.schema.quality import Sight, Sighting

Damage = Callable[[Tensor], Tensor]

ROUNDING = 1e-9
GRAIN = 0.01  # noise on the undamaged pictures, so that no distance to the reference is zero


def blur(pictures: Tensor, sigma: float = 1 / 40) -> Tensor:
    """Gaussian blur; `sigma` as a fraction of the shorter side."""
    from torchvision.transforms.v2.functional import gaussian_blur

    radius = sigma * min(pictures.shape[-2:])
    return gaussian_blur(pictures, [2 * round(3 * radius) + 1] * 2, [radius] * 2)


def recolour(pictures: Tensor) -> Tensor:
    """Red to green to blue to red: every hue is another one, light and shape stay."""
    return pictures.roll(1, 1)


def fade(pictures: Tensor, contrast: float = 0.5) -> Tensor:
    """Half the contrast around each picture's mean."""
    mean = pictures.mean((1, 2, 3), keepdim=True)
    return mean + contrast * (pictures - mean)


def grain(pictures: Tensor, sigma: float = 0.1) -> Tensor:
    """Gaussian noise, clamped to the range of pictures; the same noise at every call."""
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(3))
    return (pictures + sigma * noise.to(pictures)).clamp(0, 1)


def mirror(pictures: Tensor) -> Tensor:
    """Left is right and up is down: what a picture holds stays, where it is changes."""
    return pictures.flip(-1, -2)


def shift(pictures: Tensor, by: float = 1 / 32) -> Tensor:
    """A small step to the right, wrapped around; to the eye the same picture."""
    return pictures.roll(max(1, round(by * pictures.shape[-1])), -1)


def swap(pictures: Tensor) -> Tensor:
    """Each picture stands for the next prompt: good pictures of something else."""
    return pictures.roll(1, 0)


DAMAGES: dict[str, Damage] = {
    "blur": blur,
    "recolour": recolour,
    "fade": fade,
    "grain": grain,
    "mirror": mirror,
    "shift": shift,
    "another prompt's": swap,
}


def sightings(metrics: Sequence[AnyMetric], pictures: Tensor, prompts: Sequence[str]) -> list[Sighting]:
    """Every metric under every damage; pictures (N, 3, H, W) in [0, 1] of the prompts, N at least 2.

    The undamaged pictures carry a grain of .01, and the damaged ones the same, so that every loss is
    paired. "seen": the 95 % interval of the loss lies above zero; "fooled": below; "blind": it holds zero;
    "not asked": fewer than two prompts ask for what the metric reads.
    """
    if len(pictures) < 2:
        raise DditError(f"the damage table needs at least 2 pictures, not {len(pictures)}")
    damaged = ((name, grain(damage(pictures).clamp(0, 1), GRAIN)) for name, damage in DAMAGES.items())
    return losses(metrics, grain(pictures, GRAIN), damaged, pictures, prompts)


def losses(
    metrics: Sequence[AnyMetric],
    whole: Tensor,
    damaged: Iterable[tuple[str, Tensor]],
    reference: Tensor | None,
    prompts: Sequence[str],
) -> list[Sighting]:
    """What each damage, by its name and the samples that it left, does to every column of the metrics."""

    def measured(samples: Tensor) -> Columns:
        return {k: v for metric in metrics for k, v in metric(samples, reference, prompts).items()}

    directions = {c.name: c.direction for metric in metrics for c in metric.columns}
    before = measured(whole)
    return [
        _sighting(column, name, before[column], after, directions[column])
        for name, samples in damaged
        for column, after in measured(samples).items()
    ]


def _sighting(
    metric: str, damage: str, whole: Sequence[float], damaged: Sequence[float], direction: stats.Direction
) -> Sighting:
    pair = (damaged, whole) if direction == "lower" else (whole, damaged)
    loss = stats.paired_difference(*pair)
    before, after = stats.mean(whole).value, stats.mean(damaged).value
    return Sighting(metric=metric, damage=damage, before=before, after=after, loss=loss, sight=sight_of(loss))


def sight_of(loss: stats.Interval) -> Sight:
    """The verdict of a paired loss; a rounding error is no sight."""
    if loss.n < 2:
        return "not asked"
    return "seen" if loss.low > ROUNDING else "fooled" if loss.high < -ROUNDING else "blind"
