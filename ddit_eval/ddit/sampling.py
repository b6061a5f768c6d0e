"""A call of the pipeline, from settings to pixels: what decides a picture besides the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddit_eval.ddit.call import call_arguments, set_guidance
from ddit_eval.ddit.trace import StepTrace
from ddit_eval.errors import DditError

if TYPE_CHECKING:
    from ddit_eval.ddit.handle import Handle
    from ddit_eval.ddit.policies import Policy


@dataclass(frozen=True)
class Request:
    """Samples of one call, alike in all but prompt and seed. `size`: height, width in pixels, frames."""

    policy: Policy
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    size: tuple[int, ...]
    steps: int
    guidance_scale: float
    true_cfg_scale: float
    text_tokens: int


@dataclass(frozen=True)
class Run:
    """What a call gave. pixels (N, F, H, W, 3) in [0, 1], of pictures F = 1; the trace is that of all N."""

    pixels: NDArray[np.float32]
    trace: list[StepTrace]

    @property
    def levels(self) -> NDArray[np.uint8]:
        """The pixels in 8 bits, as a file holds them."""
        return (self.pixels * 255).round().astype("uint8")


def arguments(pipe: Any, request: Request) -> dict[str, Any]:
    """The arguments of the pipeline's call."""
    more: dict[str, Any] = {"true_cfg_scale": request.true_cfg_scale, "output_type": "np"}
    if request.true_cfg_scale > 1:
        more["negative_prompt"] = [""] * len(request.prompts)
    return call_arguments(
        pipe,
        request.prompts,
        request.seeds,
        request.size,
        request.steps,
        request.text_tokens,
        request.guidance_scale,
        **more,
    )


def switch(handle: Handle, request: Request) -> None:
    """Make the attached pipeline ready for a call."""
    handle.policy, handle.seed = request.policy, request.seeds[0]
    set_guidance(handle.pipe, request.guidance_scale)


def draw(handle: Handle, request: Request, **changes: Any) -> Run:
    """Make the samples; `changes` to the arguments of the call.

    Raises `DditError` where a picture holds NaN or has not the size that was asked for.
    """
    switch(handle, request)
    output = handle.pipe(**(arguments(handle.pipe, request) | changes))
    pixels = output.frames if hasattr(output, "frames") else output.images[:, None]
    if not np.isfinite(pixels).all():
        raise DditError(
            f"the picture of {request.policy.kind!r} on {request.prompts[0]!r} holds NaN; try dtype float32, "
            "fewer coarse steps or another adapter"
        )
    (height, width), frames = request.size[:2], (*request.size, 1)[2]
    if pixels.shape[2:4] != (height, width):
        raise DditError(
            f"{height} x {width} px cannot be made by this model: it gave {pixels.shape[2]} x "
            f"{pixels.shape[3]}; choose a size that it can divide into patches"
        )
    if pixels.shape[1] != frames:
        made = pixels.shape[1]
        raise DditError(f"frames: {frames} cannot be made by this model, it gave {made}; ask for {made}")
    return Run(np.asarray(pixels, np.float32), handle.trace)
