"""Adherence of clips: near 1 on true clips, and seen to fail on reversed, still and foreign ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ddit_eval.errors import DditError
from ddit_eval.metrics.films.motion_adherence import goes, motion_columns, promised_ways
from ddit_eval.world import caption_clip, render_clip, sample_moving_scenes
from ddit_eval.world.motion_caption import parse_clip

FRAMES = 9


@pytest.fixture(scope="module")
def true_clips():
    scenes = sample_moving_scenes(5, 0, 32, "heldout")
    return torch.from_numpy(render_clip(scenes, 64, FRAMES)), [caption_clip(s) for s in scenes]


def test_true_clips_are_as_promised(true_clips):
    columns = motion_columns(*true_clips)
    assert np.mean(columns["object-frames"]) > 0.85
    _, prompts = true_clips
    upright = ["turns" not in p and "crosses" not in p for p in prompts]  # where the reader is at home
    assert np.mean(np.array(columns["object-frames"])[upright]) > 0.95
    assert np.nanmean(columns["direction-accuracy"]) > 0.93
    assert 10 < np.isfinite(columns["direction-accuracy"]).sum() < 32


def test_a_reversed_clip_has_its_objects_and_no_direction(true_clips):
    clips, prompts = true_clips
    right, wrong = motion_columns(clips, prompts), motion_columns(clips.flip(1), prompts)
    assert wrong["object-frames"] == pytest.approx(right["object-frames"])
    crossing = [parse_clip(p).crossing for p in prompts]  # of two alike things, either may be the first
    values = [v for v, c in zip(wrong["direction-accuracy"], crossing, strict=True) if not c]
    assert np.nanmean(values) == 0


def test_a_still_clip_goes_nowhere(true_clips):
    clips, prompts = true_clips
    still = clips[:, 4:5].expand(-1, FRAMES, -1, -1, -1)
    assert np.nanmean(motion_columns(still, prompts)["direction-accuracy"]) == 0


def test_another_clips_prompt_is_not_kept(true_clips):
    clips, prompts = true_clips
    assert np.mean(motion_columns(clips.roll(1, 0), prompts)["object-frames"]) < 0.3


def test_what_a_caption_promises():
    moving = parse_clip("a red star moves right over a plain white background")
    assert promised_ways(moving) == ["right"]
    assert promised_ways(parse_clip("a red star turns clockwise")) == [None]
    assert promised_ways(parse_clip("a red star while the camera pans left")) == ["right"]
    assert promised_ways(parse_clip("a red star moves up while the camera pans left")) == [None]
    crossing = parse_clip("a red star moves up and crosses a blue square")
    assert promised_ways(crossing) == ["up", "down"]


def test_a_thing_seen_in_few_frames_goes_nowhere():
    track = [(i, 0.2 + 0.05 * i, 0.5) for i in range(FRAMES)]
    assert goes(track, "right", FRAMES)
    assert not goes(track, "left", FRAMES)
    assert not goes(track, "down", FRAMES)
    assert not goes(track[:4], "right", FRAMES)


def test_without_a_moving_thing_there_is_no_direction():
    clip = torch.full((1, FRAMES, 3, 64, 64), 0.5)
    columns = motion_columns(clip, ["a red star grows"])
    assert columns["object-frames"] == [0.0]
    assert math.isnan(columns["direction-accuracy"][0])


def test_clips_need_a_prompt_each():
    with pytest.raises(DditError, match="a prompt each"):
        motion_columns(torch.zeros(2, FRAMES, 3, 64, 64), ["a red star grows"])
