"""Attaching dynamic patches to a diffusers pipeline, without changing it.

A `Handle` decides at every denoising step which patches the step has; a `Binding` for each of the pipeline's
transformers carries the decision out. At scale 1 everything runs as diffusers wrote it.
"""

from __future__ import annotations

import string
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddit_eval.binding import Binding
from ddit_eval.errors import DditError
from ddit_eval.families import Call, family_of
from ddit_eval.patching.adapter import Adapter
from ddit_eval.patching.layout import Layout
from ddit_eval.patching.storage import find_parts
from ddit_eval.policies import Base, Policy, Region, StepView, choices
from ddit_eval.regions import local_variance, sizes
from ddit_eval.schedule import Differences, percentile, signals
from ddit_eval.steps import Mailbox, StepClock
from ddit_eval.trace import StepTrace

DIGITS = string.digits + string.ascii_lowercase


def attach(
    pipe: Any,
    adapter: Adapter | str | Path | None = None,
    policy: Policy | None = None,
    *,
    adapter_2: Adapter | str | Path | None = None,
) -> Handle:
    """Attach `adapter` and `policy` to a pipeline (or a bare transformer); use it on as before.

    adapter    an Adapter, its folder, the name of one that ships, or None (then only scale 1 is possible)
    policy     from `ddit_eval.policies`; default Base()
    adapter_2  of a second transformer, `transformer_2` (Wan 2.2); not needed where `adapter` is a folder
               that holds both in `transformer` and `transformer_2`, or where it fits both. Without any,
               the second transformer runs at scale 1, and a policy that wants more there is refused

    Raises DditError for an adapter of another base, a policy that wants a scale which the adapter lacks, or
    a transformer that is attached already.
    """
    if isinstance(adapter, (str, Path)):
        first, second = find_parts(adapter)
        adapter = Adapter.from_pretrained(first)
        if adapter_2 is None and getattr(pipe, "transformer_2", None) is not None:
            adapter_2 = second
    if isinstance(adapter_2, (str, Path)):
        adapter_2 = Adapter.from_pretrained(adapter_2)
    return Handle(pipe, adapter, policy or Base(), adapter_2)


class Handle:
    """An attachment: its policy, the trace of the last pipeline call, and the way back (`detach`).

    `seed` is passed on to policies that draw at random. Also a context manager, which detaches at its end.
    """

    def __init__(self, pipe: Any, adapter: Adapter | None, policy: Policy, adapter_2: Adapter | None = None):
        self.pipe = pipe
        self.bindings = _bindings(pipe, adapter, adapter_2)
        self.seed: int | None = None
        self.policy = policy
        self._clock = StepClock(pipe)
        self._timer = _Timer()
        self._trace: list[StepTrace] = []
        self._timesteps: list[float] = []
        self._total = 0
        self._differences: Differences | None = None
        self._layout: Layout | None = None
        self._forced: int | Layout | None = None
        self._current = self.bindings[0]
        self._root: list[Any] = []
        for binding in self.bindings:
            self._clock.mailbox.enter(binding.transformer)
            self._root += [
                binding.transformer.register_forward_pre_hook(
                    partial(self._before, binding), with_kwargs=True
                ),
                binding.transformer.register_forward_hook(partial(self._after, binding), always_call=True),
            ]
            binding.bind_parts()

    @property
    def transformer(self) -> nn.Module:
        """The first transformer, which most pipelines have alone."""
        return self.bindings[0].transformer

    @property
    def adapter(self) -> Adapter | None:
        """The first transformer's adapter."""
        return self.bindings[0].adapter

    @property
    def policy(self) -> Policy:
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        wanted = choices(policy) - {1}
        # What a signal will make of a step cannot be foreseen; what a static policy does is checked as the
        # run begins.
        foreseen = policy.order == 0 and any(wanted <= set(b.scales) for b in self.bindings)
        for binding in self.bindings:
            missing = sorted(wanted - set(binding.scales))
            if missing and not foreseen:
                raise self._lacks(policy, missing, binding)
        self._policy = policy

    @property
    def trace(self) -> list[StepTrace]:
        """One entry per step of the last, or running, pipeline call."""
        self._timer.resolve(self._trace)
        return list(self._trace)

    def detach(self) -> None:
        """Leave the transformers as they were found. Calling it again does nothing."""
        for hook in self._root:
            hook.remove()
        self._root = []
        for binding in self.bindings:
            binding.release()
            self._clock.mailbox.leave(binding.transformer)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    @contextmanager
    def forced(self, scale: int | Layout) -> Iterator[None]:
        """Run every transformer call inside at one scale or layout, past policy and trace.

        For distillation and for timing a layout alone: call the transformer itself, with gradients or
        without, with one flow time per sample. Keep `backward` inside too if gradient checkpointing is on.
        """
        for s in [g.scale for g in scale.groups] if isinstance(scale, Layout) else [scale]:
            if s != 1:
                _require(self.bindings[0], s)
        before, self._forced = self._forced, scale
        try:
            yield
        finally:
            self._forced = before
            for binding in self.bindings:
                binding.stop()

    # The root hooks: what happens around a transformer call.

    def _before(
        self, binding: Binding, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        call = binding.read(args, kwargs)
        if self._forced is not None:
            binding.ready(call)
            forced = self._forced
            binding.start(forced if isinstance(forced, Layout) else binding.tile(call, forced), call)
            return
        binding.stop()
        started = time.perf_counter()
        tick = self._clock.tick(call.handed, call.timestep)
        if tick == "new" or binding is not self._current:
            # A later transformer goes on with the run of the one before.
            self._current = binding
            binding.ready(call)
        if tick == "new":
            self._begin()
        if tick != "same":
            self._timer.start(len(self._trace), started, call.latents.device)
            self._layout = self._decide(binding, call)
        binding.bind_parts()
        binding.start(self._layout, call)

    def _after(self, binding: Binding, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self._forced is None:
            binding.stop()
            self._timer.stop(self._trace)

    def _begin(self) -> None:
        """The first step of a run."""
        self._trace, self._differences = [], None
        self._timer = _Timer()
        scheduler = getattr(self.pipe, "scheduler", None)
        steps = getattr(scheduler, "timesteps", None)
        # An image-to-image run starts further down the list.
        self._timesteps = [] if steps is None else steps.tolist()[self._clock.position or 0 :]
        self._total = len(self._timesteps)
        self._foresee()

    def _foresee(self) -> None:
        """Refuse, before anything is computed, a static policy that wants what a transformer lacks."""
        if self.policy.order or len(self.bindings) == 1:
            return
        # As Wan 2.2's pipelines share the steps out.
        boundary = self.pipe.config.boundary_ratio
        limit = -1.0 if boundary is None else boundary * self.pipe.scheduler.config.num_train_timesteps
        for index, timestep in enumerate(self._timesteps):
            binding = self.bindings[0 if timestep >= limit else 1]
            scale = self.policy.decide(StepView(index, self._total, None, [], self.seed))
            if scale not in (1, *binding.scales):
                raise self._lacks(self.policy, [scale], binding, f" at step {index}")

    def _decide(self, binding: Binding, call: Call) -> Layout | None:
        """Measure, ask the policy, and note the step. None: the base path, with no grid known."""
        index, base_tokens = len(self._trace), call.latents.shape[1]
        timestep = self._timestep(binding, index, call)
        difference = self._difference(binding, call, index, timestep)
        view = StepView(index, max(self._total, index + 1), None, self._trace, self.seed)
        values: dict[int, float] | None
        if isinstance(self.policy, Region) and difference is not None:
            values, layout = self._regions(self.policy, binding, call, difference, view)
        else:
            values = None if difference is None else self._signals(binding, call, difference)
            scale = self.policy.decide(replace(view, signals=values))
            layout = None if scale == 1 else binding.tile(call, scale)
        if values and not all(abs(v) < float("inf") for v in values.values()):
            raise _not_finite(index, timestep)
        several = layout is not None and isinstance(self.policy, Region)
        self._trace.append(
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
        return layout

    def _difference(self, binding: Binding, call: Call, index: int, timestep: float) -> Tensor | None:
        """The difference that the policy looks at; None where it looks at none, or not yet."""
        policy, latents = self.policy, call.latents
        if not policy.order:
            # Looking would cost a synchronisation on other devices.
            if latents.device.type == "cpu" and not torch.isfinite(latents).all():
                raise _not_finite(index, timestep)
            return None
        if self._differences is None or self._differences.order != policy.order:
            self._differences = Differences(policy.order)
        return self._differences.push(binding.generated(call).detach())

    def _signals(self, binding: Binding, call: Call, difference: Tensor) -> dict[int, float]:
        """One value a scale. One tensor, one synchronisation; over a batch the largest counts: the finest
        scale wins."""
        policy, grid = self.policy, binding.generated_grid(call)
        times = binding.adapter.config.time if binding.adapter else {}
        values = signals(difference, grid, policy.scales, policy.rho, times).amax(0).tolist()
        return dict(zip(policy.scales, values, strict=True))

    def _regions(
        self, policy: Region, binding: Binding, call: Call, difference: Tensor, view: StepView
    ) -> tuple[dict[int, float], Layout | None]:
        """The median of the signal's map, for the trace, and the tiling; one synchronisation, for the map."""
        variance = local_variance(difference, binding.generated_grid(call), policy.window).amax(0).cpu()
        values = dict.fromkeys(policy.scales, float(percentile(variance.flatten(), policy.rho)))
        if not torch.isfinite(variance).all():
            return dict.fromkeys(policy.scales, float("nan")), None
        before = None
        if policy.hysteresis > 1 and view.past and view.past[-1].sizes is not None and self._layout:
            before = sizes(self._layout)[call.given :]
        allowed = policy.allowed(view, variance, before)
        layout = (
            binding.tile(call, policy.decide(view))
            if allowed is None
            else binding.tile_map(call, allowed, policy.scales)
        )
        return values, None if layout.is_base else layout

    def _timestep(self, binding: Binding, index: int, call: Call) -> float:
        if self._clock.position is not None and index < len(self._timesteps):
            return float(self._timesteps[index])
        return float(call.timestep.flatten()[0]) * binding.family.time_scale

    def _lacks(self, policy: Policy, missing: list[int], binding: Binding, when: str = "") -> DditError:
        """What a policy may choose and a transformer cannot do, in one sentence."""
        one = len(self.bindings) == 1
        where, whose = ("", "") if one else (f" in {binding.name}{when}", f" of {binding.name}")
        have = f"the adapter{whose} has {list(binding.scales)}"
        remedy = "attach an adapter with these scales or choose another policy"
        if binding.adapter is None:
            have = "there is no adapter" if one else f"{binding.name} has no adapter"
            if not one:
                remedy = f"attach one ({'adapter_2' if binding.name.endswith('_2') else 'adapter'}=...) " + (
                    "or choose a policy that is fine there"
                )
        return DditError(
            f"policy {policy.kind!r} may choose scale {', '.join(map(str, missing))}{where}, but {have}; "
            + remedy
        )


def _bindings(pipe: Any, adapter: Adapter | None, adapter_2: Adapter | None) -> list[Binding]:
    """A binding for each transformer of the pipeline, none of them in effect yet."""
    transformer = getattr(pipe, "transformer", pipe)
    if getattr(pipe, "transformer_2", None) in (None, transformer):
        if adapter_2 is not None:
            raise DditError(
                "adapter_2 is given, but this pipeline has no transformer_2; pass `adapter` alone"
            )
        pairs = [("transformer", transformer, adapter)]
    else:
        if adapter is not None and adapter_2 is None and adapter.fits(pipe.transformer_2):
            adapter_2 = adapter
        pairs = [
            (name, getattr(pipe, name), own)
            for name, own in (("transformer", adapter), ("transformer_2", adapter_2))
            if getattr(pipe, name) is not None
        ]
    for name, module, own in pairs:
        family_of(module)
        if Mailbox.occupied(module):
            raise DditError("this transformer has an attachment already; call detach() on its handle first")
        if own is None:
            continue
        try:
            own.check(module)
        except DditError as error:
            raise error if len(pairs) == 1 else DditError(f"{name}: {error}") from None
    return [Binding(*pair) for pair in pairs]


def _require(binding: Binding, scale: int) -> None:
    if binding.adapter is None:
        raise DditError(f"scale {scale} needs an adapter, and there is none; pass one to attach()")
    binding.adapter.branch(scale)


class _Timer:
    """Seconds per step: the host's clock on a CPU, device events (read only when asked for) on CUDA."""

    def __init__(self) -> None:
        self._index = 0
        self._started = 0.0
        self._device = torch.device("cpu")
        self._event: Any = None
        self._pending: dict[int, tuple[Any, Any]] = {}

    def start(self, index: int, now: float, device: torch.device) -> None:
        self._index, self._started, self._device = index, now, device
        if device.type == "cuda":
            self._event = torch.cuda.Event(enable_timing=True)
            self._event.record(torch.cuda.current_stream(device))

    def stop(self, trace: list[StepTrace]) -> None:
        if self._index >= len(trace):
            return  # the decision itself failed
        if self._device.type == "cuda":
            end = torch.cuda.Event(enable_timing=True)
            end.record(torch.cuda.current_stream(self._device))
            self._pending[self._index] = (self._event, end)
        else:
            trace[self._index].seconds = time.perf_counter() - self._started

    def resolve(self, trace: list[StepTrace]) -> None:
        for index, (start, end) in self._pending.items():
            end.synchronize()
            trace[index].seconds = start.elapsed_time(end) / 1000
        self._pending = {}


def _digits(layout: Layout) -> str:
    """The scale over each base token, a digit each, rows parted by / and frames by |."""
    frames = sizes(layout).tolist()
    return "|".join("/".join("".join(DIGITS[scale] for scale in row) for row in frame) for frame in frames)


def _not_finite(index: int, timestep: float) -> DditError:
    return DditError(
        f"the latents hold NaN or infinity at step {index} (timestep {timestep:g}); run the pipeline in "
        "float32 or bfloat16 instead of float16, or choose a policy with fewer coarse steps"
    )
