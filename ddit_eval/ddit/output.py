"""What a transformer returns: a tensor, a tuple that begins with it, or an object that names it `sample`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ddit_eval.errors import DditError


def velocity_of(output: Any) -> Tensor:
    """The tensor (B, ...) in it. Raises `DditError` where there is none."""
    found = output[0] if isinstance(output, tuple) else output
    found = found if isinstance(found, Tensor) else getattr(found, "sample", None)
    if not isinstance(found, Tensor):
        raise DditError(
            f"a call cannot be split or skipped: {type(output).__name__} has no tensor `sample`; attach "
            "without per_sample, and choose a policy that skips no step"
        )
    return found


def with_velocity(output: Any, velocity: Tensor) -> Any:
    """The same with another tensor in it."""
    if isinstance(output, tuple):
        return (velocity, *output[1:])
    return velocity if isinstance(output, Tensor) else type(output)(sample=velocity)
