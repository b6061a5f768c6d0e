"""Samples of one batch that want different patches: the transformer runs once for each layout among them.

Samples of one layout share a call. Different tilings cannot, not even of equally many tokens: FLUX and
others have one table of positions for the whole batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ddit_eval.ddit.layout import Layout
from ddit_eval.ddit.output import velocity_of, with_velocity

Split = list[tuple[Layout | None, list[int]]]  # each layout and the samples (rows of the batch) that have it


def split(layouts: Sequence[Layout | None]) -> Split:
    """The samples by layout, in order of first appearance; equal tilings are one object."""
    found: dict[Layout | None, list[int]] = {}
    for row, layout in enumerate(layouts):
        found.setdefault(layout, []).append(row)
    return list(found.items())


def named(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of a call of `module` by their names."""
    return {**dict(zip(inspect.signature(module.forward).parameters, args, strict=False)), **kwargs}


def take(values: Mapping[str, Any], rows: Sequence[int], batch: int, shared: Sequence[str]) -> dict[str, Any]:
    """The arguments of a call for some of its samples.

    A tensor whose first side is `batch` holds a row a sample, except for those that `shared` names.
    """

    def pick(value: Any) -> Any:
        if isinstance(value, Tensor) and value.ndim and len(value) == batch:
            return value[list(rows)]
        if isinstance(value, (list, tuple)):
            return type(value)(map(pick, value))
        return value

    return {name: value if name in shared else pick(value) for name, value in values.items()}


def join(outputs: Sequence[Any], rows: Sequence[Sequence[int]]) -> Any:
    """One output of the transformer from those of its parts; `rows[i]`: the samples of `outputs[i]`."""
    order = torch.tensor([row for some in rows for row in some]).argsort()
    parts = [velocity_of(output) for output in outputs]
    return with_velocity(outputs[0], torch.cat(parts)[order.to(parts[0].device)])
