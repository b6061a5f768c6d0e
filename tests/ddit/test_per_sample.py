"""A batch whose samples have a schedule each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ddit_eval import Adapter, DditError, attach
from ddit_eval.ddit.batch_split import join, split, take
from ddit_eval.ddit.policies import Fixed, Policy, Region, Threshold
from tests.support.attached import awake
from tests.support.tiny import tiny_flux
from tests.support.tiny_hunyuan import tiny_hunyuan, tiny_hunyuan_15
from tests.support.tiny_wan import tiny_wan

STEPS = 6
Call = Callable[[list[int]], Tensor]  # noise seeds, one a sample, to latents


def flux() -> tuple[Any, Call]:
    pipe = tiny_flux()
    shape = {"height": 64, "width": 64, "max_sequence_length": 8, "guidance_scale": 2.0}
    texts = ["a red star", "a blue square", "a green cross"]
    return pipe, lambda seeds: (
        pipe([texts[s] for s in seeds], generator=noise(seeds), num_inference_steps=STEPS,
             output_type="latent", true_cfg_scale=2.0, negative_prompt=["plain"] * len(seeds), **shape).images
    )  # fmt: skip


def wan() -> tuple[Any, Call]:
    pipe = tiny_wan()
    shape = {"height": 64, "width": 64, "num_frames": 9, "max_sequence_length": 8, "guidance_scale": 2.0}
    texts = ["a red star", "a blue square", "a green cross"]
    return pipe, lambda seeds: (
        pipe([texts[s] for s in seeds], generator=noise(seeds), num_inference_steps=STEPS,
             output_type="latent", **shape).frames
    )  # fmt: skip


def hunyuan(make: Any) -> tuple[Any, Call]:
    tiny = make()
    tiny.call.update(height=64, width=64)

    def call(seeds: list[int]) -> Tensor:
        # A batch of prompts: asked for several videos of one, diffusers' 1.5 repeats not all that it should.
        texts = {
            name: torch.cat([value] * len(seeds)) if isinstance(value, Tensor) else value
            for name, value in tiny.call.items()
        }
        return tiny.pipe(
            **texts, generator=noise(seeds), num_inference_steps=STEPS, output_type="latent"
        ).frames

    return tiny.pipe, call


def noise(seeds: list[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


FAMILIES = [flux, wan, lambda: hunyuan(tiny_hunyuan), lambda: hunyuan(tiny_hunyuan_15)]


@pytest.mark.parametrize("make", FAMILIES, ids=["flux", "wan", "hunyuan", "hunyuan-1.5"])
@pytest.mark.parametrize(
    "policy", [Region(budget=0.5), Threshold(tau=0.02, order=1)], ids=["region", "threshold"]
)
def test_each_sample_is_as_it_would_be_alone(make: Callable[[], tuple[Any, Call]], policy: Policy) -> None:
    pipe, call = make()
    pipe.set_progress_bar_config(disable=True)
    adapter = awake(Adapter.from_base(pipe, rank=2))
    seeds = [0, 1, 2]
    if isinstance(policy, Threshold):
        policy = between(pipe, adapter, call, seeds, policy)
    with attach(pipe, adapter, policy, per_sample=True) as handle:
        together, traces = call(seeds), handle.traces
        assert handle.trace == traces[0]
    assert len(traces) == 3
    kinds = {tuple((step.scale, step.sizes) for step in trace) for trace in traces}
    assert len(kinds) > 1, "the samples are to differ, else nothing is tested"
    for seed, trace in zip(seeds, traces, strict=True):
        with attach(pipe, adapter, policy) as handle:
            alone = call([seed])
            steps = handle.trace
        torch.testing.assert_close(together[seed : seed + 1], alone, atol=2e-4, rtol=1e-3)
        assert [(s.scale, s.tokens, s.sizes) for s in trace] == [(s.scale, s.tokens, s.sizes) for s in steps]


def between(pipe: Any, adapter: Adapter, call: Call, seeds: list[int], policy: Threshold) -> Threshold:
    """`policy` with a tau that parts the samples at the first step that has a signal."""
    with attach(pipe, adapter, policy.model_copy(update={"tau": 1e-30}), per_sample=True) as handle:
        call(seeds)
        signals = sorted(trace[1].signals[4] for trace in handle.traces if trace[1].signals)
    return policy.model_copy(update={"tau": (signals[0] + signals[-1]) / 2})


def test_samples_that_agree_share_one_call() -> None:
    pipe, call = flux()
    pipe.set_progress_bar_config(disable=True)
    rows: list[int] = []
    pipe.transformer.x_embedder.register_forward_hook(lambda _, args, __: rows.append(len(args[0])))
    with attach(pipe, Adapter.from_base(pipe, rank=2), Fixed(2), per_sample=True) as handle:
        call([0, 1, 2])
        assert {step.scale for trace in handle.traces for step in trace} == {2}
    assert rows == [3] * 2 * STEPS


def test_a_failure_in_a_later_part_leaves_nothing_behind() -> None:
    pipe, call = flux()
    pipe.set_progress_bar_config(disable=True)
    adapter = awake(Adapter.from_base(pipe, rank=2))
    with attach(pipe, adapter, Region(budget=0.4), per_sample=True) as handle:
        expected = call([0, 1])
        seen: list[int] = []

        def fail(_: Any, args: Any) -> None:
            seen.append(len(args[0]))
            if len(seen) == 8:  # three whole steps of two calls each, then the second sample of the fourth
                raise KeyboardInterrupt

        hook = pipe.transformer.x_embedder.register_forward_pre_hook(fail)
        with pytest.raises(KeyboardInterrupt):
            call([0, 1])
        assert seen == [2] * 6 + [1] * 2
        hook.remove()
        torch.testing.assert_close(call([0, 1]), expected, rtol=0, atol=0)
        assert [len(trace) for trace in handle.traces] == [STEPS, STEPS]


def test_splitting_and_joining() -> None:
    assert split([None, None]) == [(None, [0, 1])]
    values = {"x": torch.arange(3), "ids": torch.arange(3), "n": 4, "pair": [torch.arange(6).view(3, 2)]}
    part = take(values, [2, 0], 3, ("ids",))
    assert part["x"].tolist() == [2, 0]
    assert part["ids"].tolist() == [0, 1, 2]
    assert part["n"] == 4
    assert part["pair"][0].tolist() == [[4, 5], [0, 1]]
    whole = join([(torch.tensor([2, 0]),), (torch.tensor([1]),)], [[2, 0], [1]])
    assert whole[0].tolist() == [0, 1, 2]
    with pytest.raises(DditError, match="cannot be split"):
        join([object()], [[0]])
