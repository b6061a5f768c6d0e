"""The models that the package knows by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """A model that the package knows by name. `hub` is None where it ships with us.

    side    pixels, of a square picture; the height, where there is a `width`
    frames  of a clip; 1 for a picture
    fps     frames a second that a clip is played at
    """

    name: str
    what: str
    side: int
    text_tokens: int
    hub: str | None = None
    width: int | None = None
    frames: int = 1
    fps: int = 0

    @property
    def get(self) -> str:
        """How to get the weights, in one line."""
        if self.hub is None:
            return f"ships with ddit_eval (reinstall it), or make it by experiments/recipes/{self.name}.yaml"
        return f"accept its licence on the hub, then: hf auth login && hf download {self.hub}"


_HUNYUAN = "hunyuanvideo-community/HunyuanVideo"
MODELS = {
    model.name: model
    for model in (
        Model("mini-flux", "10 M parameter FLUX of the captioned world", 64, 32),
        Model("mini-wan", "8 M parameter Wan of the same world in motion", 64, 32, frames=9, fps=8),
        Model("FLUX.1-dev", "12 B, guidance-distilled", 1024, 512, "black-forest-labs/FLUX.1-dev"),
        Model("FLUX.1-schnell", "12 B, 1 to 4 steps", 1024, 256, "black-forest-labs/FLUX.1-schnell"),
        *(
            Model(name, what, side, 512, f"Wan-AI/{name}-Diffusers", width, 81, 16)
            for name, what, side, width in (
                ("Wan2.1-T2V-1.3B", "1.3 B, text to video", 480, 832),
                ("Wan2.1-T2V-14B", "14 B, text to video", 480, 832),
                ("Wan2.2-T2V-A14B", "2 x 14 B, two transformers", 480, 832),
            )
        ),
        Model("HunyuanVideo", "13 B, guidance-distilled", 544, 256, _HUNYUAN, 960, 61, 24),
        Model("FLUX.2-dev", "32 B, guidance-distilled", 1024, 512, "black-forest-labs/FLUX.2-dev"),
        Model("Qwen-Image", "20 B", 1328, 512, "Qwen/Qwen-Image"),
        Model("SD3.5-medium", "2.5 B", 1024, 256, "stabilityai/stable-diffusion-3.5-medium"),
        Model("SD3.5-large", "8 B", 1024, 256, "stabilityai/stable-diffusion-3.5-large"),
        Model("PixArt-alpha", "0.6 B, predicts noise", 1024, 120, "PixArt-alpha/PixArt-XL-2-1024-MS"),
        Model("DiT-XL-2", "0.7 B, ImageNet classes, predicts noise", 256, 0, "facebook/DiT-XL-2-256"),
        Model("LTX-Video", "2 B, text to video", 512, 128, "Lightricks/LTX-Video", 704, 161, 25),
        # Its text tokens: 1,000 of the prompt, 256 of glyphs, 729 of a picture.
        Model("HunyuanVideo-1.5", "8.3 B, text to video", 480, 1985, f"{_HUNYUAN}-1.5-480p_t2v", 832, 61, 24),
    )
}


def known(name: str) -> Model | None:
    """The registered model of that name or hub id, in any case; None for folders and other hub ids."""
    for model in MODELS.values():
        if name.casefold() in (model.name.casefold(), (model.hub or model.name).casefold()):
            return model
    return None
