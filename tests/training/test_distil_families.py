"""Distillation's inputs of further families are those that their pipelines hand over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import ddit_eval
from ddit_eval import Adapter, DditError
from ddit_eval.ddit.families import family_of
from ddit_eval.training.distil.config import DistilConfig
from ddit_eval.training.distil.run import Distiller
from ddit_eval.training.inputs import inputs_of
from tests.support.tiny_families import MAKERS, Tiny, text

NAMES = ["flux2", "qwen-image", "sd3", "ltx"]


def encoder(tiny: Tiny) -> Any:
    """Stands in for the pipeline's `encode_prompt`, which needs text encoders of full size."""
    mask = torch.ones(1, 6, dtype=torch.long)
    found: dict[str, Any] = {
        "flux2": lambda n: (text(1).repeat(n, 1, 1), tiny.pipe._prepare_text_ids(text(1).repeat(n, 1, 1))),
        "qwen-image": lambda n: (text(1).repeat(n, 1, 1), mask.repeat(n, 1)),
        "sd3": lambda n: (text(1).repeat(n, 1, 1), None, text(2)[:, 0].repeat(n, 1), None),
        "ltx": lambda n: (text(1).repeat(n, 1, 1), mask.repeat(n, 1), None, None),
    }
    made = found[family_of(tiny.pipe.transformer).name]
    return lambda prompt, *args, **kwargs: made(len(prompt))


def clean(tiny: Tiny, count: int = 2) -> Tensor:
    side = 128 if family_of(tiny.pipe.transformer).video else 16
    shape = (count, 3, 17, side, side) if side == 128 else (count, 3, side, side)
    return torch.rand(shape, generator=torch.Generator().manual_seed(4)) * 2 - 1


@pytest.mark.parametrize("name", NAMES)
def test_the_arguments_are_the_pipelines_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = MAKERS[name]()
    held: list[dict[str, Any]] = []
    watch = tiny.pipe.transformer.register_forward_pre_hook(
        lambda m, args, kwargs: held.append(kwargs), with_kwargs=True
    )
    tiny.run(steps=1, samples=2)
    watch.remove()
    monkeypatch.setattr(type(tiny.pipe), "encode_prompt", lambda self, *a, **k: encoder(tiny)(*_first(a, k)))
    pipe, latents = tiny.pipe, inputs_of(tiny.pipe).encode(tiny.pipe, clean(tiny))
    noise, t = torch.randn(latents.shape), torch.tensor([0.5, 1.0])
    kwargs = inputs_of(pipe).build(pipe, latents, ["a", "b"], t, noise, 6)
    theirs = {k: v for k, v in held[0].items() if v is not None and not k.endswith("_kwargs")}
    ours = {k: v for k, v in kwargs.items() if v is not None}
    more = {"guidance", "encoder_hidden_states_mask"}  # the pipelines leave them out where nothing is masked
    assert set(ours) - more == set(theirs) - more
    for key, value in theirs.items():
        if isinstance(value, Tensor):
            assert (key, ours[key].shape) == (key, value.shape)
        elif key not in ("rope_interpolation_scale",):  # the test's own frame rate
            assert ours[key] == value
    for key in ("img_ids", "txt_ids"):
        if key in theirs:
            assert torch.equal(ours[key], theirs[key])
    # At t = 1 the latents are noise alone, at the scheduler's first time.
    ratio = ours["timestep"][1] / theirs["timestep"].flatten()[0]
    assert 0.9 < float(ratio) <= 1.01
    family = family_of(pipe.transformer)
    tokens = family.read(pipe.transformer, (), kwargs).latents[1]
    only = inputs_of(pipe).build(pipe, 0 * latents, ["a", "b"], torch.ones(2), noise, 6)
    torch.testing.assert_close(tokens, family.read(pipe.transformer, (), only).latents[1])


@pytest.mark.parametrize("name", NAMES)
def test_what_the_pipeline_has_sampled_is_unpacked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = MAKERS[name]()
    monkeypatch.setattr(type(tiny.pipe), "encode_prompt", lambda self, *a, **k: encoder(tiny)(*_first(a, k)))
    pictures = clean(tiny)
    latents = inputs_of(tiny.pipe).encode(tiny.pipe, pictures)
    # At t = 0 the transformer is given the clean latents in the form in which the pipeline ends.
    given = inputs_of(tiny.pipe).build(tiny.pipe, latents, ["a", "b"], torch.zeros(2), 0 * latents, 6)
    frames = pictures.shape[2] if pictures.ndim == 5 else 1
    again = inputs_of(tiny.pipe).unpack(tiny.pipe, given["hidden_states"], pictures.shape[-1], frames)
    torch.testing.assert_close(again, latents.cpu())


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    return (args[0] if args else kwargs["prompt"],)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_of_training(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tiny = MAKERS[name]()
    monkeypatch.setattr(type(tiny.pipe), "encode_prompt", lambda self, *a, **k: encoder(tiny)(*_first(a, k)))
    video = family_of(tiny.pipe.transformer).video
    source: Any = {"kind": "world", "side": 128 if video else 16, "frames": 17 if video else 1}
    config = DistilConfig(
        model=name, out=tmp_path, rank=2, source=source, pictures=8, batch=2, mixed=True, text_tokens=6
    )
    run = Distiller(config, tiny.pipe)
    before = {k: v.clone() for k, v in run.adapter.state_dict().items()}
    with ddit_eval.attach(run.transformer, adapter=run.adapter) as handle:
        row = run.train_step(handle)
        row = run.train_step(handle)
    assert set(row) == {"error_2p", "error_4p", "error_mixed"}
    assert all(0 < value < 100 for value in row.values())
    assert any(not torch.equal(before[k], v) for k, v in run.adapter.state_dict().items())
    assert not any(p.requires_grad for p in run.transformer.parameters())


def test_latents_are_those_that_the_decoder_is_given_back() -> None:
    """FLUX.2 normalises groups of 2 x 2 values: the way back is the pipeline's own."""
    tiny = MAKERS["flux2"]()
    vae = tiny.pipe.vae
    with torch.no_grad():
        vae.bn.running_mean.normal_()
        vae.bn.running_var.uniform_(0.5, 2)
    pictures = clean(tiny)
    z = tiny.pipe._patchify_latents(inputs_of(tiny.pipe).encode(tiny.pipe, pictures))
    mean = vae.bn.running_mean.view(1, -1, 1, 1)
    std = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps)
    back = tiny.pipe._unpatchify_latents(z * std + mean)
    with torch.no_grad():
        torch.testing.assert_close(back, vae.encode(pictures).latent_dist.mode(), atol=1e-4, rtol=1e-4)


def test_families_that_predict_noise_cannot_be_distilled_yet() -> None:
    pipe = MAKERS["pixart"]().pipe
    assert Adapter.from_base(pipe, detail="zero").scales == (2, 4)
    with pytest.raises(DditError, match="knows no inputs for pixart"):
        inputs_of(pipe)
