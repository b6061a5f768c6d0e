"""What a policy makes of a step: measure the latents, ask it, and note what it said."""

from __future__ import annotations

import math
import string
from dataclasses import dataclass

import torch
from torch import Tensor

from ddit_eval.ddit.binding import Binding
from ddit_eval.ddit.families import Call
from ddit_eval.ddit.layout import Layout
from ddit_eval.ddit.policies import Policy, Region, StepView
from ddit_eval.ddit.regions import local_variance, sizes
from ddit_eval.ddit.schedule import Differences, percentile, signals
from ddit_eval.ddit.trace import StepTrace
from ddit_eval.errors import DditError

DIGITS = string.digits + string.ascii_lowercase


@dataclass(frozen=True)
class _Measured:
    """What the samples of a step look like to the policy; a list has an entry a trace."""

    signals: list[dict[int, float]] | None = None
    variances: Tensor | None = None  # (traces, F, H, W) on the host, of a policy by regions


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
        total: int,
        seed: int | None,
    ) -> list[Layout | None]:
        """The layout of the step by trace, to each of which it is added. None: the base path.

        One device synchronisation at most. Raises `DditError` where latents are not finite.
        """
        index, base_tokens = len(traces[0]), call.latents.shape[1]
        difference = self._difference(binding, call, policy, index, timestep)
        measured = _measure(binding, call, policy, difference, len(traces))
        layouts: list[Layout | None] = []
        for number, trace in enumerate(traces):
            values = None if measured.signals is None else measured.signals[number]
            if values and not all(map(math.isfinite, values.values())):
                raise not_finite(index, timestep)
            view = StepView(index, max(total, index + 1), values, trace, seed)
            if isinstance(policy, Region) and measured.variances is not None:
                before = self._layouts[number] if number < len(self._layouts) else None
                layout = _tiling(binding, call, policy, view, measured.variances[number], before)
            else:
                scale = policy.decide(view)
                layout = None if scale == 1 else binding.tile(call, scale)
            layouts.append(layout)
            several = layout is not None and isinstance(policy, Region)
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
        self._layouts = layouts
        return layouts

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


def _measure(
    binding: Binding, call: Call, policy: Policy, difference: Tensor | None, traces: int
) -> _Measured:
    """One value a scale and trace; by regions a map, and its median for the trace."""
    if difference is None:
        return _Measured()
    grid = binding.generated_grid(call)
    if isinstance(policy, Region):
        variance = local_variance(difference, grid, policy.window)
        variance = (variance if traces > 1 else variance.amax(0, keepdim=True)).cpu()
        # A median hides single values that are not finite.
        middle = percentile(variance.flatten(1), policy.rho) + 0 * variance.sum((1, 2, 3))
        return _Measured([dict.fromkeys(policy.scales, value) for value in middle.tolist()], variance)
    times = binding.adapter.config.time if binding.adapter else {}
    values = signals(difference, grid, policy.scales, policy.rho, times)
    rows = (values if traces > 1 else values.amax(0, keepdim=True)).tolist()
    return _Measured([dict(zip(policy.scales, row, strict=True)) for row in rows])


def _tiling(
    binding: Binding, call: Call, policy: Region, view: StepView, variance: Tensor, before: Layout | None
) -> Layout | None:
    """The tiling of one map of the signal (F, H, W)."""
    seen = None
    if policy.hysteresis > 1 and before is not None and view.past[-1].sizes is not None:
        seen = sizes(before)[call.given :]
    allowed = policy.allowed(view, variance, seen)
    layout = (
        binding.tile(call, policy.decide(view))
        if allowed is None
        else binding.tile_map(call, allowed, policy.scales)
    )
    return None if layout.is_base else layout


def _digits(layout: Layout) -> str:
    """The scale over each base token, a digit each, rows parted by / and frames by |."""
    frames = sizes(layout).tolist()
    return "|".join("/".join("".join(DIGITS[scale] for scale in row) for row in frame) for frame in frames)


def not_finite(index: int, timestep: float) -> DditError:
    return DditError(
        f"the latents hold NaN or infinity at step {index} (timestep {timestep:g}); run the pipeline in "
        "float32 or bfloat16 instead of float16, or choose a policy with fewer coarse steps"
    )
