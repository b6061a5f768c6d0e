"""The tokenizer of the small models' T5, told what its vocabulary is."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection
from typing import Any

from transformers import BatchEncoding, T5TokenizerFast  # type: ignore[attr-defined]

from ddit_eval.world import vocabulary


class WorldTokenizer(T5TokenizerFast):
    """Lower-cases, never pads beyond its model's length, and names the words that it does not know.

    `FluxPipeline` asks for 512 tokens by default; mini-flux was trained with 32.
    """

    def __call__(self, text: Any = None, *args: Any, **kwargs: Any) -> BatchEncoding:
        texts = [text] if isinstance(text, str) else text
        if isinstance(texts, list) and all(isinstance(one, str) for one in texts):
            text = [one.lower() for one in texts] if isinstance(text, list) else text.lower()
            # FluxPipeline calls twice for one prompt; only the padded call speaks.
            if kwargs.get("padding") == "max_length":
                warn_unknown(texts, words_of(self))
        if kwargs.get("max_length"):
            kwargs["max_length"] = min(kwargs["max_length"], self.model_max_length)
        return super().__call__(text, *args, **kwargs)


def words_of(tokenizer: Any) -> list[str]:
    """The whole words among a tokenizer's pieces."""
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return [piece[1:] for piece, _ in pieces if piece.startswith("\u2581") and piece != "\u2581"]


def unknown_words(texts: list[str], known: Collection[str]) -> list[str]:
    """The words of `texts` that are not among `known`, each once, in order."""
    words = [word for text in texts for word in re.findall(r"[^\W_]+", text.lower())]
    return [word for word in dict.fromkeys(words) if word not in known]


def warn_unknown(texts: list[str], known: Collection[str]) -> None:
    """One warning naming every word that the model has never seen."""
    if words := unknown_words(texts, known):
        warnings.warn(
            f"the model does not know {', '.join(map(repr, words))} and ignores it; it knows: "
            + " ".join(known),
            stacklevel=2,
        )


def is_world(tokenizer: Any) -> bool:
    """Whether a tokenizer was built from the world's words."""
    return isinstance(tokenizer, T5TokenizerFast) and {"\u2581" + w for w in vocabulary()} <= set(
        tokenizer.get_vocab()
    )


def as_world(tokenizer: T5TokenizerFast) -> WorldTokenizer:
    """The same tokenizer as a `WorldTokenizer`."""
    return WorldTokenizer(
        tokenizer_object=tokenizer._tokenizer,
        model_max_length=tokenizer.model_max_length,
        extra_ids=0,
        **tokenizer.special_tokens_map,
    )
