"""Adapters that do something, and the tiny pipelines that they are attached to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ddit_eval import Adapter, Handle
from ddit_eval.ddit.layout import Group, Layout, uniform
from tests.support.tiny import CALL, tiny_flux
from tests.support.tiny_families import MAKERS
from tests.support.tiny_wan import CALL as CLIP
from tests.support.tiny_wan import tiny_wan

STEPS = 4
GRID = (1, 8, 8)


def awake(adapter: Adapter) -> Adapter:
    """With everything that starts at zero set to something, so that a path that is missed shows."""
    torch.manual_seed(2)
    for name, p in adapter.eval().named_parameters():
        if name.endswith((".b", "identifier", "leave.weight", "time_out.weight")):
            torch.nn.init.normal_(p, std=0.05)
    return adapter


def scales(handle: Handle) -> list[int]:
    return [step.scale for step in handle.trace]


def mixed() -> Layout:
    """One 4p patch, two 2p patches, the rest fine."""
    quarter = uniform(GRID, 4).groups[0].indices[:1]
    twos = uniform(GRID, 2).groups[0].indices[[2, 3]]
    taken = set(quarter.flatten().tolist()) | set(twos.flatten().tolist())
    fine = torch.tensor([[i] for i in range(64) if i not in taken])
    return Layout(GRID, (Group(1, fine), Group(2, twos), Group(4, quarter)))


def flux() -> tuple[Any, Callable[[], Tensor]]:
    pipe = tiny_flux()
    return (
        pipe,
        lambda: (
            pipe(
                "a red star", generator=torch.Generator().manual_seed(0), num_inference_steps=STEPS, **CALL
            ).images
        ),
    )


def wan() -> tuple[Any, Callable[[], Tensor]]:
    pipe = tiny_wan()
    return pipe, lambda: (
        pipe("a red star", generator=torch.Generator().manual_seed(0), num_inference_steps=STEPS,
             guidance_scale=2.0, **CLIP).frames
    )  # fmt: skip


def of_family(name: str) -> tuple[Any, Callable[[], Tensor]]:
    tiny = MAKERS[name]()
    return tiny.pipe, lambda: tiny.run(steps=STEPS)


MAKE = {"flux": flux, "wan": wan} | {
    name: lambda name=name: of_family(name) for name in ("flux2", "qwen-image", "ltx")
}
