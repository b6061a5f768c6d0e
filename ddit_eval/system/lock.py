"""One process at a time, by a lock that the kernel takes back when its holder ends, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ddit_eval.errors import DditError

FILE = ".lock"


@contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """Inside, no other process is inside for this `folder`. what: what it is for, for messages.

    Raises `DditError` at once where another one is, and where the folder cannot be written to.
    """
    import fcntl

    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = held.enter_context(open(folder / FILE, "ab"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DditError(f"another {what} is at work in {folder}; wait for its end, or end it") from None
        except OSError as error:
            raise DditError(f"{folder} takes no lock: {error.strerror}; name another folder") from None
        yield
