"""Distances of features: golden values, closed forms, weights, invariances."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddit_eval.metrics import sets
from ddit_eval.metrics.sets import kernel, manifold, resample
from tests.support.sets import MEASURES, gauss, noise, ones

# Golden values.


@pytest.mark.parametrize(("n", "d"), [(300, 12), (40, 12)])
def test_frechet_is_torch_fidelity_s(n: int, d: int) -> None:
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    x, y = gauss(n, d, 0), gauss(n + 50, d, 1, shift=0.2) * 1.3
    golden = fid_statistics_to_metric(fid_features_to_statistics(x), fid_features_to_statistics(y), False)
    ours = sets.frechet_distance(sets.statistics(x), sets.statistics(y))
    assert ours == pytest.approx(golden[KEY_METRIC_FID], rel=1e-9)
    assert sets.frechet_distance(sets.statistics(y), sets.statistics(x)) == pytest.approx(ours, rel=1e-9)


def test_kid_is_torch_fidelity_s() -> None:
    from torch_fidelity.metric_kid import kernel_mmd

    x, y = gauss(120, 8, 0), gauss(120, 8, 1, shift=0.3)
    options = {"kid_kernel": "poly", "verbose": False}
    assert sets.kid(x, y) == pytest.approx(float(kernel_mmd(x.numpy(), y.numpy(), **options)), rel=1e-10)


def test_frechet_of_gaussians_with_diagonal_covariances() -> None:
    # |m|^2 + sum (a - b)^2 for deviations a and b; some are zero, so both covariances are singular.
    a, b = torch.tensor([1.0, 2.0, 0.0, 0.5]).double(), torch.tensor([3.0, 0.0, 1.0, 0.5]).double()
    one = sets.Statistics(torch.zeros(4).double(), torch.diag(a**2), 100)
    other = sets.Statistics(torch.tensor([1.0, 0.0, 2.0, 0.0]).double(), torch.diag(b**2), 100)
    assert sets.frechet_distance(one, other) == pytest.approx(5.0 + 4.0 + 4.0 + 1.0, abs=1e-9)
    assert sets.frechet_distance(one, one) == pytest.approx(0.0, abs=1e-9)


def test_frechet_of_a_scaled_set_is_exact_where_covariances_are_singular() -> None:
    # y = 2 x: the roots commute, so the distance is |mean|^2 + tr C, here with fewer samples than features.
    x = gauss(10, 30, 3)
    found = sets.statistics(x)
    expected = float(found.mean.square().sum() + found.covariance.trace())
    assert sets.frechet_distance(found, sets.statistics(2 * x)) == pytest.approx(expected, rel=1e-7)


def test_cmmd_by_its_definition() -> None:
    # One direction against the opposite one: distance 2, so 1000 (1 + 1 - 2 exp(-4 / 200)).
    right, left = torch.tensor([[1.0, 0.0], [5.0, 0.0]]), torch.tensor([[-1.0, 0.0], [-0.1, 0.0]])
    assert sets.cmmd(right, left) == pytest.approx(2000 * (1 - np.exp(-0.02)), rel=1e-9)
    assert sets.cmmd(right, right) == pytest.approx(0.0, abs=1e-9)
    x, y = (torch.nn.functional.normalize(gauss(n, 5, n), dim=1) for n in (20, 30))
    k = [torch.exp(-torch.cdist(a, b).square() / 200).mean() for a, b in ((x, x), (y, y), (x, y))]
    assert sets.cmmd(3 * x, y) == pytest.approx(1000 * float(k[0] + k[1] - 2 * k[2]), rel=1e-6)


def test_prdc_by_hand() -> None:
    # k = 1. Reference 0, 1, 3: radii 1, 1, 2. Ours 0.5, 2.5, 9: radii 2, 2, 6.5.
    theirs, ours = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.5], [2.5], [9.0]])
    found = sets.prdc(ours, theirs, k=1)
    # 0.5 lies in the balls of 0 and 1; 2.5 in that of 3; 9 in none.
    assert found.precision == pytest.approx(2 / 3)
    assert found.density == pytest.approx(3 / 3)
    assert found.coverage == pytest.approx(3 / 3)
    # 0 and 1 lie in the ball of 0.5, 3 in that of 2.5.
    assert found.recall == pytest.approx(3 / 3)
    far = sets.prdc(ours + 100, theirs, k=1)
    assert far == sets.Prdc(0.0, 0.0, 0.0, 0.0)
    # A ball holds only what is nearer than its radius: 0.5 is exactly 1 away from both ends here.
    edge = sets.prdc(torch.tensor([[2.0], [20.0]]), torch.tensor([[1.0], [0.0]]), k=1)
    assert (edge.precision, edge.density, edge.coverage) == (0.0, 0.0, 0.0)
    assert edge.recall == 1.0  # 2 has the radius 18


def test_prdc_of_a_collapsed_set() -> None:
    # All of ours near one of theirs: precise, dense, and covering next to nothing.
    theirs = gauss(200, 2, 0)
    ours = theirs[:1] + 1e-3 * gauss(200, 2, 1)
    found = sets.prdc(ours, theirs)
    assert found.precision == 1.0
    assert found.recall < 0.05
    assert found.coverage < 0.2


def test_precision_and_recall_are_torch_fidelity_s() -> None:
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    ours, theirs = gauss(90, 4, 0), gauss(110, 4, 1, shift=0.5)
    golden = calculate_precision_recall_full(ours, theirs, neighborhood=5)
    found = sets.prdc(ours, theirs, k=5)
    assert (found.precision, found.recall) == pytest.approx(golden, abs=1e-6)


# Weights.


def each_measure(x: torch.Tensor, y: torch.Tensor) -> Iterator[tuple[str, resample.Measure]]:
    for name, measure in MEASURES.items():
        yield name, measure(x, y)


@pytest.mark.parametrize("d", [6, 60])  # fewer and more than the 40 samples
def test_weights_are_counts(d: int) -> None:
    x, y = gauss(40, d, 0), gauss(50, d, 1, shift=0.3)
    counts = resample.draw_weights(40, 3, seed=5)
    found = {name: measure(counts) for name, measure in each_measure(x, y)}
    for row, w in enumerate(counts):
        copied = x.repeat_interleave(w.long(), 0)
        distance = sets.frechet_distance(sets.statistics(copied), sets.statistics(y))
        assert float(found["frechet"][row]) == pytest.approx(distance, rel=1e-6)
        assert float(found["cmmd"][row]) == pytest.approx(sets.cmmd(copied, y), rel=1e-9)
        # KID leaves out pairs of a sample with its own copies: the mean over the other pairs, by hand.
        k = kernel.cubic(x, x)
        pairs = w[:, None] * w[None] * (1 - torch.eye(40).double())
        by_hand = (pairs * k).sum() / pairs.sum() - 2 * (w @ kernel.cubic(x, y)).mean() / 40
        by_hand += (kernel.cubic(y, y).sum() - kernel.cubic(y, y).trace()) / (50 * 49)
        assert float(found["kid"][row]) == pytest.approx(float(by_hand), rel=1e-9)


def test_precision_and_coverage_of_weights() -> None:
    theirs, ours = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.5], [2.5], [9.0]])
    measure = sets.prdc_measure(ours, theirs, k=1)
    values = measure(torch.tensor([[2.0, 0.0, 1.0], [0.0, 0.0, 3.0]]).double())
    # 0.5 twice (in two balls) and 9 once; then 9 alone, whose ball of 6.5 holds 3.
    assert values[0].tolist() == pytest.approx([2 / 3, 1.0, 4 / 3, 2 / 3])
    assert values[1].tolist() == pytest.approx([0.0, 1 / 3, 0.0, 0.0])


# Invariances.


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.integers(8, 40), st.integers(2, 12))
def test_order_does_not_matter(seed: int, n: int, d: int) -> None:
    x, y = gauss(n, d, seed), gauss(n + 3, d, seed + 1, shift=0.2)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n))
    for (name, one), (_, other) in zip(each_measure(x, y), each_measure(x[order], y.flip(0)), strict=True):
        torch.testing.assert_close(one(ones(n)), other(ones(n)), rtol=1e-6, atol=1e-7, msg=name)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 9), st.integers(0, 100))
def test_batches_and_chunks_do_not_matter(chunk: int, seed: int) -> None:
    pictures = noise(9, 3, 32, 32, seed=seed)
    whole = sets.features(sets.network("reader"), pictures, chunk=9)
    torch.testing.assert_close(sets.features(sets.network("reader"), pictures, chunk=chunk), whole)
    x, y = gauss(30, 4, seed), gauss(25, 4, seed + 1)
    pieces = sets.prdc_measure(x, y, chunk=chunk)(ones(30))
    torch.testing.assert_close(pieces, sets.prdc_measure(x, y)(ones(30)))


def test_kernel_matrices_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = gauss(30, 4, 0), gauss(25, 4, 1)
    whole = sets.kid(x, y), sets.cmmd(x, y)
    chunks = kernel._chunks
    monkeypatch.setattr(kernel, "_chunks", lambda rows, columns: chunks(rows, columns, 3 * columns))
    assert (sets.kid(x, y), sets.cmmd(x, y)) == pytest.approx(whole, rel=1e-9)


def test_radii_by_hand() -> None:
    x = torch.tensor([[0.0], [1.0], [3.0], [7.0]]).double()
    assert manifold.radii(x, 1).tolist() == pytest.approx([1.0, 1.0, 2.0, 4.0])
    assert manifold.radii(x, 2, chunk=3).tolist() == pytest.approx([3.0, 2.0, 3.0, 6.0])
