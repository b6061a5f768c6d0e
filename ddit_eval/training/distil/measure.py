"""Distillation error by timestep: ||v_student - v_base||^2 / var(v_base), on unseen pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ddit_eval.ddit.layout import Layout
from ddit_eval.training.inputs import inputs_of

FLOW_TIMES = (0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95, 1.0)


def relative_error(student: Tensor, base: Tensor) -> float:
    """Mean squared error over the base velocity's variance; any shape, accumulated in float64."""
    student, base = student.double(), base.double()
    return float((student - base).square().mean() / base.var(correction=0))


@torch.no_grad()
def error_table(
    pipe: Any,
    handle: Any,
    latents: Tensor,
    prompts: list[str],
    text_tokens: int,
    times: Sequence[float] = FLOW_TIMES,
    batch: int = 16,
    layouts: Sequence[int | Layout] | None = None,
) -> dict[int | Layout, list[float]]:
    """For each coarse scale of the attached adapter, or each of `layouts`: the error of its transformer at
    each of `times`.

    `latents` (N, C, [F,] h, w), clean and normalised. The noise is the same for all and in every call.
    """
    inputs = inputs_of(pipe)
    table: dict[int | Layout, list[float]] = {s: [] for s in layouts or handle.adapter.scales}
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(5))
    for time in times:
        base: list[Tensor] = []
        coarse: dict[int | Layout, list[Tensor]] = {s: [] for s in table}
        for i in range(0, len(latents), batch):
            at = slice(i, i + batch)
            t = torch.full((len(latents[at]),), time)
            kwargs = inputs.build(pipe, latents[at], prompts[at], t, noise[at], text_tokens)
            with handle.forced(1):
                base.append(handle.transformer(**kwargs)[0].float().cpu())
            for layout in table:
                with handle.forced(layout):
                    coarse[layout].append(handle.transformer(**kwargs)[0].float().cpu())
        for layout, parts in coarse.items():
            table[layout].append(relative_error(torch.cat(parts), torch.cat(base)))
    return table
