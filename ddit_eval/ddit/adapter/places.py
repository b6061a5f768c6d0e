"""Where adapters lie on disk; needs no torch, so that a configuration that names one is read at once."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

WEIGHTS, CONFIG = "adapter.safetensors", "config.json"


def find(name_or_path: str | Path) -> Path:
    """The folder of an adapter: as given, or among those that ship with the package."""
    folder, shipped = Path(name_or_path), Path(str(resources.files("ddit_eval") / "weights" / "adapters"))
    if not folder.exists() and (shipped / str(name_or_path) / CONFIG).is_file():
        return shipped / str(name_or_path)
    return folder


def find_parts(name_or_path: str | Path) -> tuple[Path, Path | None]:
    """The folders of a pipeline's adapters: its `transformer` and `transformer_2`, if both are there; else
    the folder itself, for one transformer."""
    folder = find(name_or_path)
    parts = folder / "transformer", folder / "transformer_2"
    return parts if all((part / CONFIG).is_file() for part in parts) else (folder, None)
