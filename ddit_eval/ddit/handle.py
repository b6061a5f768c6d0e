"""Attaching dynamic patches to a diffusers pipeline, without changing it.

A `Handle` decides at every denoising step which patches the step has; a `Binding` for each of the pipeline's
transformers carries the decision out. At scale 1 everything runs as diffusers wrote it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ddit_eval.ddit import caches
from ddit_eval.ddit.adapter.adapter import Adapter
from ddit_eval.ddit.adapter.places import find_parts
from ddit_eval.ddit.batch_split import Split, join, named, split, take
from ddit_eval.ddit.binding import Binding
from ddit_eval.ddit.decision import Decisions
from ddit_eval.ddit.diffusers_private import Mailbox
from ddit_eval.ddit.families import family_of
from ddit_eval.ddit.layout import Layout
from ddit_eval.ddit.policies import Base, Policy, StepView, check, choices
from ddit_eval.ddit.steps import StepClock
from ddit_eval.ddit.trace import StepTrace
from ddit_eval.errors import DditError


def attach(
    pipe: Any,
    adapter: Adapter | str | Path | None = None,
    policy: Policy | None = None,
    *,
    adapter_2: Adapter | str | Path | None = None,
    per_sample: bool = False,
) -> Handle:
    """Attach `adapter` and `policy` to a pipeline (or a bare transformer); use it on as before.

    adapter    an Adapter, its folder, the name of one that ships, or None (then only scale 1 is possible)
    policy     from `ddit_eval.policies`; default Base()
    adapter_2  of a second transformer, `transformer_2` (Wan 2.2); not needed where `adapter` is a folder
               that holds both in `transformer` and `transformer_2`, or where it fits both. Without any,
               the second transformer runs at scale 1, and a policy that wants more there is refused
    per_sample each sample of a batch has the schedule that it would have alone, and a trace of its own in
               `handle.traces`; the transformer then runs once for each layout that a step's samples want.
               Without it one layout serves the batch: the finest that any sample asks for

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
    return Handle(pipe, adapter, policy or Base(), adapter_2, per_sample)


class Handle:
    """An attachment: its policy, the trace of the last pipeline call, and the way back (`detach`).

    `seed` is passed on to policies that draw at random. Also a context manager, which detaches at its end.
    """

    def __init__(
        self,
        pipe: Any,
        adapter: Adapter | None,
        policy: Policy,
        adapter_2: Adapter | None = None,
        per_sample: bool = False,
    ):
        self.pipe = pipe
        self.bindings = _bindings(pipe, adapter, adapter_2)
        self.seed: int | None = None
        self.per_sample = per_sample
        self.policy = policy
        self._clock = StepClock(pipe)
        self._timer = _Timer()
        self._traces: list[list[StepTrace]] = [[]]
        self._decisions = Decisions()
        self._layouts: list[Layout | None] = [None]
        self._parts: _Parts | None = None
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
        check(policy)
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
        """One entry per step of the last, or running, call; with `per_sample` of its first sample.

        A call that goes through its timesteps several times (FramePack) leaves those of the last time.
        """
        return self.traces[0]

    @property
    def traces(self) -> list[list[StepTrace]]:
        """A trace for each sample of the batch with `per_sample`, else one for all. `seconds` are the whole
        batch's."""
        self._timer.resolve(self._traces)
        return [list(trace) for trace in self._traces]

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

    def __reduce_ex__(self, protocol: Any) -> Any:
        # A copied pipeline would have an attachment that no one can detach.
        raise DditError("an attached pipeline cannot be copied or pickled; call detach() on its handle first")

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

    # The root hooks: what happens around a transformer call. Where the whole transformer is compiled, these
    # stay outside: the decision differs from step to step.

    @torch.compiler.disable
    def _before(
        self, binding: Binding, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        call = binding.read(args, kwargs)
        if self._forced is not None:
            binding.ready(call)
            forced = self._forced
            binding.start(forced if isinstance(forced, Layout) else binding.tile(call, forced), call)
            return None
        binding.stop()
        started = time.perf_counter()
        self._parts = None
        scale = binding.family.time_scale
        tick = "same" if call.aside else self._clock.tick(call.handed, call.timestep, scale)
        self._clock.mailbox.ended = tick != "same"  # a step that cannot be decided is tried anew
        if tick == "new" or binding is not self._current:
            # A later transformer goes on with the run of the one before.
            self._current = binding
            binding.ready(call)
        if tick == "new":
            self._begin(len(call.latents))
        if tick != "same":
            index = len(self._traces[0])
            self._timer.start(index, started, call.latents.device)
            before = self._layouts
            self._layouts = self._decisions.step(
                binding,
                call,
                self.policy,
                self._traces,
                timestep=self._clock.timestep,
                total=None if self._clock.run is None else len(self._clock.run),
                seed=self.seed,
            )
            if self._layouts != before:
                caches.forget(binding.transformer)
            self._clock.mailbox.ended = False
        binding.bind_parts()
        parts = split(self._layouts)
        if len(parts) == 1:
            binding.start(self._layouts[0], call)
            return None
        return (), self._part(binding, parts, named(module, args, kwargs), len(call.latents))

    def _part(self, binding: Binding, parts: Split, values: dict[str, Any], batch: int) -> dict[str, Any]:
        """The arguments of the first part of a call; `_after` runs the others."""
        if batch != len(self._layouts):
            raise DditError(
                f"the step began with {len(self._layouts)} samples and goes on with {batch}; "
                "attach without per_sample"
            )
        if caches.has_cache(binding.transformer):
            raise DditError(
                "the samples of this batch want different patches, and what a cache keeps is of them all; "
                "attach without per_sample, or call disable_cache() on the transformer"
            )
        pieces = [(layout, take(values, rows, batch, binding.family.of_batch)) for layout, rows in parts]
        self._parts = _Parts([rows for _, rows in parts], pieces[1:])
        layout, first = pieces[0]
        binding.start(layout, binding.read((), first))
        return first

    @torch.compiler.disable
    def _after(self, binding: Binding, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if self._forced is not None:
            return None
        try:
            parts, self._parts = self._parts, None
            if parts is None or output is None:
                return None
            outputs = [output]
            for layout, values in parts.rest:
                binding.start(layout, binding.read((), values))
                outputs.append(module.forward(**values))
            return join(outputs, parts.rows)
        finally:
            binding.stop()
            self._timer.stop(self._traces)

    def _begin(self, batch: int) -> None:
        """The first step of a run."""
        self._traces = [[] for _ in range(batch if self.per_sample else 1)]
        self._decisions = Decisions()
        self._timer = _Timer()
        self._foresee()

    def _foresee(self) -> None:
        """Refuse, before anything is computed, a static policy that wants what a transformer lacks."""
        if self.policy.order or len(self.bindings) == 1:
            return
        # As Wan 2.2's pipelines share the steps out.
        boundary = self.pipe.config.boundary_ratio
        limit = -1.0 if boundary is None else boundary * self.pipe.scheduler.config.num_train_timesteps
        steps = self._clock.run or []
        for index, timestep in enumerate(steps):
            binding = self.bindings[0 if timestep >= limit else 1]
            scale = self.policy.decide(StepView(index, len(steps), None, [], self.seed))
            if scale not in (1, *binding.scales):
                raise self._lacks(self.policy, [scale], binding, f" at step {index}")

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


@dataclass
class _Parts:
    """A call that is split over the batch: what each of its parts after the first takes, and where the
    samples of all belong."""

    rows: list[list[int]]
    rest: list[tuple[Layout | None, dict[str, Any]]]


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

    def stop(self, traces: list[list[StepTrace]]) -> None:
        if self._index >= len(traces[0]):
            return  # the decision itself failed
        if self._device.type == "cuda":
            end = torch.cuda.Event(enable_timing=True)
            end.record(torch.cuda.current_stream(self._device))
            self._pending[self._index] = (self._event, end)
        else:
            for trace in traces:
                trace[self._index].seconds = time.perf_counter() - self._started

    def resolve(self, traces: list[list[StepTrace]]) -> None:
        for index, (start, end) in self._pending.items():
            end.synchronize()
            for trace in traces:
                trace[index].seconds = start.elapsed_time(end) / 1000
        self._pending = {}
