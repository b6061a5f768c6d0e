"""Digests of large files, kept from one process to the next in a file that may be deleted at any time."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ddit_eval.errors import DditError
from ddit_eval.system.files import write_json


def remembered(path: Path, stamp: list[int], compute: Callable[[], str]) -> str:
    """`compute()`, unless it was computed for this path and stamp before."""
    if (known := _read().get(str(path))) and known[:-1] == stamp:
        return str(known[-1])
    found = compute()
    kept = {name: entry for name, entry in _read().items() if os.path.exists(name)}
    # A cache that cannot be written is none: a full disk, no home, a path that is no Unicode.
    with contextlib.suppress(DditError, RuntimeError, UnicodeError):
        write_json(_place(), kept | {str(path): [*stamp, found]})
    return found


def _place() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ddit_eval" / "digests.json"


def _read() -> dict[str, Any]:
    """What is kept, less what is damaged."""
    try:
        found = json.loads(_place().read_bytes())
    except (OSError, ValueError, RuntimeError):
        return {}
    entries = found.items() if isinstance(found, dict) else ()
    return {k: v for k, v in entries if isinstance(v, list) and len(v) > 1 and len(str(v[-1])) == 64}
