"""How the VAE of mini-wan is trained; on a tiny one."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from ddit_eval.ddit.families.video import normalised, unnormalised
from ddit_eval.errors import DditError
from ddit_eval.world.reader import load_reader
from experiments.recipes import wan_vae
from experiments.recipes.wan_pipeline import (
    SIDE,
)
from experiments.recipes.wan_renoised import NOISED, STEPS, renoised
from experiments.recipes.wan_vae import (
    clips,
    decode_raw,
    keep_encoder,
    measure,
    perceived,
    step_loss,
)
from tests.support.tiny_wan import tiny_wan_vae


def test_the_raw_decoding_is_what_the_vae_clamps():
    vae = tiny_wan_vae()
    z = 5 * torch.randn(2, 3, 3, 4, 4)
    raw = decode_raw(vae, z)
    assert raw.shape == (2, 3, 9, 16, 16)
    torch.testing.assert_close(raw.clamp(-1, 1), vae.decode(z).sample)
    assert not vae.decoder._forward_hooks


def test_a_vae_learns_resumes_and_notes_its_statistics(tmp_path):
    torch.manual_seed(0)
    vae = tiny_wan_vae()
    x = clips(0, 0, 4, 32)
    before = float(step_loss(vae, x)[0].detach())
    plan = wan_vae.Plan(
        [wan_vae.Stage(samples=100, batch=4, lr=5e-3, crop=16, decay=0.5)], ema=0.9, unseen=16
    )
    run = wan_vae.Trainer(plan, tmp_path, vae)
    run.run()
    assert float(step_loss(vae, x)[0].detach()) < 0.8 * before
    resumed = wan_vae.Trainer(plan, tmp_path, tiny_wan_vae())
    assert resumed.resume()
    assert resumed.stage == 1
    torch.testing.assert_close(resumed.student.state_dict(), vae.state_dict())
    again = type(vae).from_pretrained(tmp_path / "vae", torch_dtype=torch.float32)
    quality = json.loads((tmp_path / "vae" / "training.json").read_text())["psnr"]
    psnr, z = measure(again, 16)
    assert psnr == pytest.approx(quality, abs=0.2)
    n = normalised(again, z)
    assert n.mean((0, 2, 3, 4)).abs().max() < 0.1
    assert (n.std((0, 2, 3, 4)) - 1).abs().max() < 0.1


def test_a_kept_encoder_gives_the_latents_that_it_gave_before(tmp_path):
    torch.manual_seed(1)
    old, vae = tiny_wan_vae(), tiny_wan_vae()
    old.register_to_config(latents_mean=[0.5, 0.25, 0.0], latents_std=[2.0, 1.0, 3.0])
    keep_encoder(vae, old)
    x, decoder = clips(0, 0, 2, 16), vae.decoder.conv_out.weight.clone()
    plan = wan_vae.Plan([wan_vae.Stage(samples=8, batch=4, lr=5e-3, crop=16, decay=0.5)], ema=0.9, unseen=16)
    wan_vae.Trainer(plan, tmp_path, vae).run()
    new = type(vae).from_pretrained(tmp_path / "vae", torch_dtype=torch.float32)
    theirs, ours = (normalised(v, v.encode(x).latent_dist.mode()) for v in (old, new))
    torch.testing.assert_close(ours, theirs, atol=0.05, rtol=0.02)  # bfloat16
    assert not torch.equal(vae.decoder.conv_out.weight, decoder)


def test_a_reader_sees_what_differs_and_is_a_part_of_the_loss(tmp_path):
    reader = load_reader()
    x = clips(0, 0, 2, 16)
    y = (x + 0.3 * torch.randn_like(x)).requires_grad_()
    assert float(perceived(reader, x, x)) == pytest.approx(0, abs=1e-6)
    distance = perceived(reader, y, x)
    distance.backward()
    assert distance > 0.01
    assert y.grad is not None
    assert y.grad.abs().sum() > 0
    stage = wan_vae.Stage(samples=8, batch=4, lr=5e-3, crop=16, decay=0.5)
    vae, losses = tiny_wan_vae(), []
    for which in (None, reader):
        torch.manual_seed(2)
        trainer = wan_vae.Trainer(wan_vae.Plan([stage]), tmp_path, vae, which)
        losses.append(trainer.losses(stage, 0)[0].item())
    assert losses[1] > losses[0] + 0.001


def test_latents_become_the_vaes_again():
    vae = tiny_wan_vae()
    vae.register_to_config(latents_mean=[0.5, 0.25, 0.0], latents_std=[2.0, 1.0, 3.0])
    z = torch.randn(2, 3, 3, 4, 4)
    assert not torch.allclose(normalised(vae, z), z)
    torch.testing.assert_close(unnormalised(vae, normalised(vae, z)), z)


def test_given_latents_are_decoded_in_the_encoders_place():
    vae = tiny_wan_vae()
    vae.register_to_config(latents_mean=[0.5, 0.25, 0.0], latents_std=[2.0, 1.0, 3.0])
    x = clips(0, 0, 4, 16)
    z = vae.encode(x).latent_dist.mode()
    _, y = step_loss(vae, x, given=normalised(vae, z[1:]))
    assert y.shape == x.shape
    torch.testing.assert_close(y[1:], decode_raw(vae, z)[1:])


def test_what_is_renoised_keeps_its_clip():
    """With the true velocity, clips come back; guidance of 1 takes the velocity with the text alone."""
    pipe = SimpleNamespace(vae=tiny_wan_vae(), encode_prompt=lambda texts, *_, **__: (texts, [""]))
    z = normalised(pipe.vae, pipe.vae.encode(clips(3, 2, 2, SIDE)).latent_dist.mode())
    seen = []

    def transformer(noisy, t, text, return_dict):
        seen.append((t, text))
        return ((noisy - z) / (t / 1000).view(-1, 1, 1, 1, 1) if text != [""] else noisy * 0,)

    pipe.transformer = transformer
    with torch.no_grad():
        back = renoised(pipe, seed=3, start=2, count=2, guidance=1.0)
    torch.testing.assert_close(back, z, atol=1e-4, rtol=1e-4)
    assert len(seen) == 2 * STEPS
    times = torch.stack([t / 1000 for t, _ in seen])
    assert ((times[0] >= NOISED[0]) & (times[0] <= NOISED[1])).all()
    torch.testing.assert_close(times[-1], times[0] / STEPS)
    assert all(len(text) == 2 for _, text in seen[::2])


def test_a_decoder_learns_from_renoised_latents(tmp_path):
    torch.manual_seed(1)
    vae = tiny_wan_vae()
    z = normalised(vae, vae.encode(clips(40, 0, 6, SIDE)).latent_dist.mode()).detach()
    stage = wan_vae.Stage(samples=8, batch=4, lr=5e-3, crop=SIDE, decay=0.5)
    run = wan_vae.Trainer(wan_vae.Plan([stage]), tmp_path, vae, renoised=(z.half(), 40))
    seen = []
    original = wan_vae.clips
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wan_vae, "clips", lambda *a: seen.append(a[:3]) or original(*a))
        run.losses(stage, 4)
        run.losses(stage, 8)
    assert seen == [(0, 4, 2), (40, 2, 2), (0, 8, 2), (40, 4, 2)]
    with pytest.raises(DditError, match="--crop 64"):
        wan_vae.main(out=tmp_path, renoised=tmp_path / "none")


@pytest.mark.parametrize("kind", ["missing", "torn", "other"])
def test_files_that_are_none_are_named_with_what_makes_them(tmp_path, kind):
    path = tmp_path / "reader.safetensors"
    if kind == "torn":
        path.write_bytes(b"torn")
    if kind == "other":
        save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(DditError, match=r"reader\.safetensors holds no renoised.*wan_renoised"):
        wan_vae.load_renoised(path)
    with pytest.raises(DditError, match=r"reader.*recipes\.reader --out"):
        load_reader(tmp_path)
