"""Sets of pictures and the cache of their features."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddit_eval.errors import DditError
from ddit_eval.metrics import sets
from ddit_eval.metrics.sets import feature_network, reference
from tests.support.sets import means, noise

# Sets and their cache.


def save(folder: Path, pictures: torch.Tensor) -> Path:
    folder.mkdir(exist_ok=True)
    for i, levels in enumerate(feature_network.to_bytes(pictures).permute(0, 2, 3, 1).numpy()):
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
