"""What was measured once and is kept on disk: damaged, it is measured anew."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from ddit_eval.errors import DditError
from ddit_eval.schema.model import F, ResultFile, read, write


class Kept(ResultFile):
    """Any JSON; the name of its file says what it is of."""

    made_by: ClassVar[str] = "the same command"

    value: Any


def known(path: Path, model: type[F]) -> F | None:
    """`read`, or None where the file is not there yet or not as it was written, of which a warning tells.

    Raises `DditError` where it is there and may not be read.
    """
    if not path.exists():
        return None
    if not os.access(path, os.R_OK):
        raise DditError(f"{path} cannot be read: Permission denied; make it readable, or remove it")
    try:
        return read(path, model)
    except DditError:
        warnings.warn(f"{path} is not as it was written and is made anew", stacklevel=3)
        return None


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """The value in `path`; what is not there yet is made and written."""
    found = known(path, Kept)
    if found is None:
        found = Kept(value=make())
        write(path, found)
    return found.value
