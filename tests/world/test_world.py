"""The captioned world: deterministic, held-out, and read back from its own captions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddit_eval.world import caption, parse, render, sample_scenes, vocabulary
from ddit_eval.world.render import render_labels
from ddit_eval.world.scene import is_held_out


def looks(scene):
    return [(t.shape, t.colour, t.texture) for t in scene.things]


def test_scenes_depend_on_seed_and_index_alone():
    assert sample_scenes(3, 5, 4) == sample_scenes(3, 0, 9)[5:]
    assert sample_scenes(3, 0, 4) != sample_scenes(4, 0, 4)


def test_training_never_shows_a_held_out_combination():
    assert not any(is_held_out(*look) for s in sample_scenes(0, 0, 2000) for look in looks(s))


def test_every_held_out_scene_holds_an_unseen_combination():
    assert all(any(is_held_out(*look) for look in looks(s)) for s in sample_scenes(0, 0, 500, "heldout"))


@given(st.integers(0, 10_000))
def test_a_caption_says_what_the_scene_is(index):
    scene = sample_scenes(1, index, 1)[0]
    promised = parse(caption(scene))
    assert [(t.shape, t.colour, t.texture) for t in promised.things] == looks(scene)
    assert (promised.relation, promised.place) == (scene.relation, scene.place)
    assert promised.background is not None
    assert promised.background[0] == scene.background.kind
    assert set(caption(scene).split()) <= set(vocabulary())


def test_the_readme_prompt_is_understood():
    promised = parse("a red star above a blue square")
    assert [(t.colour, t.shape) for t in promised.things] == [("red", "star"), ("blue", "square")]
    assert promised.relation == "above"
    assert promised.background is None


def test_relations_hold_in_the_geometry():
    for scene in sample_scenes(2, 0, 300):
        if scene.relation is None:
            continue
        first, second = scene.things[:2]
        gap = {
            "above": second.y - first.y,
            "below": first.y - second.y,
            "left": second.x - first.x,
            "right": first.x - second.x,
        }[scene.relation]
        assert gap > first.radius + second.radius - 0.05


def test_things_do_not_overlap_and_stay_inside():
    for scene in sample_scenes(5, 0, 300):
        for i, one in enumerate(scene.things):
            assert 0 < one.x < 1
            assert 0 < one.y < 1
            for other in scene.things[i + 1 :]:
                reach = 0.85 * (one.radius + other.radius)
                assert np.hypot(one.x - other.x, one.y - other.y) > reach


@pytest.mark.parametrize("side", [32, 64, 128])
def test_rendering_is_bounded_and_repeatable(side):
    scenes = sample_scenes(0, 0, 8)
    pictures = render(scenes, side)
    assert pictures.shape == (8, 3, side, side)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    np.testing.assert_array_equal(pictures, render(scenes, side))


def test_resolutions_show_the_same_scene():
    scenes = [s for s in sample_scenes(0, 0, 60) if s.background.kind == "plain"]
    fine = render(scenes, 128)
    pooled = fine.reshape(len(scenes), 3, 64, 2, 64, 2).mean((3, 5))
    assert np.abs(pooled - render(scenes, 64)).mean() < 0.02


def test_labels_cover_every_thing():
    scenes = sample_scenes(0, 0, 50)
    for scene, labels in zip(scenes, render_labels(scenes, 64), strict=True):
        assert set(np.unique(labels)) == set(range(len(scene.things) + 1))
