"""Telling denoising steps apart from inside the transformer.

A step may call the transformer more than once (guidance), a run may be cut off by an exception, and the
next run may start without notice. `StepClock` looks at where the scheduler stands: host integers, so that
no device synchronisation is needed inside a pipeline.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from ddit_eval.ddit.diffusers_private import Mailbox, is_running

Tick = Literal["same", "next", "new"]  # step of the run, next step, first step of a new run


class StepClock:
    """Sorts transformer calls into steps and runs.

    In a pipeline the scheduler's step index decides; outside of one, the timestep's value (which costs a
    device synchronisation). A rise of the noise level, another shape, the end of a pipeline call or the same
    guidance context again with other latents at the same place means a new run.
    """

    def __init__(self, pipe: Any) -> None:
        self.mailbox = Mailbox()
        self._pipe = pipe
        self._place: float | None = None
        self._contexts: set[str | None] = set()
        self._latents: Tensor | None = None

    @property
    def position(self) -> int | None:
        """Where the scheduler of a running pipeline call stands; None outside of one."""
        running = self.mailbox.context.current is not None
        return _scheduler_position(self._pipe) if running or is_running(self._pipe) else None

    def tick(self, latents: Tensor, timestep: Tensor) -> Tick:
        """Which step this call of the transformer belongs to."""
        context, position = self.mailbox.context.current, self.position
        # Both count upwards along a run.
        place = float(position) if position is not None else -float(timestep.flatten()[0])
        name = getattr(context, "name", context)
        result = self._compare(place, name, latents)
        if result != "same":
            self._contexts = set()
        self._contexts.add(name)
        self._place, self._latents, self.mailbox.ended = place, latents, False
        return result

    def _compare(self, place: float, name: str | None, latents: Tensor) -> Tick:
        if self.mailbox.ended or self._place is None or self._latents is None or place < self._place:
            return "new"
        if latents.shape != self._latents.shape or latents.device != self._latents.device:
            return "new"
        if place > self._place:
            return "next"
        return "same" if name not in self._contexts or latents is self._latents else "new"


def _scheduler_position(pipe: Any) -> int | None:
    scheduler: Any = getattr(pipe, "scheduler", None)
    if not hasattr(scheduler, "step_index"):
        return None
    # The index is None before the first step of a run.
    if scheduler.step_index is None:
        return getattr(scheduler, "begin_index", None) or 0
    return int(scheduler.step_index)
