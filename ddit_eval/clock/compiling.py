"""torch.compile on a transformer's repeated blocks, as a switch: one process times both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ddit_eval.ddit.diffusers_private import repeated_blocks
from ddit_eval.errors import DditError


def graphs() -> int:
    """Graphs that torch.compile has made in this process so far; the difference of two is the recompiles."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


class CompiledBlocks:
    """The repeated blocks of a diffusers transformer, compiled where asked for (regional compilation).

    Compiled code is kept while the switch is off, so that turning it on again costs nothing.
    Raises `DditError` for a transformer that does not say which of its blocks repeat.
    """

    def __init__(self, transformer: nn.Module, **options: Any):
        names = repeated_blocks(transformer)
        self.blocks = [m for m in transformer.modules() if type(m).__name__ in names]
        if not self.blocks:
            raise DditError(
                f"{type(transformer).__name__} does not name its repeated blocks, so they cannot be "
                "compiled apart; time it without `compile`"
            )
        for block in self.blocks:
            block.compile(**options)
        self._compiled = [block._compiled_call_impl for block in self.blocks]
        self._switch(False)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Compiled inside, eager outside."""
        self._switch(True)
        try:
            yield
        finally:
            self._switch(False)

    def _switch(self, on: bool) -> None:
        for block, compiled in zip(self.blocks, self._compiled, strict=True):
            block._compiled_call_impl = compiled if on else None
