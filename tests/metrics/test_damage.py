"""Negative controls: known damage moves a metric that can see it, and a blind one is called blind."""

from __future__ import annotations

import pytest
import torch

from ddit_eval import metrics
from ddit_eval.errors import DditError
from ddit_eval.metrics.damage import DAMAGES, blur, fade, mirror, recolour, shift, sightings, swap
from ddit_eval.metrics.films.damage import DAMAGES as FILM_DAMAGES
from ddit_eval.metrics.films.damage import moving_scenes as films_of
from ddit_eval.metrics.films.damage import sightings as film_sightings
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


def test_distances_of_sets_see_damage_but_no_prompts(scenes):
    pictures, _ = scenes
    from ddit_eval.metrics.sets import picture_set
    from ddit_eval.metrics.sets.damage import set_sightings

    against = picture_set("world:heldout:64:seed1:64px")
    damages = {name: DAMAGES[name] for name in ("blur", "recolour", "grain", "another prompt's")}
    rows = set_sightings(pictures, against, families=["frechet", "kid", "prdc"], damages=damages)
    sight = {(row.metric, row.damage): row.sight for row in rows}
    for name in ("frechet-reader", "kid-reader"):
        assert sight[name, "blur"] == sight[name, "grain"] == "seen"
    assert sight["recall-reader", "blur"] == "seen"  # higher is better: the loss has its sign turned
    assert {s for (_, damage), s in sight.items() if damage == "another prompt's"} == {"blind"}
    one = next(row for row in rows if (row.metric, row.damage) == ("recall-reader", "blur"))
    assert one.loss.value == pytest.approx(one.before - one.after)
    assert one.loss.low <= one.loss.value <= one.loss.high


@pytest.fixture(scope="module")
def films():
    return films_of(6)


def test_damage_to_films_does_what_it_says(films):
    films, prompts = films
    assert films.shape == (6, 8, 3, 64, 64)
    assert len(set(prompts)) == 6
    for damage in FILM_DAMAGES.values():
        assert damage(films).shape == films.shape
    order = torch.arange(7).view(1, 7, 1, 1, 1).float().expand(2, 7, 3, 2, 2)
    assert FILM_DAMAGES["frame shuffle"](order)[0, :, 0, 0, 0].tolist() == [0, 4, 1, 5, 2, 6, 3]
    assert (FILM_DAMAGES["frozen"](order) == 0).all()
    both = torch.arange(2).view(2, 1, 1, 1, 1).float().expand(2, 4, 3, 2, 2)
    assert FILM_DAMAGES["cut to another"](both)[:, :, 0, 0, 0].tolist() == [[0, 0, 1, 1], [1, 1, 0, 0]]
    light = FILM_DAMAGES["flicker"](torch.ones(1, 4, 3, 2, 2))[0, :, 0, 0, 0]
    assert light.tolist() == pytest.approx([1, 0.8, 1, 0.8])


def test_what_each_film_metric_sees(films):
    names = [
        "temporal_flickering", "motion_smoothness-classical", "dynamic_degree-classical",
        "background_consistency-clip-world", "overall_consistency-clip-world",
    ]  # fmt: skip
    rows = film_sightings([metrics.get(name) for name in names], *films)
    sight = {(row.metric.partition("-")[0], row.damage): row.sight for row in rows}
    for damage in ("grain", "frame shuffle", "flicker", "cut to another"):
        assert sight["temporal_flickering", damage] == "seen"
        assert sight["motion_smoothness", damage] == "seen"
    # A frozen film is the calmest of all: only what asks for motion is not fooled.
    assert sight["temporal_flickering", "frozen"] == sight["motion_smoothness", "frozen"] == "fooled"
    assert sight["dynamic_degree", "frozen"] == "seen"
    assert sight["background_consistency", "cut to another"] == "seen"
    assert sight["overall_consistency", "another prompt's"] == "seen"
    # What looks at one film at a time, and at its colours nowhere, cannot see these.
    assert sight["temporal_flickering", "another prompt's"] == "blind"
    assert sight["temporal_flickering", "recolour"] == "blind"
    with pytest.raises(DditError, match="at least 2 films, not 1"):
        film_sightings([], films[0][:1], films[1][:1])


def test_too_few_pictures(scenes):
    with pytest.raises(DditError, match="at least 2 pictures, not 1"):
        sightings([BRIGHTNESS], scenes[0][:1], scenes[1][:1])
