"""What mini-wan is made of, how it is scored, and what ships."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import WanPipeline
from PIL import Image, ImageSequence
from typer.testing import CliRunner

from ddit_eval import Adapter, load_pipeline
from ddit_eval.cli import app
from ddit_eval.ddit.families.video import patchify, unpatchify
from ddit_eval.models.find import locate
from ddit_eval.world import caption_clip, sample_moving_scenes
from experiments.recipes import wan_score
from experiments.recipes.pipeline import build_t5_tokenizer
from experiments.recipes.wan_pipeline import (
    FRAMES,
    SIDE,
    TOKEN_SIDE,
    build_umt5,
    build_wan_pipeline,
    build_wan_vae,
    latent_frames,
    video_vocabulary,
)
from experiments.recipes.wan_vae import (
    clips,
)
from experiments.recipes.wan_words import ClipHead, moving_captions, teach_clips
from experiments.recipes.words import shape_ids

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


def test_shapes_have_one_piece_each():
    tokenizer = build_t5_tokenizer(video_vocabulary())
    assert tokenizer.unk_token_id not in shape_ids(tokenizer)


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
