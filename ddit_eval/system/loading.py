"""One guard around whatever a library does with a file that others wrote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ddit_eval.errors import DditError
from ddit_eval.system.text import one_line


@contextmanager
def loading(path: Path, what: str, remedy: str = "copy it again") -> Iterator[None]:
    """Inside, whatever a wrong file raises becomes one `DditError` that names the file and the remedy.

    A lack of memory is not the file's fault, and passes.
    """
    try:
        yield
    except (DditError, MemoryError):
        raise
    except ImportError as error:
        raise DditError(f"{path} needs a package that is not here ({error}); install it") from error
    except Exception as error:
        raise DditError(f"{path} does not load as {what} ({one_line(error)[:200]}): {remedy}") from error
