"""Attaching dynamic patches to a diffusers pipeline, without changing it.

Native forward hooks carry the data: on the embedding (coarse tokens come out), the position module
(centres of patches go in), the head (base tokens come out again) and the feed-forwards (LoRA). Around
them everything runs as diffusers wrote it; at scale 1 no hook touches a tensor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddit_eval.errors import DditError
from ddit_eval.families import Call, family_of
from ddit_eval.patching.adapter import Adapter
from ddit_eval.patching.layout import Grid, Layout, uniform
from ddit_eval.policies import Base, Policy, StepView, choices
from ddit_eval.schedule import Differences, signals
from ddit_eval.steps import Mailbox, StepClock
from ddit_eval.trace import StepTrace


def attach(pipe: Any, adapter: Adapter | str | Path | None = None, policy: Policy | None = None) -> Handle:
    """Attach `adapter` and `policy` to a pipeline (or a bare transformer); use it on as before.

    adapter: an Adapter, its folder, the name of one that ships, or None (then only scale 1 is possible).
    policy: from `ddit_eval.policies`; default Base(). Raises DditError for an adapter of another base, a
    policy that wants a scale which the adapter lacks, a transformer that is attached already, or a pipeline
    with two of them.
    """
    if isinstance(adapter, (str, Path)):
        adapter = Adapter.from_pretrained(adapter)
    return Handle(pipe, adapter, policy or Base())


@dataclass(frozen=True)
class _Active:
    """The coarse transformer call in progress."""

    layout: Layout
    call: Call


class Handle:
    """An attachment: its policy, the trace of the last pipeline call, and the way back (`detach`).

    `seed` is passed on to policies that draw at random. Also a context manager, which detaches at its end.
    """

    def __init__(self, pipe: Any, adapter: Adapter | None, policy: Policy):
        if getattr(pipe, "transformer_2", None) is not None:
            raise DditError(
                "this pipeline has a second transformer, transformer_2 (Wan 2.2), and an adapter serves one; "
                "use a pipeline with one transformer (Wan 2.1), or build one with transformer_2=None"
            )
        self.pipe = pipe
        self.transformer: nn.Module = getattr(pipe, "transformer", pipe)
        self.family = family_of(self.transformer)
        self.adapter = adapter
        self.seed: int | None = None
        if Mailbox.occupied(self.transformer):
            raise DditError("this transformer has an attachment already; call detach() on its handle first")
        if adapter is not None:
            adapter.check(self.transformer)
        self.policy = policy
        self._clock = StepClock(pipe)
        self._timer = _Timer()
        self._trace: list[StepTrace] = []
        self._timesteps: list[float] = []
        self._total = 0
        self._differences: Differences | None = None
        self._layout: Layout | None = None
        self._forced: int | Layout | None = None
        self._active: _Active | None = None
        self._where: tuple[Any, Grid] | None = None
        self._rotary: dict[tuple[Layout, int], tuple[Tensor | None, Any]] = {}
        self._bound: dict[str, nn.Module] = {}
        self._removers: list[Callable[[], None]] = []
        self._clock.mailbox.enter(self.transformer)
        self._root = [
            self.transformer.register_forward_pre_hook(self._before, with_kwargs=True),
            self.transformer.register_forward_hook(self._after, always_call=True),
        ]
        self._bind()

    @property
    def policy(self) -> Policy:
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        missing = sorted(choices(policy) - {1} - set(self.adapter.scales if self.adapter else ()))
        if missing:
            have = f"the adapter has {list(self.adapter.scales)}" if self.adapter else "there is no adapter"
            raise DditError(
                f"policy {policy.kind!r} may choose scale {', '.join(map(str, missing))}, but {have}; "
                "attach an adapter with these scales or choose another policy"
            )
        self._policy = policy

    @property
    def trace(self) -> list[StepTrace]:
        """One entry per step of the last, or running, pipeline call."""
        self._timer.resolve(self._trace)
        return list(self._trace)

    def detach(self) -> None:
        """Leave the transformer as it was found. Calling it again does nothing."""
        self._unbind()
        for hook in self._root:
            hook.remove()
        self._root = []
        self._clock.mailbox.leave(self.transformer)
        self._active = None

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
                if self.adapter is None:
                    raise DditError(f"scale {s} needs an adapter, and there is none; pass one to attach()")
                self.adapter.branch(s)
        before, self._forced = self._forced, scale
        try:
            yield
        finally:
            self._forced, self._active = before, None

    # The root hooks: what happens around a transformer call.

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = self.family.read(module, args, kwargs)
        if self._forced is not None:
            self._ready(call)
            forced = self._forced
            layout = forced if isinstance(forced, Layout) else uniform(self._grid(call), forced)
            self._active = None if layout.is_base else _Active(layout, call)
            return
        self._active = None
        started = time.perf_counter()
        tick = self._clock.tick(call.handed, call.timestep)
        if tick == "new":
            self._begin(call)
        if tick != "same":
            self._timer.start(len(self._trace), started, call.latents.device)
            self._layout = self._decide(call)
        self._bind_parts()
        if self._layout is not None and not self._layout.is_base:
            self._active = _Active(self._layout, call)

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self._forced is None:
            self._active = None
            self._timer.stop(self._trace)

    def _begin(self, call: Call) -> None:
        """The first step of a run."""
        self._ready(call)
        self._trace, self._differences = [], None
        self._timer = _Timer()
        scheduler = getattr(self.pipe, "scheduler", None)
        steps = getattr(scheduler, "timesteps", None)
        # An image-to-image run starts further down the list.
        self._timesteps = [] if steps is None else steps.tolist()[self._clock.position or 0 :]
        self._total = len(self._timesteps)

    def _decide(self, call: Call) -> Layout | None:
        """Measure, ask the policy, and note the step. None: the base path, with no grid known."""
        index, policy, base_tokens = len(self._trace), self.policy, call.latents.shape[1]
        timestep = self._timestep(index, call)
        values = self._measure(call, index, timestep)
        view = StepView(index, max(self._total, index + 1), values, self._trace, self.seed)
        scale = policy.decide(view)
        layout = None if scale == 1 else uniform(self._grid(call), scale)
        self._trace.append(
            StepTrace(
                index=index,
                timestep=timestep,
                scale=1 if layout is None else layout.scale,
                signals=values,
                tokens=base_tokens if layout is None else layout.tokens,
                base_tokens=base_tokens,
            )
        )
        return layout

    def _measure(self, call: Call, index: int, timestep: float) -> dict[int, float] | None:
        policy, latents = self.policy, call.latents
        if not policy.order:
            # Looking would cost a synchronisation on other devices.
            if latents.device.type == "cpu" and not torch.isfinite(latents).all():
                raise _not_finite(index, timestep)
            return None
        if self._differences is None or self._differences.order != policy.order:
            self._differences = Differences(policy.order)
        channels = self.adapter.config.out_channels if self.adapter else latents.shape[-1]
        difference = self._differences.push(latents[..., :channels].detach())
        if difference is None:
            return None
        # One tensor, one synchronisation. Over a batch the largest signal counts: the finest scale wins.
        values = signals(difference, self._grid(call), policy.scales, policy.rho).amax(0).tolist()
        if not all(abs(v) < float("inf") for v in values):
            raise _not_finite(index, timestep)
        return dict(zip(policy.scales, values, strict=True))

    def _timestep(self, index: int, call: Call) -> float:
        if self._clock.position is not None and index < len(self._timesteps):
            return float(self._timesteps[index])
        return float(call.timestep.flatten()[0]) * self.family.time_scale

    def _grid(self, call: Call) -> Grid:
        """The grid of base tokens, read once per tensor of positions, or once per shape."""
        if self._where is None or not _same(self._where[0], call.where):
            self._where = (call.where, self.family.grid(call))
            self._rotary = {}
        return self._where[1]

    # The hooks on submodules: the data path of a coarse call.

    def _embed(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if self._active is None or self.adapter is None:
            return None
        active, family = self._active, self.family
        return family.as_embedded(
            self.adapter.embed(active.layout, active.call.latents, family.embedded(output))
        )

    def _skip_positions(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        return None if self._active is None else self.family.fewest_positions(args)

    def _positions(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        active = self._active
        if active is None:
            return None
        key = (active.layout, id(active.call.text_ids))
        if len(self._rotary) > 64:
            self._rotary = {}
        if key not in self._rotary:
            # The ids are kept with the table, so that their id() stays theirs.
            table = self.family.positions(module, active.call, active.layout)
            self._rotary[key] = (active.call.text_ids, table)
        return self._rotary[key][1]

    def _lora(self, name: str, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if self._active is None or self.adapter is None:
            return None
        return self.adapter.add_lora(self._active.layout, name, args[0], output, self.family.text_first)

    def _head(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        active = self._active
        if active is None or self.adapter is None:
            return None
        fine = self.family.velocity_in(output)
        call = active.call
        velocity = self.adapter.de_embed(active.layout, args[0], fine, call.latents, call.timestep)
        return self.family.velocity_out(velocity)

    # Keeping the hooks on the right modules: loading a LoRA replaces submodules.

    def _parts(self) -> dict[str, nn.Module]:
        names = (self.family.embedding, self.family.position, self.family.head)
        return {name: getattr(self.transformer, name) for name in names}

    def _bind_parts(self) -> None:
        if any(self._bound.get(name) is not module for name, module in self._parts().items()):
            self._bind()

    def _ready(self, call: Call) -> None:
        self._bind()
        if self.adapter is not None:
            self.adapter.prepare(call.latents.device, call.latents.dtype)

    def _bind(self) -> None:
        if self.adapter is None:
            return
        layers = {name: self.transformer.get_submodule(name) for name in self.adapter.config.layers}
        current = self._parts() | layers
        if all(self._bound.get(name) is module for name, module in current.items()):
            return
        self._unbind()
        self._bound = current
        for name, module in current.items():
            if name == self.family.embedding:
                hooks = [module.register_forward_hook(self._embed)]
            elif name == self.family.head:
                hooks = [module.register_forward_hook(self._head)]
            elif name == self.family.position:
                hooks = [
                    module.register_forward_pre_hook(self._skip_positions),
                    module.register_forward_hook(self._positions),
                ]
            else:
                hooks = [module.register_forward_hook(partial(self._lora, name))]
            self._removers += [hook.remove for hook in hooks]

    def _unbind(self) -> None:
        for remove in self._removers:
            remove()
        self._removers, self._bound = [], {}


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


def _same(one: Any, other: Any) -> bool:
    """Tensors are told by identity: comparing their values would synchronise the device."""
    return one is other or (isinstance(one, tuple) and one == other)


def _not_finite(index: int, timestep: float) -> DditError:
    return DditError(
        f"the latents hold NaN or infinity at step {index} (timestep {timestep:g}); run the pipeline in "
        "float32 or bfloat16 instead of float16, or choose a policy with fewer coarse steps"
    )
