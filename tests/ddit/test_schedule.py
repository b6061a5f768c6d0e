"""The scheduler's mathematics against closed forms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddit_eval.ddit.schedule import (
    Differences,
    finite_difference,
    patch_std,
    percentile,
    signals,
)
from ddit_eval.errors import DditError
from experiments.recipes.train import pack


def polynomial(degree: int, length: int = 7) -> torch.Tensor:
    t = torch.arange(length, dtype=torch.float64)[:, None]
    return t**degree * torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def test_third_difference_of_a_cubic_is_constant() -> None:
    cubic = polynomial(3)
    expected = 6 * torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    for end in range(4, 8):
        assert torch.allclose(finite_difference(cubic[:end], 3), expected)


def test_third_difference_of_a_quadratic_is_zero() -> None:
    assert torch.allclose(finite_difference(polynomial(2), 3), torch.zeros(3, dtype=torch.float64))


def test_third_difference_reads_four_latents() -> None:
    z = torch.randn(4, 5)
    assert torch.allclose(finite_difference(z, 3), z[3] - 3 * z[2] + 3 * z[1] - z[0], atol=1e-6)
    with pytest.raises(DditError, match="needs 4 latents, got 3"):
        finite_difference(z[:3], 3)


@settings(max_examples=30, deadline=None)
@given(order=st.integers(1, 5), extra=st.integers(1, 6), seed=st.integers(0, 99))
def test_incremental_form_agrees(order: int, extra: int, seed: int) -> None:
    z = torch.randn(order + extra, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    differences = Differences(order)
    for i in range(len(z)):
        newest = differences.push(z[i])
        if i < order:
            assert newest is None
        else:
            assert newest is not None
            assert torch.allclose(newest, finite_difference(z[: i + 1], order), atol=1e-9)


def test_half_precision_is_measured_in_float32() -> None:
    assert finite_difference(torch.zeros(4, 2, dtype=torch.bfloat16)).dtype == torch.float32


@settings(max_examples=30, deadline=None)
@given(height=st.integers(4, 9), width=st.integers(4, 9), scale=st.integers(1, 4), seed=st.integers(0, 99))
def test_patch_std_is_the_deviation_inside_each_patch(height: int, width: int, scale: int, seed: int) -> None:
    """On packed tokens it equals the deviation over the pixels of the unpacked picture."""
    picture = torch.randn(2, 3, 2 * height, 2 * width, generator=torch.Generator().manual_seed(seed)) + 5
    got = patch_std(pack(picture), (1, height, width), [scale])[0]
    side = 2 * scale
    crop = picture[:, :, : height // scale * side, : width // scale * side]
    patches = torch.nn.functional.unfold(crop, side, stride=side)  # (B, C * side^2, n)
    assert torch.allclose(got, patches.std(1, correction=0), rtol=1e-4)


def test_signals_take_the_percentile_over_patches() -> None:
    tokens = torch.zeros(1, 16, 2)
    tokens[0, :4] = torch.tensor([1.0, -1.0])  # the top row of tokens has deviation 1
    low, high = (signals(tokens, (1, 4, 4), [1, 2], rho) for rho in (0.4, 1.0))
    assert low.shape == (1, 2)
    # Two of the four larger patches have sqrt(1/2); .4 lies a fifth of the way from the second to the third.
    assert low[0].tolist() == pytest.approx([0.0, 0.2 * 0.5**0.5])
    assert high[0, 0] == pytest.approx(1.0)
    assert high[0, 1] == pytest.approx(0.5**0.5)


@given(n=st.integers(1, 30), rho=st.floats(0, 1), seed=st.integers(0, 9))
def test_percentile_is_torchs_quantile(n: int, rho: float, seed: int) -> None:
    values = torch.randn(2, n, generator=torch.Generator().manual_seed(seed))
    assert torch.allclose(percentile(values, rho), torch.quantile(values, rho, dim=-1), atol=1e-5)


def test_scale_that_does_not_fit_is_named() -> None:
    with pytest.raises(DditError, match="scale 4 does not fit into a grid of 3 x 8"):
        patch_std(torch.zeros(1, 24, 2), (1, 3, 8), [4])
    with pytest.raises(DditError, match="do not fill"):
        patch_std(torch.zeros(1, 23, 2), (1, 3, 8), [2])
