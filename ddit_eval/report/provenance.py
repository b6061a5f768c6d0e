"""Where a report comes from: code, weights, parameters, libraries. No time and no host: the same results
give the same page."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata, resources
from pathlib import Path

from ddit_eval.schema import Record
from ddit_eval.system.read import read_text

LIBRARIES = (
    "torch", "diffusers", "transformers", "safetensors", "numpy", "scipy", "torchmetrics", "open_clip_torch",
    "lpips", "optuna", "matplotlib", "pillow",
)  # fmt: skip
_CODE = ("ddit_eval", "experiments", "pyproject.toml")  # results are no part of it: they would be dirty


@dataclass(frozen=True)
class Provenance:
    """`commit`: the last one that changed code or experiments, None outside a checkout; `dirty`: whether
    these differ from it. `weights`: name and fingerprint, as the records say. `experiment`: its YAML."""

    version: str
    commit: str | None = None
    dirty: bool = False
    libraries: Mapping[str, str] = field(default_factory=dict)
    weights: Sequence[str] = ()
    experiment: str | None = None


def collect(records: Mapping[str, Sequence[Record]], experiment: Path | None = None) -> Provenance:
    """Of this installation, these records and this experiment's file."""
    root = Path(str(resources.files("ddit_eval"))).parent
    commit = _git(root, "log", "-1", "--format=%H", "--", *_CODE)
    return Provenance(
        version=metadata.version("ddit-eval"),
        commit=commit or None,
        dirty=bool(commit and _git(root, "status", "--porcelain", "--", *_CODE)),
        libraries={name: found for name in LIBRARIES if (found := _version(name))},
        weights=weights_of(records),
        experiment=read_text(experiment) if experiment and experiment.is_file() else None,
    )


def weights_of(records: Mapping[str, Sequence[Record]]) -> list[str]:
    """Each model, adapter and code hash that made a picture; more than one of a kind means a mixed run."""
    found = set()
    for r in (record for same in records.values() for record in same):
        found |= {
            f"model {r.model}: {r.model_hash}",
            f"dtype {r.dtype}",
            f"code that decides pictures: {r.code}",
        }
        if r.adapter_hash:
            found.add(f"adapter {r.adapter}: {r.adapter_hash}")
    return sorted(found)


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _git(root: Path, *arguments: str) -> str:
    """What git says, empty where there is no git or no checkout."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
