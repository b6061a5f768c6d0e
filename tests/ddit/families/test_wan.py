"""Attaching to a whole (tiny) WanPipeline: frames, two-call guidance, a head that is channel last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import WanPipeline
from torch import Tensor

import ddit_eval
from ddit_eval import Adapter, DditError
from ddit_eval.ddit.families import FAMILIES
from ddit_eval.ddit.families.video import grid_ids, patchify
from ddit_eval.ddit.families.wan import Wan
from ddit_eval.ddit.layout import Group, Layout, uniform
from ddit_eval.ddit.policies import Base, CoarseFirst, Explicit, Fixed, Threshold
from ddit_eval.ddit.schedule import finite_difference, signals
from ddit_eval.models import flops
from tests.support.attached import awake, scales
from tests.support.tiny import tiny_flux
from tests.support.tiny_wan import LATENTS, STEPS, tiny_wan, tiny_wan_transformer
from tests.support.tiny_wan import run_wan as run

TWO = ["a red star", "a blue square"]
GRID = (3, 4, 4)


@pytest.fixture(scope="module")
def pipe() -> WanPipeline:
    return tiny_wan()


@pytest.fixture(scope="module")
def adapter(pipe: WanPipeline) -> Adapter:
    return awake(Adapter.from_base(pipe, rank=4))


def direct(transformer: Any, z: Tensor, t: Tensor) -> Tensor:
    """The transformer itself, as a trainer calls it; z (B, C, F, H, W), t (B,) in 0..1."""
    text = torch.randn(len(z), 6, 16, generator=torch.Generator().manual_seed(5))
    return transformer(z, t * 1000, text, return_dict=False)[0]


# Base tokens and their places.


def test_base_tokens_are_what_the_convolution_sees(pipe: WanPipeline) -> None:
    z = torch.randn(2, LATENTS, 3, 8, 12)
    family, transformer = FAMILIES["wan"], pipe.transformer
    tokens = F.linear(patchify(z), *family.embedding_of(transformer))
    expected = transformer.patch_embedding(z)
    torch.testing.assert_close(tokens, family.embedded(expected))
    back = family.as_embedded(tokens)
    torch.testing.assert_close(back.flatten(2).transpose(1, 2), tokens)


def test_velocity_tokens_are_those_of_the_output_video(pipe: WanPipeline) -> None:
    """What the head emits, translated, must be the base tokens of what the transformer returns."""
    z, held = torch.randn(1, LATENTS, 3, 8, 12), []
    watch = pipe.transformer.proj_out.register_forward_hook(lambda m, a, out: held.append(out))
    with torch.no_grad():
        video = direct(pipe.transformer, z, torch.tensor([0.5]))
    watch.remove()
    family = FAMILIES["wan"]
    assert torch.equal(family.velocity_in(held[0]), patchify(video))
    assert torch.equal(family.velocity_out(family.velocity_in(held[0])), held[0])


def test_positions_of_the_base_layout_are_the_modules_own(pipe: WanPipeline) -> None:
    z = torch.randn(1, LATENTS, 3, 8, 12)
    family, rope = FAMILIES["wan"], pipe.transformer.rope
    call = family.read(pipe.transformer, (z, torch.tensor([500.0]), None), {})
    grid = family.grid(call)
    assert grid == (3, 4, 6)
    for ours, theirs in zip(family.positions(rope, call, uniform(grid, 1), None), rope(z), strict=True):
        assert torch.equal(ours, theirs)
    # A coarse patch sits at the mean of what it covers, in its own frame.
    centres = uniform(grid, 2).centres(grid_ids(grid, z.device))
    assert centres[:2].tolist() == [[0, 0.5, 0.5], [0, 0.5, 2.5]]
    assert centres[-1].tolist() == [2, 2.5, 4.5]


@pytest.mark.parametrize("scale", [2, 4])
def test_start_values_are_flexivits(pipe: WanPipeline, scale: int) -> None:
    """Straight from the convolution's and the head's own layouts, without the package's resize."""
    branch, transformer = Adapter.from_base(pipe, rank=0, detail="none").branch(scale), pipe.transformer
    kernel, p, hidden = transformer.patch_embedding.weight[:, :, 0].double(), 2, 32
    side = scale * p
    unit = torch.eye(p * p, dtype=torch.float64).view(-1, 1, p, p)
    enlarge = F.interpolate(unit, size=(side, side), mode="bilinear").flatten(1).T  # (side^2, p^2)
    # FlexiViT: the coarse kernel gives an enlarged patch the embedding of the small one.
    coarse = (kernel.flatten(2) @ torch.linalg.pinv(enlarge)).view(hidden, LATENTS, side, side)
    z = torch.randn(1, LATENTS, 2, side, side, dtype=torch.float64)
    expected = torch.einsum("dchw,bcfhw->bfd", coarse, z) + transformer.patch_embedding.bias
    patches = patchify(z.float()).unflatten(1, (2, scale**2)).flatten(2)
    torch.testing.assert_close(branch.embed(patches), expected.float(), rtol=1e-4, atol=1e-5)
    # The head is channel last: weight (p, p, C) x hidden.
    h = torch.randn(1, 2, hidden)
    small = transformer.proj_out(h).view(2, p, p, LATENTS).permute(0, 3, 1, 2)
    video = F.interpolate(small, size=(side, side), mode="bilinear")  # frame by frame, (2, C, side, side)
    emitted = branch.velocity(h, torch.empty(0), torch.tensor([0.5])).flatten(1, 2)
    torch.testing.assert_close(emitted, patchify(video.transpose(0, 1)[None]), rtol=1e-4, atol=1e-5)


# The whole pipeline.


def test_bit_identical_at_scale_1(pipe: WanPipeline, adapter: Adapter) -> None:
    plain, keys = run(pipe, TWO), list(pipe.transformer.state_dict())
    guided = run(pipe, TWO, guidance=3.0)
    assert not torch.equal(plain, guided)
    for policy in (Base(), Fixed(1), Explicit([1] * STEPS), Threshold(1e-9, order=1)):
        with ddit_eval.attach(pipe, adapter, policy) as handle:
            assert torch.equal(run(pipe, TWO), plain)
            assert torch.equal(run(pipe, TWO, guidance=3.0), guided)
            assert scales(handle) == [1] * STEPS
            assert list(pipe.transformer.state_dict()) == keys
    with ddit_eval.attach(pipe):
        assert torch.equal(run(pipe, TWO), plain)


def test_detach_restores(pipe: WanPipeline, adapter: Adapter) -> None:
    plain, keys = run(pipe), list(pipe.transformer.state_dict())
    handle = ddit_eval.attach(pipe, adapter, Fixed(2))
    coarse = run(pipe)
    assert not torch.allclose(coarse, plain)
    handle.detach()
    assert torch.equal(run(pipe), plain)
    assert list(pipe.transformer.state_dict()) == keys
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in pipe.transformer.modules())
    with ddit_eval.attach(pipe, adapter, Fixed(2)):
        assert torch.equal(run(pipe), coarse)


def test_coarse_layouts_shrink_each_frame(pipe: WanPipeline, adapter: Adapter) -> None:
    seen: list[int] = []
    watch = pipe.transformer.blocks[0].register_forward_hook(lambda m, a, out: seen.append(out.shape[1]))
    with ddit_eval.attach(pipe, adapter, Explicit([1, 2, 4])) as handle:
        out = run(pipe, steps=3)
        assert out.shape == (1, LATENTS, 3, 8, 8)
        assert torch.isfinite(out).all()
        assert seen == [48, 12, 3] == [p.tokens for p in handle.trace]
        assert {p.base_tokens for p in handle.trace} == {48}
        assert [p.timestep for p in handle.trace] == pytest.approx(pipe.scheduler.timesteps.tolist())
    watch.remove()


def test_pixels_come_out(pipe: WanPipeline, adapter: Adapter) -> None:
    with ddit_eval.attach(pipe, adapter, Fixed(4)):
        assert run(pipe, steps=1, output_type="np").shape == (1, 9, 32, 32, 3)


def test_ragged_borders_and_changing_sizes(pipe: WanPipeline, adapter: Adapter) -> None:
    with ddit_eval.attach(pipe, adapter, Fixed(4)) as handle:
        square = run(pipe)
        ragged = run(pipe, height=48, width=80, num_frames=5)  # 2 frames of 6 x 10 base tokens
        assert ragged.shape == (1, LATENTS, 2, 12, 20)
        assert torch.isfinite(ragged).all()
        assert {(p.tokens, p.base_tokens) for p in handle.trace} == {(2 * (2 + 28), 120)}
        assert torch.equal(run(pipe), square)
        handle.policy = Threshold(1e9, order=1)
        run(pipe, height=48, width=80)
        assert [p.tokens for p in handle.trace] == [180, 90, 90, 90, 90]


def test_odd_grids(pipe: WanPipeline, adapter: Adapter) -> None:
    """5 x 7 base tokens, as 720p has 45 rows: six patches and a border of eleven in each of two frames."""
    z, t = torch.randn(1, LATENTS, 2, 10, 14), torch.tensor([0.5])
    seen: list[int] = []
    watch = pipe.transformer.blocks[0].register_forward_hook(lambda m, a, out: seen.append(out.shape[1]))
    with ddit_eval.attach(pipe, adapter) as handle, torch.no_grad():
        base = direct(pipe.transformer, z, t)
        for scale in (1, 2, 4):
            with handle.forced(scale):
                out = direct(pipe.transformer, z, t)
            assert out.shape == z.shape
            assert torch.isfinite(out).all()
            assert torch.equal(out, base) == (scale == 1)
    watch.remove()
    assert seen == [70, 70, 2 * (6 + 11), 2 * (1 + 19)]


def test_guidance_shares_one_decision(pipe: WanPipeline, adapter: Adapter) -> None:
    calls: list[int] = []
    watch = pipe.transformer.blocks[0].register_forward_hook(lambda m, a, out: calls.append(out.shape[1]))
    with ddit_eval.attach(pipe, adapter, Explicit([1, 2, 4])) as handle:
        for _ in range(2):  # the second run must not be taken for a third guidance call of the first
            calls.clear()
            run(pipe, steps=3, guidance=3.0)
            assert calls == [48, 48, 12, 12, 3, 3]
            assert scales(handle) == [1, 2, 4]
    watch.remove()


def test_signals_are_those_of_the_latents(pipe: WanPipeline, adapter: Adapter) -> None:
    latents: list[Tensor] = []
    watch = pipe.transformer.register_forward_pre_hook(
        lambda m, args, kwargs: latents.append(kwargs["hidden_states"].clone()), with_kwargs=True
    )
    with ddit_eval.attach(pipe, adapter, Threshold(1e-9, order=2, rho=0.7)) as handle:
        run(pipe)
        trace = handle.trace
    watch.remove()
    for step in (2, 3, 4):
        tokens = torch.stack([patchify(z) for z in latents[: step + 1]])
        expected = signals(finite_difference(tokens, 2), GRID, (2, 4), 0.7)[0].tolist()
        assert trace[step].signals == pytest.approx(dict(zip((2, 4), expected, strict=True)), rel=1e-4)


def test_repeated_calls_and_a_change_of_policy(pipe: WanPipeline, adapter: Adapter) -> None:
    with ddit_eval.attach(pipe, adapter, Threshold(1e9)) as handle:
        first = run(pipe, guidance=2.0)
        assert scales(handle) == [1, 1, 1, 4, 4]
        assert torch.equal(run(pipe, guidance=2.0), first)
        assert scales(handle) == [1, 1, 1, 4, 4]
        handle.policy = CoarseFirst(2)
        run(pipe, steps=3)
        assert scales(handle) == [2, 2, 1]


@pytest.mark.parametrize("failing", [0, 2])
def test_an_exception_in_mid_run_leaves_no_traces(pipe: WanPipeline, adapter: Adapter, failing: int) -> None:
    def fail(_: Any, step: int, *__: Any) -> dict[str, Tensor]:
        if step == failing:
            raise RuntimeError("stop")
        return {}

    with ddit_eval.attach(pipe, adapter, CoarseFirst(1)) as handle:
        expected = run(pipe, guidance=2.0)
        with pytest.raises(RuntimeError, match="stop"):
            run(pipe, guidance=2.0, callback_on_step_end=fail)
        assert len(handle.trace) == failing + 1
        assert torch.equal(run(pipe, guidance=2.0), expected)
        assert scales(handle) == [2, 1, 1, 1, 1]


def test_an_exception_between_the_two_guidance_calls(pipe: WanPipeline, adapter: Adapter) -> None:
    calls = 0

    def fail(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise RuntimeError("inside")

    with ddit_eval.attach(pipe, adapter, CoarseFirst(1)) as handle:
        expected = run(pipe, guidance=2.0)
        trap = pipe.transformer.norm_out.register_forward_hook(fail)
        with pytest.raises(RuntimeError, match="inside"):
            run(pipe, guidance=2.0)
        trap.remove()
        assert torch.equal(run(pipe, guidance=2.0), expected)
        assert scales(handle) == [2, 1, 1, 1, 1]


@pytest.mark.parametrize("scale", [2, 4])
def test_a_batch_is_its_samples(pipe: WanPipeline, adapter: Adapter, scale: int) -> None:
    with ddit_eval.attach(pipe, adapter, Fixed(scale)):
        both, alone = run(pipe, TWO), run(pipe, TWO[:1])
    torch.testing.assert_close(both[:1], alone, rtol=1e-3, atol=1e-4)


def test_nan_latents_are_named(pipe: WanPipeline, adapter: Adapter) -> None:
    def spoil(_: Any, step: int, __: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"latents": values["latents"] * float("nan")} if step == 2 else {}

    for policy in (Fixed(2), Threshold(1e9)):
        with ddit_eval.attach(pipe, adapter, policy):
            with pytest.raises(DditError, match=r"NaN or infinity at step 3 .*float32"):
                run(pipe, callback_on_step_end=spoil)
            assert torch.isfinite(run(pipe)).all()


def test_an_adapter_survives_its_files(pipe: WanPipeline, adapter: Adapter, tmp_path: Path) -> None:
    adapter.save_pretrained(tmp_path)
    with ddit_eval.attach(pipe, adapter, Fixed(2)):
        expected = run(pipe)
    with ddit_eval.attach(pipe, tmp_path, Fixed(2)) as handle:
        assert handle.adapter is not None
        assert handle.adapter.config == adapter.config
        torch.testing.assert_close(run(pipe), expected, rtol=1e-4, atol=1e-5)


def test_bfloat16(adapter: Adapter) -> None:
    pipe = tiny_wan().to(torch.bfloat16)
    plain = run(pipe)
    with ddit_eval.attach(pipe, awake(Adapter.from_base(pipe, rank=4)), Explicit([1, 2, 4])) as handle:
        assert torch.isfinite(run(pipe, steps=3)).all()
        handle.policy = Base()
        assert torch.equal(run(pipe), plain)


# The transformer alone.


def test_a_mixed_layout_and_gradients(pipe: WanPipeline, adapter: Adapter) -> None:
    """A 4p patch in one frame, 2p patches in the next, a frame left fine; every used part learns."""
    four, two = uniform(GRID, 4).groups[0].indices[:1], uniform(GRID, 2).groups[0].indices[4:8]
    layout = Layout(GRID, (Group(1, torch.arange(32, 48)[:, None]), Group(2, two), Group(4, four)))
    student = Adapter.from_base(pipe, rank=4)
    student.load_state_dict(adapter.state_dict())
    pipe.transformer.requires_grad_(False)
    z, t = torch.randn(2, LATENTS, 3, 8, 8), torch.tensor([0.2, 0.9])
    base = direct(pipe.transformer, z, t)
    with ddit_eval.attach(pipe, student) as handle:
        with handle.forced(1):
            assert torch.equal(direct(pipe.transformer, z, t), base)
        for chosen, used in ((2, {2}), (4, {4}), (layout, {2, 4})):
            student.zero_grad(set_to_none=True)
            with handle.forced(chosen):
                v = direct(pipe.transformer, z, t)
            assert v.shape == base.shape
            (v - base).square().mean().backward()
            for scale in student.scales:
                learnt = [
                    bool(p.grad is not None and p.grad.any()) for p in student.branch(scale).parameters()
                ]
                assert all(learnt) if scale in used else not any(learnt)
    pipe.transformer.requires_grad_(True)


def test_conditioning_channels_never_enter_the_signal() -> None:
    """As in Wan's image-to-video: mask and picture are concatenated behind the latents."""
    torch.manual_seed(0)
    transformer = tiny_wan_transformer(in_channels=LATENTS + 4).eval()
    adapter = awake(Adapter.from_base(transformer, rank=2))
    assert (adapter.config.in_channels, adapter.config.out_channels) == ((LATENTS + 4) * 4, LATENTS * 4)
    traces = []
    for size in (1.0, 100.0):
        noise = torch.Generator().manual_seed(3)
        with ddit_eval.attach(transformer, adapter, Threshold(1e-9, order=1)) as handle, torch.no_grad():
            for t in (1.0, 0.8, 0.5):
                z = torch.randn(1, LATENTS, 3, 8, 8, generator=noise)
                direct(transformer, torch.cat([z, size * torch.randn(1, 4, 3, 8, 8)], 1), torch.tensor([t]))
            traces.append([step.signals for step in handle.trace])
    assert traces[0] == traces[1]
    assert traces[0][1] is not None


def test_lora_on_the_attention_as_well(pipe: WanPipeline) -> None:
    wide, narrow = (Adapter.from_base(pipe, rank=4, attention=a) for a in (True, False))
    extra = set(wide.config.layers) - set(narrow.config.layers)
    assert extra == {
        f"blocks.{i}.{name}"
        for i in range(2)
        for name in ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_q")
    }
    wide = awake(wide)
    with ddit_eval.attach(pipe, wide, Fixed(2)):
        before = run(pipe)
        for name in extra:
            torch.nn.init.zeros_(wide.branch(2).lora[name.replace(".", "-")].b)
        assert not torch.allclose(run(pipe), before)
    with ddit_eval.attach(pipe, wide, Fixed(1)):
        expected = run(pipe)
    assert torch.equal(run(pipe), expected)


# Patches that grow in time as well.


@pytest.fixture(scope="module")
def deep(pipe: WanPipeline) -> Adapter:
    return awake(Adapter.from_base(pipe, rank=4, time={4: 2}))


def test_patches_that_span_frames(pipe: WanPipeline, deep: Adapter) -> None:
    """Three frames: 4p patches take the last two together, 2p patches the first, alone."""
    layout = deep.tile(GRID, 4)
    assert [(g.scale, tuple(g.indices.shape)) for g in layout.groups] == [(2, (4, 4)), (4, (1, 32))]
    assert layout.groups[1].indices[0].tolist() == list(range(16, 48))
    assert layout.tokens == 5
    seen: list[int] = []
    watch = pipe.transformer.blocks[0].register_forward_hook(lambda m, a, out: seen.append(out.shape[1]))
    with ddit_eval.attach(pipe, deep, Explicit([1, 2, 4])) as handle:
        out = run(pipe, steps=3)
        assert [s.tokens for s in handle.trace] == [48, 12, 5] == seen
        assert torch.isfinite(out).all()
        odd = run(pipe, steps=3, num_frames=17)  # 5 latent frames: two pairs and a first one
        assert odd.shape[2] == 5
        assert [s.tokens for s in handle.trace] == [80, 20, 4 + 2]
    watch.remove()


def test_start_values_in_time(pipe: WanPipeline, deep: Adapter) -> None:
    """A clip that stands still gives a patch of two frames the embedding of its one frame at 4p."""
    flat = Adapter.from_base(pipe, rank=4)
    fresh = Adapter.from_base(pipe, rank=4, time={4: 2})
    frame = torch.randn(1, LATENTS, 1, 8, 8)
    one = patchify(frame).flatten(1)[:, None]
    two = patchify(frame.expand(-1, -1, 2, -1, -1)).flatten(1)[:, None]
    torch.testing.assert_close(fresh.branch(4).embed(two), flat.branch(4).embed(one), rtol=1e-4, atol=1e-5)
    h, nothing, t = torch.randn(1, 1, 32), torch.empty(0), torch.tensor([0.5])
    bare = [Adapter.from_base(pipe, rank=0, detail="none", time=time) for time in ({4: 2}, None)]
    still, single = (a.branch(4).velocity(h, nothing, t)[0, 0] for a in bare)
    torch.testing.assert_close(still, torch.cat([single, single]), rtol=1e-4, atol=1e-5)


def test_the_signal_of_patches_in_time(pipe: WanPipeline, deep: Adapter) -> None:
    """The deviation over both frames of a patch; the first frame, alone, is no part of the 4p signal."""
    latents: list[Tensor] = []
    watch = pipe.transformer.register_forward_pre_hook(
        lambda m, args, kwargs: latents.append(kwargs["hidden_states"].clone()), with_kwargs=True
    )
    with ddit_eval.attach(pipe, deep, Threshold(1e-9, order=1, rho=0.5)) as handle:
        run(pipe, steps=2)
        got = handle.trace[1].signals
    watch.remove()
    assert got is not None
    change = latents[1] - latents[0]
    assert got[4] == pytest.approx(float(change[:, :, 1:].std(correction=0)), rel=1e-4)
    cells = (
        change.unfold(3, 4, 4).unfold(4, 4, 4).permute(2, 3, 4, 0, 1, 5, 6).flatten(3).std(-1, correction=0)
    )
    assert got[2] == pytest.approx(float(cells.quantile(0.5)), rel=1e-4)


def test_an_adapter_in_time_survives_its_files(pipe: WanPipeline, deep: Adapter, tmp_path: Path) -> None:
    deep.save_pretrained(tmp_path)
    again = Adapter.from_pretrained(tmp_path)
    assert again.config == deep.config
    assert again.config.time == {4: 2}
    flops_flat, flops_deep = (
        flops.by_scale(pipe.transformer, GRID, 8, (2, 4), a) for a in (Adapter.from_base(pipe, rank=4), deep)
    )
    assert flops_flat[2] == flops_deep[2]
    with pytest.raises(DditError, match="time names the scales"):
        Adapter.from_base(pipe, scales=(2,), time={4: 2})
    with pytest.raises(DditError, match="makes pictures"):
        Adapter.from_base(tiny_flux(), time={4: 2})
    with (
        ddit_eval.attach(pipe, deep) as handle,
        handle.forced(uniform(GRID, 4)),
        pytest.raises(DditError, match=r"Adapter\.tile"),
    ):
        direct(pipe.transformer, torch.randn(1, LATENTS, 3, 8, 8), torch.tensor([0.5]))


# Refusals.


def test_a_timestep_a_token_is_refused_where_it_matters(pipe: WanPipeline, adapter: Adapter) -> None:
    pipe = tiny_wan()
    pipe.register_to_config(expand_timesteps=True)
    plain = run(pipe)
    with ddit_eval.attach(pipe, adapter, Base()) as handle:
        assert torch.equal(run(pipe), plain)
        handle.policy = Fixed(2)
        with pytest.raises(DditError, match="timestep for each token"):
            run(pipe)


def test_another_base_is_refused(adapter: Adapter) -> None:
    with pytest.raises(DditError, match="its weights differ"):
        ddit_eval.attach(tiny_wan(seed=1), adapter)
    deep = Wan().read(_Deep(), (torch.zeros(1, 3, 4, 8, 8), torch.ones(1)), {})
    assert "patches of 2 x 2 x 2" in deep.refused


class _Deep:
    class config:
        patch_size = (2, 2, 2)
