"""What the learned judges of pictures share: where their weights are, and what to say where they are not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ddit_eval.system.read import file_digest


def lacking(name: str, needs: str, absent: list[str], instead: str) -> str | None:
    """One sentence for everything that a judge lacks here, or None."""
    if not absent:
        return None
    return f"{name}: {needs}. Missing here: {', '.join(absent)}. Nothing is downloaded; offline, {instead}"


def with_hash(what: str, path: Path | None) -> str:
    """`what`, and the hash of the weights that it was loaded from: their authors publish none to check by."""
    return f"{what} (SHA-256 {file_digest(path)[:12]})" if path is not None and path.is_file() else what


@contextmanager
def offline() -> Iterator[None]:
    """The hub is not asked for anything while this is open, whatever a package does in its constructors."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
