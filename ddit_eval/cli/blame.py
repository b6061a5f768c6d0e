"""Whose mistake an exception is: of a model that loads but cannot be called, or of this package."""

from __future__ import annotations

import traceback

from ddit_eval.system.text import one_line

_TOOLS = ("torch", "numpy", "safetensors")  # whose errors are of what they were called with
_LIBRARIES = ("diffusers", "transformers")


def of_model(error: Exception) -> str | None:
    """The line that tells of an error of a library within a pipeline's call; None where it is ours: where
    this package called what failed."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    places = [str(frame.f_globals.get("__name__", "")) for frame in frames]
    callers = [place.partition(".")[0] for place in places]
    callers = [caller for caller in callers if caller not in _TOOLS]
    called = [
        frame.f_locals.get("self")
        for frame, place in zip(frames, places, strict=True)
        if place.startswith("diffusers.pipelines.") and frame.f_code.co_name == "__call__"
    ]
    if not called or callers[-1] not in _LIBRARIES:
        return None
    model = getattr(called[0], "name_or_path", None) or type(called[0]).__name__
    return (
        f"the model {model} loads but fails in a call ({one_line(error)}): its configuration does not fit "
        "its weights or this call; compare its config.json files with their source, or copy the model again "
        "(`ddit-eval --debug ...` shows the traceback)"
    )
