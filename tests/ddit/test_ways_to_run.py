"""The table of the README: diffusers' ways to run a transformer, coarse patches attached before or after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from diffusers.models.attention_dispatch import attention_backend

import ddit_eval
from ddit_eval import Adapter
from ddit_eval.ddit.policies import Explicit, Fixed, Region
from tests.support.attached import MAKE, STEPS, awake, scales

CPU: Any = {"onload_device": torch.device("cpu"), "offload_device": torch.device("cpu")}


# What is done to the pipeline; whether values may differ by rounding.
WAYS: dict[str, tuple[Callable[[Any], object], bool]] = {
    "compiled blocks": (lambda p: p.transformer.compile_repeated_blocks(backend="eager"), True),
    "whole transformer compiled": (lambda p: p.transformer.compile(backend="eager"), True),
    "model offload": (lambda p: p.enable_model_cpu_offload(device="cpu"), False),
    "group offload by block": (
        lambda p: p.transformer.enable_group_offload(
            offload_type="block_level", num_blocks_per_group=1, **CPU
        ),
        False,
    ),
    "group offload by leaf": (
        lambda p: p.transformer.enable_group_offload(offload_type="leaf_level", **CPU),
        False,
    ),
    # `enable_sequential_cpu_offload` does this to it, and on a CPU fails at the text encoders.
    "sequential offload": (lambda p: cpu_offload(p.transformer, torch.device("cpu")), False),
    "attention backend": (lambda p: p.transformer.set_attention_backend("_native_math"), True),
}


@pytest.fixture(autouse=True)
def same_attention_afterwards() -> Iterator[None]:
    """`set_attention_backend` sets that of every other pipeline too."""
    with attention_backend():
        yield


CASES = [
    (name, way, order)
    for name in ("flux", "wan")
    for way in WAYS
    for order in (("first", "last") if name == "flux" or "compiled" not in way else ("first",))
]
CASES += [(name, "compiled blocks", "last") for name in MAKE if name not in ("flux", "wan")]


@pytest.mark.parametrize(("name", "way", "order"), CASES)
def test_coarse_steps_are_what_they_were(name: str, way: str, order: str) -> None:
    change, rounded = WAYS[way]
    near = {"atol": 2e-4, "rtol": 1e-3} if rounded else {"atol": 0.0, "rtol": 0.0}
    pipe, run = MAKE[name]()
    adapter = awake(Adapter.from_base(pipe, rank=2))
    policies = (Explicit([1, 2, 4, 2]), Region(budget=0.5, order=1))
    plain, expected = run(), []
    for policy in policies:
        with ddit_eval.attach(pipe, adapter, policy):
            expected.append(run())
    if order == "last":
        change(pipe)
    handle = ddit_eval.attach(pipe, adapter, policies[0])
    if order == "first":
        change(pipe)
    torch._dynamo.reset()
    for policy, wanted in zip(policies, expected, strict=True):
        handle.policy = policy
        for _ in range(2):
            torch.testing.assert_close(run(), wanted, **near)
    assert [step.scale for step in handle.trace[1:]] == [4] * (STEPS - 1)
    handle.detach()
    torch.testing.assert_close(run(), plain, **near)


@pytest.mark.parametrize("name", ["flux", "wan"])
def test_weights_stored_in_eight_bits(name: str) -> None:
    """The base is another one then; at scale 1 it is that, bit for bit; coarse steps go near those before."""
    pipe, run = MAKE[name]()
    adapter = awake(Adapter.from_base(pipe, rank=2))
    with ddit_eval.attach(pipe, adapter, Fixed(2)):
        coarse = run()
    pipe.transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    plain = run()
    with ddit_eval.attach(pipe, adapter) as handle:
        assert torch.equal(run(), plain)
        handle.policy = Fixed(2)
        cast = run()
        assert scales(handle) == [2] * STEPS
    assert not torch.equal(cast, coarse)
    assert (cast - coarse).square().mean() < 0.02 * coarse.var()
    assert torch.equal(run(), plain)
