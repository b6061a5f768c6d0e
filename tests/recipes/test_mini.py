"""How the shipped models are built and trained, and that they are what the README says."""

from __future__ import annotations

import json
import math
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

import ddit_eval
from ddit_eval.world import caption, render, sample_scenes
from ddit_eval.world.reader import Found, load_reader, objects, read
from experiments.recipes.labels import token_labels, token_offsets
from experiments.recipes.pipeline import build_t5, build_t5_tokenizer
from experiments.recipes.reader import accuracy
from experiments.recipes.train import Cut, Plan, Stage, Trainer, image_ids, pack
from experiments.recipes.vae import build_vae, pictures, psnr
from experiments.recipes.window import nearest_scenes, place_window, window_index
from experiments.recipes.words import at_shapes, shape_ids, teach
from tests.support.tiny import tiny_flux, tiny_transformer, tiny_vae
from tests.support.training import resumes_to_the_step

WEIGHTS = Path(str(resources.files("ddit_eval"))) / "weights"


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.recipes.pipeline.build_transformer", lambda channels: tiny_transformer())
    monkeypatch.setattr("experiments.recipes.train.MIDDLE", 1)
    tiny_vae().save_pretrained(tmp_path / "vae")
    plan = Plan(
        stages=[
            Stage(side=32, pictures=12, batch=4, lr=1e-3),
            Stage(side=32, pictures=4, batch=4, lr=1e-3, guidance=2.0),
            Stage(side=32, pictures=4, batch=4, lr=1e-3, window=4, others=[Cut(side=64, batch=2)]),
        ]
    )

    def make(out: str) -> Trainer:
        (tmp_path / out).mkdir(exist_ok=True)
        return Trainer(plan, tmp_path / "vae", tmp_path / out)

    return make


def test_training_writes_a_flux_pipeline(trainer, tmp_path):
    run = trainer("run")
    run.run(every=0)
    pipe = FluxPipeline.from_pretrained(tmp_path / "run" / "stage-2", torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    image = pipe(
        "a red star", height=32, width=32, num_inference_steps=2, max_sequence_length=8, output_type="pt"
    )
    assert image.images.shape == (1, 3, 32, 32)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [(r["stage"], r["step"]) for r in rows] == [(0, 1), (0, 2), (0, 3), (1, 1), (2, 1)]
    assert all(0 <= r["shape_named"] <= 1 and r["validation_objects"] > 0 for r in rows)


def test_training_resumes_to_the_step(trainer):
    resumes_to_the_step(trainer, stage=0)


def test_a_window_holds_an_object_of_each_scene_and_keeps_its_positions(trainer):
    run = trainer("run")
    stage = Stage(side=64, pictures=4, batch=4, lr=1e-3, window=8, drop=0)
    for start in range(0, 40, 4):
        batch = run.batch(stage, 0, start, 4)
        assert batch.latents.shape[:2] == (4, 64)
        assert (batch.labels[..., 0] > 0).any(1).all()
        rows, columns = batch.ids[:, 1].view(8, 8), batch.ids[:, 2].view(8, 8)
        assert (rows[1:] - rows[:-1] == 1).all()
        assert (columns[:, 1:] - columns[:, :-1] == 1).all()
        assert batch.ids.min() >= 0
        assert batch.ids.max() <= 15


def test_a_stage_shows_its_cuts_in_turn():
    others = [Cut(side=64, batch=2, window=8), Cut(side=128, batch=4)]
    stage = Stage(side=32, pictures=24, batch=4, lr=1e-3, others=others)
    shown = [(s.side, s.batch, s.window) for s in map(stage.at, range(4))]
    assert shown == [(32, 4, 0), (64, 2, 8), (128, 4, 0), (32, 4, 0)]
    assert {s.lr for s in map(stage.at, range(3))} == {1e-3}
    with pytest.raises(ValueError, match="no batch may be larger"):
        Stage(side=32, pictures=24, batch=4, lr=1e-3, others=[Cut(side=64, batch=8)])


def test_a_window_is_cut_out_of_the_whole_picture():
    index = window_index((3, 5), 16, 4)
    picture = torch.arange(256).view(16, 16)
    assert torch.equal(picture.flatten()[index].view(4, 4), picture[3:7, 5:9])
    scenes = sample_scenes(0, 0, 30)
    chosen = nearest_scenes(scenes, (4, 4), 16, 8, 3)
    off = lambda s: min(math.hypot(t.x - 0.5, t.y - 0.5) for t in s.things)  # noqa: E731
    assert [off(s) for s in chosen] == sorted(map(off, scenes))[:3]


def test_favoured_shapes_are_cut_out_more_often():
    def stars(favour):
        count = 0
        for i in range(20):
            pool = sample_scenes(5, 24 * i, 24)
            corner = place_window(pool[0], 16, 8, np.random.default_rng(i), favour)
            y, x = ((c + 4) / 16 for c in corner)
            for scene in nearest_scenes(pool, corner, 16, 8, 4, favour):
                middle = min(scene.things, key=lambda t: np.hypot(t.x - x, t.y - y))
                count += middle.shape == "star"
        return count

    assert stars({"star": 3.0}) > 1.3 * stars({})


def test_packing_is_the_pipelines_own():
    latents = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(pack(latents), FluxPipeline._pack_latents(latents, 2, 3, 8, 8))
    ids = FluxPipeline._prepare_latent_image_ids(1, 4, 4, "cpu", torch.float32)
    torch.testing.assert_close(image_ids(4), ids)


def test_token_labels_name_the_thing_under_the_token():
    scenes = sample_scenes(0, 0, 20)
    labels = token_labels(scenes, 16)
    assert labels.shape == (20, 256, 3)
    for scene, row in zip(scenes, labels, strict=True):
        thing = scene.things[0]
        token = int(thing.y * 16) * 16 + int(thing.x * 16)
        assert row[token, 0] > 0
    assert labels.min() == 0


def test_token_offsets_are_radii_from_the_centre():
    scenes = sample_scenes(0, 0, 20)
    labels, offsets = token_labels(scenes, 16)[..., 0].view(-1, 16, 16), token_offsets(scenes, 16)
    offsets = offsets.view(-1, 16, 16, 2)
    for scene, label, offset in zip(scenes, labels, offsets, strict=True):
        thing = scene.things[0]
        row, column = int(thing.y * 16), int(thing.x * 16)
        expected = [
            ((column + 0.5) / 16 - thing.x) / thing.radius,
            ((row + 0.5) / 16 - thing.y) / thing.radius,
        ]
        assert offset[row, column].tolist() == pytest.approx(expected, abs=1e-4)
        assert (offset[label == 0] == 0).all()
        assert offset.norm(dim=-1).max() < 1.3


def test_words_for_shapes_are_found_in_the_order_of_the_scene():
    tokenizer = build_t5_tokenizer()
    scenes = sample_scenes(0, 0, 12)
    texts = [caption(s) for s in scenes]
    texts[3] = ""
    ids = tokenizer(texts, padding="max_length", max_length=32, return_tensors="pt").input_ids
    features, kept = at_shapes(ids[..., None].float(), ids, scenes, shape_ids(tokenizer))
    assert kept == scenes[:3] + scenes[4:]
    found = tokenizer.convert_ids_to_tokens(features.flatten().int().tolist())
    assert found == ["\u2581" + t.shape for s in kept for t in s.things]
    assert at_shapes(ids[3:4, :, None].float(), ids[3:4], scenes[3:4], shape_ids(tokenizer)) is None


def test_a_text_encoder_learns_where_things_stand():
    tokenizer = build_t5_tokenizer()
    torch.manual_seed(0)
    t5 = build_t5(tokenizer)
    early = teach(t5, tokenizer, 24 * 10, 24, 3e-3, 0)
    assert teach(t5, tokenizer, 24 * 60, 24, 3e-3, 0) < 0.6 * early


def test_psnr_of_a_known_error():
    assert psnr(torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.2)) == pytest.approx(20.0)


def test_regions_become_objects():
    logits = torch.zeros(19, 32, 32)
    logits[0] = 5.0  # background everywhere ...
    logits[3, 4:12, 4:12] = 9.0  # ... but for a triangle
    logits[6 + 1, 4:12, 4:12] = 9.0
    logits[15 + 2, 4:12, 4:12] = 9.0
    logits[1, 20:22, 20:22] = 9.0  # and a speck
    assert objects(logits) == [Found("triangle", "red", "striped", 0.25, 0.25, 64 / 1024)]


def test_the_shipped_reader_reads_true_scenes():
    scenes = sample_scenes(21, 0, 100, "heldout")
    right = accuracy(scenes, torch.from_numpy(render(scenes, 64)), load_reader())
    assert min(right.values()) > 0.93


def test_the_reader_reads_any_size():
    scenes = sample_scenes(3, 0, 12)
    small, large = (read(render(scenes, side)) for side in (64, 128))
    same = [
        [(f.shape, f.colour) for f in a] == [(f.shape, f.colour) for f in b]
        for a, b in zip(small, large, strict=True)
    ]
    assert sum(same) >= 11


def test_the_shipped_pipeline_is_plain_diffusers_and_small():
    size = sum(p.stat().st_size for p in (WEIGHTS / "mini-flux").rglob("*.safetensors"))
    assert size <= 20e6
    pipe = FluxPipeline.from_pretrained(WEIGHTS / "mini-flux", torch_dtype=torch.float32)
    assert type(pipe) is FluxPipeline
    assert pipe.transformer.inner_dim > 1.4 * 4 * 4 * pipe.transformer.config.in_channels


def test_the_shipped_vae_keeps_what_the_reader_reads():
    pipe = ddit_eval.load_pipeline("mini-flux")
    scenes = sample_scenes(22, 0, 40, "heldout")
    x = torch.from_numpy(render(scenes, 64)) * 2 - 1
    with torch.no_grad():
        y = pipe.vae.decode(pipe.vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
    assert psnr(y, x) > 29
    right = accuracy(scenes, y / 2 + 0.5, load_reader())
    assert right["shape"] > 0.9
    assert right["colour"] > 0.95


def test_vae_halves_the_side():
    assert build_vae().encode(pictures(0, 0, 1, 32)).latent_dist.mean.shape == (1, 3, 16, 16)


def test_tiny_flux_runs():
    assert tiny_flux()("a", height=32, width=32, num_inference_steps=1, max_sequence_length=8).images
