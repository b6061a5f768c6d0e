"""One transformer and its adapter, bound by hooks: the data path of a coarse call.

Native forward hooks carry the data: on the embedding (coarse tokens come out), the position module
(centres of patches go in), the head (base tokens come out again) and the feed-forwards (LoRA). While no
layout is active, no hook touches a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ddit_eval.ddit.adapter.adapter import Adapter, Lora, add_loras
from ddit_eval.ddit.diffusers_private import Mailbox
from ddit_eval.ddit.families import Call, family_of
from ddit_eval.ddit.layout import SKIPPED, Grid, Layout, uniform
from ddit_eval.ddit.regions import tile
from ddit_eval.ddit.skipping import Memory
from ddit_eval.errors import DditError


@dataclass(frozen=True)
class _Active:
    """The coarse transformer call in progress."""

    layout: Layout
    call: Call


class Binding:
    """`name` is the pipeline's attribute that holds `transformer`; without an adapter only scale 1 runs."""

    def __init__(self, name: str, transformer: nn.Module, adapter: Adapter | None):
        self.name, self.transformer, self.adapter = name, transformer, adapter
        self.family = family_of(transformer)
        self.memory = Memory()  # for steps that are skipped
        self._used = adapter  # or a copy of it, where and as the latents are
        self._made: tuple[Any, ...] = ()  # what the copy was made of and for
        self._active: _Active | None = None
        self._where: tuple[Any, Grid] | None = None
        self._tables: dict[tuple[Layout, Any], tuple[Any, Any]] = {}
        self._asked = 0  # calls of the position module within the transformer call
        self._bound: dict[str, nn.Module] = {}
        self._removers: list[Callable[[], None]] = []

    @property
    def scales(self) -> tuple[int, ...]:
        """The coarse scales that can run."""
        return self.adapter.scales if self.adapter else ()

    def require(self, scale: int) -> None:
        """Raise `DditError` where there is no such coarse scale."""
        if scale == 0:
            raise DditError("scale 0 skips a call, which only a policy may; force a scale of 1 or more")
        if self.adapter is None:
            raise DditError(f"scale {scale} needs an adapter, and there is none; pass one to attach()")
        self.adapter.branch(scale)

    def read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        return self.family.read(self.transformer, args, kwargs)

    def grid(self, call: Call) -> Grid:
        """The grid of base tokens, read once per tensor of positions, or once per shape.

        Raises `DditError` where the call can have no coarse patches.
        """
        if call.refused:
            raise DditError(f"this call can have no coarse patches: {call.refused}; choose the policy Base()")
        if self._where is None or not _same(self._where[0], call.where):
            self._where = (call.where, self.family.grid(call))
            self._tables = {}
        return self._where[1]

    def tile(self, call: Call, scale: int) -> Layout:
        if scale == 0:
            return SKIPPED
        grid = self.grid(call)
        return self.adapter.tile(grid, scale, call.given) if self.adapter else uniform(grid, scale)

    def tile_map(self, call: Call, allowed: Tensor, scales: Sequence[int]) -> Layout:
        """The tiling of a map (F, H, W) of the coarsest scale that each generated base token allows."""
        times = self.adapter.config.times if self.adapter else ()
        return tile(allowed, scales, times, call.given)

    def generated(self, call: Call) -> Tensor:
        """(B, n, C_out) the base tokens that the run generates: no conditioning channels, no given frames."""
        width = self.family.head_layer(self.transformer).out_features
        return call.latents[:, call.given * self._frame(call) :, :width]

    def generated_grid(self, call: Call) -> Grid:
        """The grid of `generated`."""
        frames, height, width = self.grid(call)
        return (frames - call.given, height, width)

    def _frame(self, call: Call) -> int:
        if not call.given:
            return 0  # reading the grid may cost a synchronisation
        _, height, width = self.grid(call)
        return height * width

    def start(self, layout: Layout | None, call: Call) -> None:
        """Run the call on `layout`; None or the base layout: as diffusers wrote it."""
        self._active = None if layout is None or layout.is_base else _Active(layout, call)
        self._asked = 0

    def stop(self) -> None:
        self._active = None

    def ready(self, call: Call) -> None:
        """The adapter where and as the latents are, hooks on the present submodules."""
        if self.adapter is not None:
            where = (call.latents.device, call.latents.dtype)
            made = (*where, self.adapter.training, self.adapter.state())
            if made != self._made:
                if made[:2] != self._made[:2]:
                    self._tables = {}
                self._made, used = made, self.adapter.on(*where)
                if used is not self._used:
                    self._unhook()
                    self._used = used
        self._bind()

    def bind_parts(self) -> None:
        """`ready` for a later call of a run: loading a LoRA replaces submodules."""
        if any(self._bound.get(name) is not module for name, module in self._parts().items()):
            self._bind()

    def release(self) -> None:
        """Leave the transformer as it was found."""
        self._unhook()
        self._active, self._used, self._made, self._tables = None, None, (), {}

    def _unhook(self) -> None:
        for remove in self._removers:
            remove()
        self._removers, self._bound = [], {}

    # The hooks on submodules.

    def _embed(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if self._active is None or self._used is None:
            return None
        active, family = self._active, self.family
        tokens = self._used.embed(active.layout, active.call.latents, family.embedded(output))
        if not family.position:
            tokens = tokens + self._table(module, active, output)
        return family.as_embedded(tokens)

    def _skip_positions(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._active is None:
            return None
        self._asked += 1
        return None if self._of_text else self.family.fewest_positions(args)

    def _positions(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if self._active is None or self._of_text:
            return None
        return self._table(module, self._active, output)

    @property
    def _of_text(self) -> bool:
        """Whether the position module is being asked for the text's."""
        return self.family.text_apart and self._asked > 1

    def _table(self, module: nn.Module, active: _Active, output: Any) -> Any:
        """Positions of a layout, made once."""
        beside = active.call.beside
        key = (active.layout, beside if isinstance(beside, tuple) else id(beside))
        if len(self._tables) > 64:
            self._tables = {}
        if key not in self._tables:
            # What they were made from is kept with them, so that its id() stays its own.
            with torch.no_grad():
                made = self.family.positions(module, active.call, active.layout, output)
            self._tables[key] = (beside, made)
        return self._tables[key][1]

    def _lora(
        self, loras: dict[int, Lora], module: nn.Module, args: tuple[Any, ...], output: Tensor
    ) -> Tensor | None:
        """`loras` and not the layer's name: compiled code serves all blocks as long as no value tells them
        apart, and a name would."""
        if self._active is None or not loras:
            return None
        return add_loras(loras, self._active.layout, args[0], output, self.family.text_first)

    def _head(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        active = self._active
        if active is None or self._used is None:
            return None
        fine = self.family.velocity_in(output)
        call = active.call
        velocity = self._used.de_embed(active.layout, args[0], fine, call.latents, call.timestep)
        return self.family.velocity_out(velocity)

    def _parts(self) -> dict[str, nn.Module]:
        names = (self.family.embedding, self.family.position, self.family.head)
        return {name: self.transformer.get_submodule(name) for name in names if name}

    def _bind(self) -> None:
        if self._used is None:
            return
        layers = {name: self.transformer.get_submodule(name) for name in self._used.config.layers}
        current = self._parts() | layers
        if all(self._bound.get(name) is module for name, module in current.items()):
            return
        self._unhook()
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
                hooks = [module.register_forward_hook(partial(self._lora, self._used.loras(name)))]
            self._removers += [hook.remove for hook in hooks]


def bindings_of(pipe: Any, adapter: Adapter | None, adapter_2: Adapter | None) -> list[Binding]:
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


def _same(one: Any, other: Any) -> bool:
    """Tensors are told by identity: comparing their values would synchronise the device."""
    return one is other or (isinstance(one, tuple) and one == other)
