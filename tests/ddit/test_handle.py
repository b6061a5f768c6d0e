"""Attaching to a whole (tiny) FluxPipeline."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import FlowMatchHeunDiscreteScheduler, FluxPipeline
from torch import Tensor

import ddit_eval
from ddit_eval import Adapter, DditError, Handle
from ddit_eval.ddit.policies import Base, CoarseFirst, Explicit, Fixed, Random, Threshold
from ddit_eval.ddit.schedule import finite_difference, signals
from experiments.recipes.train import image_ids
from tests.support.attached import mixed
from tests.support.tiny import CALL, tiny_flux

STEPS = 5
ONE, TWO = ["a red star"], ["a red star", "a blue square"]


@pytest.fixture(scope="module")
def pipe() -> FluxPipeline:
    return tiny_flux()


@pytest.fixture(scope="module")
def adapter(pipe: FluxPipeline) -> Adapter:
    """With everything that starts at zero set to something, so that a path that is missed shows."""
    adapter = Adapter.from_base(pipe, rank=4, detail="conv").eval()
    torch.manual_seed(2)
    for name, p in adapter.named_parameters():
        if name.endswith((".b", "identifier", "leave.weight", "time_out.weight")):
            torch.nn.init.normal_(p, std=0.05)
    return adapter


def run(pipe: FluxPipeline, prompts: list[str] = ONE, steps: int = STEPS, **extra: Any) -> Tensor:
    noise = [torch.Generator().manual_seed(i) for i in range(len(prompts))]
    return pipe(prompts, num_inference_steps=steps, generator=noise, **{**CALL, **extra}).images


def scales(handle: Handle) -> list[int]:
    return [step.scale for step in handle.trace]


def direct(pipe: FluxPipeline, z: Tensor, t: Tensor, side: int = 8) -> Tensor:
    """The transformer itself, as a trainer calls it."""
    g = torch.Generator().manual_seed(5)
    return pipe.transformer(
        hidden_states=z,
        timestep=t,
        pooled_projections=torch.randn(len(z), 96, generator=g),
        encoder_hidden_states=torch.randn(len(z), 6, 96, generator=g),
        txt_ids=torch.zeros(6, 3),
        img_ids=image_ids(side),
        return_dict=False,
    )[0]


def test_bit_identical_at_scale_1(pipe: FluxPipeline, adapter: Adapter) -> None:
    plain, keys = run(pipe, TWO), list(pipe.transformer.state_dict())
    guided = run(pipe, TWO, true_cfg_scale=2.0, negative_prompt=["", ""])
    for policy in (Base(), Fixed(1), Explicit([1] * STEPS), Threshold(1e-9, order=1)):
        with ddit_eval.attach(pipe, adapter, policy) as handle:
            assert torch.equal(run(pipe, TWO), plain)
            assert torch.equal(run(pipe, TWO, true_cfg_scale=2.0, negative_prompt=["", ""]), guided)
            assert scales(handle) == [1] * STEPS
            assert list(pipe.transformer.state_dict()) == keys
    with ddit_eval.attach(pipe) as handle:
        assert torch.equal(run(pipe, TWO), plain)


def test_attention_may_have_a_lora_too(pipe: FluxPipeline, adapter: Adapter) -> None:
    wider = Adapter.from_base(pipe, rank=4, attention=True).eval()
    wider.load_state_dict(wider.state_dict() | adapter.state_dict())
    plain, layers = run(pipe, TWO), set(wider.config.layers) - set(adapter.config.layers)
    kinds = {name.split("attn.")[1] for name in layers}
    assert kinds == {"to_q", "to_k", "to_v", "to_out.0"}
    with ddit_eval.attach(pipe, adapter, Fixed(2)):
        before = run(pipe, TWO)
    with ddit_eval.attach(pipe, wider, Fixed(2)) as handle:
        torch.testing.assert_close(run(pipe, TWO), before)  # it starts at zero
        for name in layers:
            lora: Any = wider.branch(2).lora[name.replace(".", "-")]
            torch.nn.init.normal_(lora.b, std=0.5)
            assert not torch.allclose(run(pipe, TWO), before), name
            torch.nn.init.zeros_(lora.b)
        handle.policy = Fixed(1)
        assert torch.equal(run(pipe, TWO), plain)


def test_detach_restores(pipe: FluxPipeline, adapter: Adapter) -> None:
    plain, before = run(pipe), pipe.transformer.__dict__.get("forward")
    handle = ddit_eval.attach(pipe, adapter, Fixed(2))
    coarse = run(pipe)
    assert not torch.allclose(coarse, plain)
    handle.detach()
    handle.detach()
    assert torch.equal(run(pipe), plain)
    assert pipe.transformer.__dict__.get("forward") is before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in pipe.transformer.modules())
    with ddit_eval.attach(pipe, adapter, Fixed(2)):
        assert torch.equal(run(pipe), coarse)


def test_repeated_calls_and_a_change_of_policy(pipe: FluxPipeline, adapter: Adapter) -> None:
    with ddit_eval.attach(pipe, adapter, Threshold(1e9)) as handle:
        first = run(pipe)
        assert scales(handle) == [1, 1, 1, 4, 4]
        assert torch.equal(run(pipe), first)
        assert scales(handle) == [1, 1, 1, 4, 4]
        handle.policy = CoarseFirst(2)
        run(pipe, steps=3)
        assert scales(handle) == [2, 2, 1]


def test_trace(pipe: FluxPipeline, adapter: Adapter) -> None:
    with ddit_eval.attach(pipe, adapter, Explicit([1, 2, 4])) as handle:
        run(pipe, steps=3)
        trace = handle.trace
    assert [p.tokens for p in trace] == [64, 16, 4]
    assert {p.base_tokens for p in trace} == {64}
    assert [p.index for p in trace] == [0, 1, 2]
    assert [p.timestep for p in trace] == pytest.approx(pipe.scheduler.timesteps.tolist())
    assert trace[0].timestep == 1000
    assert all(p.seconds > 0 and p.signals is None for p in trace)


def test_signals_are_those_of_the_latents(pipe: FluxPipeline, adapter: Adapter) -> None:
    latents: list[Tensor] = []
    watch = pipe.transformer.register_forward_pre_hook(
        lambda m, args, kwargs: latents.append(kwargs["hidden_states"].clone()), with_kwargs=True
    )
    with ddit_eval.attach(pipe, adapter, Threshold(1e-9, order=2, rho=0.7)) as handle:
        run(pipe)
        trace = handle.trace
    watch.remove()
    assert [p.signals is None for p in trace] == [True, True, False, False, False]
    for step in (2, 3, 4):
        difference = finite_difference(torch.stack(latents[: step + 1]), 2)
        expected = signals(difference, (1, 8, 8), (2, 4), 0.7)[0].tolist()
        assert trace[step].signals == pytest.approx(dict(zip((2, 4), expected, strict=True)), rel=1e-4)


@pytest.mark.parametrize("scale", [2, 4])
def test_a_batch_is_its_samples(pipe: FluxPipeline, adapter: Adapter, scale: int) -> None:
    with ddit_eval.attach(pipe, adapter, Fixed(scale)):
        both = run(pipe, TWO)
        alone = run(pipe, TWO[:1])
    assert torch.allclose(both[:1], alone, atol=1e-4)


def test_the_finest_scale_wins_in_a_batch(pipe: FluxPipeline, adapter: Adapter) -> None:
    with ddit_eval.attach(pipe, adapter, Threshold(1e-9, order=1)) as handle:
        run(pipe, TWO)
        both = [p.signals[2] for p in handle.trace if p.signals]
        run(pipe, TWO[:1])
        alone = [p.signals[2] for p in handle.trace if p.signals]
    assert all(b >= a - 1e-5 for a, b in zip(alone, both, strict=True))


def test_guidance_shares_one_decision(pipe: FluxPipeline, adapter: Adapter) -> None:
    calls: list[int] = []
    block = pipe.transformer.single_transformer_blocks[0]
    watch = block.register_forward_hook(lambda m, args, out: calls.append(out[1].shape[1]))
    with ddit_eval.attach(pipe, adapter, Explicit([1, 2, 4])) as handle:
        run(pipe, steps=3, true_cfg_scale=2.0, negative_prompt=[""])
        assert calls == [64, 64, 16, 16, 4, 4]
        assert scales(handle) == [1, 2, 4]
        # A second call must not be taken for a third guidance call of the first.
        run(pipe, steps=3, true_cfg_scale=2.0, negative_prompt=[""])
        assert scales(handle) == [1, 2, 4]
    watch.remove()


@pytest.mark.parametrize("failing", [0, 2])
def test_an_exception_in_mid_run_leaves_no_traces(pipe: FluxPipeline, adapter: Adapter, failing: int) -> None:
    def fail(_: Any, step: int, *__: Any) -> dict[str, Tensor]:
        if step == failing:
            raise RuntimeError("stop")
        return {}

    with ddit_eval.attach(pipe, adapter, CoarseFirst(1)) as handle:
        expected = run(pipe)
        with pytest.raises(RuntimeError, match="stop"):
            run(pipe, callback_on_step_end=fail)
        assert len(handle.trace) == failing + 1
        assert torch.equal(run(pipe), expected)
        assert scales(handle) == [2, 1, 1, 1, 1]


def test_an_exception_inside_the_first_forward(pipe: FluxPipeline, adapter: Adapter) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("inside")

    with ddit_eval.attach(pipe, adapter, CoarseFirst(1)) as handle:
        expected = run(pipe)
        trap = pipe.transformer.norm_out.register_forward_hook(fail)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="inside"):
                run(pipe)
        trap.remove()
        assert torch.equal(run(pipe), expected)
        assert scales(handle) == [2, 1, 1, 1, 1]


def test_changing_resolutions_with_ragged_borders(pipe: FluxPipeline, adapter: Adapter) -> None:
    with ddit_eval.attach(pipe, adapter, Fixed(2)) as handle:
        square = run(pipe)
        ragged = run(pipe, height=20, width=28)  # 5 x 7 base tokens
        assert ragged.shape == (1, 35, 12)
        assert {(p.tokens, p.base_tokens) for p in handle.trace} == {(6 + 11, 35)}
        assert torch.isfinite(ragged).all()
        assert torch.equal(run(pipe), square)
        handle.policy = Threshold(1e9, order=1)
        run(pipe, height=20, width=28)
        assert [p.tokens for p in handle.trace] == [35, 20, 20, 20, 20]


def test_heun_steps_count_as_the_scheduler_counts(adapter: Adapter) -> None:
    class Heun(FlowMatchHeunDiscreteScheduler):
        """Takes what FluxPipeline hands to set_timesteps."""

        def set_timesteps(self, sigmas: Any, device: Any, mu: float) -> None:  # type: ignore[override]
            super().set_timesteps(len(sigmas), device)

    pipe = tiny_flux()
    pipe.scheduler = Heun(shift=3.0)
    with ddit_eval.attach(pipe, adapter, Threshold(1e9, order=1)) as handle:
        run(pipe, steps=3)
        assert scales(handle) == [1, 4, 4, 4, 4]


def test_nan_latents_are_named(pipe: FluxPipeline, adapter: Adapter) -> None:
    def spoil(_: Any, step: int, __: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"latents": values["latents"] * float("nan")} if step == 2 else {}

    for policy in (Fixed(2), Threshold(1e9)):
        with ddit_eval.attach(pipe, adapter, policy):
            with pytest.raises(DditError, match=r"NaN or infinity at step 3 .*float32"):
                run(pipe, callback_on_step_end=spoil)
            assert torch.isfinite(run(pipe)).all()


def test_refusals(pipe: FluxPipeline, adapter: Adapter) -> None:
    with pytest.raises(DditError, match=r"scale 3, but the adapter has \[2, 4\]"):
        ddit_eval.attach(pipe, adapter, Fixed(3))
    with pytest.raises(DditError, match="scale 2, but there is no adapter"):
        ddit_eval.attach(pipe, None, Fixed(2))
    with pytest.raises(DditError, match="its weights differ"):
        ddit_eval.attach(tiny_flux(seed=1), adapter)
    with pytest.raises(DditError, match="no adapter at nowhere"):
        ddit_eval.attach(pipe, "nowhere")
    with ddit_eval.attach(pipe, adapter, Base()) as handle:
        with pytest.raises(DditError, match="attachment already"):
            ddit_eval.attach(pipe, adapter)
        with pytest.raises(DditError, match="may choose scale 8"):
            handle.policy = Threshold(1.0, warmup_scale=8)
        with pytest.raises(DditError, match="scale 3 is asked for"), handle.forced(3):
            pass
    ddit_eval.attach(pipe, adapter).detach()  # none of the failures above left anything behind


def test_random_takes_the_samples_seed(pipe: FluxPipeline, adapter: Adapter) -> None:
    seen = set()
    with ddit_eval.attach(pipe, adapter, Random({1: 1, 2: 1})) as handle:
        for handle.seed in range(6):
            run(pipe, steps=4)
            assert sorted(scales(handle)) == [1, 1, 2, 2]
            seen.add(tuple(scales(handle)))
    assert len(seen) > 1


def test_hooks_follow_replaced_submodules(adapter: Adapter) -> None:
    """As when a LoRA is loaded after attaching: peft wraps the linear layers."""
    from peft import LoraConfig

    pipe = tiny_flux()
    with ddit_eval.attach(pipe, adapter, Fixed(2)) as handle:
        before = run(pipe)
        pipe.transformer.add_adapter(
            LoraConfig(r=2, target_modules=["x_embedder", "proj_out", "proj_mlp", "ff.net.2"])
        )
        assert torch.allclose(run(pipe), before, atol=1e-5)  # peft's LoRA starts at zero
        assert {p.tokens for p in handle.trace} == {16}
    wrapped = pipe.transformer.single_transformer_blocks[0].proj_mlp
    assert not wrapped._forward_hooks
    assert not wrapped.base_layer._forward_hooks


def test_caches_registered_after_attaching_can_be_removed(adapter: Adapter) -> None:
    from diffusers import FirstBlockCacheConfig

    pipe = tiny_flux()
    plain = run(pipe)
    handle = ddit_eval.attach(pipe, adapter, Base())
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=1e-9))
    run(pipe)
    handle.detach()
    pipe.transformer.disable_cache()
    assert torch.equal(run(pipe), plain)


def test_forced_layouts_train_the_adapter(pipe: FluxPipeline, adapter: Adapter) -> None:
    torch.manual_seed(0)
    student = Adapter.from_base(pipe, rank=4, detail="conv")
    student.load_state_dict(adapter.state_dict())
    pipe.transformer.requires_grad_(False)
    z, t = torch.randn(3, 64, 12), torch.tensor([0.1, 0.5, 1.0])
    base = direct(pipe, z, t)
    with ddit_eval.attach(pipe, student) as handle:
        with torch.no_grad(), handle.forced(1):
            assert torch.equal(direct(pipe, z, t), base)
        for layout, used in ((2, {2}), (4, {4}), (mixed(), {2, 4})):
            student.zero_grad(set_to_none=True)
            with handle.forced(layout):
                v = direct(pipe, z, t)
            (v - base).square().mean().backward()
            for scale in student.scales:
                for name, p in student.branch(scale).named_parameters():
                    assert (p.grad is not None and bool(p.grad.any())) == (scale in used), (
                        layout,
                        scale,
                        name,
                    )
        with handle.forced(2):
            rows = torch.cat([direct(pipe, z[i : i + 1], t[i : i + 1]) for i in range(1)])
            assert torch.isfinite(rows).all()
        assert handle.trace == []
    assert all(p.grad is None for p in pipe.transformer.parameters())


def test_gradient_checkpointing_sees_the_same_layout(adapter: Adapter) -> None:
    pipe = tiny_flux()
    pipe.transformer.requires_grad_(False)
    student = Adapter.from_base(pipe, rank=4)
    student.load_state_dict(adapter.state_dict())
    z, t = torch.randn(2, 64, 12), torch.tensor([0.3, 0.6])
    gradients = []
    for checkpointing in (False, True):
        pipe.transformer.train(checkpointing)
        if checkpointing:
            pipe.transformer.enable_gradient_checkpointing()
        student.zero_grad()
        with ddit_eval.attach(pipe, student) as handle, handle.forced(2):
            direct(pipe, z, t).square().mean().backward()
        gradients.append([p.grad.clone() for p in student.branch(2).parameters() if p.grad is not None])
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_direct_calls_outside_of_a_pipeline(pipe: FluxPipeline, adapter: Adapter) -> None:
    """A loop of one's own: steps are told apart by the timestep."""
    with ddit_eval.attach(pipe.transformer, adapter, Threshold(1e9, order=1)) as handle, torch.no_grad():
        for _ in range(2):
            z = torch.randn(1, 64, 12)
            for t in (1.0, 0.8, 0.5):
                z = z - 0.2 * direct(pipe, z, torch.tensor([t]))
            assert scales(handle) == [1, 4, 4]
            assert [p.timestep for p in handle.trace] == pytest.approx([1000, 800, 500])


@pytest.mark.parametrize("offload_first", [True, False])
def test_model_offload_in_either_order(adapter: Adapter, offload_first: bool) -> None:
    pipe = tiny_flux()
    plain = run(pipe)
    with ddit_eval.attach(pipe, adapter, Fixed(2)):
        coarse = run(pipe)
    if offload_first:
        pipe.enable_model_cpu_offload(device="cpu")
    handle = ddit_eval.attach(pipe, adapter, Fixed(2))
    if not offload_first:
        pipe.enable_model_cpu_offload(device="cpu")
    for _ in range(3):
        assert torch.equal(run(pipe), coarse)
        assert scales(handle) == [2] * STEPS
    handle.detach()
    assert torch.equal(run(pipe), plain)
    assert hasattr(pipe.transformer, "_hf_hook")  # detaching has not undone the offloading
