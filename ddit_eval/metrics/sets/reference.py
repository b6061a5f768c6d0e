"""Sets of pictures, known by a hash of their content, and their features kept in a cache folder.

`picture_set` reads a folder ("path/to/pictures") or the captioned world ("world:heldout:512:seed1:64px").
Cache files are safetensors, named by the set's hash and the network's preset, written whole or not at
all; a broken one is computed anew, with a warning.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.metrics.metric import check_pixels
from ddit_eval.metrics.sets.feature_network import Network, features, to_bytes
from ddit_eval.metrics.sets.frechet import Statistics, statistics
from ddit_eval.system.files import write_bytes
from ddit_eval.system.pictures import SUFFIXES, files_in, read_levels
from ddit_eval.system.read import file_digest
from ddit_eval.world import render, sample_scenes

_WORLD = re.compile(r"world:(train|heldout):(\d+):seed(\d+):(\d+)px")
READING = "2"  # of picture files, by `system.pictures`; where that changes, features are computed anew
_BATCH = 32


@dataclass(frozen=True)
class PictureSet:
    """n pictures in a fixed order. `hash`: SHA-256 of the content, in order. `pictures()`: batches of
    float (N, 3, H, W) in [0, 1]; pictures of different sizes come in different batches."""

    name: str
    hash: str
    n: int
    pictures: Callable[[], Iterator[Tensor]] = field(repr=False, compare=False)


def picture_set(name: str | Path) -> PictureSet:
    """A set by its name: a folder, or "world:SPLIT:COUNT:seedS:SIDEpx"."""
    if str(name).startswith("world:"):
        match = _WORLD.fullmatch(str(name))
        if match is None:
            raise DditError(f"{name!r} is no world set; write it as world:heldout:512:seed1:64px")
        split: Literal["train", "heldout"] = "train" if match[1] == "train" else "heldout"
        return world_set(split, int(match[2]), seed=int(match[3]), side=int(match[4]))
    return folder_set(Path(name))


def tensor_set(pictures: Tensor, name: str = "pictures") -> PictureSet:
    """Pictures in memory: float (N, 3, H, W) in [0, 1]. The hash is that of their 8-bit levels."""
    check_pixels(pictures, "pictures")
    digest = hashlib.sha256(struct.pack("<4q", *pictures.shape))
    for part in pictures.split(_BATCH):
        digest.update(to_bytes(part).cpu().contiguous().numpy().tobytes())
    return PictureSet(name, digest.hexdigest(), len(pictures), lambda: iter(pictures.split(_BATCH)))


def world_set(split: Literal["train", "heldout"], count: int, *, seed: int = 1, side: int = 64) -> PictureSet:
    """`count` true pictures of the captioned world, `side` pixels wide: a reference without files."""
    if count < 1 or side < 8:
        raise DditError(f"a world set needs pictures of at least 8 px, not {count} of {side} px")

    def pictures() -> Iterator[Tensor]:
        for start in range(0, count, _BATCH):
            scenes = sample_scenes(seed, start, min(_BATCH, count - start), split)
            yield torch.from_numpy(render(scenes, side)).clamp(0, 1)

    digest = hashlib.sha256(struct.pack("<4q", count, 3, side, side))
    for part in pictures():
        digest.update(to_bytes(part).numpy().tobytes())
    return PictureSet(f"world:{split}:{count}:seed{seed}:{side}px", digest.hexdigest(), count, pictures)


def folder_set(folder: str | Path, files: Sequence[str] | None = None) -> PictureSet:
    """The picture files in a folder (not below it), in order of their names (2.png before 10.png), or the
    `files` named.

    The hash is that of the files' bytes in order. A file that cannot be read is an error, never skipped.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DditError(
            f"there is no folder {root}; give a folder of pictures or world:heldout:512:seed1:64px"
        )
    paths = (
        [root / name for name in files]
        if files is not None
        else [*files_in(root, SUFFIXES, paired=False).values()]
    )
    if not paths:
        raise DditError(f"{root} holds no pictures ({', '.join(SUFFIXES)})")
    return PictureSet(str(root), hash_of_files(paths), len(paths), lambda: _batches(paths))


def hash_of_files(paths: Iterable[Path]) -> str:
    """SHA-256 of the files' own hashes, in order: known by content, whatever the files are called."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(bytes.fromhex(file_digest(path)))
    return digest.hexdigest()


def _batches(paths: Sequence[Path]) -> Iterator[Tensor]:
    batch: list[Tensor] = []
    for path in paths:
        picture = torch.from_numpy(read_levels(path)).permute(2, 0, 1).float() / 255
        if batch and (len(batch) == _BATCH or batch[0].shape != picture.shape):
            yield torch.stack(batch)
            batch = []
        batch.append(picture)
    if batch:
        yield torch.stack(batch)


# Features and statistics, with a cache.


def cached_features(pictures: PictureSet, network: Network, cache: Path | None = None) -> Tensor:
    """Features float32 (n, D) of a set in its order; read from and kept in the folder `cache`, if given."""

    def compute() -> dict[str, Tensor]:
        if why := network.missing():
            raise DditError(why)
        return {"features": torch.cat([features(network, p) for p in pictures.pictures()])}

    return _cached("features", pictures, network, cache, compute)["features"]


def cached_statistics(pictures: PictureSet, network: Network, cache: Path | None = None) -> Statistics:
    """Statistics of a set's features, kept as `cached_features` keeps features (in a file of their own)."""

    def compute() -> dict[str, Tensor]:
        found = statistics(cached_features(pictures, network, cache))
        return {"mean": found.mean, "covariance": found.covariance}

    data = _cached("statistics", pictures, network, cache, compute)
    return Statistics(data["mean"], data["covariance"], pictures.n)


def cache_file(cache: Path, kind: str, pictures: PictureSet, network: Network) -> Path:
    """Where the features or statistics (`kind`) of a set are kept."""
    preset = hashlib.sha256(f"{READING} {network.preset}".encode()).hexdigest()[:12]
    return Path(cache) / f"{pictures.hash[:16]}-{network.name}-{preset}-{kind}.safetensors"


def _cached(
    kind: str,
    pictures: PictureSet,
    network: Network,
    cache: Path | None,
    compute: Callable[[], dict[str, Tensor]],
) -> dict[str, Tensor]:
    if cache is None:
        return compute()
    path = cache_file(cache, kind, pictures, network)
    about = {
        "kind": kind,
        "set": pictures.hash,
        "n": str(pictures.n),
        "network": network.name,
        "preset": network.preset,
        "reading": READING,
    }
    if path.is_file():
        try:
            return _read_cache(path, about)
        except (OSError, ValueError, KeyError) as error:
            warnings.warn(f"the cache file {path} is broken ({error}) and computed anew", stacklevel=3)
    data = {key: value.contiguous() for key, value in compute().items()}
    write_bytes(path, save(data, metadata=about | {"digest": _digest(data)}))
    return data


def _read_cache(path: Path, about: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors of a cache file; ValueError (or what it raises itself) where it is not whole and ours."""
    raw = path.read_bytes()
    try:
        data = load(raw)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    (length,) = struct.unpack("<Q", raw[:8])
    written = json.loads(raw[8 : 8 + length]).get("__metadata__", {})
    if {key: written.get(key) for key in about} != dict(about):
        raise ValueError("it is of another set or network")
    if written.get("digest") != _digest(data):
        raise ValueError("its content does not match its digest")
    return data


def _digest(data: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(data):
        digest.update(f"{key}{tuple(data[key].shape)}{data[key].dtype}".encode())
        digest.update(data[key].contiguous().numpy().tobytes())
    return digest.hexdigest()
