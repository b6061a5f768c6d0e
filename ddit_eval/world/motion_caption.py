"""Moving scenes to captions and captions back; the grammar of still scenes with words of motion."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ddit_eval.world.caption import (
    PLACE_WORDS,
    RELATION_WORDS,
    THING,
    Prompt,
    background_words,
    normalise,
    parse,
    thing_words,
)
from ddit_eval.world.motion import DIRECTIONS, GROWTH, OPPOSITE, TURNS, MovingScene

_WAYS = "|".join(DIRECTIONS)
_MOTION = re.compile(rf"\b(moves (?:{_WAYS})|turns (?:{'|'.join(TURNS)})|{'|'.join(GROWTH)})\b")
_CAMERA = re.compile(rf"\bcamera pans ({_WAYS})\b")
_CROSSING = re.compile(r"\bcrosses\b")


@dataclass(frozen=True)
class MovingPrompt:
    """What a caption promises of a clip.

    still     what holds in every frame
    motions   one a thing, in the caption's words; empty where it names none
    camera    direction in which the camera pans
    crossing  whether the things pass each other
    """

    still: Prompt
    motions: tuple[str, ...]
    camera: str | None
    crossing: bool


def caption_clip(moving: MovingScene, rng: np.random.Generator | None = None) -> str:
    """The clip in words. With `rng`, now and then the place or the background is left unsaid."""
    say_place = rng is None or rng.random() > 0.1
    say_background = rng is None or rng.random() > 0.1
    scene, motions = moving.scene, [m.words for m in moving.motions]
    words = [thing_words(scene.things[0]), motions[0]]
    if moving.crossing:
        words += ["and crosses", thing_words(scene.things[1])]
    if scene.relation:
        words += [RELATION_WORDS[scene.relation], thing_words(scene.things[1])]
        words += ["that", motions[1]] if motions[1] else []
    if scene.place and say_place:
        words.append(PLACE_WORDS[scene.place])
    if say_background:
        words.append(background_words(scene))
    if moving.camera:
        words.append(f"while the camera pans {moving.camera}")
    return " ".join(filter(None, words))


def parse_clip(text: str) -> MovingPrompt:
    """Read a caption of a clip; of a still picture's caption, nothing moves."""
    text = normalise(text)
    named = list(THING.finditer(text))
    ends = [*(m.start() for m in named), len(text)][1:]
    found = [_MOTION.search(text, m.end(), end) for m, end in zip(named, ends, strict=True)]
    motions = [m[1] if m else "" for m in found]
    crossing = len(named) > 1 and bool(_CROSSING.search(text))
    if crossing and motions[0].startswith("moves "):
        motions[1] = f"moves {OPPOSITE[motions[0].removeprefix('moves ')]}"
    camera = _CAMERA.search(text)
    return MovingPrompt(parse(text), tuple(motions), camera[1] if camera else None, crossing)
