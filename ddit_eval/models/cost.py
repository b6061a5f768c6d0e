"""What a run costs on paper, from its trace: tokens and FLOPs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from ddit_eval.ddit.adapter.adapter import Adapter
from ddit_eval.ddit.families import ModelFamily, family_named
from ddit_eval.ddit.layout import Grid
from ddit_eval.ddit.trace import StepTrace
from ddit_eval.errors import DditError
from ddit_eval.models import flops, parts
from ddit_eval.models.find import locate, remedy, text_tokens
from ddit_eval.system.loading import loading
from ddit_eval.system.networks import CONFIG, build
from ddit_eval.system.read import read_object


class Guided(Protocol):
    """What decides how often a step calls the transformer."""

    model: str
    guidance_scale: float
    true_cfg_scale: float


def flop_table(
    model: str | Path, adapter: str | Path | None, height: int, width: int, frames: int = 1
) -> dict[int, int]:
    """FLOPs of one transformer call on one sample by scale; reads configurations, loads no base weights.

    height, width: pixels. Raises `DditError` where the model or the adapter is not here.
    """
    transformer, loaded = _counted(str(model), str(adapter) if adapter else None)
    grid = grid_of(model, height, width, frames)
    return flops.by_scale(transformer, grid, text_tokens(model), loaded.scales if loaded else (), loaded)


def flops_of_counts(
    model: str | Path, adapter: str | Path | None, size: Sequence[int], counts: Mapping[int, int]
) -> int:
    """FLOPs of one transformer call on one sample that has so many patches of each scale.

    size: height, width in pixels, and of a clip its frames.
    """
    transformer, loaded = _counted(str(model), str(adapter) if adapter else None)
    return flops.of_counts(transformer, grid_of(model, *size), text_tokens(model), counts, loaded)


@lru_cache(maxsize=4)
def _counted(model: str, adapter: str | None) -> tuple[Any, Any]:
    """The transformer without weights, and its adapter."""
    return transformer_of(model), Adapter.from_pretrained(adapter) if adapter else None


def transformer_of(model: str | Path, part: str = "transformer") -> Any:
    """A model's transformer on the meta device: its shapes, without its weights."""
    return build(_class_of(model, part), locate(model) / part, remedy(model))


@lru_cache(maxsize=64)
def grid_of(model: str | Path, height: int, width: int, frames: int = 1) -> Grid:
    """Base tokens of a sample of so many pixels: frames, height, width."""
    path = locate(model) / "vae" / CONFIG
    settings = read_object(path, remedy(model))
    with loading(path, "a VAE's configuration", remedy(model)):
        space, time = _vae_factors(settings)
        side = space * family_of_model(model).patch
        if height % side or width % side:
            raise DditError(f"{height} x {width} px cannot be made by {model}; take multiples of {side}")
        return (frames - 1) // time + 1, height // side, width // side


def calls_a_step(experiment: Guided) -> int:
    """Transformer calls of a denoising step: 2 under guidance that calls with and without the prompt."""
    return 2 if getattr(experiment, family_of_model(experiment.model).guided_by) > 1 else 1


@lru_cache(maxsize=16)
def family_of_model(model: str | Path) -> ModelFamily:
    """The family of a model's transformer, by its index."""
    return family_named(_class_of(model, "transformer").__name__)


def _class_of(model: str | Path, part: str) -> Any:
    folder = locate(model)
    found = parts.classes(folder, remedy(model)).get(part)
    if found is None:
        raise DditError(f"{folder} has no {part}: name a model that has one")
    return found


def _vae_factors(settings: Mapping[str, Any]) -> tuple[int, int]:
    """Pixels a latent pixel, and frames a latent frame after the first."""
    if "block_out_channels" in settings:
        return 2 ** (len(settings["block_out_channels"]) - 1), 1
    return settings.get("scale_factor_spatial", 8), settings.get("scale_factor_temporal", 4)


def tokens_of(trace: Sequence[StepTrace]) -> int:
    """Image tokens that the transformer ran over all steps."""
    return sum(step.tokens for step in trace)


def flops_of(trace: Sequence[StepTrace], table: Mapping[int, int], calls: int = 1) -> int:
    """FLOPs of denoising over all steps; `calls` of the transformer a step.

    A step of several patch sizes brings its own `flops` of a call, one that is skipped has none.
    """
    ran = (step for step in trace if step.scale)
    return calls * sum(table[step.scale] if step.flops is None else step.flops for step in ran)
