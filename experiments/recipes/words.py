"""Teaching the second text encoder the world's grammar, before any picture is seen.

    python -m experiments.recipes.words --out OUT [--begin FOLDER]

At the word for each object's shape it must say where the object will stand, how large it is, and its
shape, colour and texture. By pictures alone "a star above a cross" and "a star below a cross" stay alike
for a hundred thousand pictures; by words alone they part after some thirty thousand captions, in two minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
import typer
from diffusers import AutoencoderKL, FluxPipeline
from torch import Tensor, nn

from ddit_eval.world import Scene, caption, sample_scenes
from ddit_eval.world.scene import COLOURS, SHAPES, TEXTURES
from experiments.recipes.labels import thing_looks, thing_places
from experiments.recipes.pipeline import TEXT_TOKENS, build_pipeline

Described = TypeVar("Described", bound=Any)  # a scene that a caption speaks of: it has `things`
PLACE_WEIGHT = 20.0  # places are fractions of the side, and their errors small


class WordHead(nn.Module):
    """Place (x, y), radius and looks of an object, read off the features of the word for its shape."""

    def __init__(self, width: int):
        super().__init__()
        self.places = nn.Linear(width, 3)
        self.looks = nn.Linear(width, len(SHAPES) + len(COLOURS) + len(TEXTURES))

    def loss(self, features: Tensor, scenes: list[Scene]) -> tuple[Tensor, Tensor]:
        """Mean squared error of the places and mean cross-entropy of the looks; features (things, width)."""
        places = torch.cat([thing_places(scene) for scene in scenes]).to(features.device)
        looks = torch.cat([thing_looks(scene) for scene in scenes]).to(features.device)
        parts = self.looks(features).split((len(SHAPES), len(COLOURS), len(TEXTURES)), -1)
        named = [F.cross_entropy(part, looks[:, i]) for i, part in enumerate(parts)]
        return F.mse_loss(self.places(features), places), torch.stack(named).mean()


def shape_ids(tokenizer: Any) -> Tensor:
    """The second tokenizer's ids of the words for shapes."""
    return torch.tensor(tokenizer.convert_tokens_to_ids(["\u2581" + shape for shape in SHAPES]))


def at_shapes(
    text: Tensor, ids: Tensor, scenes: list[Described], shapes: Tensor
) -> tuple[Tensor, list[Described]] | None:
    """Features (things, width) at the words for shapes, and the scenes that they are of.

    text (B, T, width), ids (B, T). A caption names its objects in the order of the scene; captions that
    were left empty drop out. None where all were. Moving scenes will do as well.
    """
    named = torch.isin(ids, shapes)
    kept = [bool(row.sum() == len(scene.things)) for row, scene in zip(named, scenes, strict=True)]
    if not any(kept):
        return None
    features = [t[row] for t, row, keep in zip(text, named, kept, strict=True) if keep]
    return torch.cat(features), [scene for scene, keep in zip(scenes, kept, strict=True) if keep]


def still_captions(seed: int, start: int, count: int) -> tuple[list[Any], list[str]]:
    """Scenes and their captions, as teaching draws them."""
    scenes, words = sample_scenes(seed, start, count), np.random.default_rng([seed, start // count])
    return scenes, [caption(scene, words) for scene in scenes]


def teach(
    t5: nn.Module,
    tokenizer: Any,
    captions: int,
    batch: int,
    lr: float,
    seed: int,
    draw: Callable[[int, int, int], tuple[list[Any], list[str]]] = still_captions,
    head: nn.Module | None = None,
    masked: bool = False,
) -> float:
    """Train `t5` in place; returns the root mean square error of the places over the last steps.

    `draw` and `head` (a `WordHead` by default) say what is taught; `masked` hides the padding from `t5`.
    """
    head = head or WordHead(t5.config.d_model)  # type: ignore[union-attr, arg-type]
    shapes = shape_ids(tokenizer)
    optimizer = torch.optim.AdamW(
        [*t5.parameters(), *head.parameters()], lr=lr, betas=(0.9, 0.98), weight_decay=0.0
    )
    steps, running = max(1, captions // batch), 0.0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 100, max(2 * (1 - step / steps), 0.01))
        scenes, texts = draw(seed, step * batch, batch)
        tokens = tokenizer(
            texts, padding="max_length", max_length=TEXT_TOKENS, truncation=True, return_tensors="pt"
        )
        ids = tokens.input_ids
        text = t5(ids, attention_mask=tokens.attention_mask if masked else None).last_hidden_state
        found = at_shapes(text, ids, scenes, shapes)
        assert found is not None
        places, looks = head.loss(*found)  # type: ignore[operator]
        optimizer.zero_grad()
        (PLACE_WEIGHT * places + looks).backward()
        optimizer.step()
        running = float(places.detach()) if step == 0 else 0.95 * running + 0.05 * float(places.detach())
        if step % 100 == 0 or step == steps - 1:
            print(
                {"step": step, "of": steps, "place_rms": running**0.5, "looks": float(looks.detach())},
                flush=True,
            )
    return running**0.5


def main(
    vae: Annotated[Path, typer.Option(help="The trained VAE's folder.")],
    out: Annotated[Path, typer.Option(help="Pipeline folder to write.")],
    begin: Annotated[
        Path | None, typer.Option(help="Pipeline whose other parts are kept; its second encoder is new.")
    ] = None,
    captions: int = 120_000,
    batch: int = 48,
    lr: float = 3e-3,
    seed: int = 41,
) -> None:
    """Write a pipeline whose second text encoder knows the grammar, to begin training from."""
    pipe = build_pipeline(AutoencoderKL.from_pretrained(vae, torch_dtype=torch.float32), seed)
    if begin:
        old: Any = FluxPipeline.from_pretrained(begin, torch_dtype=torch.float32)
        pipe.transformer.load_state_dict(old.transformer.state_dict())
        pipe.text_encoder.load_state_dict(old.text_encoder.state_dict())
    teach(pipe.text_encoder_2, pipe.tokenizer_2, captions, batch, lr, seed)
    pipe.save_pretrained(out)


if __name__ == "__main__":
    typer.run(main)
