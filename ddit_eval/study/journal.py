"""A study's journal in which damage shows: each line of ours ends with a checksum.

A kill leaves half a line at the end, which is dropped. Anywhere else later lines count on the damaged one, as
trials are numbered as they come: so the file is refused.
"""

from __future__ import annotations

import json
import os
import re
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddit_eval.errors import DditError
from ddit_eval.system.read import check_regular

if TYPE_CHECKING:
    import optuna

BEGIN = b'{"op_code":'  # of a line
_END = re.compile(rb',"crc":"([0-9a-f]{8})"}\n$')


def line_of(log: dict[str, Any]) -> bytes:
    """A log as Optuna writes it, with the checksum as one more name, which Optuna reads over."""
    text = json.dumps(log, separators=(",", ":")).encode()
    return text[:-1] + b',"crc":"%08x"}\n' % zlib.crc32(text)


def log_of(line: bytes) -> dict[str, Any] | None:
    """The log in a line; None where it is damaged. Optuna's own lines, the dashboard's, have no checksum."""
    end = _END.search(line)
    if not line.endswith(b"\n") or (end and zlib.crc32(line[: end.start()] + b"}") != int(end[1], 16)):
        return None
    try:
        log = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(log, dict) or "op_code" not in log or ("crc" in log and not end):
        return None  # a checksum stands at the end as `line_of` writes it, or someone was at the line
    return log


def open_journal(path: Path) -> optuna.storages.JournalStorage:
    """The storage in a file, which may be new, less the locks that dead processes left.

    Raises `DditError` naming file and line where it is damaged, and where it is something else.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.storages.journal._file import get_lock_file

    from ddit_eval.study import locks

    class Backend(JournalFileBackend):
        line = 0  # that was read last
        whole = 0  # bytes whose lines are known to be whole

        def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
            offsets = self._log_number_offset
            self.line = log_number_from if log_number_from in offsets else 0
            at, damaged = offsets[self.line], 0
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size  # others may write meanwhile
                file.seek(at)
                for line in file:
                    at += len(line)
                    if at > size:
                        return
                    if damaged:
                        raise _damaged(path, damaged)
                    self.line += 1
                    log = log_of(line)
                    if log is None:
                        damaged = self.line
                        continue
                    offsets[self.line] = at
                    if self.line > log_number_from:
                        yield log

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            try:
                with get_lock_file(self._lock):
                    mend_journal(path, self.whole)
                    with open(path, "ab") as file:
                        file.write(b"".join(map(line_of, logs)))
                        file.flush()
                        os.fsync(file.fileno())
                        self.whole = file.tell()
            except OSError as error:
                raise DditError(
                    f"cannot write {path}: {error.strerror}. Free some space or make it writable; the same "
                    "command goes on from there."
                ) from error

    if path.exists():
        check_regular(path)
        with open(path, "rb") as file:
            first, more = file.readline(), file.read(1)
        if first and log_of(first) is None and (more or not BEGIN.startswith(first[: len(BEGIN)])):
            raise DditError(
                f"{path} is no journal of a study, or its first line is damaged; name another file"
            )
    backend = Backend(str(path), locks.Lock(str(path)))
    locks.sweep(path)
    try:
        return JournalStorage(backend)
    except DditError:
        raise
    except Exception:  # a line without a checksum that means nothing
        raise _damaged(path, backend.line) from None


def mend_journal(path: Path, start: int = 0) -> None:
    """Cut a torn or damaged last line off and say so. The caller holds the journal's lock.

    start: bytes that are known to be whole lines.
    """
    with open(path, "rb+") as file:
        file.seek(start)
        data = file.read()
        last = data[data.rfind(b"\n", 0, -1) + 1 :]
        if not last or log_of(last) is not None:
            return
        file.truncate(start + len(data) - len(last))
    warnings.warn(
        f"the last line of {path} was torn by a kill and is dropped; its trial runs again", stacklevel=2
    )


def _damaged(path: Path, line: int) -> DditError:
    kept = f"keep the {line - 1} lines before it (head -n {line - 1}), and the trials after them run again"
    return DditError(f"{path}, line {line}, is damaged, and later lines count on it; {kept}")
