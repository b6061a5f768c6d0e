"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from ddit_eval.errors import DditError

HERE = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]  # whose process ids are in names


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary beside `path`, which takes its place when the body has written it; else nothing is left.

    Raises `DditError` naming the path where it is no file, the folder read-only or the disk full.
    """
    temporary = path.with_name(f".{path.name[-180:]}.{HERE}.{os.getpid()}.tmp")
    try:
        if path.exists() and not path.is_file():
            raise OSError("that is no file")
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        # PyAV, Pillow and safetensors have errors of their own, with the system's inside.
        if isinstance(error, OSError) or "os error" in str(error):
            why = getattr(error, "strerror", None) or error
            raise DditError(
                f"cannot write {path}: {why}. Make the folder writable, free some space or name another "
                "folder; what was written before is kept, and the same command goes on from there."
            ) from error
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old file or the new one, never half of one.

    Raises `DditError` as `whole` does.
    """
    with whole(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode())


def canonical(value: Any) -> str:
    """JSON with sorted keys and no white space: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any, digits: int = 12) -> str:
    """Hex digits that name a JSON value: equal for equal values (SHA-256 of `canonical`)."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:digits]


def write_json(path: Path, value: Any) -> None:
    """Sorted, indented JSON; inf and nan are refused, `stats.number_to_json` says how they are written."""
    write_text(path, json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def check_writable(folder: Path) -> None:
    """Fail before any work is done, not after: raises `DditError` where `folder` cannot be written to."""
    probe = folder / f".write-test-{HERE}.{os.getpid()}"
    write_bytes(probe, b"")
    probe.unlink(missing_ok=True)


def check_place(file: Path) -> None:
    """The same of a file to be written: raises `DditError` where its place cannot be taken."""
    if file.exists() and not file.is_file():
        raise DditError(f"{file} is no file; name another place to write to")
    check_writable(file.parent)


def sweep(folder: Path) -> int:
    """Remove what killed writers on this machine left in `folder` and below; returns how many files.

    The files of processes that live stay, and those of other machines that share the folder.
    """
    swept = 0
    for path in [*folder.rglob(".*.tmp"), *folder.rglob(".write-test-*")]:
        owner = re.search(rf"{HERE}\.(\d+)(?:\.tmp)?$", path.name)
        if owner and not psutil.pid_exists(int(owner[1])):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
                swept += 1
    return swept
