"""Telling denoising steps apart from inside the transformer, and knowing how many a run has.

A step may call the transformer more than once (guidance), a run may start in the middle of the scheduler's
list (image to image), be cut off by an exception, and the next one may start without notice. `StepClock`
looks at where the scheduler stands: host integers, so that from the second step of a run on no device
synchronisation is needed inside a pipeline.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from ddit_eval.ddit.diffusers_private import Mailbox, place_of_call, steps_of_call

Tick = Literal["same", "next", "new"]  # step of the run, next step, first step of a new run


Look = Callable[[], tuple[float, float]]  # a call's timestep, and how far rounding may have taken it


class StepClock:
    """Sorts transformer calls into steps and runs.

    Where the pipeline's scheduler is being stepped through, its place among its timesteps decides; that it
    is, the first timestep of a run has to show, and all where the pipeline does not say that it is running.
    Elsewhere, in a loop of one's own or under the scheduler of another pipeline, the timestep's value does,
    at a synchronisation a call, and how many steps there will be is not known.

    Timesteps set anew, a rise of the noise level, another shape, the end of a pipeline call or the same
    guidance context again with other latents at the same place mean a new run.
    """

    def __init__(self, pipe: Any) -> None:
        self.mailbox = Mailbox()
        self.run: list[float] | None = None  # timesteps of the run's steps; None where they are not known
        self.timestep = 0.0  # of the present step, as the scheduler counts
        self._pipe = pipe
        self._set: Tensor | None = None  # the scheduler's timesteps, a new tensor each time that they are set
        self._values: list[float] | None = None  # the same on the host, where the run goes through them
        self._place = 0.0  # among these, or minus the timestep: both count upwards along a run
        self._moved = False  # whether the run has had more than one place
        self._contexts: set[str | None] = set()
        self._latents: Tensor | None = None

    def tick(self, latents: Tensor, timestep: Tensor, time_scale: float) -> Tick:
        """Which step this call of the transformer belongs to; `time_scale` times `timestep` is as the
        scheduler counts."""

        def look() -> tuple[float, float]:
            # Given frames have a time of their own, less than that of what is generated.
            value = float(timestep.amax()) * time_scale
            return value, 4 * torch.finfo(timestep.dtype).eps * max(abs(value), 1)

        context = self.mailbox.context.current
        name = getattr(context, "name", context)
        again = latents is self._latents or name not in self._contexts
        scheduler: Any = getattr(self._pipe, "scheduler", None)
        timesteps = getattr(scheduler, "timesteps", None)
        if getattr(scheduler, "num_inference_steps", None) is None:
            timesteps = None  # never set
        place: float | None = None
        result: Tick = "new"
        if self._goes_on(latents) and timesteps is self._set:
            place = self._find(scheduler, look, self._place + (not again))
            if place is not None:
                result = self._compare(place, again)
        if result == "new":
            place = self._begin(scheduler, timesteps, look)
        assert place is not None
        if result != "same":
            self._contexts = set()
        self._contexts.add(name)
        self._moved = result != "new" and (self._moved or place > self._place)
        self._place, self._latents, self.mailbox.ended = place, latents, False
        self.timestep = -place if self._values is None else self._values[int(place)]
        return result

    def _goes_on(self, latents: Tensor) -> bool:
        """Whether the run of the last call may go on with these latents."""
        last = self._latents
        return (
            not self.mailbox.ended
            and last is not None
            and latents.shape == last.shape
            and latents.device == last.device
        )

    def _compare(self, place: float, again: bool) -> Tick:
        if place > self._place:
            return "next"
        if place < self._place:
            return "new"
        # Some solvers come back to a timestep, but never to the first.
        return "same" if again else "next" if self._values is None and self._moved else "new"

    def _begin(self, scheduler: Any, timesteps: Tensor | None, look: Look) -> float:
        """The place of a run's first step."""
        self._set = timesteps
        self._values = None if timesteps is None else [float(t) for t in timesteps.tolist()]
        place = self._find(scheduler, look)
        if place is None or self._values is None or timesteps is None:
            self._values = self.run = None
            return -look()[0]
        says = steps_of_call(self._pipe) if place_of_call(self._pipe, timesteps) == place else None
        self.run = self._values[int(place) :][:says]
        return place

    def _find(self, scheduler: Any, look: Look, least: float = math.inf) -> float | None:
        """The place of a call; None where the scheduler has another. least: the place if the run goes on;
        infinite if it begins, where the timestep is always looked at."""
        values = self._values
        if values is None or self._set is None:
            return -look()[0]
        index = _index(scheduler)
        if index is not None and index >= len(values):
            return None
        running = self.mailbox.context.current is not None or place_of_call(self._pipe, self._set) == index
        if index is not None and running and least < math.inf:
            return index
        value, rounding = look()
        places = range(len(values)) if index is None else [index]
        distance = {i: abs(values[i] - value) for i in places}
        nearest = min(distance.values())
        if nearest > rounding:
            return None
        found = [i for i in places if distance[i] == nearest]
        # Of a timestep that is twice there the schedulers themselves begin at the second.
        return next((i for i in found if i >= least), found[-1])


def _index(scheduler: Any) -> int | None:
    """Where a scheduler stands. It does not know before the first step, unless a pipeline has told it."""
    index = getattr(scheduler, "step_index", None)
    return getattr(scheduler, "begin_index", None) if index is None else int(index)
