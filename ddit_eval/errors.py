"""The one exception that users of this package meet."""

from __future__ import annotations


class DditError(ValueError):
    """Bad input or a broken file; the message names the value and the remedy."""
