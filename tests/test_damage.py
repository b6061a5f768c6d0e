"""Negative controls: known damage moves a metric that can see it, and a blind one is called blind."""

from __future__ import annotations

import pytest
import torch

from ddit_eval import metrics
from ddit_eval.errors import DditError
from ddit_eval.metrics.damage import DAMAGES, blur, fade, mirror, recolour, shift, sightings, swap
from ddit_eval.metrics.metric import Column, Metric
from ddit_eval.world import caption, render, sample_scenes


@pytest.fixture(scope="module")
def scenes():
    drawn = sample_scenes(31, 0, 16)
    return torch.from_numpy(render(drawn, 64)), [caption(s) for s in drawn]


def brightness(pictures, reference, prompts):
    return {"brightness": pictures.mean((1, 2, 3)).tolist()}


BRIGHTNESS = Metric("brightness", (Column("brightness", "higher", 0, 1),), "prompts", brightness, "a mean")


def test_damage_does_what_it_says(scenes):
    pictures, _ = scenes
    assert torch.equal(mirror(mirror(pictures)), pictures)
    assert torch.equal(recolour(recolour(recolour(pictures))), pictures)
    assert torch.equal(swap(pictures)[1:], pictures[:-1])
    assert torch.equal(shift(pictures)[..., 2:], pictures[..., :-2])
    torch.testing.assert_close(fade(pictures).mean((1, 2, 3)), pictures.mean((1, 2, 3)))
    torch.testing.assert_close(fade(pictures).std((1, 2, 3)), pictures.std((1, 2, 3)) / 2)
    flat = torch.full((1, 3, 16, 16), 0.3)
    torch.testing.assert_close(blur(flat), flat)
    assert (blur(pictures).var((2, 3)) < pictures.var((2, 3))).all()
    for damage in DAMAGES.values():
        assert damage(pictures).shape == pictures.shape
        assert torch.equal(damage(pictures), damage(pictures))  # the same damage at every call


def test_what_each_metric_sees(scenes):
    pictures, prompts = scenes
    chosen = [metrics.get(n) for n in ("psnr", "ssim", "reader-lpips", "adherence")] + [BRIGHTNESS]
    sight = {(s.metric, s.damage): s.sight for s in sightings(chosen, pictures, prompts)}
    for name in ("psnr", "ssim", "reader-lpips"):
        assert {sight[name, damage] for damage in DAMAGES} == {"seen"}
    assert sight["colour-accuracy", "recolour"] == "seen"
    assert sight["relation-accuracy", "mirror"] == "seen"
    assert sight["object-accuracy", "mirror"] != "fooled"
    assert sight["object-accuracy", "another prompt's"] == "seen"
    assert sight["colour-accuracy", "shift"] == "blind"  # the same objects, a step to the right
    # A metric that looks at nothing but brightness is found out.
    assert {sight["brightness", d] for d in ("blur", "mirror", "shift", "another prompt's")} == {"blind"}


def test_too_few_pictures(scenes):
    with pytest.raises(DditError, match="at least 2 pictures, not 1"):
        sightings([BRIGHTNESS], scenes[0][:1], scenes[1][:1])
