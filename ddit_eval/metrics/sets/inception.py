"""Inception V3, the network of FID and KID, from torch-fidelity's weights file."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddit_eval.metrics.sets.feature_network import Network, to_bytes
from ddit_eval.metrics.weights import stamp_of, wrong_hash
from ddit_eval.system.loading import loading

# The name that torch-fidelity gives the file ends in the first digits of its hash.
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256 = "6726825d"


def inception_network(weights: Path | None = None, sha256: str = INCEPTION_SHA256) -> Network:
    """Inception V3 of 2015-12-05, the network that FID and KID are defined on, through torch-fidelity.

    `weights`: by default where torch.hub keeps torch-fidelity's file. `sha256`: the hash that the file
    must have, or its first digits; with another than the published one this is not the network of FID,
    and it is called "inception-" and the hash.
    """
    path = weights or Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    published = sha256.startswith(INCEPTION_SHA256)

    weights_said = f"{INCEPTION_FILE} (91 MiB, SHA-256 {INCEPTION_SHA256}...)"

    def missing() -> str | None:
        if not path.is_file():
            return (
                f"inception: torch-fidelity's weights {weights_said} belong at {path} and are not there; "
                "copy them from a machine that has them, or measure with the network `reader`, the shipped "
                "stand-in"
            )
        return wrong_hash("inception", path, sha256)

    def extract(pictures: Tensor) -> Tensor:
        (found,) = _inception(path, stamp_of(path)).to(pictures.device)(to_bytes(pictures))
        assert isinstance(found, Tensor)
        return found

    return Network(
        "inception" if published else f"inception-{sha256[:8]}",
        2048,
        "inception-v3 of 2015-12-05 (torch-fidelity), layer 2048; 8 bits rounded; TensorFlow 1 bilinear to "
        f"299 x 299, no antialias; (x - 128) / 128; sha256 {sha256[:8]}",
        extract,
        missing,
        frozenset({"fid", "kid"}) if published else frozenset(),
        weights_said if published else f"{path.name} (SHA-256 {sha256[:8]}...)",
    )


@lru_cache(maxsize=1)
def _inception(path: Path, stamp: tuple[str, int, int]) -> Any:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with loading(path, "Inception"):
        state = torch.load(path, map_location="cpu", weights_only=True)
        # torch-fidelity unpickles whatever it is given, so it is given what we just wrote ourselves.
        copy = BytesIO()
        torch.save(state, copy)
        copy.seek(0)
        network = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=copy
        )
    return network
