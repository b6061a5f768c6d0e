"""Calls of tiny pipelines that do not begin at the scheduler's first timestep, or step in another way.

A task: the pipeline that runs, one that shares its transformer and scheduler (or the same), the arguments of
the call, and how many steps it takes, counted by hand: a `strength` of .5 leaves 3 of 6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    Flux2KleinInpaintPipeline,
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    KDPM2DiscreteScheduler,
    LTXImageToVideoPipeline,
    PNDMScheduler,
    QwenImageImg2ImgPipeline,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3PAGPipeline,
    WanVideoToVideoPipeline,
)
from PIL import Image
from torch import Tensor

from tests.support import tiny_families as families
from tests.support.tiny import CALL, tiny_flux
from tests.support.tiny_hunyuan import tiny_hunyuan, tiny_hunyuan_15
from tests.support.tiny_wan import CALL as CLIP
from tests.support.tiny_wan import tiny_wan

HALF = {"strength": 0.5, "num_inference_steps": 6}


@dataclass
class Task:
    pipe: Any
    shared: Any
    call: dict[str, Any]
    steps: int
    refused: str = ""  # why it can have no coarse patches

    def run(self) -> Tensor:
        call = {"output_type": "latent", **self.call, "generator": torch.Generator().manual_seed(0)}
        out = self.pipe(**call)
        return torch.as_tensor(out.frames if hasattr(out, "frames") else out.images)

    def watched(self) -> tuple[Tensor, list[float]]:
        """What `run` gives, and the timesteps that the scheduler is handed meanwhile."""
        scheduler, seen = self.pipe.scheduler, []

        def step(velocity: Tensor, timestep: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(float(timestep))
            return type(scheduler).step(scheduler, velocity, timestep, *args, **kwargs)

        scheduler.step = step
        try:
            return self.run(), seen
        finally:
            del scheduler.step


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def _picture(side: int, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (side, side), 255 if mode == "L" else (90, 10, 200))


def _task(tiny: Any, kind: Any, steps: int, refused: str = "", scheduler: Any = None, **call: Any) -> Task:
    """Of a pipeline of `kind` with the parts of a tiny one."""
    pipe = tiny.pipe
    pipe.scheduler = scheduler or pipe.scheduler
    runs = pipe if kind is None else kind.from_pipe(pipe, **call.pop("parts", {}))
    runs.set_progress_bar_config(disable=True)
    return Task(runs, pipe, {**tiny.call, **tiny.guided, **call}, steps, refused)


def _flux(kind: Any, steps: int, **call: Any) -> Task:
    tiny = families.Tiny(tiny_flux(), {"prompt": "a red star", **CALL}, {}, {})
    return _task(tiny, kind, steps, **HALF | {"image": _noise(1, 3, 16, 16)} | call)


def _wan(steps: int, scheduler: Any = None, **call: Any) -> Task:
    pipe = tiny_wan()
    pipe.scheduler = scheduler or pipe.scheduler
    parts = {k: v for k, v in pipe.components.items() if not k.endswith("_2")}
    runs = WanVideoToVideoPipeline(**parts)
    runs.set_progress_bar_config(disable=True)
    clip = {k: v for k, v in CLIP.items() if k != "num_frames"} | {"video": [_picture(32)] * 9}
    return Task(runs, pipe, clip | {"prompt": "a red star", "guidance_scale": 2.0} | HALF | call, steps)


TASKS: dict[str, Callable[[], Task]] = {
    "flux image": lambda: _flux(FluxImg2ImgPipeline, 3),
    "flux image, guided": lambda: _flux(FluxImg2ImgPipeline, 3, true_cfg_scale=2.0, negative_prompt="b"),
    "flux image, sigmas": lambda: _flux(FluxImg2ImgPipeline, 2, sigmas=[1.0, 0.7, 0.4, 0.1]),
    "flux inpainting": lambda: _flux(
        FluxInpaintPipeline, 3, mask_image=_picture(32, "L"), masked_image_latents=_noise(1, 3, 32, 32)
    ),
    "flux2 inpainting": lambda: _task(
        families.flux2(), Flux2KleinInpaintPipeline, 3, "reference images", parts={"is_distilled": True},
        image=_picture(16), mask_image=_picture(16, "L"), **HALF,
    ),
    "sd3 image": lambda: _task(
        families.sd3(), StableDiffusion3Img2ImgPipeline, 3, image=_noise(1, 4, 8, 8), **HALF
    ),
    # Of 6 steps Heun's second stages make 11; the run begins at the 7th.
    "sd3 image, two stages": lambda: _task(
        families.sd3(), StableDiffusion3Img2ImgPipeline, 5, image=_noise(1, 4, 8, 8),
        scheduler=FlowMatchHeunDiscreteScheduler(shift=3.0), **HALF,
    ),
    "sd3, two stages": lambda: _task(
        families.sd3(), None, 5, scheduler=FlowMatchHeunDiscreteScheduler(shift=3.0), num_inference_steps=3
    ),
    "sd3, perturbed attention": lambda: _task(
        families.sd3(), StableDiffusion3PAGPipeline, 3, parts={"pag_applied_layers": "blocks.1"},
        pag_scale=1.0, num_inference_steps=3,
    ),
    "qwen-image image": lambda: _task(
        families.qwen(), QwenImageImg2ImgPipeline, 3, image=_picture(16), **HALF
    ),
    "wan video": lambda: _wan(3),
    "wan video, timesteps": lambda: _wan(
        3, FlowMatchEulerDiscreteScheduler(), timesteps=[1000.0, 900.0, 800.0, 600.0, 400.0, 200.0],
        num_inference_steps=6,
    ),
    "ltx from an image": lambda: _task(
        families.ltx(), LTXImageToVideoPipeline, 3, "a timestep for each token",
        image=_picture(128), num_inference_steps=3,
    ),
    "ltx video": lambda: _task(
        families.ltx_condition(), None, 3, "a timestep for each token", video=[_picture(128)] * 17,
        denoise_strength=0.5, num_inference_steps=6,
    ),
    "hunyuan-video": lambda: _task(tiny_hunyuan(), None, 3, num_inference_steps=3),
    "hunyuan-video-1.5": lambda: _task(tiny_hunyuan_15(), None, 3, num_inference_steps=3),
    "dit": lambda: _task(families.dit(), None, 3, num_inference_steps=3, output_type="np"),
    "pixart": lambda: _task(families.pixart(), None, 3, num_inference_steps=3, scheduler=DDIMScheduler()),
    "pixart, multistep": lambda: _task(
        families.pixart(), None, 3, num_inference_steps=3, scheduler=DPMSolverMultistepScheduler()
    ),
    "pixart, two stages": lambda: _task(
        families.pixart(), None, 5, num_inference_steps=3, scheduler=KDPM2DiscreteScheduler()
    ),
    # It comes back to its second timestep.
    "pixart, pseudo linear": lambda: _task(
        families.pixart(), None, 4, num_inference_steps=3,
        scheduler=PNDMScheduler(skip_prk_steps=True, steps_offset=1),
    ),
}  # fmt: skip
