"""Layouts tile the base tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddit_eval.ddit.layout import Group, Layout, uniform
from ddit_eval.errors import DditError
from experiments.recipes.train import image_ids

CPU = torch.device("cpu")


@settings(deadline=None)
@given(grid=st.tuples(st.integers(1, 3), st.integers(1, 11), st.integers(1, 11)), scale=st.integers(1, 5))
def test_every_base_token_is_covered_exactly_once(grid: tuple[int, int, int], scale: int) -> None:
    layout = uniform(grid, scale)
    covered = torch.cat([g.indices.flatten() for g in layout.groups])
    frames, height, width = grid
    assert covered.sort().values.tolist() == list(range(frames * height * width))
    assert layout.base_tokens == len(covered)
    assert layout.tokens == sum(s.stop - s.start for s in layout.segments)
    assert [g.scale for g in layout.groups] == sorted({g.scale for g in layout.groups})
    cells = frames * (height // scale) * (width // scale)
    if scale > 1:
        assert layout.tokens == cells + layout.base_tokens - cells * scale**2


@settings(deadline=None)
@given(grid=st.tuples(st.integers(1, 2), st.integers(2, 9), st.integers(2, 9)), scale=st.integers(1, 4))
def test_gather_then_inverse_is_the_identity(grid: tuple[int, int, int], scale: int) -> None:
    layout = uniform(grid, scale)
    places, x = layout.on(CPU), torch.arange(layout.base_tokens)
    gathered = torch.cat([x[f] for f in places.flat.values()])
    back = gathered if places.inverse is None else gathered[places.inverse]
    assert torch.equal(back, x)


def test_cells_are_row_major_squares() -> None:
    layout = uniform((1, 5, 7), 2)
    fine, coarse = layout.groups
    assert coarse.indices[:2].tolist() == [[0, 1, 7, 8], [2, 3, 9, 10]]
    assert len(coarse.indices) == 6
    assert fine.indices.flatten().tolist() == [6, 13, 20, 27, *range(28, 35)]
    mask = layout.on(CPU).coarse[2]
    assert mask is not None
    assert int(mask.sum()) == 24


def test_patches_stay_within_a_frame() -> None:
    coarse = uniform((2, 2, 2), 2).groups[0]
    assert coarse.indices.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_centres_are_fractional_means() -> None:
    centres = uniform((1, 4, 4), 2).centres(image_ids(4))
    assert centres.tolist() == [[0, 0.5, 0.5], [0, 0.5, 2.5], [0, 2.5, 0.5], [0, 2.5, 2.5]]
    assert torch.equal(uniform((1, 4, 4), 1).centres(image_ids(4)), image_ids(4))


def test_base_layouts_are_known() -> None:
    assert uniform((1, 4, 4), 1).is_base
    assert uniform((1, 3, 3), 4).is_base  # nothing fits
    assert not uniform((1, 4, 4), 2).is_base
    assert uniform((1, 4, 4), 1).on(CPU).inverse is None


def test_key_and_cache() -> None:
    assert uniform((1, 4, 4), 2) is uniform((1, 4, 4), 2)
    rebuilt = Layout(
        (1, 4, 4), tuple(Group(g.scale, g.indices.clone()) for g in uniform((1, 4, 4), 2).groups)
    )
    assert rebuilt.key == uniform((1, 4, 4), 2).key
    keys = {uniform(grid, s).key for grid in ((1, 4, 4), (1, 2, 8), (1, 8, 8)) for s in (1, 2)}
    assert len(keys) == 6


def test_index_tensors_serve_training_after_inference_mode() -> None:
    with torch.inference_mode():
        places = uniform((1, 6, 10), 2).on(CPU)
    x = torch.randn(60, 3, requires_grad=True)
    x.index_select(0, places.flat[2]).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize(("grid", "scale"), [((1, 4, 4), 0), ((1, 4, 4), -2), ((1, 0, 4), 2)])
def test_bad_values_are_refused(grid: tuple[int, int, int], scale: int) -> None:
    with pytest.raises(DditError):
        uniform(grid, scale)
