"""What distillation hands to Wan: latents on the flow and text as the pipeline encodes it."""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanPipeline
from pydantic import ValidationError
from safetensors.torch import load_file

from ddit_eval import Adapter, attach
from ddit_eval.ddit.layout import Layout
from ddit_eval.errors import DditError
from ddit_eval.training.distil.config import DistilConfig, Source
from ddit_eval.training.distil.data import pictures_of, world_prompts
from ddit_eval.training.distil.generated import PROBE, make
from ddit_eval.training.distil.measure import FLOW_TIMES, error_table
from ddit_eval.training.distil.run import Distiller, distil
from ddit_eval.training.flow import sample_timesteps, shift_of
from ddit_eval.training.inputs import inputs_of
from ddit_eval.training.inputs.videos import Wan
from tests.support.tiny import tiny_flux
from tests.support.tiny_hunyuan import tiny_hunyuan, tiny_hunyuan_15
from tests.support.tiny_wan import LATENTS, tiny_wan, tiny_wan_transformer

PROMPTS = ["a red star", ""]


def clips(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 9, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_clips_become_normalised_latents():
    pipe = tiny_wan()
    plain = inputs_of(pipe).encode(pipe, clips())
    assert plain.shape == (2, LATENTS, 3, 8, 8)
    mean, std = [0.5, -1.0, 0.0], [2.0, 1.0, 0.5]
    pipe.vae.register_to_config(latents_mean=mean, latents_std=std)
    axes = (1, LATENTS, 1, 1, 1)
    expected = (plain - torch.tensor(mean).view(axes)) / torch.tensor(std).view(axes)
    torch.testing.assert_close(inputs_of(pipe).encode(pipe, clips()), expected)


def test_inputs_lie_on_the_flow_and_are_the_pipelines():
    pipe = tiny_wan()
    assert isinstance(inputs_of(pipe), Wan)
    latents = inputs_of(pipe).encode(pipe, clips())
    noise = torch.randn_like(latents)
    ends = [inputs_of(pipe).build(pipe, latents, PROMPTS, torch.full((2,), t), noise, 8) for t in (0.0, 1.0)]
    torch.testing.assert_close(ends[0]["hidden_states"], latents)
    torch.testing.assert_close(ends[1]["hidden_states"], noise)
    assert ends[1]["timestep"].tolist() == [1000, 1000]
    seen = []
    hook = pipe.transformer.register_forward_pre_hook(
        lambda m, args, kwargs: seen.append(kwargs), with_kwargs=True
    )
    call = {"height": 32, "width": 32, "num_frames": 9, "max_sequence_length": 8, "output_type": "latent"}
    pipe(PROMPTS, num_inference_steps=1, guidance_scale=1.0, latents=noise, **call)
    hook.remove()
    for name in ("hidden_states", "encoder_hidden_states"):
        torch.testing.assert_close(seen[0][name], ends[1][name])
    assert seen[0]["timestep"].tolist() == pytest.approx([1000, 1000], abs=1)


def test_an_adapter_for_clips_learns_and_is_measured():
    pipe = tiny_wan()
    pipe.transformer.requires_grad_(False)
    adapter = Adapter.from_base(pipe, rank=2)
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=3e-3)
    latents, generator = inputs_of(pipe).encode(pipe, clips()), torch.Generator().manual_seed(1)
    with attach(pipe, adapter) as handle:
        before = error_table(pipe, handle, latents, PROMPTS, 8)
        for _ in range(40):
            noise, t = torch.randn(latents.shape, generator=generator), torch.rand(2, generator=generator)
            kwargs = inputs_of(pipe).build(pipe, latents, PROMPTS, t, noise, 8)
            with torch.no_grad(), handle.forced(1):
                target = pipe.transformer(**kwargs)[0]
            optimizer.zero_grad()
            for scale in (2, 4):
                with handle.forced(scale):
                    (pipe.transformer(**kwargs)[0] - target).square().mean().backward()
            optimizer.step()
        after = error_table(pipe, handle, latents, PROMPTS, 8)
    for scale in (2, 4):
        assert len(before[scale]) == len(FLOW_TIMES)
        assert sum(after[scale]) < 0.8 * sum(before[scale])


def test_other_models_are_refused():
    pipe = tiny_wan()
    pipe.transformer = torch.nn.Linear(1, 1)
    with pytest.raises(DditError, match="no known family"):
        inputs_of(pipe)


# Samples that the base model makes.


def generated(tmp_path: Path, **changes: Any) -> DistilConfig:
    source = {"kind": "generated", "frames": 9, "side": 32, "count": 12, "steps": 2, "guidance_scale": 2.0}
    settings = {
        "model": "tiny",
        "out": tmp_path / "run",
        "rank": 2,
        "pictures": 8,
        "batch": 4,
        "probe_pictures": 4,
        "text_tokens": 8,
        "source": source | changes.pop("source", {}),
    }
    return DistilConfig.model_validate(settings | changes)


def test_the_base_model_makes_its_own_clips_once(tmp_path: Path):
    config, pipe = generated(tmp_path), tiny_wan()
    calls: list[int] = []
    pipe.transformer.register_forward_pre_hook(lambda m, a, k: calls.append(1), with_kwargs=True)
    run = Distiller(config, pipe)
    latents, prompts = run.draw(0, 12, 32)
    made = len(calls)
    assert latents.shape == (12, LATENTS, 3, 8, 8)
    assert made == 2 * 2 * 2  # two chunks of 8 samples, two steps, two calls a step
    # What a user would get from the pipeline for that prompt and seed.
    call = {"height": 32, "width": 32, "num_frames": 9, "max_sequence_length": 8, "output_type": "latent"}
    noise = torch.Generator().manual_seed(3)
    alone = pipe(prompts[3], num_inference_steps=2, guidance_scale=2.0, generator=noise, **call).frames
    torch.testing.assert_close(latents[3:4], alone, rtol=1e-3, atol=1e-4)
    again, texts = run.draw(13, 2, 32)  # round and round
    torch.testing.assert_close(again, latents[1:3])
    assert texts == prompts[1:3]
    unseen, _ = run.draw(PROBE, 4, 32)
    assert not any(torch.equal(u, z) for u in unseen for z in latents)
    calls.clear()
    more, _ = Distiller(config, pipe).draw(0, 12, 32)
    assert not calls
    assert torch.equal(more, latents)
    (tmp_path / "run" / "generated" / "000008.safetensors").unlink()
    Distiller(config, pipe).draw(0, 1, 32)
    assert len(calls) == 4  # the one that is missing
    with pytest.raises(DditError, match=r"steps is 2 there and 3 now.*remove"):
        Distiller(generated(tmp_path, source={"steps": 3}), pipe).draw(0, 1, 32)


def test_distilling_on_generated_clips_with_patches_in_time(tmp_path: Path):
    rows = list(distil(generated(tmp_path, time={4: 2}), tiny_wan()))
    assert len(rows) == 2
    adapter = Adapter.from_pretrained(tmp_path / "run")
    assert adapter.config.time == {4: 2}
    errors = json.loads((tmp_path / "run" / "errors.json").read_text())
    assert {(r["scale"], r["stage"], r["n"]) for r in errors["rows"]} == {
        (s, stage, 4) for s in (2, 4) for stage in ("start", "trained")
    }


@pytest.mark.parametrize("time", [{}, {4: 2}])
def test_a_step_may_teach_a_random_tiling_too(tmp_path: Path, time: dict[int, int]):
    config = generated(tmp_path, mixed=True, time=time, source={"kind": "world"})
    run = Distiller(config, tiny_wan())
    latents, generator = torch.zeros(4, LATENTS, 3, 16, 16), torch.Generator().manual_seed(0)
    taught = [run.layouts(latents, generator) for _ in range(12)]
    assert all(list(t) == ["2p", "4p", "mixed"] for t in taught)
    tokens = {t["mixed"].tokens for t in taught if isinstance(t["mixed"], Layout)}
    assert len(tokens) > 6  # every step another one
    assert max(tokens) > 0.6 * 192 > 0.3 * 192 > min(tokens)
    rows = list(distil(config, tiny_wan()))
    assert all(0 < row["error_mixed"] < 10 for row in rows)


def test_the_world_moves_where_a_source_has_frames():
    source = Source(frames=9, side=32, seed=1)
    pictures, prompts = pictures_of(source)(5, 2, 32)
    assert pictures.shape == (2, 3, 9, 32, 32)
    assert prompts == world_prompts(source, 5, 2)
    assert (pictures[:, :, 0] - pictures[:, :, -1]).abs().amax() > 0.5
    still = Source(side=32, seed=1)
    assert pictures_of(still)(5, 2, 32)[1] == world_prompts(still, 5, 2)
    for wrong in ({"kind": "folder", "frames": 9}, {"kind": "generated", "side": [32, 64]}):
        with pytest.raises(ValidationError):
            Source.model_validate(wrong)


def test_generated_pictures_are_flux_s_own(tmp_path: Path):
    pipe = tiny_flux()
    source = {"frames": 1, "side": 32, "guidance_scale": 3.5}
    latents, prompts = Distiller(generated(tmp_path, source=source, text_tokens=8), pipe).draw(0, 8, 32)
    noise = torch.Generator().manual_seed(2)
    call = {"height": 32, "width": 32, "max_sequence_length": 8, "output_type": "latent"}
    packed = pipe(prompts[2], num_inference_steps=2, generator=noise, **call).images
    torch.testing.assert_close(pipe._pack_latents(latents[2:3], 1, *latents.shape[1:]), packed)


def test_times_follow_the_sampler_s_shift():
    wan, flux = tiny_wan(), tiny_flux()
    assert shift_of(wan.scheduler, 64) == 3.0
    assert shift_of(flux.scheduler, 4096) == pytest.approx(math.exp(1.15))
    t = sample_timesteps(20_000, 3.0, torch.Generator().manual_seed(0))
    # Half of the steps lie above s(1/2) = 3 / (3 + 1).
    assert float((t > 0.75).float().mean()) == pytest.approx(0.5, abs=0.02)


def test_each_of_two_transformers_learns_at_its_own_times(tmp_path: Path):
    one = tiny_wan()
    second = tiny_wan_transformer().eval()
    pipe, boundary = WanPipeline(**one.components | {"transformer_2": second}, boundary_ratio=0.8), 0.8
    seen: dict[str, list[float]] = {"transformer": [], "transformer_2": []}
    for name, times in seen.items():
        getattr(pipe, name).register_forward_pre_hook(
            lambda m, a, k, times=times: times.extend(k["timestep"].tolist()), with_kwargs=True
        )
    for part, (low, high) in {"transformer": (boundary, 1), "transformer_2": (0, boundary)}.items():
        source = {"kind": "world", "frames": 9, "side": 32}
        config = generated(tmp_path, part=part, source=source, out=tmp_path / "both" / part)
        list(distil(config, pipe))
        other = "transformer" if part == "transformer_2" else "transformer_2"
        assert seen[part]
        assert not seen[other]
        assert all(low <= t / 1000 <= high for t in seen[part])
        seen[part].clear()
        errors = json.loads((config.out / "errors.json").read_text())
        assert errors["timesteps"] == [t for t in FLOW_TIMES if low <= t <= high]
    with attach(pipe, tmp_path / "both") as handle:  # one folder holds both
        assert [b.adapter is not None for b in handle.bindings] == [True, True]
    with pytest.raises(DditError, match="no transformer_2"):
        Distiller(generated(tmp_path, part="transformer_2"), tiny_wan())


@pytest.mark.parametrize("maker", [tiny_hunyuan, tiny_hunyuan_15])
def test_hunyuan_s_inputs_are_its_pipeline_s(maker: Any):
    tiny = maker()
    pipe, given = tiny.pipe, {k: v for k, v in tiny.call.items() if not k.startswith("negative_")}
    names = inspect.signature(type(pipe).encode_prompt).parameters
    texts = tuple(v for k, v in given.items() if k in names and torch.is_tensor(v))
    if maker is tiny_hunyuan:  # as it returns them: text, pooled, mask
        texts = (given["prompt_embeds"], given["pooled_prompt_embeds"], given["prompt_attention_mask"])
    seen = []
    hook = pipe.transformer.register_forward_pre_hook(
        lambda m, args, kwargs: seen.append(kwargs), with_kwargs=True
    )
    tiny.run(steps=1)
    hook.remove()
    noise = seen[0]["hidden_states"][:, : pipe.transformer.config.out_channels]
    object.__setattr__(pipe, "encode_prompt", lambda *a, **k: texts)
    build = inputs_of(pipe).build
    ours = build(pipe, torch.randn_like(noise), ["a red star"], torch.ones(1), noise, 8)
    for name, value in ours.items():
        if torch.is_tensor(value):
            torch.testing.assert_close(value.float(), seen[0][name].float(), msg=name)
    assert set(seen[0]) - set(ours) == {"attention_kwargs"}


@pytest.mark.parametrize("scale", [1.0, 6.5])
def test_generated_clips_have_the_guidance_of_the_source(
    scale: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """HunyuanVideo 1.5 takes it from its guider and not from the call."""
    tiny = tiny_hunyuan_15()
    texts = tuple(v for k, v in tiny.call.items() if k.startswith("prompt_embeds"))
    monkeypatch.setattr(
        type(tiny.pipe),
        "encode_prompt",
        lambda *a, batch_size=1, **k: tuple(part.repeat_interleave(batch_size, 0) for part in texts),
    )
    source = Source(kind="generated", count=8, steps=2, guidance_scale=scale, frames=9, side=16)
    make(tiny.pipe, source, lambda start, n: ["a red star"] * n, 8, tmp_path, 0, slice(None), {})
    assert tiny.pipe.guider.guidance_scale == scale
    (path,) = tmp_path.glob("*.safetensors")
    assert load_file(path)["latents"].shape[0] == 8
