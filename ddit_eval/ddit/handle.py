"""Attaching dynamic patches to a diffusers pipeline, without changing it.

A `Handle` decides at every denoising step which patches the step has; a `Binding` for each of the pipeline's
transformers carries the decision out. At scale 1 everything runs as diffusers wrote it, at scale 0 no
transformer does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ddit_eval.ddit import caches, wants
from ddit_eval.ddit.adapter.adapter import Adapter
from ddit_eval.ddit.adapter.places import find_parts
from ddit_eval.ddit.batch_split import Split, join, named, split, take
from ddit_eval.ddit.binding import Binding, bindings_of
from ddit_eval.ddit.decision import Decisions
from ddit_eval.ddit.families import Call
from ddit_eval.ddit.layout import SKIPPED, Layout
from ddit_eval.ddit.policies import Base, Policy, check, choices
from ddit_eval.ddit.skipping import Memory, Which, detour
from ddit_eval.ddit.steps import StepClock
from ddit_eval.ddit.timer import Timer
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

    Raises DditError for an adapter of another base, a policy that wants a scale which the adapter lacks (it
    may skip steps, scale 0, without any), or a transformer that is attached already.
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
        self.bindings = bindings_of(pipe, adapter, adapter_2)
        self._root: list[Any] = []
        self._detours: list[Callable[[], None]] = []
        self.seed: int | None = None
        self.per_sample = per_sample
        self.policy = policy
        self._clock = StepClock(pipe)
        self._timer = Timer()
        self._traces: list[list[StepTrace]] = [[]]
        self._decisions = Decisions()
        self._layouts: list[Layout | None] = [None]
        self._parts: _Parts | None = None
        self._forced: int | Layout | None = None
        self._current = self.bindings[0]
        self._skips = False  # whether the present step is skipped
        self._which = Which(0, None, None)  # of its calls the present one
        self._decided: Call | None = None  # a call that goes on to the hooks
        self._clock.mailbox.at_end = self._forget
        for binding in self.bindings:
            self._clock.mailbox.enter(binding.transformer)
            self._root += [
                binding.transformer.register_forward_pre_hook(
                    partial(self._before, binding), with_kwargs=True
                ),
                binding.transformer.register_forward_hook(partial(self._after, binding), always_call=True),
            ]
            binding.bind_parts()
        self._take_detours()

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
        wants.check(policy, self.bindings)
        self._policy = policy
        self._gain = getattr(policy, "gain", 1.0) if getattr(policy, "forecast", 0) else 0.0
        if self._root:
            self._take_detours()

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
        self._leave_detours()
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
        for s in [g.scale for g in scale.groups] or [0] if isinstance(scale, Layout) else [scale]:
            if s != 1:
                self.bindings[0].require(s)
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
        decided, self._decided = self._decided, None
        if self._forced is not None:
            call = binding.read(args, kwargs)
            binding.ready(call)
            forced = self._forced
            binding.start(forced if isinstance(forced, Layout) else binding.tile(call, forced), call)
            return None
        call = decided or binding.read(args, kwargs)
        if decided is None:
            if self._detours:  # somebody has taken it away
                self._take_detours()
            self._decide(binding, call)
        binding.bind_parts()
        parts = split(self._layouts)
        if len(parts) == 1:
            binding.start(self._layouts[0], call)
            return None
        return (), self._part(binding, parts, named(module, args, kwargs), len(call.latents))

    def _decide(self, binding: Binding, call: Call, like: Hashable = None) -> None:
        """At the first call of a step the step's layout, and whether it is skipped: not without `like`, see
        `Which`."""
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
        context = self._clock.mailbox.context.current
        name = getattr(context, "name", context)
        self._which = Which(0 if tick != "same" else self._which.ordinal + 1, name, like)
        if tick != "same":
            index = len(self._traces[0])
            self._timer.start(index, started, call.latents.device)
            layouts = self._decisions.step(
                binding,
                call,
                self.policy,
                self._traces,
                timestep=self._clock.timestep,
                total=None if self._clock.run is None else len(self._clock.run),
                seed=self.seed,
                skippable=like is not None and binding.memory.has(self._which),
            )
            self._skips = layouts[0] is SKIPPED
            if not self._skips:
                self._lay_out(binding, layouts)
            self._clock.mailbox.ended = False

    def _lay_out(self, binding: Binding, layouts: list[Layout | None]) -> None:
        if layouts != self._layouts:
            caches.forget(binding.transformer)
        self._layouts = layouts

    # Around a call, where the policy may skip steps. The call itself may be compiled.

    @torch.compiler.disable(recursive=False)
    def _around(
        self, binding: Binding, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self._forced is not None:
            return run(*args, **kwargs)
        output = self._skip(binding, args, kwargs)
        if output is None:
            output = run(*args, **kwargs)
            self._keep(binding, output)
        return output

    @torch.compiler.disable
    def _skip(self, binding: Binding, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the call gives where its step is skipped, else None."""
        call = binding.read(args, kwargs)
        latents = call.handed
        like = (latents.shape, latents.dtype, latents.device, kwargs.get("return_dict", True))
        self._decide(binding, call, like)
        if self._skips:
            if binding.memory.has(self._which):
                self._timer.stop(self._traces)
                return binding.memory.output(self._which, self._clock.timestep, self._gain)
            # A call that the last computed step did not have: the step is fine from here on.
            self._skips = False
            self._lay_out(binding, [None] * len(self._traces))
            for trace in self._traces:
                trace[-1].scale, trace[-1].tokens = 1, trace[-1].base_tokens
        self._decided = call
        return None

    @torch.compiler.disable
    def _keep(self, binding: Binding, output: Any) -> None:
        step = len(self._traces[0]) - 1
        binding.memory.keep(self._which, step, self._clock.timestep, output, self._gain)

    def _forget(self) -> None:
        for binding in self.bindings:
            binding.memory = Memory()

    def _take_detours(self) -> None:
        """Those that the policy needs, and no others."""
        self._leave_detours()
        if 0 in choices(self.policy):
            self._detours = [detour(b.transformer, partial(self._around, b)) for b in self.bindings]

    def _leave_detours(self) -> None:
        for leave in self._detours:
            leave()
        self._detours, self._decided, self._skips = [], None, False
        self._forget()

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
        self._timer = Timer()
        self._forget()
        for binding in self.bindings if self._detours else ():
            caches.refuse_counting(binding.transformer)
        wants.foresee(self.policy, self.bindings, self.pipe, self._clock.run or [], self.seed)


@dataclass
class _Parts:
    """A call that is split over the batch: what each of its parts after the first takes, and where the
    samples of all belong."""

    rows: list[list[int]]
    rest: list[tuple[Layout | None, dict[str, Any]]]
