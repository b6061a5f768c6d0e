"""How mini-wan is trained; on the tiny pipeline where the size does not matter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline

from ddit_eval.ddit.families.video import patchify, unnormalised
from ddit_eval.errors import DditError
from ddit_eval.world import render_clip, sample_moving_scenes
from ddit_eval.world.reader import load_reader
from experiments.recipes.labels import token_labels
from experiments.recipes.plan import load_plan
from experiments.recipes.wan_perceptual import cell_labels, reading_loss
from experiments.recipes.wan_pipeline import (
    SIDE,
    latent_frames,
)
from experiments.recipes.wan_train import Plan, Stage, Trainer, flow, token_targets
from experiments.recipes.wan_vae import (
    frames_of,
)
from tests.support.tiny_wan import tiny_wan_transformer, tiny_wan_vae
from tests.support.training import resumes_to_the_step

PLAN = Path(__file__).parents[2] / "experiments" / "recipes" / "mini-wan.yaml"


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "experiments.recipes.wan_pipeline.build_wan_transformer",
        lambda channels: tiny_wan_transformer(text=96),
    )
    monkeypatch.setattr("experiments.recipes.wan_train.MIDDLE", 1)
    tiny_wan_vae().save_pretrained(tmp_path / "vae")
    plan = Plan(
        unseen=8,
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


def test_targets_follow_the_things_from_latent_frame_to_latent_frame():
    found = sample_moving_scenes(0, 0, 6)
    moments = [frame / 8 for frame in latent_frames(9, factor=4)]
    labels, offsets = token_targets(found, 8, moments)
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
    pipe = WanPipeline.from_pretrained(tmp_path / "run" / "stage-1", torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    call = {"height": 32, "width": 32, "num_frames": 9, "max_sequence_length": 32}
    video = pipe("a red star moves right", num_inference_steps=2, guidance_scale=2.0, **call).frames
    assert video.shape == (1, 9, 32, 32, 3)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [(r["stage"], r["step"]) for r in rows] == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)]
    assert all(0 <= r["shape_named"] <= 1 and r["validation_objects"] > 0 for r in rows)


def test_training_resumes_to_the_step(trainer):
    resumes_to_the_step(trainer, stage=1)


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


# By a second reader.


def test_a_reader_reads_true_clips_better_than_spoilt_ones():
    found, moments = sample_moving_scenes(3, 0, 2), [0.0, 0.5, 1.0]
    true = torch.from_numpy(render_clip(found, SIDE, 3)).transpose(1, 2) * 2 - 1
    labels = cell_labels(found, moments, SIDE)
    assert labels.shape == (6, 3, 32, 32)
    assert torch.equal(labels[4], cell_labels(found[1:], [0.5], SIDE)[0])  # clip by clip, then by frame
    reader = load_reader()
    right = reading_loss(reader, true, true, labels)
    spoilt = (true + 0.6 * torch.randn_like(true)).requires_grad_()
    wrong = reading_loss(reader, spoilt, true, labels)
    assert right < 0.1
    assert wrong > 10 * right
    wrong.backward()
    assert spoilt.grad is not None
    assert spoilt.grad.abs().sum() > 0
    assert reading_loss(reader, true, true, labels.flip(0)) > right + 0.5  # the labels of other moments


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
def test_the_perceptual_loss_is_a_part_of_the_loss_and_moves_the_transformer(trainer, monkeypatch, whole):
    run = trainer("run")
    run.reader = load_reader()
    shown = []
    original = run.guess
    monkeypatch.setattr(run, "guess", lambda x, t, v: shown.append(t) or original(x, t, v))
    losses = []
    for weight in (0.0, 0.5, 1.0):
        torch.manual_seed(4)
        stage = Stage(
            side=32, clips=4, batch=4, lr=0, drop=0, whole=whole, perceptual=weight, perceptual_until=0.7
        )
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
    assert 0 <= run.validate(stage)["objects_seen"] <= 1


def test_the_perceptual_loss_needs_a_reader(tmp_path):
    plan = Plan(stages=[Stage(clips=4, batch=4, lr=1e-3, perceptual=0.2)])
    with pytest.raises(DditError, match="--second-reader"):
        Trainer(plan, tmp_path / "vae", tmp_path)


# The plan.


def test_the_plan_is_read():
    plan = load_plan(PLAN, Plan)
    assert not plan.stages[0].whole
    assert plan.stages[-1].whole
    assert plan.stages[-1].perceptual > 0


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("plan: {stages: [{clips: 4, batch: 0, lr: 1}]}\n", r"stages\.0\.batch"),
        ("plan: {stages: [{clips: 4, batch: 1, lr: 1, sid: 3}]}\n", r"stages\.0\.sid"),
        ("plan: [\n", "cannot read"),
        ("steps: []\n", "with `plan`"),
    ],
)
def test_a_bad_plan_is_named(tmp_path, text, named):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(DditError, match=named):
        load_plan(path, Plan)


def test_a_run_begins_with_an_earlier_pipeline(trainer, tmp_path):
    first = trainer("first")
    first.train_step(first.plan.stages[1], 3, 0)
    first.average.load_state_dict(first.student.state_dict())
    first.export(tmp_path / "pipeline")
    again = trainer("again")
    again.begin(tmp_path / "pipeline")
    for part in (again.student, again.average):
        for name in ("encoder", "transformer"):
            saved = {k: v.bfloat16().float() for k, v in getattr(first.student, name).state_dict().items()}
            torch.testing.assert_close(getattr(part, name).state_dict(), saved)
