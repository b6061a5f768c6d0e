"""How mini-wan is built and trained; on the tiny pipeline where the size does not matter."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import WanPipeline
from PIL import Image, ImageSequence
from safetensors.torch import save_file
from typer.testing import CliRunner

from ddit_eval import Adapter, load_pipeline
from ddit_eval.cli import app
from ddit_eval.ddit.families.video import normalised, patchify, unnormalised, unpatchify
from ddit_eval.errors import DditError
from ddit_eval.models.find import locate
from ddit_eval.world import caption_clip, render_clip, sample_moving_scenes, video_vocabulary
from ddit_eval.world.reader import load_reader
from experiments.recipes import wan_score, wan_vae
from experiments.recipes.labels import token_labels
from experiments.recipes.pipeline import build_t5_tokenizer
from experiments.recipes.wan_pipeline import (
    FRAMES,
    SIDE,
    TOKEN_SIDE,
    build_umt5,
    build_wan_pipeline,
    build_wan_vae,
    latent_frames,
)
from experiments.recipes.wan_sight import cell_labels, misread
from experiments.recipes.wan_touched import NOISED, STEPS, touched
from experiments.recipes.wan_train import Plan, Stage, Trainer, flow, lessons_of, load_plan
from experiments.recipes.wan_vae import (
    clips,
    decode_raw,
    frames_of,
    keep_encoder,
    measure,
    perceived,
    step_loss,
)
from experiments.recipes.wan_words import ClipHead, moving_captions, teach_clips
from experiments.recipes.words import shape_ids
from tests.support.tiny_wan import tiny_wan_transformer, tiny_wan_vae

PLAN = Path(__file__).parents[2] / "experiments" / "train" / "mini-wan.yaml"


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "experiments.recipes.wan_pipeline.build_wan_transformer",
        lambda channels: tiny_wan_transformer(text=96),
    )
    monkeypatch.setattr("experiments.recipes.wan_train.MIDDLE", 1)
    tiny_wan_vae().save_pretrained(tmp_path / "vae")
    plan = Plan(
        captions=96,
        stages=[
            Stage(side=32, clips=12, batch=4, lr=1e-3, whole=False),
            Stage(side=32, clips=8, batch=4, lr=1e-3, drop=0.5),
        ],
    )

    def make(out: str) -> Trainer:
        (tmp_path / out).mkdir(exist_ok=True)
        return Trainer(plan, tmp_path / "vae", tmp_path / out)

    return make


# The pipeline.


def test_mini_wan_is_a_small_plain_pipeline(tmp_path):
    build_wan_pipeline(build_wan_vae()).to(torch.bfloat16).save_pretrained(tmp_path)
    assert sum(p.stat().st_size for p in tmp_path.rglob("*.safetensors")) <= 20e6
    pipe = WanPipeline.from_pretrained(tmp_path, torch_dtype=torch.float32)
    assert type(pipe) is WanPipeline
    pipe.set_progress_bar_config(disable=True)
    call = {"height": SIDE, "width": SIDE, "num_frames": FRAMES, "max_sequence_length": 32}
    video = pipe("a red star moves right", num_inference_steps=1, guidance_scale=1.0, **call).frames
    assert video.shape == (1, FRAMES, SIDE, SIDE, 3)
    config = pipe.transformer.config
    # The hidden size is well above what a 2p patch emits.
    assert config.num_attention_heads * config.attention_head_dim > 1.4 * 4 * 4 * config.out_channels
    ids = pipe.tokenizer("a red star moves right").input_ids
    assert pipe.tokenizer.convert_ids_to_tokens(ids[:-1]) == [
        "\u2581" + w for w in ["a", "red", "star", "moves", "right"]
    ]


def test_a_clip_has_five_latent_frames_of_64_base_tokens():
    z = build_wan_vae().encode(clips(0, 0, 1, SIDE)).latent_dist.mean
    assert z.shape == (1, 12, 5, 16, 16)
    assert patchify(z).shape[1] == 5 * (SIDE // TOKEN_SIDE) ** 2 == 320


def test_tokens_become_latents_again():
    z = torch.randn(2, 12, 5, 6, 8)
    assert torch.equal(unpatchify(patchify(z), z.shape), z)


def test_latent_frames_lie_in_the_middle_of_what_they_cover():
    assert latent_frames(1) == [0]
    assert latent_frames(9) == [0, 1.5, 3.5, 5.5, 7.5]  # frame 0, frames 1 and 2, ...
    assert latent_frames(9, factor=4) == [0, 2.5, 6.5]


def test_tokenizers_of_clips_know_the_words_of_still_scenes_by_the_same_ids():
    still, moving = build_t5_tokenizer(), build_t5_tokenizer(video_vocabulary())
    ids = moving.get_vocab()
    assert all(ids[piece] == i for piece, i in still.get_vocab().items())
    longest = max((caption_clip(c) for c in sample_moving_scenes(0, 0, 2000)), key=lambda t: len(t.split()))
    encoded = moving(longest).input_ids
    assert len(encoded) <= 32
    assert moving.unk_token_id not in encoded


# The VAE.


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
    plan = wan_vae.Plan([wan_vae.Stage(samples=100, batch=4, lr=5e-3, crop=16, decay=0.5)], ema=0.9)
    run = wan_vae.Trainer(plan, tmp_path, vae)
    run.run()
    assert float(step_loss(vae, x)[0].detach()) < 0.8 * before
    resumed = wan_vae.Trainer(plan, tmp_path, tiny_wan_vae())
    assert resumed.resume()
    assert resumed.stage == 1
    torch.testing.assert_close(resumed.student.state_dict(), vae.state_dict())
    again = type(vae).from_pretrained(tmp_path / "vae", torch_dtype=torch.float32)
    quality = json.loads((tmp_path / "vae" / "training.json").read_text())["psnr"]
    psnr, z = measure(again, 64)
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
    plan = wan_vae.Plan([wan_vae.Stage(samples=8, batch=4, lr=5e-3, crop=16, decay=0.5)], ema=0.9)
    wan_vae.Trainer(plan, tmp_path, vae).run()
    new = type(vae).from_pretrained(tmp_path / "vae", torch_dtype=torch.float32)
    theirs, ours = (normalised(v, v.encode(x).latent_dist.mode()) for v in (old, new))
    torch.testing.assert_close(ours, theirs, atol=0.05, rtol=0.02)  # bfloat16
    assert not torch.equal(vae.decoder.conv_out.weight, decoder)


def test_an_eye_sees_what_differs_and_is_a_part_of_the_loss(tmp_path):
    eye = load_reader()
    x = clips(0, 0, 2, 16)
    y = (x + 0.3 * torch.randn_like(x)).requires_grad_()
    assert float(perceived(eye, x, x)) == pytest.approx(0, abs=1e-6)
    distance = perceived(eye, y, x)
    distance.backward()
    assert distance > 0.01
    assert y.grad is not None
    assert y.grad.abs().sum() > 0
    stage = wan_vae.Stage(samples=8, batch=4, lr=5e-3, crop=16, decay=0.5)
    vae, losses = tiny_wan_vae(), []
    for which in (None, eye):
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


def test_what_the_transformer_touches_keeps_its_clip():
    """With the true velocity, clips come back; guidance of 1 takes the velocity with the text alone."""
    pipe = SimpleNamespace(vae=tiny_wan_vae(), encode_prompt=lambda texts, *_, **__: (texts, [""]))
    z = normalised(pipe.vae, pipe.vae.encode(clips(3, 2, 2, SIDE)).latent_dist.mode())
    seen = []

    def transformer(noisy, t, text, return_dict):
        seen.append((t, text))
        return ((noisy - z) / (t / 1000).view(-1, 1, 1, 1, 1) if text != [""] else noisy * 0,)

    pipe.transformer = transformer
    with torch.no_grad():
        back = touched(pipe, seed=3, start=2, count=2, guidance=1.0)
    torch.testing.assert_close(back, z, atol=1e-4, rtol=1e-4)
    assert len(seen) == 2 * STEPS
    times = torch.stack([t / 1000 for t, _ in seen])
    assert ((times[0] >= NOISED[0]) & (times[0] <= NOISED[1])).all()
    torch.testing.assert_close(times[-1], times[0] / STEPS)
    assert all(len(text) == 2 for _, text in seen[::2])


def test_a_decoder_learns_from_touched_latents(tmp_path):
    torch.manual_seed(1)
    vae = tiny_wan_vae()
    z = normalised(vae, vae.encode(clips(40, 0, 6, SIDE)).latent_dist.mode()).detach()
    stage = wan_vae.Stage(samples=8, batch=4, lr=5e-3, crop=SIDE, decay=0.5)
    run = wan_vae.Trainer(wan_vae.Plan([stage]), tmp_path, vae, touched=(z.half(), 40))
    seen = []
    original = wan_vae.clips
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wan_vae, "clips", lambda *a: seen.append(a[:3]) or original(*a))
        run.losses(stage, 4)
        run.losses(stage, 8)
    assert seen == [(0, 4, 2), (40, 2, 2), (0, 8, 2), (40, 4, 2)]
    with pytest.raises(DditError, match="--crop 64"):
        wan_vae.main(out=tmp_path, touched=tmp_path / "none")


@pytest.mark.parametrize("kind", ["missing", "torn", "other"])
def test_files_that_are_none_are_named_with_what_makes_them(tmp_path, kind):
    path = tmp_path / "reader.safetensors"
    if kind == "torn":
        path.write_bytes(b"torn")
    if kind == "other":
        save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(DditError, match=r"reader\.safetensors holds no touched.*wan_touched"):
        wan_vae.load_touched(path)
    with pytest.raises(DditError, match=r"reader.*recipes\.reader --out"):
        load_reader(tmp_path)


# The words.


def test_a_text_encoder_learns_where_things_go():
    tokenizer = build_t5_tokenizer(video_vocabulary())
    torch.manual_seed(0)
    encoder = build_umt5(len(tokenizer))
    early = teach_clips(encoder, tokenizer, 24 * 10, 24, 3e-3, 0)
    assert teach_clips(encoder, tokenizer, 24 * 60, 24, 3e-3, 0) < 0.7 * early


def test_the_head_is_asked_for_both_ends_of_the_clip():
    found, _ = moving_captions(0, 0, 40)
    head = ClipHead(8)
    for part in head.parameters():
        torch.nn.init.zeros_(part)
    things = sum(len(c.things) for c in found)
    places, _ = head.loss(torch.zeros(things, 8), found)
    ends = [[(t.x, t.y, t.radius) for c in found for t in c.at(time).things] for time in (0, 1)]
    turns = torch.tensor([m.turn for c in found for m in c.motions])
    expected = torch.tensor(ends).square().mean() + turns.square().mean() / 20
    torch.testing.assert_close(places.detach(), expected)


# The transformer.


def test_lessons_follow_the_things_from_latent_frame_to_latent_frame():
    found = sample_moving_scenes(0, 0, 6)
    moments = [frame / 8 for frame in latent_frames(9, factor=4)]
    labels, offsets = lessons_of(found, 8, moments)
    assert labels.shape == (6, 192, 3)
    assert offsets.shape == (6, 192, 2)
    for clip, rows in zip(found, labels.view(6, 3, 64, 3), strict=True):
        for moment, row in zip(moments, rows, strict=True):
            assert torch.equal(row, token_labels([clip.at(moment)], 8)[0])
    assert not torch.equal(labels[:, :64], labels[:, 128:])


def test_the_students_text_is_the_pipelines(trainer):
    """WanPipeline cuts the prompt's features off at its end and fills up with zeros; so must training."""
    run = trainer("run")
    told: list[torch.Tensor] = []
    hook = run.student.transformer.register_forward_pre_hook(lambda m, args: told.append(args[2]))
    texts = ["a red star moves right", ""]
    with torch.no_grad():
        run.student(torch.randn(2, 3, 3, 8, 8), torch.rand(2), *run.ids(texts))
        expected, _ = run.pipe.encode_prompt(texts, do_classifier_free_guidance=False, max_sequence_length=32)
    hook.remove()
    torch.testing.assert_close(told[0], expected)


def test_training_writes_a_wan_pipeline(trainer, tmp_path):
    run = trainer("run")
    run.teach()
    torch.testing.assert_close(run.average.encoder.state_dict(), run.student.encoder.state_dict())
    run.run(every=0)
    pipe = WanPipeline.from_pretrained(tmp_path / "run" / "pipeline", torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    call = {"height": 32, "width": 32, "num_frames": 9, "max_sequence_length": 32}
    video = pipe("a red star moves right", num_inference_steps=2, guidance_scale=2.0, **call).frames
    assert video.shape == (1, 9, 32, 32, 3)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [(r["stage"], r["step"]) for r in rows] == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)]
    assert all(0 <= r["shape_named"] <= 1 and r["validation_objects"] > 0 for r in rows)


def test_training_resumes_to_the_step(trainer):
    whole, killed = trainer("whole"), trainer("killed")
    stage = whole.plan.stages[1]
    for run in (whole, killed):
        run.train_step(stage, 3, 0)
        run.step = 1
    killed.save()
    again = trainer("killed")
    assert again.resume()
    assert again.step == 1
    assert whole.train_step(stage, 3, 0) == pytest.approx(again.train_step(stage, 3, 0), rel=1e-5)


def test_training_lowers_the_error(trainer):
    run = trainer("run")
    stage = Stage(side=32, clips=4 * 60, batch=4, lr=5e-3, drop=0, auxiliary=0, whole=False)
    run.plan.ema = 0.9
    before = run.validate(stage)["validation"]
    for run.step in range(60):
        run.train_step(stage, 60, 0)
    assert run.validate(stage)["validation"] < 0.9 * before


def test_in_bfloat16_a_step_is_about_the_same_and_weights_stay_float32(trainer):
    whole, rounded = trainer("whole"), trainer("rounded")
    stage = whole.plan.stages[1]
    exact = whole.train_step(stage, 3, 0)
    rounded.plan.bfloat16 = True
    near = rounded.train_step(stage, 3, 0)
    assert near != exact
    assert near == pytest.approx(exact, rel=2e-2)
    assert {p.dtype for p in rounded.student.parameters()} == {torch.float32}


def test_the_first_frame_alone_is_the_clips_first_latent_frame(trainer):
    run = trainer("run")
    whole, first = (
        run.batch(Stage(side=32, clips=4, batch=4, lr=0, whole=w), 0, 0, 4) for w in (True, False)
    )
    torch.testing.assert_close(whole.latents[:, :, :1], first.latents)
    assert whole.captions == first.captions
    assert torch.equal(whole.labels[:, :16], first.labels)


def test_the_flow_runs_from_data_to_noise():
    z, noise = torch.randn(2, 3, 3, 4, 4), torch.randn(2, 3, 3, 4, 4)
    mixed = flow(z, noise, torch.tensor([0.0, 1.0]))
    assert torch.equal(mixed[0], z[0])
    assert torch.equal(mixed[1], noise[1])


# By sight.


def test_the_eye_reads_true_clips_better_than_spoilt_ones():
    found, moments = sample_moving_scenes(3, 0, 2), [0.0, 0.5, 1.0]
    true = torch.from_numpy(render_clip(found, SIDE, 3)).transpose(1, 2) * 2 - 1
    labels = cell_labels(found, moments, SIDE)
    assert labels.shape == (6, 3, 32, 32)
    assert torch.equal(labels[4], cell_labels(found[1:], [0.5], SIDE)[0])  # clip by clip, then by frame
    eye = load_reader()
    right = misread(eye, true, true, labels)
    spoilt = (true + 0.6 * torch.randn_like(true)).requires_grad_()
    wrong = misread(eye, spoilt, true, labels)
    assert right < 0.1
    assert wrong > 10 * right
    wrong.backward()
    assert spoilt.grad is not None
    assert spoilt.grad.abs().sum() > 0
    assert misread(eye, true, true, labels.flip(0)) > right + 0.5  # the labels of other moments


def test_a_guess_with_the_true_velocity_is_the_clip(trainer):
    run = trainer("run")
    batch = run.batch(run.plan.stages[1], 0, 0, 2)
    noise, t = torch.randn_like(batch.latents), torch.tensor([0.3, 0.9])
    with torch.no_grad():
        frames = frames_of(run.guess(flow(batch.latents, noise, t), t, patchify(noise - batch.latents)))
        expected = run.vae.decode(unnormalised(run.vae, batch.latents)).sample
    assert frames.shape == (18, 3, 32, 32)
    frames = frames.unflatten(0, (2, 9)).transpose(1, 2) * 2 - 1
    torch.testing.assert_close(frames.clamp(-1, 1), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("whole", [True, False])
def test_sight_is_a_part_of_the_loss_and_moves_the_transformer(trainer, monkeypatch, whole):
    run = trainer("run")
    run.eye = load_reader()
    shown = []
    original = run.guess
    monkeypatch.setattr(run, "guess", lambda x, t, v: shown.append(t) or original(x, t, v))
    losses = []
    for weight in (0.0, 0.5, 1.0):
        torch.manual_seed(4)
        stage = Stage(side=32, clips=4, batch=4, lr=0, drop=0, whole=whole, sight=weight, sight_until=0.7)
        losses.append(run.losses(stage, 0)[0])
    assert len(shown) == 2
    assert all(0 < len(t) <= 2 and t.max() < 0.7 for t in shown)
    assert losses[0] < losses[1] < losses[2]
    assert (losses[2] - losses[1]).item() == pytest.approx((losses[1] - losses[0]).item(), rel=1e-3)
    (losses[2] - losses[0]).backward()
    gradient = run.student.transformer.proj_out.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0
    assert all(p.grad is None for p in run.vae.parameters())
    assert 0 <= run.validate(stage, 4)["objects_seen"] <= 1


def test_sight_needs_an_eye(tmp_path):
    plan = Plan(stages=[Stage(clips=4, batch=4, lr=1e-3, sight=0.2)])
    with pytest.raises(DditError, match="--eye"):
        Trainer(plan, tmp_path / "vae", tmp_path)


# The plan.


def test_the_plan_is_read():
    plan = load_plan(PLAN)
    assert not plan.stages[0].whole
    assert plan.stages[-1].whole
    assert plan.stages[-1].object_weight == 1  # the last stage goes back to the true velocity


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("stages: [{clips: 4, batch: 0, lr: 1}]\n", r"stages\.0\.batch"),
        ("stages: [{clips: 4, batch: 1, lr: 1, sid: 3}]\n", r"stages\.0\.sid"),
        ("stages: [\n", "cannot read"),
    ],
)
def test_a_bad_plan_is_named(tmp_path, text, named):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(DditError, match=named):
        load_plan(path)


def test_shapes_have_one_piece_each():
    tokenizer = build_t5_tokenizer(video_vocabulary())
    assert tokenizer.unk_token_id not in shape_ids(tokenizer)


def test_a_run_begins_with_an_earlier_pipeline(trainer, tmp_path):
    first = trainer("first")
    first.train_step(first.plan.stages[1], 3, 0)
    first.average.load_state_dict(first.student.state_dict())
    first.export()
    again = trainer("again")
    again.begin(tmp_path / "first" / "pipeline")
    for part in (again.student, again.average):
        for name in ("encoder", "transformer"):
            saved = {k: v.bfloat16().float() for k, v in getattr(first.student, name).state_dict().items()}
            torch.testing.assert_close(getattr(part, name).state_dict(), saved)


# The score.


def test_the_score_of_a_model_stands_beside_its_ceilings(tmp_path, monkeypatch):
    def small() -> WanPipeline:
        from tests.support.tiny_wan import tiny_wan

        return tiny_wan()

    monkeypatch.setattr(wan_score, "load_pipeline", lambda _name: small())
    monkeypatch.setattr(wan_score, "SIDE", 32)
    wan_score.main(tmp_path / "score.json", "tiny", count=4, steps=1, guidance=2.0, batch=2)
    result = json.loads((tmp_path / "score.json").read_text())
    assert (result["n"], result["guidance"], result["split"]) == (4, 2.0, "heldout")
    for name in ("generated", "true scenes", "vae reconstructions"):
        assert 0 <= result[name]["object-frames"]["value"] <= 1
        assert result[name]["object-frames"]["n"] == 4
    # An untrained model draws nothing that was promised.
    assert result["generated"]["object-frames"]["value"] < result["true scenes"]["object-frames"]["value"]


# What ships.


def test_the_shipped_mini_wan_is_small_and_fits_its_adapter() -> None:
    folder = locate("mini-wan")
    assert sum(p.stat().st_size for p in folder.rglob("*.safetensors")) <= 20e6
    pipe = load_pipeline("mini-wan")
    assert type(pipe) is WanPipeline
    adapter = Adapter.from_pretrained("mini-wan")
    assert adapter.fits(pipe.transformer)
    assert adapter.scales == (2, 4)


def test_a_prompt_becomes_a_clip_its_accelerated_twin_and_a_heatmap(tmp_path: Path) -> None:
    words = ["generate", "a red star moves right", "--model", "mini-wan", "--steps", "3", "--guidance", "2"]
    policy = ["--policy", "{kind: coarse-first, steps: 1, scale: 4}", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, [*words, *policy])
    assert result.exit_code == 0, result.exception
    names = {path.stem for path in tmp_path.iterdir()}
    assert names >= {"000", "000-base", "schedule"}
    base, ours = (read_clip(tmp_path, stem) for stem in ("000-base", "000"))
    assert base.shape == ours.shape == (FRAMES, SIDE, SIDE, 3)
    assert (base != ours).any()


def read_clip(folder: Path, stem: str) -> np.ndarray:
    path = next(p for p in folder.iterdir() if p.stem == stem)
    if path.suffix == ".gif":
        with Image.open(path) as film:
            return np.stack([np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(film)])
    import av

    with av.open(str(path)) as film:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)])
