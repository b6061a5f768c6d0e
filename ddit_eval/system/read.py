"""Reading what others wrote: regular files only, text as UTF-8, JSON that means one thing."""

from __future__ import annotations

import hashlib
import json
import re
import stat
from functools import lru_cache
from pathlib import Path
from typing import Any

from ddit_eval.errors import DditError
from ddit_eval.system.remembered import remembered

LARGEST = 2**24  # of a whole number in a configuration
UNLIMITED = int(1e30)  # how tokenizers write that there is no limit
LARGE = 64 * 2**20  # bytes; the digest of a larger file is remembered


def check_regular(path: Path) -> None:
    """Refuse what is no ordinary file, links followed: a pipe or a device would be waited on for ever.

    Raises `DditError` naming the path and what stands there.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise DditError(f"{path} cannot be read: {_why(error)}.") from error
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
        raise DditError(f"{path} is {what}, not a file; name a file.")


def read_bytes(path: Path) -> bytes:
    """A whole file. Raises `DditError` naming it where it is no ordinary file or cannot be read."""
    check_regular(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise DditError(f"{path} cannot be read: {_why(error)}.") from error


def read_text(path: Path) -> str:
    """A text file of UTF-8, less a byte order mark.

    Raises `DditError` naming file, line and the remedy where it is in another encoding.
    """
    data = read_bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DditError(f"{path}, line {line}, is not UTF-8; save it as UTF-8.") from None


def lines(text: str) -> list[str]:
    """Lines as an editor numbers them: ended by LF, CR LF or CR and by nothing else in Unicode."""
    parts = re.split(r"\r\n|\n|\r", text)
    return parts if parts[-1] else parts[:-1]


def parse_json(text: str | bytes, what: str) -> Any:
    """A JSON value. `what`: its file and place, for messages.

    Raises `DditError` where it is not JSON, names a key twice, holds NaN or an infinity or nests too deep.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise DditError(f"{what} is not UTF-8") from None
    except RecursionError:
        raise DditError(f"{what} nests too deep") from None
    except ValueError as error:
        raise DditError(f"{what} is not JSON: {error}") from None


def read_json(path: Path, remedy: str = "Run the stage that writes it again (`dvc repro`).") -> Any:
    """`parse_json` of a file; a lone surrogate is refused too."""
    if not path.exists():
        raise DditError(f"{path} is missing. {remedy}")
    try:
        value = parse_json(read_bytes(path), str(path))
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise DditError(f"{path} holds half a surrogate pair, which is no text. {remedy}") from None
    except RecursionError:
        raise DditError(f"{path} nests too deep. {remedy}") from None
    except DditError as error:
        raise DditError(f"{error}. {remedy}") from None
    return value


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """A JSON object of which no number is too large for a size. Raises `DditError` naming file and remedy."""
    if not path.is_file():
        raise DditError(f"{path} is missing: {remedy}")
    found = read_json(path, remedy)
    if not isinstance(found, dict):
        raise DditError(f"{path} holds no configuration: {remedy}")
    for key, value in found.items():
        numbers = [v for v in (value if isinstance(value, list) else [value]) if type(v) is int]
        if any(abs(v) > LARGEST and v != UNLIMITED for v in numbers):
            raise DditError(f"{path}: {key} is {value}, which no network has: {remedy}")
    return found


def file_digest(path: Path) -> str:
    """SHA-256 of a whole file, links followed, in hex; read once for a size and a time of change.

    Of a large file the digest is remembered on this machine (`system.remembered`). Raises `DditError` where
    it is no ordinary file.
    """
    check_regular(path)
    place = path.resolve()
    found = place.stat()
    # The time of change, unlike that of modification, cannot be set back.
    return _file_digest(place, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@lru_cache(maxsize=4096)
def _file_digest(path: Path, *stamp: int) -> str:
    def compute() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return remembered(path, list(stamp), compute) if path.stat().st_size > LARGE else compute()


def natural(name: str) -> tuple[tuple[str, int], ...]:
    """A key that sorts names as a person counts: 2.png before 10.png."""
    parts = re.findall(r"([^0-9]*)([0-9]*)", name)
    return tuple((text, int(number or -1)) for text, number in parts)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        twice = next(key for key in made if [k for k, _ in pairs].count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice")
    return made


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def _why(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)
