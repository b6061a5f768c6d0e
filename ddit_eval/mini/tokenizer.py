"""The second tokenizer of mini-flux, told what its vocabulary is."""

from __future__ import annotations

import re
import warnings
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
                warn_unknown(texts)
        if kwargs.get("max_length"):
            kwargs["max_length"] = min(kwargs["max_length"], self.model_max_length)
        return super().__call__(text, *args, **kwargs)


def unknown_words(texts: list[str]) -> list[str]:
    """The words of `texts` that no caption of the world holds, each once, in order."""
    known = set(vocabulary())
    words = [word for text in texts for word in re.findall(r"[^\W_]+", text.lower())]
    return [word for word in dict.fromkeys(words) if word not in known]


def warn_unknown(texts: list[str]) -> None:
    """One warning naming every word that mini-flux has never seen."""
    if words := unknown_words(texts):
        warnings.warn(
            f"mini-flux does not know {', '.join(map(repr, words))} and ignores it; it knows: "
            + " ".join(vocabulary()),
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
