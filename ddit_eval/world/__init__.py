"""A captioned world: procedural scenes whose captions and exact attributes are known."""

from ddit_eval.world.caption import Prompt, ThingWords, caption, parse, vocabulary
from ddit_eval.world.render import render
from ddit_eval.world.scene import Background, Scene, Thing, sample_scene, sample_scenes

__all__ = [
    "Background",
    "Prompt",
    "Scene",
    "Thing",
    "ThingWords",
    "caption",
    "parse",
    "render",
    "sample_scene",
    "sample_scenes",
    "vocabulary",
]
