"""What distillation hands to Wan: latents on the flow and text as the pipeline encodes it."""

from __future__ import annotations

import pytest
import torch

from ddit_eval import Adapter, attach
from ddit_eval.distil.inputs import encode, inputs_for, wan_inputs
from ddit_eval.distil.measure import TIMESTEPS, error_table
from ddit_eval.errors import DditError
from tests.tiny_wan import LATENTS, tiny_wan

PROMPTS = ["a red star", ""]


def clips(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 9, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_clips_become_normalised_latents():
    pipe = tiny_wan()
    plain = encode(pipe, clips())
    assert plain.shape == (2, LATENTS, 3, 8, 8)
    mean, std = [0.5, -1.0, 0.0], [2.0, 1.0, 0.5]
    pipe.vae.register_to_config(latents_mean=mean, latents_std=std)
    axes = (1, LATENTS, 1, 1, 1)
    expected = (plain - torch.tensor(mean).view(axes)) / torch.tensor(std).view(axes)
    torch.testing.assert_close(encode(pipe, clips()), expected)


def test_inputs_lie_on_the_flow_and_are_the_pipelines():
    pipe = tiny_wan()
    assert inputs_for(pipe) is wan_inputs
    latents = encode(pipe, clips())
    noise = torch.randn_like(latents)
    ends = [wan_inputs(pipe, latents, PROMPTS, torch.full((2,), t), noise, 8).kwargs for t in (0.0, 1.0)]
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
    latents, generator = encode(pipe, clips()), torch.Generator().manual_seed(1)
    with attach(pipe, adapter) as handle:
        before = error_table(pipe, handle, clips(), PROMPTS, 8)
        for _ in range(40):
            noise, t = torch.randn(latents.shape, generator=generator), torch.rand(2, generator=generator)
            kwargs = wan_inputs(pipe, latents, PROMPTS, t, noise, 8).kwargs
            with torch.no_grad(), handle.forced(1):
                target = pipe.transformer(**kwargs)[0]
            optimizer.zero_grad()
            for scale in (2, 4):
                with handle.forced(scale):
                    (pipe.transformer(**kwargs)[0] - target).square().mean().backward()
            optimizer.step()
        after = error_table(pipe, handle, clips(), PROMPTS, 8)
    for scale in (2, 4):
        assert len(before[scale]) == len(TIMESTEPS)
        assert sum(after[scale]) < 0.8 * sum(before[scale])


def test_other_models_are_refused():
    pipe = tiny_wan()
    pipe.transformer = torch.nn.Linear(1, 1)
    with pytest.raises(DditError, match="no known family"):
        inputs_for(pipe)
