"""From clean pictures or clips and prompts to a transformer's own inputs."""

from __future__ import annotations

from typing import Any

from ddit_eval.ddit.families import family_of
from ddit_eval.errors import DditError
from ddit_eval.training.inputs.base import Inputs
from ddit_eval.training.inputs.pictures import Flux, Flux2, QwenImage, StableDiffusion3
from ddit_eval.training.inputs.videos import HunyuanVideo, HunyuanVideo15, Ltx, Wan

INPUTS: dict[str, Inputs] = {
    "flux": Flux(),
    "flux2": Flux2(),
    "qwen-image": QwenImage(),
    "sd3": StableDiffusion3(),
    "wan": Wan(),
    "hunyuan-video": HunyuanVideo(),
    "hunyuan-video-1.5": HunyuanVideo15(),
    "ltx": Ltx(),
}


def inputs_of(pipe: Any) -> Inputs:
    """The inputs of this pipeline's family. Raises `DditError` where there are none."""
    family = family_of(pipe.transformer)
    found: Inputs | None = family.inputs or INPUTS.get(family.name)
    if found is None:
        raise DditError(f"distillation knows no inputs for {family.name}; supported: {', '.join(INPUTS)}")
    return found
