"""The adapter: start values, data path on mixed layouts, files, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file, save_file

import ddit_eval
from ddit_eval import Adapter, DditError
from ddit_eval.ddit.adapter.adapter import add_loras
from ddit_eval.ddit.adapter.detail import AnalyticDetail, ConvDetail, DetailConfig, Kind
from ddit_eval.ddit.layout import Layout, uniform
from tests.support.attached import GRID, mixed
from tests.support.tiny import tiny_transformer

KINDS: tuple[Kind, ...] = ("none", "zero", "analytic", "conv")


@pytest.fixture(scope="module")
def base() -> FluxTransformer2DModel:
    torch.manual_seed(0)
    return tiny_transformer().eval()


def velocity(adapter: Adapter, base: FluxTransformer2DModel, layout: Layout, z: torch.Tensor) -> torch.Tensor:
    """Embedding and de-embedding without the transformer between them."""
    tokens = adapter.embed(layout, z, base.x_embedder(z))
    assert tokens.shape[1] == layout.tokens
    t = torch.tensor([0.2, 0.9])
    return adapter.de_embed(layout, tokens, base.proj_out(tokens), z, t)


def test_only_the_residual_block_tells_the_variants_apart_at_the_start(base: FluxTransformer2DModel) -> None:
    torch.manual_seed(1)
    z = torch.randn(2, 64, 12)
    out = {kind: velocity(Adapter.from_base(base, detail=kind), base, uniform(GRID, 2), z) for kind in KINDS}
    assert torch.equal(out["none"], out["zero"])  # zero output
    assert torch.allclose(out["analytic"], out["conv"], atol=1e-6)  # zero output of the convolutions
    assert not torch.allclose(out["none"], out["analytic"])


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_layouts_agree_with_uniform_ones_patch_by_patch(
    base: FluxTransformer2DModel, kind: Kind
) -> None:
    """Without attention and convolutions a patch gives the same in any layout; fine tokens are the base's."""
    torch.manual_seed(1)
    z, layout, adapter = torch.randn(2, 64, 12), mixed(), Adapter.from_base(base, detail=kind)
    got = velocity(adapter, base, layout, z)
    assert got.shape == z.shape
    for group in layout.groups:
        if group.scale == 1:
            expected = base.proj_out(base.x_embedder(z))
        else:
            expected = velocity(adapter, base, uniform(GRID, group.scale), z)
        picked = group.indices.flatten()
        assert torch.allclose(got[:, picked], expected[:, picked], atol=1e-5)


def test_convolutions_leave_fine_tokens_alone(base: FluxTransformer2DModel) -> None:
    torch.manual_seed(1)
    z, layout, adapter = torch.randn(2, 64, 12), mixed(), Adapter.from_base(base, detail="conv")
    before = velocity(adapter, base, layout, z)
    for scale in adapter.scales:
        conv = adapter.branch(scale).conv
        assert conv is not None
        torch.nn.init.ones_(conv.leave.bias)
    change = velocity(adapter, base, layout, z) - before
    fine, coarse = layout.groups[0].indices.flatten(), layout.groups[1].indices.flatten()
    assert torch.equal(change[:, fine], torch.zeros_like(change[:, fine]))
    assert torch.allclose(change[:, coarse], torch.ones_like(change[:, coarse]))


def test_lora_and_identifier_change_coarse_image_tokens_only(base: FluxTransformer2DModel) -> None:
    torch.manual_seed(1)
    layout, adapter, name = mixed(), Adapter.from_base(base, rank=4), "single_transformer_blocks.0.proj_mlp"
    for scale in (2, 4):
        torch.nn.init.normal_(adapter.branch(scale).lora[name.replace(".", "-")].b)
        torch.nn.init.ones_(adapter.branch(scale).identifier)
    text = 5
    x = torch.randn(2, text + layout.tokens, 32)
    before = torch.randn(2, text + layout.tokens, 128)
    after = add_loras(adapter.loras(name), layout, x, before.clone())
    fine = layout.segments[0].stop
    assert torch.equal(after[:, : text + fine], before[:, : text + fine])
    assert (after[:, text + fine :] != before[:, text + fine :]).any(-1).all()
    z = torch.randn(2, 64, 12)
    tokens = adapter.embed(layout, z, base.x_embedder(z))
    plain = Adapter.from_base(base, rank=4).embed(layout, z, base.x_embedder(z))
    assert torch.equal(tokens[:, :fine], plain[:, :fine])
    assert torch.allclose(tokens[:, fine:], plain[:, fine:] + 1)


def test_analytic_gain_is_the_best_linear_guess() -> None:
    """Against least squares on samples of x ~ N(0, s2), n ~ N(0, 1)."""
    torch.manual_seed(0)
    block = AnalyticDetail(2, 2, 1, True)
    s2 = float(block.log_variance.detach().exp())
    assert s2 == pytest.approx(0.32, abs=1e-4)
    x, n = s2**0.5 * torch.randn(400_000), torch.randn(400_000)
    for t in (0.0, 0.3, 0.7, 1.0):
        z, v = (1 - t) * x + t * n, n - x
        assert float(block.gain(torch.tensor([t])).detach()[0, 0]) == pytest.approx(
            float(v @ z / (z @ z)), abs=0.01
        )
    assert float(AnalyticDetail(4, 2, 1, True).log_variance.detach().exp()) == pytest.approx(0.53, abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_flops_are_those_that_torch_counts(base: FluxTransformer2DModel, kind: Kind) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    layout = uniform(GRID, 2)
    adapter = Adapter.from_base(base, rank=4, detail=kind)
    z, hidden, fine = torch.randn(1, 64, 12), torch.randn(1, 16, 32), torch.randn(1, 16, 12)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        adapter.embed(layout, z, torch.randn(1, 64, 32))
        adapter.de_embed(layout, hidden, fine, z, torch.tensor([0.5]))
        for name, (inputs, outputs) in adapter.config.layers.items():
            add_loras(adapter.loras(name), layout, torch.randn(1, 16, inputs), torch.randn(1, 16, outputs))
    assert sum(adapter.flops(layout).values()) == counter.get_total_flops()
    assert sum(adapter.flops(uniform(GRID, 1)).values()) == 0


def test_video_grids_convolve_frame_by_frame() -> None:
    torch.manual_seed(0)
    block = ConvDetail(4, 4, DetailConfig(width=8, depth=1, features=2))
    torch.nn.init.normal_(block.leave.weight)
    x, coarse, t = torch.randn(2, 24, 4), torch.randn(2, 24, 6), torch.tensor([0.1, 0.8])
    both = block(x, coarse, t, (2, 3, 4))
    first = block(x[:, :12], coarse[:, :12], t, (1, 3, 4))
    assert torch.allclose(both[:, :12], first, atol=1e-6)


def test_any_scale_above_one(base: FluxTransformer2DModel) -> None:
    adapter = Adapter.from_base(base, scales=(5, 3))
    assert adapter.scales == (3, 5)
    z = torch.randn(2, 64, 12)
    assert velocity(adapter, base, uniform(GRID, 3), z).shape == z.shape
    for bad in ((1, 2), (2, 2), (0,), ()):
        with pytest.raises(DditError, match="scales"):
            Adapter.from_base(base, scales=bad)
    with pytest.raises(DditError, match=r"got 2\.5"):
        Adapter.from_base(base, scales=(2.5,))  # type: ignore[arg-type]


def test_round_trip_and_determinism(base: FluxTransformer2DModel, tmp_path: Path) -> None:
    adapter = Adapter.from_base(base, rank=4, seed=3)
    again = Adapter.from_base(base, rank=4, seed=3).state_dict()
    assert all(torch.equal(v, again[k]) for k, v in adapter.state_dict().items())
    adapter.save_pretrained(tmp_path / "a")
    loaded = Adapter.from_pretrained(tmp_path / "a")
    assert loaded.config == adapter.config
    assert not loaded.training
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in adapter.state_dict().items())
    adapter.save_pretrained(tmp_path / "a", dtype=torch.bfloat16)  # overwrites
    assert all(v.dtype == torch.bfloat16 for v in Adapter.from_pretrained(tmp_path / "a").parameters())
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["adapter.safetensors", "config.json"]


def test_weights_know_the_configuration_that_they_were_written_with(
    base: FluxTransformer2DModel, tmp_path: Path
) -> None:
    """Both have the same shapes, so that nothing else tells them apart after a kill between two renames."""
    weights, config = tmp_path / "adapter.safetensors", tmp_path / "config.json"
    adapter = Adapter.from_base(base, rank=4)
    adapter.save_pretrained(tmp_path)
    before = weights.read_bytes()
    adapter.save_pretrained(tmp_path)
    assert weights.read_bytes() == before
    plain = json.loads(config.read_text())
    config.write_text(json.dumps(plain))  # laid out otherwise, but the same
    Adapter.from_pretrained(tmp_path)
    config.write_text(json.dumps(plain | {"base": plain["base"] | {"weights": None}}))
    with pytest.raises(DditError, match=r"adapter\.safetensors was written with another config\.json"):
        Adapter.from_pretrained(tmp_path)


def test_broken_files_are_named(base: FluxTransformer2DModel, tmp_path: Path) -> None:
    with pytest.raises(DditError, match=r"config\.json is missing"):
        Adapter.from_pretrained(tmp_path / "nowhere")
    Adapter.from_base(base, rank=4, detail="none").save_pretrained(tmp_path)
    weights, config = tmp_path / "adapter.safetensors", tmp_path / "config.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DditError, match=r"adapter\.safetensors does not load as safetensors"):
        Adapter.from_pretrained(tmp_path)
    weights.write_bytes(whole)
    text = config.read_text()
    save_file(load_file(weights), weights)  # as earlier versions wrote them: of any configuration
    Adapter.from_pretrained(tmp_path)
    config.write_text(json.dumps(json.loads(text) | {"rank": 8}))
    with pytest.raises(DditError, match="does not fit"):
        Adapter.from_pretrained(tmp_path)
    config.write_text(text[:40])
    with pytest.raises(DditError, match=r"config\.json is not JSON"):
        Adapter.from_pretrained(tmp_path)
    weights.unlink()
    with pytest.raises(DditError, match=r"adapter\.safetensors is missing"):
        Adapter.from_pretrained(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DditError, match="cannot write"):
        Adapter.from_base(base, rank=4).save_pretrained(tmp_path / "file" / "a")


@pytest.mark.parametrize(
    "change",
    [
        {"hidden": 10**9}, {"hidden": 10**6}, {"hidden": 0}, {"in_channels": 2**25}, {"patch": 0},
        {"patch": 2**20}, {"scales": [2, 2**40]}, {"scales": [2, 2**20]}, {"rank": 2**26}, {"rank": 10**18},
        {"time": {"2": 2**20}}, {"layers": {"a.b": [2**26, 2**26]}}, {"layers": {"": [1, 1]}},
        {"detail": {"kind": "conv", "depth": 2**26}}, {"detail": {"kind": "conv", "width": 10**12}},
    ],
)  # fmt: skip
def test_a_configuration_of_another_size_is_refused_before_it_is_built(
    base: FluxTransformer2DModel, change: dict[str, Any], tmp_path: Path
) -> None:
    Adapter.from_base(base, scales=(2,), rank=4).save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(DditError, match=r"(train the adapter|copy both) again") as caught:
        Adapter.from_pretrained(tmp_path)
    assert str(config) in str(caught.value) or "adapter.safetensors" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_foreign_base_is_refused(base: FluxTransformer2DModel) -> None:
    adapter = Adapter.from_base(base, detail="none")
    torch.manual_seed(1)
    with pytest.raises(DditError, match="its weights differ"):
        adapter.check(tiny_transformer())
    with pytest.raises(DditError, match="its configuration differs"):
        adapter.check(tiny_transformer(guidance_embeds=True))
    with pytest.raises(DditError, match="belongs to no known family"):
        adapter.check(torch.nn.Linear(2, 2))


def test_the_base_is_known_in_any_precision(base: FluxTransformer2DModel, tmp_path: Path) -> None:
    adapter = Adapter.from_base(base, detail="none")
    base.save_pretrained(tmp_path)
    for dtype in (torch.float32, torch.bfloat16):
        adapter.check(FluxTransformer2DModel.from_pretrained(tmp_path, torch_dtype=dtype))


def test_precision_follows_the_base_but_masters_are_kept_in_training(base: FluxTransformer2DModel) -> None:
    adapter = Adapter.from_base(base, detail="conv")
    half = tiny_transformer().to(torch.bfloat16)
    z = torch.randn(2, 64, 12, dtype=torch.bfloat16)
    for training, expected in ((True, torch.float32), (False, torch.bfloat16)):
        used = adapter.train(training).on(z.device, z.dtype)
        assert next(used.parameters()).dtype == expected
        assert next(adapter.parameters()).dtype == torch.float32
        assert velocity(used, half, uniform(GRID, 2), z).dtype == torch.bfloat16


def test_names_are_public() -> None:
    assert ddit_eval.Adapter is Adapter
    assert "attach" in dir(ddit_eval)
    with pytest.raises(AttributeError):
        ddit_eval.nonsense  # noqa: B018
