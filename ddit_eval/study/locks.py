"""A journal's lock that says who holds it, so that nobody waits for a process that was killed.

The lock stays Optuna's, and the dashboard's: a link to the journal. Of the many paths that lead there, ours
spells its holder, a bit a slash: "/." is 1, "/" is 0.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import time
from pathlib import Path

from optuna.storages.journal import JournalFileSymlinkLock

from ddit_eval.study import slots

GRACE = 30.0  # seconds after which Optuna takes a lock for one that was left behind
_BITS = 144  # place 48, process id 32, its start 64


class Lock(JournalFileSymlinkLock):
    """Optuna's, with the holder in the path."""

    def acquire(self) -> bool:
        holder = f"{slots.place()}{os.getpid():08x}{int(slots.started() or 0):016x}"
        marks = ("/." if bit == "1" else "/" for bit in f"{int(holder, 16):0{_BITS}b}")
        self._lock_target_file = (
            f".{''.join(marks)}/{os.path.basename(self._lock_file).removesuffix('.lock')}"
        )
        return super().acquire()


def sweep(journal: Path) -> None:
    """Remove the locks of dead processes of this machine, and what they were about to remove."""
    import fcntl

    with contextlib.suppress(OSError), open(journal, "rb") as file:
        # One at a time, or the second would remove what a third has taken after the first.
        fcntl.flock(file, fcntl.LOCK_EX)
        for link in journal.parent.glob(f"{glob.escape(journal.name)}.lock*"):
            if link.is_symlink() and _left(link):
                link.unlink(missing_ok=True)


def _left(link: Path) -> bool:
    found = re.fullmatch(rf"\.((?:/\.?){{{_BITS}}})/[^/]+", os.readlink(link))
    if found is None:  # another's; where it leads nowhere Optuna would wait for ever
        return not link.exists() and time.time() - link.lstat().st_mtime > GRACE
    bits = "".join("1" if dot else "0" for dot in re.findall(r"/(\.?)", found[1]))
    holder = f"{int(bits, 2):0{_BITS // 4}x}"
    return holder[:12] == slots.place() and slots.gone(int(holder[12:20], 16), int(holder[20:], 16))
