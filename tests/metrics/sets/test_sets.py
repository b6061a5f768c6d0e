"""Set metrics: golden values, closed forms, invariances, damage, caches and missing weights."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ddit_eval import stats
from ddit_eval.errors import DditError
from ddit_eval.metrics import damage, sets, weights
from ddit_eval.metrics.sets import comparison, frechet, kernel, manifold, networks, reference, resample


def gauss(n: int, d: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    """Correlated Gaussian features, float64."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(d, d)) / np.sqrt(d)
    return torch.from_numpy(rng.normal(size=(n, d)) @ mix + shift)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def ones(n: int) -> torch.Tensor:
    return torch.ones(1, n, dtype=torch.float64)


def means(calls: list[int] | None = None) -> sets.Network:
    """A network without weights: mean colour and contrast, 6 numbers; `calls` counts pictures."""

    def extract(pictures: torch.Tensor) -> torch.Tensor:
        if calls is not None:
            calls.append(len(pictures))
        return torch.cat([pictures.mean((2, 3)), pictures.std((2, 3))], 1)

    return sets.Network("means", 6, "mean and deviation of each channel", extract)


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
    from torch_fidelity.metric_kid import kernel_mmd, kid_features_to_metric

    x, y = gauss(120, 8, 0), gauss(120, 8, 1, shift=0.3)
    options = {"kid_kernel": "poly", "verbose": False}
    assert sets.kid(x, y) == pytest.approx(float(kernel_mmd(x.numpy(), y.numpy(), **options)), rel=1e-10)
    golden = kid_features_to_metric(x, y, kid_subsets=7, kid_subset_size=50, **options)
    mean, deviation = sets.kid_subsets(x, y, subsets=7, size=50)
    assert mean == pytest.approx(golden["kernel_inception_distance_mean"], rel=1e-9)
    assert deviation == pytest.approx(golden["kernel_inception_distance_std"], rel=1e-9)


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


MEASURES = {
    "frechet": lambda x, y: sets.frechet_measure(x, sets.statistics(y)),
    "kid": sets.kid_measure,
    "cmmd": sets.cmmd_measure,
    "prdc": sets.prdc_measure,
}


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


# Intervals.


@pytest.mark.parametrize("name", ["frechet", "kid"])
def test_bootstrap_spread_is_that_of_new_samples(name: str) -> None:
    """The interval's width agrees with the spread of the measure over sets drawn anew."""
    theirs = gauss(300, 3, 0)
    drawn = [MEASURES[name](gauss(150, 3, 100 + i, shift=0.5), theirs) for i in range(60)]
    anew = torch.cat([measure(ones(150)) for measure in drawn]).std()
    widths = [resample.bootstrap(measure, 150, resamples=100)[0] for measure in drawn[:5]]
    spread = np.mean([(i.high - i.low) / (2 * 1.96) for i in widths])
    assert spread == pytest.approx(float(anew), rel=0.3)
    assert all(i.low < i.value < i.high for i in widths)


def test_bootstrap_of_a_mean_is_the_usual_one() -> None:
    values = gauss(200, 1, 4)[:, 0]
    measure: resample.Measure = lambda w: (w @ values / w.sum(1))[:, None]  # noqa: E731
    (ours,) = resample.bootstrap(measure, 200, resamples=4000)
    usual = stats.mean(values.numpy())
    assert ours.value == pytest.approx(usual.value)
    assert (ours.low, ours.high) == pytest.approx((usual.low, usual.high), abs=0.02)


def test_the_note_tells_of_the_bias_that_the_interval_leaves_out() -> None:
    x, y = gauss(40, 20, 0), gauss(400, 20, 1)
    (interval,) = resample.bootstrap(sets.frechet_measure(x, sets.statistics(y)), 40, resamples=50)
    assert interval.note is not None
    assert "bias in n is not covered" in interval.note
    assert interval.low < interval.value < interval.high  # plain percentiles would lie above the value


def test_a_paired_interval_is_narrower() -> None:
    theirs = sets.statistics(gauss(500, 4, 0))
    x = gauss(200, 4, 1)
    one, other = (sets.frechet_measure(x + step, theirs) for step in (0.30, 0.32))
    (paired,) = resample.bootstrap_difference(other, one, 200, resamples=100)
    (alone,) = resample.bootstrap(one, 200, resamples=100)
    assert paired.low > 0
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)
    (same,) = resample.bootstrap_difference(one, one, 200, resamples=20)
    assert (same.value, same.low, same.high, same.note) == (0.0, 0.0, 0.0, "all resamples are equal")


def test_groups_are_drawn_together() -> None:
    weights = resample.draw_weights(6, 50, groups=["a", "b", "a", "c", "b", "a"])
    assert torch.equal(weights[:, 0], weights[:, 2])
    assert torch.equal(weights[:, 0], weights[:, 5])
    assert torch.equal(weights[:, 1], weights[:, 4])
    assert weights[:, [0, 1, 3]].sum(1).tolist() == [3.0] * 50
    with pytest.raises(DditError, match="at least 2"):
        resample.draw_weights(3, 5, groups=["a"] * 3)
    with pytest.raises(DditError, match="2 groups for 3 samples"):
        resample.draw_weights(3, 5, groups=["a", "b"])


def test_too_few_samples_for_a_bootstrap() -> None:
    # Of two samples, half the resamples hold one of them alone, which has no pairs.
    with pytest.raises(DditError, match="too few"):
        resample.bootstrap(sets.kid_measure(gauss(2, 3, 0), gauss(9, 3, 1)), 2, resamples=50)


def test_infinity_takes_the_bias_out() -> None:
    x, y = gauss(400, 10, 0, shift=0.3), gauss(20_000, 10, 1)
    truth = sets.frechet_distance(sets.statistics(gauss(20_000, 10, 2, shift=0.3)), sets.statistics(y))
    at_n = sets.frechet_distance(sets.statistics(x[:100]), sets.statistics(y))
    found = sets.frechet_infinity(x, sets.statistics(y))
    assert found.slope > 0  # fewer samples, greater distance
    assert abs(found.interval.value - truth) < abs(at_n - truth)
    assert found.interval.low < found.interval.value < found.interval.high
    assert found.sizes[0] == 40
    assert found.sizes[-1] == 400
    again = sets.frechet_infinity(x, sets.statistics(y))
    assert again == found
    few = sets.frechet_infinity(x[:15], sets.statistics(y))
    assert few.interval.note is not None
    assert "no straight line" in few.interval.note
    with pytest.raises(DditError, match="3 different subset sizes"):
        sets.frechet_infinity(x, sets.statistics(y), sizes=[100, 400])


def test_the_line_of_infinity() -> None:
    x = 1 / np.array([100.0, 200.0, 400.0])
    assert frechet._line(x, 7 + 30 * x, 0.95) == pytest.approx((7.0, 30.0, 0.0), abs=1e-6)
    intercept, slope, half = frechet._line(np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 1.0]), 0.95)
    # By hand: slope 1/2, intercept 1/2; residual variance 3/2; error sqrt(3/2 (1/3 + 1/2)), t(1) = 12.706.
    assert (intercept, slope) == pytest.approx((0.5, 0.5))
    assert half == pytest.approx(12.706 * np.sqrt(1.5 * (1 / 3 + 1 / 2)), rel=1e-4)


# Pictures.


@pytest.fixture(scope="module")
def world() -> tuple[sets.PictureSet, torch.Tensor]:
    """A reference set and other true pictures of the same world."""
    ours = sets.picture_set("world:heldout:96:seed2:64px")
    return sets.picture_set("world:heldout:160:seed1:64px"), torch.cat(list(ours.pictures()))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("name", ["blur", "recolour"])
def test_damage_raises_the_distances(
    name: str, world: tuple[sets.PictureSet, torch.Tensor], cache: Path
) -> None:
    against, pictures = world
    damaged = sets.tensor_set(damage.DAMAGES[name](pictures).clamp(0, 1), name)
    rows = sets.paired_difference(
        damaged,
        sets.tensor_set(pictures, "whole"),
        against,
        families=["frechet", "kid", "cmmd"],
        cache=cache,
        resamples=30,
    )
    assert [row.metric for row in rows] == ["frechet-reader", "kid-reader", "cmmd-reader"]
    for row in rows:
        assert row.interval.low > 0, (row.metric, row.interval)
        assert (row.pictures, row.minus) == (name, "whole")


def test_a_result_says_what_it_depends_on(world: tuple[sets.PictureSet, torch.Tensor], cache: Path) -> None:
    against, pictures = world
    ours = sets.tensor_set(pictures, "whole")
    rows = sets.compare(ours, against, "reader", cache=cache, resamples=20)
    assert [row.metric for row in rows] == [
        "frechet-reader", "kid-reader", "cmmd-reader",
        "precision-reader", "recall-reader", "density-reader", "coverage-reader",
    ]  # fmt: skip
    for row in rows:
        assert (row.n, row.n_reference) == (96, 160)
        assert (row.pictures_hash, row.reference_hash) == (ours.hash, against.hash)
        assert row.reference == "world:heldout:160:seed1:64px"
        assert row.network == "reader"
        assert "64 x 64" in row.preset
        assert "sha256" in row.preset
        data = json.loads(json.dumps(row.to_json(), allow_nan=False))
        assert data["interval"]["value"] == pytest.approx(row.interval.value)
        assert "minus" not in data
    by_name = {row.metric: row for row in rows}
    assert len(by_name["frechet-reader"].warnings) == 2
    assert "96 samples for 416 features" in by_name["frechet-reader"].warnings[0]
    assert by_name["kid-reader"].warnings == ()
    assert by_name["precision-reader"].interval.high <= 1
    assert by_name["cmmd-reader"].interval.low >= 0
    # True pictures of the same world are as near as its pictures get.
    assert abs(by_name["kid-reader"].interval.value) < 0.01


def test_infinity_has_the_network_s_name() -> None:
    pictures = sets.tensor_set(noise(80, 3, 8, 8))
    row = sets.infinity(pictures, sets.tensor_set(noise(90, 3, 8, 8, seed=1)), means())
    assert row.metric == "frechet-infinity-means"
    assert row.interval.low < row.interval.value < row.interval.high


def test_names_belong_to_networks() -> None:
    inception = sets.network("inception")
    named = [comparison.metric_name(k, inception) for k in ("frechet", "frechet-infinity", "kid", "cmmd")]
    assert named == ["fid", "fid-infinity", "kid", "cmmd-inception"]
    assert comparison.metric_name("precision", inception) == "precision-inception"
    openai = sets.clip_network("nowhere.safetensors", "ViT-L-14-336/openai")
    assert (openai.name, openai.dimension) == ("clip", 768)
    assert comparison.metric_name("cmmd", openai) == "cmmd"
    assert comparison.metric_name("frechet", openai) == "frechet-clip"
    small = sets.clip_network("nowhere.safetensors", "ViT-B-32/openai")
    assert (small.dimension, comparison.metric_name("cmmd", small)) == (512, "cmmd-clip-vit-b-32-openai")


@pytest.mark.parametrize(
    ("n", "m", "d", "said"),
    [
        (5000, 3000, 2048, []),
        (2048, 3000, 2048, ["the set has 2048 samples for 2048 features: its covariance is singular"]),
        (2000, 2048, 64, ["the set has 2000 samples, under 2,048: the distance is biased upwards"]),
        (5000, 64, 64, ["the reference has 64 samples for 64 features"]),
    ],
)
def test_warnings_of_few_samples(n: int, m: int, d: int, said: list[str]) -> None:
    found = frechet.caveats(n, m, d)
    assert len(found) == len(said)
    assert all(text in line for text, line in zip(said, found, strict=True))


def test_bad_input_is_refused() -> None:
    x, y = gauss(20, 4, 0), gauss(20, 5, 1)
    with pytest.raises(DditError, match="same network"):
        sets.frechet_distance(sets.statistics(x), sets.statistics(y))
    for measure in (sets.kid, sets.cmmd, sets.prdc):
        with pytest.raises(DditError, match="same network"):
            measure(x, y)
    with pytest.raises(DditError, match="same network"):
        sets.frechet_measure(x, sets.statistics(y))
    with pytest.raises(DditError, match="nan or infinite"):
        sets.kid(x, x / 0)
    with pytest.raises(DditError, match="at least 2"):
        sets.statistics(x[:1])
    with pytest.raises(DditError, match="more than 5 samples"):
        sets.prdc(x, x[:5])
    with pytest.raises(DditError, match="subsets of 1000"):
        sets.kid_subsets(x, x)
    pictures = sets.tensor_set(noise(8, 3, 8, 8))
    with pytest.raises(DditError, match="same prompts"):
        sets.paired_difference(pictures, sets.tensor_set(noise(7, 3, 8, 8)), pictures, means())
    with pytest.raises(DditError, match="unknown set metric 'fvd'"):
        sets.compare(pictures, pictures, means(), families=["fvd"])  # type: ignore[list-item]


# Sets and their cache.


def save(folder: Path, pictures: torch.Tensor) -> Path:
    folder.mkdir(exist_ok=True)
    for i, levels in enumerate(networks.to_bytes(pictures).permute(0, 2, 3, 1).numpy()):
        Image.fromarray(levels).save(folder / f"{i:03d}.png")
    return folder


def test_a_picture_and_its_file_have_the_same_features(tmp_path: Path) -> None:
    world = sets.picture_set("world:train:5:seed3:40px")
    pictures = torch.cat(list(world.pictures()))
    folder = sets.picture_set(save(tmp_path / "a", pictures))
    reader = sets.network("reader")
    one, other, third = (sets.cached_features(s, reader) for s in (world, folder, sets.tensor_set(pictures)))
    assert one.shape == (5, reader.dimension)
    assert one.dtype == torch.float32
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(one, third)
    assert sets.tensor_set(pictures).hash == world.hash


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    pictures = noise(4, 3, 8, 8)
    one = sets.folder_set(save(tmp_path / "one", pictures))
    assert sets.folder_set(save(tmp_path / "two", pictures)).hash == one.hash
    assert sets.folder_set(save(tmp_path / "three", pictures.flip(0))).hash != one.hash
    names = [f"{i:03d}.png" for i in (3, 2, 1, 0)]
    backwards = sets.folder_set(tmp_path / "three", names)
    assert backwards.hash == one.hash
    torch.testing.assert_close(torch.cat(list(backwards.pictures())), torch.cat(list(one.pictures())))
    assert sets.world_set("heldout", 3, seed=1).hash != sets.world_set("heldout", 3, seed=2).hash


def test_pictures_of_different_sizes(tmp_path: Path) -> None:
    save(tmp_path, noise(2, 3, 8, 8))
    Image.fromarray(np.zeros((5, 9), np.uint8)).save(tmp_path / "001a.png")  # grey, and of another size
    batches = list(sets.folder_set(tmp_path).pictures())
    assert [tuple(b.shape) for b in batches] == [(2, 3, 8, 8), (1, 3, 5, 9)]
    assert len(sets.cached_features(sets.folder_set(tmp_path), means())) == 3


def test_a_bad_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DditError, match="no pictures"):
        sets.picture_set(tmp_path)
    with pytest.raises(DditError, match="no folder"):
        sets.picture_set(tmp_path / "none")
    for name in ("world:heldout", "world:test:5:seed1:64px", "world:heldout:-5:seed1:64px"):
        with pytest.raises(DditError, match="world:heldout:512:seed1:64px"):
            sets.picture_set(name)
    with pytest.raises(DditError, match="at least 8 px"):
        sets.picture_set("world:train:0:seed1:64px")
    with pytest.raises(DditError, match="cannot be read"):
        sets.folder_set(tmp_path, ["absent.png"])
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(DditError, match="cannot be read as a picture"):
        list(sets.picture_set(tmp_path).pictures())
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(DditError, match="more than 8 bits"):
        list(sets.picture_set(tmp_path).pictures())
    with pytest.raises(DditError, match=r"\[0, 1\]"):
        sets.tensor_set(2 * noise(2, 3, 8, 8) + 1)


def test_the_cache_spares_the_network(tmp_path: Path) -> None:
    calls: list[int] = []
    pictures, network = sets.tensor_set(noise(40, 3, 8, 8)), means(calls)
    first = sets.cached_features(pictures, network, tmp_path)
    assert sum(calls) == 40
    torch.testing.assert_close(sets.cached_features(pictures, network, tmp_path), first, rtol=0, atol=0)
    known = sets.cached_statistics(pictures, network, tmp_path)
    again = sets.cached_statistics(pictures, network, tmp_path)
    assert sum(calls) == 40
    torch.testing.assert_close(again.covariance, known.covariance, rtol=0, atol=0)
    assert (again.n, again.mean.dtype) == (40, torch.float64)
    # Other pictures, or another preset, are other files.
    sets.cached_features(sets.tensor_set(noise(9, 3, 8, 8, seed=1)), network, tmp_path)
    other = sets.Network("means", 6, "another preset", network.extract)
    sets.cached_features(pictures, other, tmp_path)
    assert sum(calls) == 40 + 9 + 40
    assert not [p for p in tmp_path.iterdir() if p.suffix != ".safetensors"]


@pytest.mark.parametrize("damaged", ["truncated", "flipped", "text", "swapped"])
def test_a_broken_cache_is_computed_anew(tmp_path: Path, damaged: str) -> None:
    calls: list[int] = []
    pictures, network = sets.tensor_set(noise(12, 3, 8, 8)), means(calls)
    first = sets.cached_features(pictures, network, tmp_path)
    path = reference.cache_file(tmp_path, "features", pictures, network)
    raw = path.read_bytes()
    if damaged == "swapped":  # whole, but of another set
        other = sets.tensor_set(noise(12, 3, 8, 8, seed=1))
        sets.cached_features(other, network, tmp_path)
        raw = reference.cache_file(tmp_path, "features", other, network).read_bytes()
    else:
        raw = {"truncated": raw[:-5], "flipped": raw[:-1] + bytes([raw[-1] ^ 1]), "text": b"x"}[damaged]
    path.write_bytes(raw)
    before = sum(calls)
    with pytest.warns(UserWarning, match="broken .* computed anew"):
        mended = sets.cached_features(pictures, network, tmp_path)
    assert sum(calls) == before + 12
    torch.testing.assert_close(mended, first)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(sets.cached_features(pictures, network, tmp_path), first)
    assert sum(calls) == before + 12


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DditError, match="cannot write"):
        sets.cached_features(sets.tensor_set(noise(4, 3, 8, 8)), means(), tmp_path / "file")


def test_set_metric_by_batches(tmp_path: Path) -> None:
    pictures, against = noise(40, 3, 8, 8), sets.tensor_set(noise(50, 3, 8, 8, seed=1))
    metric = sets.SetMetric(sets.cached_features(against, means()), means())
    for part in pictures.split([7, 20, 13]):
        metric.update(part)
    found = metric.compute()
    rows = sets.compare(sets.tensor_set(pictures), against, means(), resamples=5)
    assert found == pytest.approx({row.metric: row.interval.value for row in rows}, rel=1e-6)
    metric.reset()
    metric.update(pictures[:20])
    assert metric.compute()["frechet-means"] != pytest.approx(found["frechet-means"], rel=1e-3)


# Networks.


def test_missing_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    why = sets.network("inception").missing()
    assert why is not None
    for part in ("weights-inception-2015-12-05-6726825d.pth", "91 MiB", str(tmp_path), "`reader`"):
        assert part in why
    pictures = sets.tensor_set(noise(4, 3, 8, 8))
    with pytest.raises(DditError, match="6726825d"):
        sets.compare(pictures, pictures, "inception")
    with pytest.raises(DditError, match="6726825d"):
        sets.features(sets.network("inception"), noise(1, 3, 8, 8))

    gone = sets.dinov2_network("nobody/dinov2-none").missing()
    assert gone is not None
    assert "model.safetensors" in gone
    assert "hf download nobody/dinov2-none" in gone
    assert "`reader`" in gone

    monkeypatch.delenv("DDIT_CLIP_CHECKPOINT", raising=False)
    unnamed = sets.network("clip").missing()
    assert unnamed is not None
    assert "DDIT_CLIP_CHECKPOINT" in unnamed
    assert "ViT-L-14-336/openai" in unnamed
    assert sets.network("reader").missing() is None


@pytest.fixture(scope="module")
def random_inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the right shapes and without any training, made without the real file."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        patch.setattr("torch.load", lambda *a, **k: None)
        torch.manual_seed(0)
        made = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path="none")
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.save(made.state_dict(), path)
    return path


def test_inception_features_are_torch_fidelity_s(random_inception: Path) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    digest = weights.sha256(random_inception)
    network = sets.inception_network(random_inception, digest)
    # Other weights than the published ones do not bear the published names.
    assert network.name == f"inception-{digest[:8]}"
    assert comparison.metric_name("frechet", network) == f"frechet-inception-{digest[:8]}"
    pictures = noise(2, 3, 40, 50)
    found = sets.features(network, pictures)
    golden = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(random_inception))
    (expected,) = golden((pictures * 255).round().to(torch.uint8))
    torch.testing.assert_close(found, expected)
    (truncated,) = golden((pictures * 255).to(torch.uint8))
    assert not torch.allclose(found, truncated, rtol=1e-5, atol=0)


def test_other_weights_under_inception_s_name(random_inception: Path) -> None:
    why = sets.inception_network(random_inception).missing()
    assert why is not None
    assert "and not 6726825d" in why


def test_weights_are_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps({"state": Trap()}, protocol=2))
    network = sets.inception_network(path, weights.sha256(path))
    with pytest.raises(DditError, match="does not load as Inception"):
        sets.features(network, noise(1, 3, 8, 8))
    assert not (tmp_path / "sprung").exists()


def test_dinov2_from_a_folder(tmp_path: Path) -> None:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=224, patch_size=14
    )
    model = Dinov2Model(config).eval()
    model.save_pretrained(tmp_path / "tiny")
    network = sets.dinov2_network(tmp_path / "tiny")
    assert (network.name, network.dimension) == ("dinov2-tiny", 32)
    pictures = networks.to_bytes(noise(2, 3, 224, 224))  # of the network's own size: nothing is resized
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (pictures / 255 - mean[:, None, None]) / deviation[:, None, None]
    with torch.no_grad():
        expected = model(pixel_values=x).pooler_output
    torch.testing.assert_close(sets.features(network, pictures / 255), expected, rtol=1e-4, atol=1e-4)
    assert sets.features(network, noise(3, 3, 40, 60)).shape == (3, 32)
    wrong = sets.dinov2_network(tmp_path / "tiny", sha256="0" * 64).missing()
    assert wrong is not None
    assert "SHA-256" in wrong
    weights = tmp_path / "tiny" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(DditError, match="does not load as DINOv2"):
        sets.features(sets.dinov2_network(tmp_path / "tiny"), noise(1, 3, 40, 60))


def test_clip_from_a_folder(tmp_path: Path) -> None:
    import open_clip
    from safetensors.torch import save_file

    shape = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    torch.manual_seed(0)
    folder = tmp_path / "Tiny CLIP"
    folder.mkdir()
    save_file(open_clip.model.CLIP(**shape).state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": shape, "preprocess_cfg": {}}))
    network = sets.clip_network(folder)
    assert (network.name, network.dimension) == ("clip-tiny-clip", 16)
    pictures, against = sets.tensor_set(noise(10, 3, 32, 32)), sets.tensor_set(noise(10, 3, 32, 32, seed=1))
    (row,) = sets.compare(pictures, against, network, families=["cmmd"], resamples=20)
    assert row.metric == "cmmd-clip-tiny-clip"
    found = [sets.cached_features(s, network) for s in (pictures, against)]
    assert row.interval.value == pytest.approx(sets.cmmd(*found))


def test_register_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "_FACTORIES", dict(networks._FACTORIES))
    sets.register("means", means)
    assert "means" in sets.names()
    assert sets.features(sets.network("means"), noise(3, 3, 8, 8)).shape == (3, 6)
    with pytest.raises(DditError, match="'means' already"):
        sets.register("means", means)
    with pytest.raises(DditError, match="unknown feature network 'vgg'; there are clip"):
        sets.network("vgg")


def test_a_network_that_breaks_its_word() -> None:
    flat = sets.Network("flat", 3, "", lambda p: p.mean((1, 2, 3)))
    with pytest.raises(DditError, match="registered with"):
        sets.features(flat, noise(2, 3, 8, 8))
    broken = sets.Network("broken", 3, "", lambda p: p.mean((2, 3)) / 0)
    with pytest.raises(DditError, match="nan or infinite"):
        sets.features(broken, noise(2, 3, 8, 8))


def test_names_are_imported_when_asked_for() -> None:
    code = (
        "import sys, ddit_eval.metrics.sets as sets\n"
        "heavy = {'torchvision', 'torch_fidelity', 'open_clip', 'transformers', 'torchmetrics'}\n"
        "assert 'torch' not in sys.modules\n"
        "sets.network('reader'), sets.compare, sets.prdc\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(sets._HOME) == set(sets.__all__)
    assert all(callable(getattr(sets, name)) for name in sets.__all__)
    with pytest.raises(AttributeError, match="no attribute 'fvd'"):
        _ = sets.fvd


def test_radii_by_hand() -> None:
    x = torch.tensor([[0.0], [1.0], [3.0], [7.0]]).double()
    assert manifold.radii(x, 1).tolist() == pytest.approx([1.0, 1.0, 2.0, 4.0])
    assert manifold.radii(x, 2, chunk=3).tolist() == pytest.approx([3.0, 2.0, 3.0, 6.0])
