"""A captioned world: procedural scenes whose captions and exact attributes are known; its scenes may move."""

from ddit_eval.world.caption import Prompt, ThingWords, caption, parse, vocabulary
from ddit_eval.world.motion import Motion, MovingScene, render_clip, sample_moving_scenes
from ddit_eval.world.motion_caption import MovingPrompt, caption_clip, parse_clip
from ddit_eval.world.render import render
from ddit_eval.world.scene import Background, Scene, Thing, sample_scene, sample_scenes

__all__ = [
    "Background",
    "Motion",
    "MovingPrompt",
    "MovingScene",
    "Prompt",
    "Scene",
    "Thing",
    "ThingWords",
    "caption",
    "caption_clip",
    "parse",
    "parse_clip",
    "render",
    "render_clip",
    "sample_moving_scenes",
    "sample_scene",
    "sample_scenes",
    "vocabulary",
]
