"""Where adapters lie on disk; needs no torch, so that a configuration that names one is read at once."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

WEIGHTS, CONFIG = "adapter.safetensors", "config.json"


def find(name_or_path: str | Path) -> Path:
    """The folder of an adapter: among those that ship with the package, or as given.

    A shipped name is that adapter even where a folder is called so: write ./NAME, or hand over a Path.
    """
    folder, name = Path(name_or_path), str(name_or_path)
    shipped = Path(str(resources.files("ddit_eval"))) / "weights" / "adapters" / name
    meant = folder.name == name and not (isinstance(name_or_path, Path) and folder.exists())
    return shipped if meant and (shipped / CONFIG).is_file() else folder


def find_parts(name_or_path: str | Path) -> tuple[Path, Path | None]:
    """The folders of a pipeline's adapters: its `transformer` and `transformer_2`, if both are there; else
    the folder itself, for one transformer."""
    folder = find(name_or_path)
    parts = folder / "transformer", folder / "transformer_2"
    return parts if all((part / CONFIG).is_file() for part in parts) else (folder, None)
