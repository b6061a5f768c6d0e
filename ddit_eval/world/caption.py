"""Scenes to captions and captions back to what they promise."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ddit_eval.world.scene import BACKGROUND_COLOURS, BACKGROUNDS, COLOURS, SHAPES, TEXTURES, Scene, Thing

RELATION_WORDS = {"above": "above", "below": "below", "left": "left of", "right": "right of"}
PLACE_WORDS = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
    "middle": "in the middle",
}


@dataclass(frozen=True)
class ThingWords:
    """What a caption says of one object; `size` and `texture` as the caption implies them."""

    shape: str
    colour: str
    texture: str
    size: str | None


@dataclass(frozen=True)
class Prompt:
    """What a caption promises: the checklist that a picture is read against."""

    things: tuple[ThingWords, ...]
    relation: str | None
    place: str | None
    background: tuple[str, tuple[str, ...]] | None


def thing_words(thing: Thing) -> str:
    """An object with its article: "a small striped red star"."""
    words = [thing.size] if thing.size != "medium" else []
    words += [thing.texture] if thing.texture != "solid" else []
    words += [thing.colour, thing.shape]
    return " ".join(["an" if words[0] == "orange" else "a", *words])


def background_words(scene: Scene) -> str:
    """The backdrop: "over checkered white and navy"."""
    kind, (one, two) = scene.background.kind, scene.background.colours
    if kind == "plain":
        return f"over plain {one}"
    return f"over {kind} {one} and {two}"


def caption(scene: Scene, rng: np.random.Generator | None = None) -> str:
    """The scene in words. With `rng`, now and then the place or the background is left unsaid."""
    say_place = rng is None or rng.random() > 0.1
    say_background = rng is None or rng.random() > 0.1
    words = [thing_words(scene.things[0])]
    if scene.relation:
        words += [RELATION_WORDS[scene.relation], thing_words(scene.things[1])]
    if len(scene.things) == 3:
        words += ["and", thing_words(scene.things[2])]
    if scene.place and (say_place or len(scene.things) == 3):
        words.append(PLACE_WORDS[scene.place])
    if say_background:
        words.append(background_words(scene))
    return " ".join(words)


_ANY = {
    "shape": "|".join(SHAPES),
    "colour": "|".join(COLOURS),
    "texture": "|".join(TEXTURES),
    "place": "|".join(PLACE_WORDS.values()),
    "relation": "|".join(RELATION_WORDS.values()),
    "background": "|".join(BACKGROUNDS),
    "backdrop": "|".join(BACKGROUND_COLOURS),
}
THING = re.compile(r"\ban? (?:(small|large) )?(?:({texture}) )?({colour}) ({shape})\b".format(**_ANY))
_RELATION = re.compile(r"\b({relation})\b".format(**_ANY))
_PLACE = re.compile(r"\b({place})\b".format(**_ANY))
_BACKGROUND = re.compile(r"\bover ({background}) ({backdrop})(?: and ({backdrop}))?".format(**_ANY))


def normalise(text: str) -> str:
    """Lower-case words, one blank between them."""
    return " ".join(re.findall(r"[a-z]+", text.lower()))


def parse(text: str) -> Prompt:
    """Read a caption of the world's grammar; parts that it does not have come back empty."""
    text = normalise(text)
    things = tuple(ThingWords(m[4], m[3], m[2] or "solid", m[1]) for m in THING.finditer(text))
    relation, place, background = (p.search(text) for p in (_RELATION, _PLACE, _BACKGROUND))
    to_relation = {words: name for name, words in RELATION_WORDS.items()}
    to_place = {words: name for name, words in PLACE_WORDS.items()}
    return Prompt(
        things,
        to_relation[relation[1]] if relation and len(things) > 1 else None,
        to_place[place[1]] if place else None,
        (background[1], tuple(c for c in background.groups()[1:] if c)) if background else None,
    )


def vocabulary() -> tuple[str, ...]:
    """Every word that a caption can hold, in a fixed order."""
    words = " ".join(
        [
            "a an and over small medium large with the of to background",
            *SHAPES,
            *COLOURS,
            *TEXTURES,
            *BACKGROUNDS,
            *BACKGROUND_COLOURS,
            *RELATION_WORDS.values(),
            *PLACE_WORDS.values(),
        ]
    )
    return tuple(dict.fromkeys(words.split()))
