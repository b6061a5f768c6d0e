"""diffusers' caches under changing layouts: a step after a change is as without a cache."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers import (
    FasterCacheConfig,
    FirstBlockCacheConfig,
    PyramidAttentionBroadcastConfig,
    SeaCacheConfig,
)
from diffusers.hooks import MagCacheConfig, TaylorSeerCacheConfig
from torch import Tensor

import ddit_eval
from ddit_eval import Adapter, DditError
from ddit_eval.ddit import caches
from ddit_eval.ddit.policies import Explicit, Fixed, Region
from tests.support.attached import MAKE, awake, scales

STEPS = 4

# Settings under which a cache reuses wherever it has anything.
CACHES: dict[str, Callable[[Any], object]] = {
    "first block": lambda pipe: FirstBlockCacheConfig(threshold=1e9),
    "taylor seer": lambda pipe: TaylorSeerCacheConfig(
        cache_interval=9, disable_cache_before_step=1, max_order=1
    ),
    "mag": lambda pipe: MagCacheConfig(
        threshold=1e9,
        max_skip_steps=9,
        retention_ratio=0.0,
        num_inference_steps=STEPS,
        mag_ratios=[1.0] * STEPS,
    ),
    "pyramid": lambda pipe: PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=9,
        spatial_attention_timestep_skip_range=(-1, 1001),
        current_timestep_callback=lambda: pipe._current_timestep,
    ),
    "faster": lambda pipe: FasterCacheConfig(
        spatial_attention_block_skip_range=9,
        spatial_attention_timestep_skip_range=(-1, 999),
        current_timestep_callback=lambda: pipe._current_timestep,
        is_guidance_distilled=True,
        attention_weight_callback=lambda _: 0.5,
    ),
    "sea": lambda pipe: SeaCacheConfig(
        threshold=1e9, residual_order=0, cache_end_steps=0, max_consecutive_cached=0
    ),
}


def run_of(name: str, cache: str) -> tuple[Any, Callable[[], Tensor], Adapter]:
    pipe, run = MAKE[name]()
    adapter = awake(Adapter.from_base(pipe, rank=2))
    return pipe, run, adapter


# Two keep one state for both calls of guidance, whatever the layout, so Wan's pipeline is not for them;
# SeaCache knows video alone.
CASES = [(name, cache) for name in ("flux", "wan") for cache in CACHES]
CASES = [case for case in CASES if case not in (("wan", "pyramid"), ("wan", "faster"), ("flux", "sea"))]


@pytest.mark.parametrize(("name", "cache"), CASES)
def test_where_every_step_changes_the_layout_nothing_is_reused(name: str, cache: str) -> None:
    pipe, run, adapter = run_of(name, cache)
    policy = Explicit([1, 2, 4, 1])
    with ddit_eval.attach(pipe, adapter, policy):
        expected = run()
    pipe.transformer.enable_cache(CACHES[cache](pipe))
    with ddit_eval.attach(pipe, adapter, policy) as handle:
        for _ in range(2):
            assert torch.equal(run(), expected)
            assert scales(handle) == [1, 2, 4, 1]


@pytest.mark.parametrize("cache", list(CACHES))
def test_within_a_layout_the_cache_works(cache: str) -> None:
    name = "wan" if cache == "sea" else "flux"
    pipe, run, adapter = run_of(name, cache)
    calls: list[int] = []
    transformer = pipe.transformer
    block = transformer.blocks[1].attn1 if name == "wan" else transformer.single_transformer_blocks[0].attn
    block.to_q.register_forward_hook(lambda *_: calls.append(1))
    with ddit_eval.attach(pipe, adapter, Fixed(2)):
        expected = run()
    without = len(calls)
    calls.clear()
    pipe.transformer.enable_cache(CACHES[cache](pipe))
    with ddit_eval.attach(pipe, adapter, Fixed(2)):
        cached = run()
    assert 0 < len(calls) < without
    assert not torch.equal(cached, expected)
    assert torch.isfinite(cached).all()


def test_two_layouts_of_equally_many_tokens_share_nothing() -> None:
    """No shape would give this away."""
    pipe, run, adapter = run_of("flux", "first block")
    policy = Region(budget=0.5, order=1)
    with ddit_eval.attach(pipe, adapter, policy) as handle:
        expected = run()
        steps = handle.trace
    assert all(one.sizes != other.sizes for one, other in pairwise(steps))
    assert len({step.tokens for step in steps[1:]}) == 1
    pipe.transformer.enable_cache(CACHES["first block"](pipe))
    with ddit_eval.attach(pipe, adapter, policy):
        assert torch.equal(run(), expected)


def test_a_cache_beside_samples_of_their_own_is_refused() -> None:
    from tests.support.tiny import CALL

    pipe, _, adapter = run_of("flux", "first block")
    pipe.transformer.enable_cache(CACHES["first block"](pipe))
    assert caches.has_cache(pipe.transformer)
    noise = [torch.Generator().manual_seed(i) for i in range(2)]
    with (
        ddit_eval.attach(pipe, adapter, Region(budget=0.5, order=1), per_sample=True),
        pytest.raises(DditError, match="what a cache keeps is of them all"),
    ):
        pipe(["a red star", "a blue square"], generator=noise, num_inference_steps=STEPS, **CALL)
    pipe.transformer.disable_cache()
    assert not caches.has_cache(pipe.transformer)
