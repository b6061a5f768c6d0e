"""Which words a model of the world knows, read off its tokenizer, and the warning that names the others."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Sequence
from typing import Any

from ddit_eval.world.caption import vocabulary

WORD = "\u2581"  # how a piece says that a word begins with it


def known_words(tokenizer: Any) -> list[str]:
    """The words of a tokenizer of whole words, in its order; [] if it is not one of the world's."""
    pieces: dict[str, int] = getattr(tokenizer, "get_vocab", dict)()
    if not {WORD + word for word in vocabulary()} <= set(pieces):
        return []
    return [
        piece[1:]
        for piece in sorted(pieces, key=pieces.__getitem__)
        if piece.startswith(WORD) and piece != WORD
    ]


def warn_unknown(texts: Sequence[str], known: Collection[str]) -> None:
    """One warning naming every word of `texts` that the model has never seen, each once, in order."""
    words = dict.fromkeys(word for text in texts for word in re.findall(r"[^\W_]+", text.lower()))
    if unknown := [word for word in words if word not in known]:
        warnings.warn(
            f"the model does not know {', '.join(map(repr, unknown))} and ignores it; it knows: "
            + " ".join(known),
            stacklevel=2,
        )
