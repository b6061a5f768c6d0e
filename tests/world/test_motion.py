"""Scenes in motion: captions that are read back, exact attributes, nothing leaves the picture."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddit_eval.errors import DditError
from ddit_eval.world import (
    MovingScene,
    caption_clip,
    parse_clip,
    render,
    render_clip,
    sample_moving_scenes,
    sample_scenes,
    vocabulary,
)
from ddit_eval.world.motion import DIRECTIONS, PATTERNS, Motion, times
from ddit_eval.world.scene import is_held_out
from experiments.recipes.pipeline import build_t5_tokenizer
from experiments.recipes.wan_pipeline import video_vocabulary

indices = st.integers(0, 20_000)


def scene_of(index: int, split="train") -> MovingScene:
    return sample_moving_scenes(1, index, 1, split)[0]


def looks(moving: MovingScene):
    return [(t.shape, t.colour, t.texture) for t in moving.scene.things]


def test_clips_depend_on_seed_and_index_alone():
    assert sample_moving_scenes(3, 5, 4) == sample_moving_scenes(3, 0, 9)[5:]
    assert sample_moving_scenes(3, 0, 4) != sample_moving_scenes(4, 0, 4)
    assert [m.scene for m in sample_moving_scenes(3, 0, 4)] != sample_scenes(3, 0, 4)


def test_held_out_combinations_stay_held_out():
    assert not any(is_held_out(*look) for m in sample_moving_scenes(0, 0, 1000) for look in looks(m))
    held = sample_moving_scenes(0, 0, 300, "heldout")
    assert all(any(is_held_out(*look) for look in looks(m)) for m in held)


@given(indices)
def test_a_caption_says_what_the_clip_is(index):
    moving = scene_of(index)
    text = caption_clip(moving)
    promised = parse_clip(text)
    assert [(t.shape, t.colour, t.texture) for t in promised.still.things] == looks(moving)
    assert promised.motions == tuple(m.words for m in moving.motions)
    assert (promised.camera, promised.crossing) == (moving.camera, moving.crossing)
    assert (promised.still.relation, promised.still.place) == (moving.scene.relation, moving.scene.place)
    assert promised.still.background is not None
    assert promised.still.background[0] == moving.scene.background.kind
    assert set(text.split()) <= set(video_vocabulary())


@given(indices, st.integers(0, 1000))
def test_what_is_left_unsaid_is_read_as_nothing(index, words):
    moving = scene_of(index)
    promised = parse_clip(caption_clip(moving, np.random.default_rng(words)))
    assert promised.motions == tuple(m.words for m in moving.motions)
    assert promised.still.place in (None, moving.scene.place)


@given(indices)
def test_things_stay_inside_and_keep_place_and_relation(index):
    moving = scene_of(index)
    for scene in [moving.at(time) for time in times(9)]:
        for thing in scene.things:
            assert thing.radius <= min(thing.x, thing.y, 1 - thing.x, 1 - thing.y)
        if scene.relation:
            one, two = scene.things
            gap = {
                "above": two.y - one.y,
                "below": one.y - two.y,
                "left": two.x - one.x,
                "right": one.x - two.x,
            }[scene.relation]
            assert gap > 0.4
            assert np.hypot(one.x - two.x, one.y - two.y) > 0.9 * (one.radius + two.radius)
        if scene.place:
            thing = scene.things[0]
            offset = (
                {"left": -1, "right": 1}.get(scene.place, 0),
                {"top": -1, "bottom": 1}.get(scene.place, 0),
            )
            for value, sign in zip((thing.x, thing.y), offset, strict=True):
                assert not sign or sign * (value - 0.5) > 0.1


@given(indices)
def test_attributes_follow_the_words(index):
    moving = scene_of(index)
    first, *_, last = [moving.at(time) for time in times(9)]
    assert first == moving.at(0)
    assert moving.at(0.5).things == tuple(
        t if m.growth == (1, 1) else moving.at(0.5).things[i]
        for i, (t, m) in enumerate(zip(moving.scene.things, moving.motions, strict=True))
    )
    for motion, a, b in zip(moving.motions, first.things, last.things, strict=True):
        way = np.array([b.x - a.x, b.y - a.y]) + moving.pan
        if motion.words.startswith("moves"):
            expected = DIRECTIONS[motion.words.split()[1]]
            assert way @ expected == pytest.approx(np.linalg.norm(way))
            assert 0.3 < np.linalg.norm(way) <= 0.5
        else:
            assert np.abs(way).max() < 1e-9
        assert (b.angle > a.angle + 0.8) == (motion.words == "turns clockwise")
        assert (b.angle < a.angle - 0.8) == (motion.words == "turns counterclockwise")
        assert (b.radius > 1.5 * a.radius) == (motion.words == "grows")
        assert (a.radius > 1.5 * b.radius) == (motion.words == "shrinks")


def test_things_that_cross_change_sides():
    crossing = [m for m in sample_moving_scenes(2, 0, 400) if m.crossing]
    assert len(crossing) > 30
    for moving in crossing:
        (a, b), (c, d) = (moving.at(t).things for t in (0, 1))
        axis = 0 if abs(moving.motions[0].shift[0]) > 0 else 1
        gaps = [((p.x, p.y)[axis] - (q.x, q.y)[axis]) for p, q in ((a, b), (c, d))]
        assert gaps[0] * gaps[1] < 0


def test_every_kind_of_motion_is_drawn_and_something_always_moves():
    scenes = sample_moving_scenes(0, 0, 600)
    said = {m.words for s in scenes for m in s.motions}
    ways = {f"moves {d}" for d in DIRECTIONS}
    assert said == ways | {"", "turns clockwise", "turns counterclockwise", "grows", "shrinks"}
    assert {s.camera for s in scenes} == {None, *DIRECTIONS}
    assert all(s.camera or any(m.words for m in s.motions) for s in scenes)
    assert {s.scene.background.kind for s in scenes if s.camera} == set(PATTERNS)


@pytest.mark.parametrize("side", [32, 64])
def test_clips_are_frames_of_the_still_world(side):
    scenes = sample_moving_scenes(0, 0, 12)
    clips = render_clip(scenes, side, 9)
    assert clips.shape == (12, 9, 3, side, side)
    assert clips.dtype == np.float32
    assert clips.min() >= 0
    assert clips.max() <= 1
    np.testing.assert_array_equal(clips, render_clip(scenes, side, 9))
    for clip, moving in zip(clips, scenes, strict=True):
        np.testing.assert_array_equal(clip[0], render([moving.at(0)], side)[0])
        assert all(np.abs(b - a).max() > 0.02 for a, b in pairwise(clip))
        assert np.abs(clip[-1] - clip[0]).max() > 0.2
        if moving.camera is None:
            np.testing.assert_array_equal(clip, render([moving.at(time) for time in times(9)], side))


def test_a_pan_shifts_the_background_by_whole_pixels_exactly():
    found = [m for m in sample_moving_scenes(0, 0, 300) if m.camera]
    for moving in found[:20]:
        x, y = DIRECTIONS[moving.camera]
        still = MovingScene(moving.scene, moving.motions, moving.camera, (x * 0.25, y * 0.25))
        bare = MovingScene(
            type(moving.scene)((), moving.scene.background, None, None), (), still.camera, still.pan
        )
        first, last = render_clip([bare], 64, 3)[0, [0, -1]]
        shift = (slice(None), *_overlap(y * 16), *_overlap(x * 16))
        back = (slice(None), *_overlap(-y * 16), *_overlap(-x * 16))
        np.testing.assert_allclose(last[back], first[shift], atol=1e-4)


def _overlap(pixels):
    return (slice(max(pixels, 0), 64 + min(pixels, 0)),)


def test_the_vocabulary_of_still_scenes_keeps_its_places():
    words = video_vocabulary()
    assert words[: len(vocabulary())] == vocabulary()
    assert len(set(words)) == len(words)
    assert "moves" not in vocabulary()
    assert len(build_t5_tokenizer()) == 4 + len(vocabulary())


def test_prompts_written_by_hand():
    promised = parse_clip("A red star moves right over a checkered background.")
    assert promised.motions == ("moves right",)
    assert [(t.colour, t.shape) for t in promised.still.things] == [("red", "star")]
    promised = parse_clip("a red star above a blue square that shrinks over plain white")
    assert promised.motions == ("", "shrinks")
    assert promised.still.relation == "above"
    still = parse_clip("a red star on the left over plain white while the camera pans up")
    assert (still.motions, still.camera, still.still.place) == (("",), "up", "left")
    assert parse_clip("nothing at all").motions == ()


def test_frames_are_spread_from_first_to_last():
    assert times(3) == [0, 0.5, 1]
    assert times(1) == [0.5]
    with pytest.raises(DditError, match="at least one frame, got 0"):
        times(0)


def test_radii_and_angles_are_those_of_the_moment():
    moving = sample_moving_scenes(0, 0, 1)[0]
    thing = moving.scene.things[0]
    motion = Motion("", (0.2, -0.1), 1.0, (0.5, 1.5))
    one = MovingScene(type(moving.scene)((thing,), moving.scene.background, None, None), (motion,))
    late = one.at(0.75).things[0]
    assert late.x == pytest.approx(thing.x + 0.05)
    assert late.y == pytest.approx(thing.y - 0.025)
    assert late.radius == pytest.approx(thing.radius * 1.25)
    assert late.angle == pytest.approx(thing.angle + 0.25)
