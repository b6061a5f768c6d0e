from __future__ import annotations

from typing import Any

import pytest
import torch

from ddit_eval.ddit.adapter.adapter import Adapter
from ddit_eval.ddit.handle import attach
from ddit_eval.ddit.layout import uniform
from ddit_eval.ddit.policies import Fixed
from ddit_eval.ddit.regions import tile
from ddit_eval.ddit.trace import StepTrace
from ddit_eval.errors import DditError
from ddit_eval.models import flops
from ddit_eval.models.cost import flop_table, flops_of, flops_of_counts
from ddit_eval.models.load import load_pipeline
from tests.support.tiny import CALL, tiny_flux, tiny_transformer

TEXT = 8


def call(transformer: Any, grid: tuple[int, int, int], batch: int = 1) -> Any:
    _, rows, columns = grid
    config = transformer.config
    ids = torch.zeros(rows, columns, 3)
    ids[..., 1] += torch.arange(rows)[:, None]
    ids[..., 2] += torch.arange(columns)[None]
    return transformer(
        hidden_states=torch.randn(batch, rows * columns, config.in_channels),
        encoder_hidden_states=torch.randn(batch, TEXT, config.joint_attention_dim),
        pooled_projections=torch.randn(batch, config.pooled_projection_dim),
        timestep=torch.full((batch,), 0.5),
        img_ids=ids.reshape(-1, 3),
        txt_ids=torch.zeros(TEXT, 3),
        guidance=torch.full((batch,), 3.5) if config.guidance_embeds else None,
    )


@pytest.mark.parametrize("guidance", [False, True])
@pytest.mark.parametrize("grid", [(1, 8, 8), (1, 6, 10)])
def test_formula_equals_what_torch_counts_at_scale_1(guidance: bool, grid: tuple[int, int, int]) -> None:
    transformer = tiny_transformer(guidance).eval()
    seen = flops.counted(lambda: call(transformer, grid))
    assert flops.forward(transformer, uniform(grid, 1), TEXT) == seen
    assert flops.counted(lambda: call(transformer, grid, batch=3)) == 3 * seen


@pytest.mark.parametrize("detail", ["none", "zero", "analytic", "conv"])
@pytest.mark.parametrize(("height", "scale"), [(32, 2), (32, 4), (36, 2), (40, 4)])
def test_formula_equals_what_torch_counts_with_an_adapter(detail: Any, height: int, scale: int) -> None:
    """Height 36 px is 9 rows of base tokens, 40 px is 10: ragged borders."""
    pipe = tiny_flux()
    adapter = Adapter.from_base(pipe, scales=(2, 4), rank=4, detail=detail).eval()
    layout = uniform(flops.grid_of(pipe, height, 32), scale)
    handle = attach(pipe, adapter=adapter, policy=Fixed(scale))
    embeds = pipe.encode_prompt(prompt="a red star", prompt_2=None, max_sequence_length=TEXT)
    arguments = {**CALL, "height": height, "num_inference_steps": 2}
    arguments |= {"prompt_embeds": embeds[0], "pooled_prompt_embeds": embeds[1]}
    seen = flops.counted(lambda: pipe(**arguments))
    handle.detach()
    assert 2 * flops.forward(pipe.transformer, layout, TEXT, adapter) == seen


@pytest.mark.parametrize("detail", ["none", "conv"])
def test_formula_equals_what_torch_counts_where_sizes_are_mixed(detail: Any) -> None:
    pipe = tiny_flux()
    adapter = Adapter.from_base(pipe, scales=(2, 4), rank=4, detail=detail).eval()
    allowed = torch.full((1, 8, 8), 4)
    allowed[0, :3, :3] = 1
    allowed[0, 4:, :4] = 2
    layout = tile(allowed, (2, 4))
    assert {g.scale for g in layout.groups} == {1, 2, 4}
    with attach(pipe, adapter=adapter) as handle, handle.forced(layout):
        seen = flops.counted(lambda: call(pipe.transformer, (1, 8, 8)))
    assert flops.forward(pipe.transformer, layout, TEXT, adapter) == seen


def test_the_cost_of_several_sizes_needs_their_numbers_alone() -> None:
    allowed = torch.full((1, 16, 16), 4)
    allowed[0, 2:9, 5:9] = 1
    layout = tile(allowed, (2, 4))
    counts = {g.scale: len(g.indices) for g in layout.groups}
    found = flops_of_counts("mini-flux", "mini-flux", (64, 64), counts)
    pipe = load_pipeline("mini-flux")
    adapter = Adapter.from_pretrained("mini-flux")
    assert found == flops.forward(pipe.transformer, layout, 32, adapter)
    table = flop_table("mini-flux", "mini-flux", 64, 64)
    assert flops_of_counts("mini-flux", "mini-flux", (64, 64), {2: 64}) == table[2]
    trace = [StepTrace(0, 1000.0, 4, None, 1, 1, flops=found), StepTrace(1, 500.0, 1, None, 1, 1)]
    trace.append(StepTrace(2, 250.0, 0, None, 0, 1))  # skipped
    assert flops_of(trace, table, calls=2) == 2 * (found + table[1])


def test_coarser_is_cheaper_and_the_parts_add_up() -> None:
    transformer = tiny_transformer().eval()
    adapter = Adapter.from_base(transformer, rank=4, detail="none")
    table = flops.by_scale(transformer, (1, 16, 16), TEXT, (2, 4), adapter)
    assert table[1] > table[2] > table[4]
    layout = uniform((1, 16, 16), 2)
    named = flops.parts(transformer, layout, TEXT, adapter)
    assert sum(named.values()) == table[2]
    assert named["adapter.lora"] > 0


def test_a_coarse_layout_without_an_adapter_is_refused() -> None:
    with pytest.raises(DditError, match="needs an adapter"):
        flops.forward(tiny_transformer(), uniform((1, 8, 8), 2), TEXT)
