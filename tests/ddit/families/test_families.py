"""Attaching to tiny pipelines of further families: SD 3, Qwen-Image, FLUX.2, LTX, PixArt, DiT."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ddit_eval
from ddit_eval import Adapter, DditError
from ddit_eval.ddit.families import FAMILIES, UNSUPPORTED, family_named, family_of
from ddit_eval.ddit.families.flux import Flux
from ddit_eval.ddit.layout import Layout, uniform
from ddit_eval.ddit.policies import Base, Explicit, Fixed, Region, Threshold
from ddit_eval.ddit.regions import tile
from ddit_eval.models import flops
from ddit_eval.training.inputs import INPUTS, inputs_of
from tests.support.attached import awake, scales
from tests.support.tiny_families import MAKERS, Tiny, sd3, text


@pytest.fixture(scope="module", params=list(MAKERS))
def tiny(request: pytest.FixtureRequest) -> Tiny:
    return MAKERS[request.param]()


@pytest.fixture(scope="module")
def adapter(tiny: Tiny) -> Adapter:
    return made(tiny)


def made(tiny: Tiny) -> Adapter:
    kind: Any = "conv" if family_of(tiny.pipe.transformer).flow else "zero"
    return awake(Adapter.from_base(tiny.pipe, rank=4, detail=kind))


def head_of(tiny: Tiny) -> nn.Module:
    return tiny.pipe.transformer.get_submodule(family_of(tiny.pipe.transformer).head)


def frames(tiny: Tiny) -> int:
    return 3 if family_of(tiny.pipe.transformer).video else 1


@contextmanager
def calls(tiny: Tiny) -> Iterator[list[tuple[tuple[Any, ...], dict[str, Any], Any]]]:
    """The calls of the transformer: arguments, and what came out."""
    held: list[Any] = []
    hook = tiny.pipe.transformer.register_forward_hook(
        lambda module, args, kwargs, out: held.append((args, kwargs, out)), with_kwargs=True
    )
    yield held
    hook.remove()


def test_base_tokens_and_velocity_tokens(tiny: Tiny) -> None:
    """The embedding is linear in the base tokens; what the head emits, translated, is those of the output."""
    transformer, heads = tiny.pipe.transformer, []
    family = family_of(transformer)
    watch = head_of(tiny).register_forward_hook(lambda m, args, out: heads.append(out))
    embedded: list[Tensor] = []
    layer = family.embedding_layer(transformer)
    look = layer.register_forward_hook(lambda m, args, out: embedded.append(out))
    with calls(tiny) as held:
        tiny.run(steps=1)
    watch.remove()
    look.remove()
    args, kwargs, out = held[0]
    call = family.read(transformer, args, kwargs)
    tokens = nn.functional.linear(call.latents, *family.embedding_of(transformer))
    expected = embedded[0] if embedded[0].ndim == 3 else embedded[0].flatten(2).transpose(1, 2)
    torch.testing.assert_close(tokens, expected)
    velocity = out[0] if out[0].shape == heads[0].shape else call.tokenise(out[0])
    assert torch.equal(family.velocity_in(heads[0]), velocity)
    assert torch.equal(family.velocity_out(velocity), heads[0])
    weight, bias = family.head_of(transformer)
    assert weight.shape == (velocity.shape[-1], layer.weight.shape[0])
    assert bias.shape == weight.shape[:1]
    assert call.timestep.shape == (1,)
    assert float(call.timestep) == pytest.approx(tiny.pipe.scheduler.timesteps[0] / 1000)


def test_positions_of_the_base_layout_are_the_modules_own(tiny: Tiny) -> None:
    family = family_of(tiny.pipe.transformer)
    name = family.position or family.embedding
    module, outputs = tiny.pipe.transformer.get_submodule(name), []
    watch = module.register_forward_hook(lambda m, args, out: outputs.append(out))
    with calls(tiny) as held:
        tiny.run(steps=1)
    watch.remove()
    call = family.read(tiny.pipe.transformer, *held[0][:2])
    grid = family.grid(call)
    assert grid == (frames(tiny), 4, 4)
    ours = family.positions(module, call, uniform(grid, 1), outputs[0])
    if family.position:
        for one, other in zip(ours, outputs[0], strict=True):
            torch.testing.assert_close(one.expand_as(other), other, atol=1e-5, rtol=1e-5)
        return
    assert not ours.any()
    # Two by two, their mean.
    table = outputs[0] - module.proj(call.handed).flatten(2).transpose(1, 2)
    means = table.view(1, 2, 2, 2, 2, -1).mean((2, 4)).flatten(1, 2)
    torch.testing.assert_close(
        family.positions(module, call, uniform(grid, 2), outputs[0]), means, atol=1e-5, rtol=1e-5
    )


def test_bit_identical_at_scale_1_and_after_detaching(tiny: Tiny, adapter: Adapter) -> None:
    plain, guided, keys = tiny.run(), tiny.run(guided=True), list(tiny.pipe.transformer.state_dict())
    for policy in (Base(), Fixed(1), Threshold(1e-12, order=1), Region(tau=1e-15)):
        with ddit_eval.attach(tiny.pipe, adapter, policy) as handle:
            assert torch.equal(tiny.run(), plain)
            assert torch.equal(tiny.run(guided=True), guided)
            assert scales(handle) == [1] * 5
    with ddit_eval.attach(tiny.pipe, adapter, Fixed(2)):
        assert not torch.allclose(tiny.run(), plain)
    assert torch.equal(tiny.run(), plain)
    assert list(tiny.pipe.transformer.state_dict()) == keys


def test_guidance_shares_one_decision(tiny: Tiny, adapter: Adapter) -> None:
    held: list[tuple[int, int]] = []
    watch = head_of(tiny).register_forward_pre_hook(lambda m, args: held.append(tuple(args[0].shape[:2])))
    n, called = frames(tiny), len(tiny.guided) > 1  # with its negative prompt, a second time
    with ddit_eval.attach(tiny.pipe, adapter, Explicit([1, 2, 4])) as handle:
        for _ in range(2):
            held.clear()
            out = tiny.run(steps=3, guided=True)
            rows = tiny.rows(guided=True)
            expected = [(rows, tokens) for tokens in (16 * n, 4 * n, n)]
            assert held == [shape for shape in expected for _ in range(2 if called else 1)]
            assert scales(handle) == [1, 2, 4]
            assert [step.tokens for step in handle.trace] == [16 * n, 4 * n, n]
            assert handle.trace[1].timestep < handle.trace[0].timestep
    watch.remove()
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("policy", [Fixed(2), Region(budget=0.5)], ids=["2p", "regions"])
def test_a_batch_is_its_samples(tiny: Tiny, adapter: Adapter, policy: Any) -> None:
    with ddit_eval.attach(tiny.pipe, adapter, policy, per_sample=True) as handle:
        both = tiny.run(samples=2)
        first = tiny.run()
        assert len(handle.traces) == 1
        if isinstance(policy, Region):
            assert {step.scale for step in handle.trace} == {1, 4}
    torch.testing.assert_close(both[:1], first, atol=1e-3, rtol=1e-3)


def test_a_signal_moves_the_scale(tiny: Tiny, adapter: Adapter) -> None:
    with ddit_eval.attach(tiny.pipe, adapter, Threshold(1e9, order=1)) as handle:
        tiny.run(guided=True)
        assert scales(handle) == [1, 4, 4, 4, 4]
        assert all(step.signals for step in handle.trace[1:])


def test_a_mixed_layout_covers_what_uniform_ones_do(tiny: Tiny, adapter: Adapter) -> None:
    """Where a map allows one scale alone, the tiling gives what the scale gives."""
    with calls(tiny) as held:
        tiny.run(steps=1)
    args, kwargs, _ = held[0]
    grid = (frames(tiny), 4, 4)
    with ddit_eval.attach(tiny.pipe.transformer, adapter) as handle, torch.no_grad():

        def forward(layout: int | Layout) -> Tensor:
            with handle.forced(layout):
                return tiny.pipe.transformer(*args, **kwargs)[0]

        allowed = torch.full(grid, 2)
        assert torch.equal(forward(tile(allowed, (2, 4))), forward(2))
        assert torch.equal(forward(tile(torch.ones(grid, dtype=torch.int64), (2, 4))), forward(1))
        allowed[:, :2] = 1
        mixed = tile(allowed, (2, 4))
        assert mixed.tokens == grid[0] * (8 + 2)
        assert not torch.allclose(forward(mixed), forward(2))


def test_operations_are_those_that_torch_counts(tiny: Tiny, adapter: Adapter) -> None:
    transformer = tiny.pipe.transformer
    with calls(tiny) as held:
        tiny.run(steps=1)
    args, kwargs, _ = held[0]
    words = 0 if family_of(transformer).name == "dit" else 6
    with ddit_eval.attach(transformer, adapter) as handle:
        for scale in (1, 2, 4):
            with handle.forced(scale):
                transformer(*args, **kwargs)  # positions are made once
                seen = flops.counted(lambda: transformer(*args, **kwargs))
            layout = adapter.tile((frames(tiny), 4, 4), scale)
            assert flops.forward(transformer, layout, words, adapter) == seen


def test_offloading_in_either_order(tiny: Tiny, adapter: Adapter) -> None:
    plain = tiny.run()
    with ddit_eval.attach(tiny.pipe, adapter, Fixed(2)):
        coarse = tiny.run()
    handle = ddit_eval.attach(tiny.pipe, adapter, Fixed(2))
    tiny.pipe.enable_model_cpu_offload(device="cpu")
    for _ in range(2):
        assert torch.equal(tiny.run(), coarse)
        assert scales(handle) == [2] * 5
    handle.detach()
    assert torch.equal(tiny.run(), plain)
    tiny.pipe.remove_all_hooks()


def test_a_lora_of_another_library_on_top(tiny: Tiny, adapter: Adapter) -> None:
    from peft import LoraConfig

    transformer = tiny.pipe.transformer
    if not hasattr(transformer, "add_adapter"):
        pytest.skip(f"diffusers gives {type(transformer).__name__} no adapters")
    names = [family_of(transformer).head.split(".")[-1], "ff.net.2", "img_mlp.net.2", "ff.linear_out"]
    with ddit_eval.attach(tiny.pipe, adapter, Fixed(2)) as handle:
        before = tiny.run()
        transformer.add_adapter(LoraConfig(r=2, target_modules=names))
        assert torch.allclose(tiny.run(), before, atol=1e-4)  # peft's LoRA starts at zero
        assert scales(handle) == [2] * 5
        for name, parameter in transformer.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter)
        assert not torch.allclose(tiny.run(), before, atol=1e-4)
        transformer.delete_adapters("default")
        from peft.tuners.tuners_utils import BaseTunerLayer

        assert not any(isinstance(m, BaseTunerLayer) and m.active_adapters for m in transformer.modules())


def test_an_adapter_survives_its_files(tmp_path: Path) -> None:
    for name, make in MAKERS.items():
        tiny = make()
        adapter = made(tiny)
        adapter.save_pretrained(tmp_path / name)
        with ddit_eval.attach(tiny.pipe, adapter, Fixed(2)):
            expected = tiny.run(steps=2)
        with ddit_eval.attach(tiny.pipe, tmp_path / name, Fixed(2)):
            torch.testing.assert_close(tiny.run(steps=2), expected, atol=1e-5, rtol=1e-5)
        with torch.no_grad():
            head_of(tiny).weight += 1  # type: ignore[operator]
        with pytest.raises(DditError, match="its weights differ"):
            ddit_eval.attach(tiny.pipe, adapter)
    with pytest.raises(DditError, match="made for the family"):
        ddit_eval.attach(sd3().pipe, adapter)


def test_layers_that_are_skipped_for_guidance_belong_to_the_step() -> None:
    tiny = sd3()
    adapter = made(tiny)
    with ddit_eval.attach(tiny.pipe, adapter, Threshold(1e9, order=2)) as handle:
        tiny.run(guided=True, skip_guidance_layers=[1], skip_layer_guidance_start=-0.1)
        assert scales(handle) == [1, 1, 4, 4, 4]


def test_what_cannot_have_coarse_patches_says_why() -> None:
    tiny = sd3()
    adapter, transformer = made(tiny), tiny.pipe.transformer
    extra = {"block_controlnet_hidden_states": [torch.zeros(1, 16, 32)]}
    given = {
        "hidden_states": torch.zeros(1, 4, 8, 8),
        "encoder_hidden_states": text(1),
        "pooled_projections": text(2)[:, 0],
        "timestep": torch.tensor([500.0]),
    }
    with ddit_eval.attach(transformer, adapter) as handle:
        transformer(**given, **extra)
        handle.policy = Fixed(2)
        with pytest.raises(DditError, match=r"a ControlNet adds .* choose the policy Base"):
            transformer(**given | extra | {"timestep": torch.tensor([400.0])})
    qwen = FAMILIES["qwen-image"]
    pipe = MAKERS["qwen-image"]().pipe
    shapes = {"img_shapes": [[(1, 4, 4), (1, 2, 2)]], "encoder_hidden_states": text(1)}
    call = qwen.read(pipe.transformer, (), {"hidden_states": text(1), "timestep": torch.ones(1), **shapes})
    assert "reference images" in call.refused
    with pytest.raises(DditError, match="'conv' is derived for rectified flows, but dit predicts noise"):
        Adapter.from_base(MAKERS["dit"]().pipe)
    for name, why in UNSUPPORTED.items():
        with pytest.raises(DditError, match=why[:30]):
            family_named(name)
        with pytest.raises(DditError, match=why[:30]):
            ddit_eval.attach(type(name, (nn.Module,), {})())


def test_a_family_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    class Strange(nn.Module):
        pass

    own = Flux(name="own", class_name="Strange", inputs=INPUTS["flux"])

    def installed(group: str, needs: tuple[str, ...], shipped: Any = ()) -> dict[str, Any]:
        assert group == "ddit_eval.families"
        assert not [name for name in needs if not hasattr(own, name)]
        return {"own": own}

    monkeypatch.setattr("ddit_eval.ddit.families.plugins", installed)
    assert family_named("Strange") is family_of(Strange()) is own
    assert inputs_of(SimpleNamespace(transformer=Strange())) is INPUTS["flux"]
    with pytest.raises(DditError, match=r"known: flux .*own \(Strange\)"):
        family_named("Stranger")
