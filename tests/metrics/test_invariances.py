"""Values do not depend on batches, order or the device."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddit_eval import metrics
from ddit_eval.metrics import sets
from ddit_eval.metrics.films.frames import Film
from ddit_eval.world import caption, render, sample_scenes

NAMES = ("psnr", "ssim", "reader-lpips", "adherence", "clip-world")
COUNT = 7
# The first identical to its reference (an infinite PSNR), others of growing noise.
Sample = tuple[Tensor, Tensor, list[str]]


@lru_cache(maxsize=1)
def sample() -> Sample:
    scenes = sample_scenes(seed=4, start=0, count=COUNT, split="heldout")
    theirs = torch.from_numpy(render(scenes, 64)).clamp(0, 1)
    grain = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(0))
    strength = torch.linspace(0, 0.3, COUNT).view(-1, 1, 1, 1)
    return (theirs + strength * grain).clamp(0, 1), theirs, [caption(scene) for scene in scenes]


@lru_cache(maxsize=len(NAMES))
def whole(name: str) -> dict[str, list[float]]:
    return metrics.get(name)(*sample())


def same(found: dict[str, list[float]], expected: dict[str, list[float]]) -> None:
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-4, abs=1e-5, nan_ok=True), name


def in_parts(name: str, parts: list[list[int]]) -> dict[str, list[float]]:
    ours, theirs, texts = sample()
    found = [metrics.get(name)(ours[part], theirs[part], [texts[i] for i in part]) for part in parts]
    return {column: [v for one in found for v in one[column]] for column in found[0]}


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=4, deadline=None)
@given(order=st.permutations(range(COUNT)), cuts=st.sets(st.integers(1, COUNT - 1)))
def test_batches_and_order_do_not_matter(name: str, order: list[int], cuts: set[int]) -> None:
    ends = [0, *sorted(cuts), COUNT]
    parts = [order[a:b] for a, b in pairwise(ends)]
    expected = {column: [values[i] for i in order] for column, values in whole(name).items()}
    same(in_parts(name, parts), expected)


@settings(max_examples=4, deadline=None)
@given(order=st.permutations(range(COUNT)), chunk=st.integers(1, COUNT))
def test_features_do_not_depend_on_batches_and_order(order: list[int], chunk: int) -> None:
    pictures = sample()[0]
    for name in ("reader", "clip-world"):
        network = sets.network(name)
        expected = sets.features(network, pictures)
        found = sets.features(network, pictures[order], chunk=chunk)
        torch.testing.assert_close(found, expected[order], rtol=1e-4, atol=1e-5)


FILMS = ("temporal_flickering", "motion_smoothness-classical", "background_consistency-clip-world")


@lru_cache(maxsize=1)
def films() -> list[Tensor]:
    """Clouds that drift and change their light a little, each its own way: (5, 3, 32, 32)."""
    noise = torch.rand(4, 3, 8, 16, generator=torch.Generator().manual_seed(1))
    wide = torch.nn.functional.interpolate(noise, (32, 64), mode="bilinear")
    return [
        torch.stack([w[..., (i + 1) * t : (i + 1) * t + 32] * (1 - 0.02 * i * t) for t in range(5)])
        for i, w in enumerate(wide)
    ]


@pytest.mark.parametrize("name", FILMS)
@settings(max_examples=3, deadline=None)
@given(order=st.permutations(range(4)))
def test_the_order_of_films_does_not_matter(name: str, order: list[int]) -> None:
    metric = metrics.get(name)
    alone = [metric.value(Film(film)) for film in films()]
    found = metrics.measure([name], torch.stack([films()[i] for i in order]), None, ["a star"] * 4)[name]
    assert found == pytest.approx([alone[i] for i in order], abs=1e-6)
    assert len(set(alone)) == 4  # the films differ, or order would be nothing


DEVICES = [
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")),
    pytest.param(
        "mps", marks=pytest.mark.skipif(not torch.backends.mps.is_available(), reason="no MPS here")
    ),
]


@pytest.mark.parametrize("device", DEVICES)
def test_the_device_does_not_matter(device: str) -> None:
    ours, theirs, texts = sample()
    for name in NAMES:
        same(metrics.get(name)(ours.to(device), theirs.to(device), texts), whole(name))
    found = sets.features(sets.network("clip-world"), ours, device=device)
    torch.testing.assert_close(found, sets.features(sets.network("clip-world"), ours), rtol=1e-3, atol=1e-4)
