"""Weights files: which they are, by hash, and whether they are the right ones."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from ddit_eval.system.read import file_digest

ABSENT = "sha256 unknown"
SHIPPED = Path(str(resources.files("ddit_eval"))) / "weights"
READER = SHIPPED / "reader" / "reader.safetensors"


def hash_of(path: Path | None) -> str:
    """For a preset: the first digits of the hash, or that there is no such file."""
    return f"sha256 {file_digest(path)[:12]}" if path is not None and path.is_file() else ABSENT


def shipped(path: Path) -> str:
    """Of a file that ships with the package: name, size and the first digits of its hash."""
    if not path.is_file():
        return f"{path.name} (ships with the package)"
    return f"{path.name} ({path.stat().st_size / 1e6:.1f} MB, {hash_of(path)}..., ships with the package)"


def wrong_hash(name: str, path: Path, expected: str | None) -> str | None:
    """None where the file has the expected hash (or its first digits), else a sentence."""
    if not expected or (actual := file_digest(path)).startswith(expected.lower()):
        return None
    return (
        f"{name}: {path} has SHA-256 {actual[:12]}... and not {expected[:12]}...; it is damaged or another "
        "file: copy it again"
    )


def stamp_of(path: Path) -> tuple[str, int, int]:
    """A file as it is now, to be the key of a cache."""
    about = path.stat()
    return str(path.resolve()), about.st_size, about.st_mtime_ns
