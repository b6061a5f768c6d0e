"""Skipped steps: bit for bit a loop that is written out, in every way to run."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from accelerate.hooks import remove_hook_from_module
from diffusers import FirstBlockCacheConfig, FluxImg2ImgPipeline
from diffusers.hooks import MagCacheConfig
from torch import Tensor, nn

import ddit_eval
from ddit_eval import Adapter, DditError
from ddit_eval.ddit.policies import Base, CoarseFirst, Explicit, Fixed, Mixed, Skip
from tests.support import by_hand
from tests.support.attached import awake, scales
from tests.support.tiny import CALL, tiny_flux
from tests.support.tiny_tasks import TASKS
from tests.support.tiny_wan import run_wan, tiny_wan

PLAN = [1, 0, 1, 1, 0, 0, 1, 0]
STEPS = len(PLAN)
CPU: Any = {"onload_device": torch.device("cpu"), "offload_device": torch.device("cpu")}


def flux(pipe: Any, steps: int = STEPS, **more: Any) -> Tensor:
    noise = torch.Generator().manual_seed(0)
    return pipe(by_hand.PROMPT, num_inference_steps=steps, generator=noise, **{**CALL, **more}).images


def guided_flux(pipe: Any) -> Tensor:
    return flux(pipe, true_cfg_scale=2.0, negative_prompt="")


def wan(pipe: Any, steps: int = STEPS) -> Tensor:
    return run_wan(pipe, steps=steps, guidance=2.0)


RUNS: dict[str, tuple[Callable[[], Any], Callable[[Any], Tensor], Callable[..., Tensor]]] = {
    "flux": (tiny_flux, flux, by_hand.flux),
    "flux, guided": (tiny_flux, guided_flux, lambda *a: by_hand.flux(*a, guidance=2.0)),
    "wan, guided": (tiny_wan, wan, by_hand.wan),
}


def counted(module: nn.Module) -> list[int]:
    """A list that grows by one a call of the transformer's first block."""
    calls: list[int] = []
    blocks: Any = module.blocks if hasattr(module, "blocks") else module.transformer_blocks
    blocks[0].register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize("name", RUNS)
def test_bit_for_bit_what_is_written_out(name: str) -> None:
    make, run, written = RUNS[name]
    pipe = make()
    plain, calls = run(pipe), counted(pipe.transformer)
    per_step = 1 if name == "flux" else 2
    assert torch.equal(written(pipe, [1] * STEPS), plain)
    expected = {gain: written(pipe, PLAN, gain) for gain in (0.0, 0.7)}
    assert not torch.equal(*expected.values())
    thirds = written(pipe, [1, 0, 0, 1, 0, 0, 1, 0], 1.0)
    with ddit_eval.attach(pipe) as handle:
        for gain, wanted in expected.items():
            handle.policy = Explicit(PLAN, forecast=1, gain=gain) if gain else Explicit(PLAN)
            for _ in range(2):
                calls.clear()
                assert torch.equal(run(pipe), wanted)
                assert len(calls) == per_step * sum(PLAN)
                assert scales(handle) == PLAN
        handle.policy = Skip(every=3, forecast=1)
        assert torch.equal(run(pipe), thirds)
        handle.policy = Skip(every=1)
        assert torch.equal(run(pipe), plain)
    assert torch.equal(run(pipe), plain)


def test_the_trace_of_a_skipped_step() -> None:
    pipe = tiny_flux()
    with ddit_eval.attach(pipe, policy=Skip(every=2)) as handle:
        flux(pipe, 3)
        fine, skipped, _ = handle.trace
    assert (fine.scale, fine.tokens) == (1, 64)
    assert (skipped.scale, skipped.tokens, skipped.base_tokens) == (0, 0, 64)
    assert skipped.counts is skipped.sizes is skipped.signals is None
    assert skipped.seconds > 0


def test_the_first_step_is_always_fine() -> None:
    pipe = tiny_flux()
    expected = by_hand.flux(pipe, [1, 0, 1, 0])
    with ddit_eval.attach(pipe, policy=Explicit([0, 0, 1, 0])) as handle:
        for _ in range(2):  # not from what the run before left, either
            assert torch.equal(flux(pipe, 4), expected)
            assert scales(handle) == [1, 0, 1, 0]


def test_coarse_and_skipped_steps_in_one_plan() -> None:
    pipe = tiny_flux()
    adapter = awake(Adapter.from_base(pipe, rank=2))
    calls = counted(pipe.transformer)
    with ddit_eval.attach(pipe, adapter, Mixed(every=2, coarse=2)) as handle:
        flux(pipe)
        assert scales(handle) == [2, 2, 1, 0, 1, 0, 1, 0]
        assert [step.tokens for step in handle.trace] == [16, 16, 64, 0, 64, 0, 64, 0]
        assert len(calls) == 5
    with pytest.raises(DditError, match="may choose scale 2, but there is no adapter"):
        ddit_eval.attach(pipe, policy=Mixed(every=2, coarse=2))


@pytest.mark.parametrize("per_sample", [False, True])
def test_a_batch(per_sample: bool) -> None:
    pipe, texts = tiny_flux(), ["a red star", "a blue square"]
    alone = by_hand.flux(pipe, [1, 0] * 4)

    def run() -> Tensor:
        noise = [torch.Generator().manual_seed(i) for i in range(2)]
        return pipe(texts, num_inference_steps=STEPS, generator=noise, **CALL).images

    with ddit_eval.attach(pipe, policy=Skip(every=2), per_sample=per_sample) as handle:
        torch.testing.assert_close(run()[:1], alone, atol=1e-4, rtol=1e-3)
        assert [[s.scale for s in trace] for trace in handle.traces] == [[1, 0] * 4] * (1 + per_sample)


def test_outputs_keep_their_kind() -> None:
    """A loop of one's own over the transformer alone."""
    transformer = tiny_wan().transformer
    z, text = torch.randn(1, 3, 3, 8, 8), torch.randn(1, 8, 16)
    with ddit_eval.attach(transformer, policy=Skip(every=9)) as handle, torch.no_grad():
        for value in (True, False):
            said = [
                transformer(z + t, torch.tensor([t]), encoder_hidden_states=text, return_dict=value)
                for t in (900.0, 700.0)
            ]
            assert type(said[0]) is type(said[1])
            (first, other) = (s.sample if value else s[0] for s in said)
            assert torch.equal(first, other)
            assert first.data_ptr() != other.data_ptr()
            assert (first.dtype, first.device) == (other.dtype, other.device)
        assert scales(handle) == [1, 0]


def test_another_way_to_return_cannot_be_skipped() -> None:
    transformer = tiny_wan().transformer
    z, text = torch.randn(1, 3, 3, 8, 8), torch.randn(1, 8, 16)
    with ddit_eval.attach(transformer, policy=Skip(every=9)) as handle, torch.no_grad():
        for i, t in enumerate((900.0, 700.0, 500.0)):
            said = transformer(z + t, torch.tensor([t]), text, return_dict=i == 0)
            assert isinstance(said, tuple) == (i > 0)
        assert scales(handle) == [1, 1, 0]


def test_a_call_that_the_last_step_did_not_have_makes_the_step_fine() -> None:
    transformer = tiny_wan().transformer
    z, text = torch.randn(1, 3, 3, 8, 8), torch.randn(2, 8, 16)
    calls = counted(transformer)
    with ddit_eval.attach(transformer, policy=Skip(every=9)) as handle, torch.no_grad():
        for t, texts in ((900.0, 1), (700.0, 2), (500.0, 2), (300.0, 2)):
            latents = z + t
            for i in range(texts):
                transformer(latents, torch.tensor([t]), text[i : i + 1])
        assert scales(handle) == [1, 1, 1, 0]
        assert len(calls) == 1 + 1 + 2
        assert handle.trace[1].tokens == handle.trace[1].base_tokens


@pytest.mark.parametrize("name", ["flux image, guided", "wan video", "sd3, two stages",
                                  "sd3, perturbed attention", "flux2 inpainting",
                                  "ltx from an image", "pixart, pseudo linear"])  # fmt: skip
def test_tasks(name: str) -> None:
    task = TASKS[name]()
    plain, wanted = task.run(), [i % 2 == 0 for i in range(task.steps)]
    calls: list[int] = []
    task.pipe.transformer.register_forward_hook(lambda *_: calls.append(1))
    task.run()
    each = len(calls) // task.steps
    calls.clear()
    with ddit_eval.attach(task.pipe, policy=Skip(every=2)) as handle:
        made = task.run()
        assert scales(handle) == wanted
        assert len(calls) == each * sum(wanted)
        assert torch.isfinite(made).all()
        assert not torch.equal(made, plain)
        handle.policy = Skip(every=2, forecast=1, gain=0.5)
        assert torch.isfinite(task.run()).all()
        handle.policy = Skip(every=1)
        assert torch.equal(task.run(), plain)


def test_the_second_transformer_begins_fine() -> None:
    from diffusers import WanPipeline

    from tests.support.tiny_wan import tiny_wan_transformer

    parts = {k: v for k, v in tiny_wan().components.items() if not k.endswith("_2")}
    pipe = WanPipeline(**parts | {"transformer_2": tiny_wan_transformer().eval()}, boundary_ratio=0.8)
    pipe.set_progress_bar_config(disable=True)
    with ddit_eval.attach(pipe, policy=Skip(every=99)) as handle:
        wan(pipe)
        high = sum(step.timestep >= 800 for step in handle.trace)
        assert 1 < high < STEPS - 1
        assert scales(handle) == [1, *[0] * (high - 1), 1, *[0] * (STEPS - high - 1)]


def test_forced_calls_are_not_skipped() -> None:
    pipe = tiny_flux()
    adapter = awake(Adapter.from_base(pipe, rank=2))
    calls = counted(pipe.transformer)
    with ddit_eval.attach(pipe, adapter, Skip(every=9)) as handle:
        with handle.forced(2):
            flux(pipe, 3)
        assert len(calls) == 3
        assert handle.trace == []
        refusal = pytest.raises(DditError, match="scale 0 skips a call, which only a policy may")
        with refusal, handle.forced(0):
            pass


def test_what_is_kept_is_dropped_with_the_run_and_never_kept_in_vain() -> None:
    pipe = tiny_flux()
    with ddit_eval.attach(pipe, policy=Skip(every=2)) as handle:
        seen: list[Any] = []

        def look(_: Any, step: int, *__: Any) -> dict[str, Tensor]:
            seen.extend(weakref.ref(kept.output[0]) for kept in handle.bindings[0].memory._kept.values())
            return {}

        flux(pipe, 3, callback_on_step_end=look)
        gc.collect()
        assert len(seen) == 3
        assert all(ref() is None for ref in seen)
        seen.clear()
        handle.policy = Base()
        flux(pipe, 3, callback_on_step_end=look)
        assert seen == []


def test_detaching_leaves_the_transformer_as_it_was() -> None:
    pipe = tiny_flux()
    expected = flux(pipe)
    ddit_eval.attach(pipe).detach()  # diffusers' registry stays once it has been made
    before, kind = dict(vars(pipe.transformer)), type(pipe.transformer)
    handle = ddit_eval.attach(pipe, policy=Skip(every=2))
    flux(pipe)
    assert type(pipe.transformer) is kind
    FluxImg2ImgPipeline.from_pipe(pipe)
    handle.policy = Base()
    assert vars(pipe.transformer).keys() == before.keys()
    handle.policy = Skip(every=2)
    handle.detach()
    handle.policy = Skip(every=3)
    assert vars(pipe.transformer) == before
    assert torch.equal(flux(pipe), expected)


WAYS: dict[str, Callable[[Any], object]] = {
    "compiled blocks": lambda p: p.transformer.compile_repeated_blocks(backend="eager"),
    "whole transformer compiled": lambda p: p.transformer.compile(backend="eager"),
    "model offload": lambda p: p.enable_model_cpu_offload(device="cpu"),
    "group offload": lambda p: p.transformer.enable_group_offload(
        offload_type="block_level", num_blocks_per_group=1, **CPU
    ),
    "sequential offload": lambda p: cpu_offload(p.transformer, torch.device("cpu")),
}


@pytest.mark.parametrize(
    ("way", "order"),
    [(way, order) for way in WAYS for order in ("last", "first") if order == "last" or "compiled" not in way],
)
def test_ways_to_run(way: str, order: str) -> None:
    pipe = tiny_flux()
    plain, wanted = flux(pipe), by_hand.flux(pipe, PLAN)
    skips, base = Explicit(PLAN), Base()
    near = {"atol": 2e-4, "rtol": 1e-3} if "compiled" in way else {"atol": 0.0, "rtol": 0.0}
    torch._dynamo.reset()
    if order == "last":
        WAYS[way](pipe)
    handle = ddit_eval.attach(pipe, policy=skips)
    if order == "first":
        WAYS[way](pipe)
    for policy in (skips, base, skips):
        handle.policy = policy
        for _ in range(2):
            torch.testing.assert_close(flux(pipe), wanted if policy is skips else plain, **near)
            assert scales(handle) == (PLAN if policy is skips else [1] * STEPS)
    if way == "sequential offload" and order == "first":
        remove_hook_from_module(pipe.transformer, recurse=True)
        assert torch.equal(flux(pipe), wanted)
    handle.detach()
    torch.testing.assert_close(flux(pipe), plain, **near)


def test_the_whole_compiled_transformer_is_compiled_once() -> None:
    pipe = tiny_flux()
    expected = by_hand.flux(pipe, [1, 0, 1, 0])
    graphs: list[int] = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(1)
        return graph.forward

    torch._dynamo.reset()
    with ddit_eval.attach(pipe, policy=Skip(every=2)):
        pipe.transformer.compile(backend=backend)
        torch.testing.assert_close(flux(pipe, 4), expected, atol=2e-4, rtol=1e-3)
        made = len(graphs)
        assert made > 0
        torch.testing.assert_close(flux(pipe, 4), expected, atol=2e-4, rtol=1e-3)
        assert len(graphs) == made


def test_who_takes_it_away_finds_it_back() -> None:
    pipe = tiny_flux()
    wanted = by_hand.flux(pipe, PLAN)
    with ddit_eval.attach(pipe, policy=Explicit(PLAN)) as handle:
        del vars(pipe.transformer)["_call_impl"]
        flux(pipe)
        assert scales(handle)[0] == 1
        for _ in range(2):
            assert torch.equal(flux(pipe), wanted)
            assert scales(handle) == PLAN


def test_a_cache_does_not_see_a_skipped_step() -> None:
    pipe = tiny_flux()
    adapter = awake(Adapter.from_base(pipe, rank=2))
    fine, skips = CoarseFirst(3), Explicit([2, 0, 2, 0, 2, 1, 0, 1])
    calls: list[int] = []
    pipe.transformer.single_transformer_blocks[0].attn.to_q.register_forward_hook(lambda *_: calls.append(1))
    with ddit_eval.attach(pipe, adapter, fine) as handle:
        # As long as the layout stays, it hands out what it has.
        pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=1e9))
        flux(pipe, 5)
        without_skips = len(calls)
        assert without_skips == 2  # the first step of either layout
        calls.clear()
        handle.policy = skips
        flux(pipe)
        assert scales(handle) == [2, 0, 2, 0, 2, 1, 0, 1]
        assert len(calls) == without_skips


def test_a_cache_that_counts_steps_is_refused() -> None:
    pipe = tiny_flux()
    pipe.transformer.enable_cache(MagCacheConfig(num_inference_steps=STEPS, mag_ratios=[1.0] * STEPS))
    with ddit_eval.attach(pipe, policy=Skip(every=2)) as handle:
        with pytest.raises(DditError, match="MagCache counts the steps that it sees"):
            flux(pipe)
        handle.policy = Base()
        flux(pipe)
        handle.policy = Skip(every=2)
        pipe.transformer.disable_cache()
        flux(pipe)


def test_only_a_policy_for_all_samples_may_skip() -> None:
    class Own(Fixed):
        @property
        def scales(self) -> tuple[int, ...]:
            return (0, 1)

        @property
        def per_sample(self) -> bool:
            return True

    with pytest.raises(DditError, match="Own may skip steps and decides by sample"):
        ddit_eval.attach(tiny_flux(), policy=Own(1))
