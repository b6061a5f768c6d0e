"""Attaching to tiny HunyuanVideo pipelines, both generations, and to their image-to-video transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import ddit_eval
from ddit_eval import Adapter
from ddit_eval.ddit.families import family_of
from ddit_eval.ddit.families.video import patchify
from ddit_eval.ddit.layout import uniform
from ddit_eval.ddit.policies import Base, Explicit, Fixed, Threshold
from ddit_eval.ddit.schedule import finite_difference, signals
from ddit_eval.models import flops
from tests.support.attached import awake, scales
from tests.support.tiny_hunyuan import (
    LATENTS,
    TEXT,
    Tiny,
    tiny_hunyuan,
    tiny_hunyuan_15,
    tiny_transformer,
    tiny_transformer_15,
)

GRID = (3, 4, 4)


@pytest.fixture(scope="module", params=[tiny_hunyuan, tiny_hunyuan_15], ids=["hunyuan", "hunyuan-1.5"])
def tiny(request: pytest.FixtureRequest) -> Tiny:
    return request.param()


@pytest.fixture(scope="module")
def adapter(tiny: Tiny) -> Adapter:
    return awake(Adapter.from_base(tiny.pipe, rank=4))


def direct(transformer: Any, z: Tensor, t: float = 0.5) -> Tensor:
    """The transformer itself; z (B, C, F, H, W)."""
    noise = torch.Generator().manual_seed(5)
    text = {
        "encoder_hidden_states": torch.randn(len(z), 6, TEXT, generator=noise),
        "encoder_attention_mask": torch.ones(len(z), 6),
    }
    if family_of(transformer).name == "hunyuan-video":
        text["pooled_projections"] = torch.randn(len(z), TEXT, generator=noise)
        text["guidance"] = torch.full((len(z),), 6000.0)
    else:
        text["encoder_hidden_states_2"] = torch.randn(len(z), 256, TEXT, generator=noise)
        text["encoder_attention_mask_2"] = torch.ones(len(z), 256)
        text["image_embeds"] = torch.randn(len(z), 729, TEXT, generator=noise)
    with torch.no_grad():
        return transformer(z, torch.full((len(z),), 1000 * t), return_dict=False, **text)[0]


def lengths(module: Any, held: list[int]) -> Any:
    """Watch how many image tokens a block is given."""
    return module.transformer_blocks[0].register_forward_hook(lambda m, a, out: held.append(out[0].shape[1]))


def test_base_tokens_and_velocity_tokens(tiny: Tiny) -> None:
    transformer = tiny.pipe.transformer
    family, held = family_of(transformer), []
    z = torch.randn(2, transformer.config.in_channels, 3, 4 * family.patch, 6 * family.patch)
    tokens = F.linear(patchify(z, family.patch), *family.embedding_of(transformer))
    torch.testing.assert_close(tokens, transformer.x_embedder(z))
    watch = transformer.proj_out.register_forward_hook(lambda m, a, out: held.append(out))
    video = direct(transformer, z)
    watch.remove()
    assert torch.equal(family.velocity_in(held[0]), patchify(video, family.patch))


def test_positions_of_the_base_layout_are_the_modules_own(tiny: Tiny) -> None:
    transformer = tiny.pipe.transformer
    family = family_of(transformer)
    z = torch.randn(1, transformer.config.in_channels, 3, 4 * family.patch, 6 * family.patch)
    call = family.read(transformer, (z, torch.tensor([500.0])), {})
    grid = family.grid(call)
    assert grid == (3, 4, 6)
    for ours, theirs in zip(
        family.positions(transformer.rope, call, uniform(grid, 1), None), transformer.rope(z), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_bit_identical_at_scale_1_and_after_detaching(tiny: Tiny, adapter: Adapter) -> None:
    plain, guided, keys = tiny.run(), tiny.run(guided=True), list(tiny.pipe.transformer.state_dict())
    for policy in (Base(), Fixed(1), Threshold(1e-9, order=1)):
        with ddit_eval.attach(tiny.pipe, adapter, policy) as handle:
            assert torch.equal(tiny.run(), plain)
            assert torch.equal(tiny.run(guided=True), guided)
            assert scales(handle) == [1] * 5
    with ddit_eval.attach(tiny.pipe, adapter, Fixed(2)):
        assert not torch.allclose(tiny.run(), plain)
    assert torch.equal(tiny.run(), plain)
    assert list(tiny.pipe.transformer.state_dict()) == keys


def test_guidance_shares_one_decision(tiny: Tiny, adapter: Adapter) -> None:
    held: list[int] = []
    watch = lengths(tiny.pipe.transformer, held)
    with ddit_eval.attach(tiny.pipe, adapter, Explicit([1, 2, 4])) as handle:
        for _ in range(2):
            held.clear()
            out = tiny.run(steps=3, guided=True)
            assert held == [48, 48, 12, 12, 3, 3]
            assert scales(handle) == [1, 2, 4]
            assert [step.tokens for step in handle.trace] == [48, 12, 3]
    watch.remove()
    assert torch.isfinite(out).all()


def test_signals_are_those_of_the_latents(tiny: Tiny, adapter: Adapter) -> None:
    latents: list[Tensor] = []
    watch = tiny.pipe.transformer.register_forward_pre_hook(
        lambda m, args, kwargs: latents.append(kwargs["hidden_states"][:, :LATENTS].clone()), with_kwargs=True
    )
    with ddit_eval.attach(tiny.pipe, adapter, Threshold(1e-9, order=2, rho=0.7)) as handle:
        tiny.run(guided=True)
        trace = handle.trace
    watch.remove()
    patch = family_of(tiny.pipe.transformer).patch
    for step in (2, 3, 4):
        tokens = torch.stack([patchify(z, patch) for z in latents[: 2 * step + 1 : 2]])
        expected = signals(finite_difference(tokens, 2), GRID, (2, 4), 0.7)[0].tolist()
        assert trace[step].signals == pytest.approx(dict(zip((2, 4), expected, strict=True)), rel=1e-4)


def test_text_in_single_blocks_has_no_lora() -> None:
    """In HunyuanVideo's single blocks the image comes first: only its coarse tokens are changed."""
    transformer = tiny_transformer()
    adapter = awake(Adapter.from_base(transformer, rank=4))
    held: list[Tensor] = []
    layer = transformer.single_transformer_blocks[0].proj_mlp
    with ddit_eval.attach(transformer, adapter) as handle:
        watch = layer.register_forward_hook(
            lambda m, args, out: held.extend((F.linear(args[0], m.weight, m.bias), out))
        )
        with handle.forced(2):
            direct(transformer, torch.randn(1, LATENTS, 3, 8, 8))
        watch.remove()
    plain, changed = held
    differs = (plain - changed).abs().amax((0, 2)) > 1e-6
    assert differs[:12].all()
    assert not differs[12:].any()


@pytest.mark.parametrize("make", [lambda: tiny_transformer("latent_concat"), tiny_transformer_15])
def test_conditioning_channels_never_enter_the_signal(make: Any) -> None:
    torch.manual_seed(0)
    transformer = make()
    adapter, patch = awake(Adapter.from_base(transformer, rank=2)), family_of(transformer).patch
    traces = []
    for size in (1.0, 100.0):
        noise = torch.Generator().manual_seed(3)
        with ddit_eval.attach(transformer, adapter, Threshold(1e-9, order=1)) as handle:
            for t in (1.0, 0.8, 0.5):
                z = torch.randn(1, LATENTS, 3, 4 * patch, 4 * patch, generator=noise)
                rest = size * torch.randn(1, LATENTS + 1, 3, 4 * patch, 4 * patch)
                direct(transformer, torch.cat([z, rest], 1), t)
            traces.append([step.signals for step in handle.trace])
    assert traces[0] == traces[1]
    assert traces[0][1] is not None


def test_a_picture_in_the_place_of_the_first_frame() -> None:
    """It stays at the base patch size, is no part of the signal, and the rest runs coarse."""
    torch.manual_seed(0)
    transformer = tiny_transformer("token_replace")
    adapter = awake(Adapter.from_base(transformer, rank=2))
    held: list[int] = []
    watch = lengths(transformer, held)
    traces = []
    for size in (1.0, 100.0):
        noise = torch.Generator().manual_seed(3)
        with ddit_eval.attach(transformer, adapter, Threshold(1e9, order=1)) as handle:
            for t in (1.0, 0.8, 0.5):
                first, rest = (
                    size * torch.randn(1, LATENTS, 1, 8, 8),
                    torch.randn(1, LATENTS, 2, 8, 8, generator=noise),
                )
                out = direct(transformer, torch.cat([first, rest], 2), t)
                assert torch.isfinite(out).all()
            traces.append([step.signals for step in handle.trace])
    watch.remove()
    assert held == [48, 16 + 2, 16 + 2] * 2
    assert traces[0] == traces[1]
    assert traces[0][1] is not None
    z = torch.cat([torch.randn(1, LATENTS, 1, 8, 8), torch.randn(1, LATENTS, 2, 8, 8)], 2)
    plain = direct(transformer, z)
    with ddit_eval.attach(transformer, adapter) as handle, handle.forced(1):
        assert torch.equal(direct(transformer, z), plain)


def test_operations_are_those_that_torch_counts(tiny: Tiny, adapter: Adapter) -> None:
    transformer = tiny.pipe.transformer
    patch = family_of(transformer).patch
    z = torch.randn(1, transformer.config.in_channels, 3, 4 * patch, 6 * patch)
    words = 6 if patch == 2 else 6 + 256 + 729
    with ddit_eval.attach(transformer, adapter) as handle:
        for scale in (1, 2, 4):
            with handle.forced(scale):
                seen = flops.counted(lambda: direct(transformer, z))
            layout = adapter.tile((3, 4, 6), scale)
            assert flops.forward(transformer, layout, words, adapter) == seen


def test_patch_sizes_that_are_not_known_are_refused() -> None:
    transformer = tiny_transformer()
    family = family_of(transformer)
    transformer.register_to_config(patch_size_t=2)
    call = family.read(transformer, (torch.zeros(1, LATENTS, 4, 8, 8), torch.ones(1)), {})
    assert "patches of 2 x 2 x 2" in call.refused
