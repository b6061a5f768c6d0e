"""The one exception that users of this package meet."""

from __future__ import annotations

LONGEST = 1500  # characters


class DditError(ValueError):
    """Bad input or a broken file; the message names the value and the remedy.

    Of a value that someone wrote by the page only the ends are repeated.
    """

    def __init__(self, message: str) -> None:
        cut = f"{message[: LONGEST - 500]} ... {message[-400:]}"
        super().__init__(message if len(message) <= LONGEST else cut)
