"""Text that others wrote, on its way to a terminal, a table or a file's name."""

from __future__ import annotations

import re
import unicodedata

from ddit_eval.errors import DditError

# What acts instead of being shown: control characters, halves of surrogate pairs, changes of the direction.
_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str, one_line: bool = False) -> str:
    """Text for a terminal: what would act there is spelt (\\x1b), line ends too where it is `one_line`."""
    shown = _ACTING.sub(lambda found: ascii(found[0])[1:-1], text)
    return re.sub("[\n\t]", lambda found: repr(found[0])[1:-1], shown) if one_line else shown


def check_prompt(text: str, where: str) -> str:
    """The text, where it can be a prompt. Raises `DditError` naming `where` if empty, with NUL or no text."""
    if not text.strip():
        raise DditError(f"{where} is empty; write what to draw, e.g. 'a red star above a blue square'")
    if "\0" in text:
        raise DditError(f"{where} has a NUL character, which is no text; take it out")
    if re.search("[\ud800-\udfff]", text):
        raise DditError(f"{where} has half a surrogate pair, which is no text; write the whole character")
    return text


def by_eye(name: str) -> str:
    """A name as a person reads it: composed and decomposed accents are the same (NFC)."""
    return unicodedata.normalize("NFC", name)


def one_line(error: BaseException) -> str:
    """What an exception of another's code says: its kind and its text, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
