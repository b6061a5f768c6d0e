"""What a policy makes of a step: measure the latents, ask it, and note what it said."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence

import torch
from torch import Tensor

from ddit_eval.ddit.binding import Binding
from ddit_eval.ddit.families import Call
from ddit_eval.ddit.layout import SKIPPED, Layout
from ddit_eval.ddit.policies import Policy, Step, StepView
from ddit_eval.ddit.regions import sizes
from ddit_eval.ddit.schedule import Differences
from ddit_eval.ddit.trace import StepTrace
from ddit_eval.errors import DditError

DIGITS = string.digits + string.ascii_lowercase


class Decisions:
    """The decisions along one run: keeps the differences of its latents.

    Every trace is one schedule: of the whole batch, where over its samples the largest signal counts, or of
    a sample each.
    """

    def __init__(self) -> None:
        self._differences: Differences | None = None
        self._layouts: list[Layout | None] = []

    def step(
        self,
        binding: Binding,
        call: Call,
        policy: Policy,
        traces: list[list[StepTrace]],
        *,
        timestep: float,
        total: int | None,
        seed: int | None,
        skippable: bool,
    ) -> list[Layout | None]:
        """The layout of the step by trace, to each of which it is added. None: the base path, which a step
        that is not `skippable` takes where the policy would skip it.

        One device synchronisation at most. Raises `DditError` where latents are not finite.
        """
        index, base_tokens = len(traces[0]), call.latents.shape[1]
        difference = self._difference(binding, call, policy, index, timestep)
        measured = _measured(binding, call, policy, difference, len(traces))
        before = self._layouts or [None] * len(traces)
        self._layouts = []
        for trace, seen, last in zip(traces, measured, before, strict=True):
            values = None if seen is None else policy.signals(seen)
            if values and not all(map(math.isfinite, values.values())):
                raise not_finite(index, timestep)
            view = StepView(index, total and max(total, index + 1), values, trace, seed)
            layout = policy.layout(Step(binding, call, timestep, view, seen, last))
            if layout is SKIPPED and not skippable:
                layout = None
            self._layouts.append(layout)
            several = layout is not None and policy.mixed
            trace.append(
                StepTrace(
                    index=index,
                    timestep=timestep,
                    scale=1 if layout is None else layout.scale,
                    signals=values,
                    tokens=base_tokens if layout is None else layout.tokens,
                    base_tokens=base_tokens,
                    counts={g.scale: len(g.indices) for g in layout.groups} if layout and several else None,
                    sizes=_digits(layout) if layout and several else None,
                )
            )
        return self._layouts

    def _difference(
        self, binding: Binding, call: Call, policy: Policy, index: int, timestep: float
    ) -> Tensor | None:
        """The difference that the policy looks at; None where it looks at none, or not yet."""
        latents = call.latents
        if not policy.order:
            # Looking would cost a synchronisation on other devices.
            if latents.device.type == "cpu" and not torch.isfinite(latents).all():
                raise not_finite(index, timestep)
            return None
        if self._differences is None or self._differences.order != policy.order:
            self._differences = Differences(policy.order)
        return self._differences.push(binding.generated(call).detach())


def _measured(
    binding: Binding, call: Call, policy: Policy, difference: Tensor | None, traces: int
) -> Sequence[Tensor | None]:
    """What the policy measures of the difference, by trace, on the host: the step's one synchronisation."""
    if difference is None:
        return [None] * traces
    times = binding.adapter.config.time if binding.adapter else {}
    values = policy.deviations(difference, binding.generated_grid(call), times)
    return list((values if traces > 1 else values.amax(0, keepdim=True)).cpu())


def _digits(layout: Layout) -> str:
    """The scale over each base token, a digit each, rows parted by / and frames by |."""
    frames = sizes(layout).tolist()
    return "|".join("/".join("".join(DIGITS[scale] for scale in row) for row in frame) for frame in frames)


def not_finite(index: int, timestep: float) -> DditError:
    return DditError(
        f"the latents hold NaN or infinity at step {index} (timestep {timestep:g}); run the pipeline in "
        "float32 or bfloat16 instead of float16, or choose a policy with fewer coarse steps"
    )
