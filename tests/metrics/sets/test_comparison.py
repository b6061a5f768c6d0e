"""What a comparison of two sets says, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ddit_eval.errors import DditError
from ddit_eval.metrics import damage, sets
from ddit_eval.metrics.sets import comparison, frechet
from tests.support.sets import gauss, means, noise, paired

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
    rows = paired(
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
        data = json.loads(json.dumps(row.plain(), allow_nan=False))
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
    pictures = sets.tensor_set(noise(8, 3, 8, 8))
    with pytest.raises(DditError, match="same prompts"):
        paired(pictures, sets.tensor_set(noise(7, 3, 8, 8)), pictures, means())
    with pytest.raises(DditError, match="unknown set metric 'fvd'"):
        sets.compare(pictures, pictures, means(), families=["fvd"])  # type: ignore[list-item]
