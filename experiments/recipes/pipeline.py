"""mini-flux: a complete `FluxPipeline` of ten million parameters, built from scratch.

Nothing here trains; `experiments.recipes.train` does. Everything is diffusers' and transformers' own
classes, so that the saved folder loads with `FluxPipeline.from_pretrained`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from tokenizers import AddedToken
from tokenizers.normalizers import Lowercase
from transformers import (  # type: ignore[attr-defined]
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from ddit_eval.system.files import write_json
from ddit_eval.system.read import read_json
from ddit_eval.world import vocabulary

TEXT_TOKENS = 32
TEXT_WIDTH = 96


def plain(tokenizer: Any) -> PreTrainedTokenizerFast:
    """The same tokenizer as its tokenizer.json alone describes it, so that it reads back as it was saved."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        model_max_length=TEXT_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
        **tokenizer.special_tokens_map,
    )


def build_clip_tokenizer() -> PreTrainedTokenizerFast:
    """CLIP's tokenizer over bytes, with each word of the world as one token."""
    printable = [chr(c) for c in range(33, 127)]
    pieces = [*printable, *(p + "</w>" for p in printable), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[])
    tokenizer.add_tokens([AddedToken(w, single_word=True, normalized=True) for w in vocabulary()])
    return plain(tokenizer)


def build_t5_tokenizer(words: Sequence[str] | None = None) -> PreTrainedTokenizerFast:
    """T5's tokenizer with whole words, lower-cased (default: those of still scenes); others become <unk>."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    pieces += [("\u2581" + word, -1.0) for word in (vocabulary() if words is None else words)]
    tokenizer = T5TokenizerFast(vocab=pieces, extra_ids=0)
    tokenizer.backend_tokenizer.normalizer = Lowercase()
    return plain(tokenizer)


def build_clip(tokenizer: PreTrainedTokenizerFast) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            num_hidden_layers=1,
            num_attention_heads=4,
            max_position_embeddings=TEXT_TOKENS,
            projection_dim=TEXT_WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_t5(tokenizer: PreTrainedTokenizerFast) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=TEXT_WIDTH,
            d_kv=24,
            d_ff=2 * TEXT_WIDTH,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            is_encoder_decoder=False,
            use_cache=False,
        )
    )


def build_transformer(latent_channels: int) -> FluxTransformer2DModel:
    """Width 280 = 7 heads x 40: one and a half times what a 4p patch of 3 channels emits."""
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=4 * latent_channels,
        num_layers=1,
        num_single_layers=5,
        attention_head_dim=40,
        num_attention_heads=7,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        guidance_embeds=False,
        axes_dims_rope=(8, 16, 16),
    )


def build_pipeline(vae: Any, seed: int = 0) -> Any:
    """An untrained mini-flux around a trained VAE."""
    torch.manual_seed(seed)
    tokenizer, tokenizer_2 = build_clip_tokenizer(), build_t5_tokenizer()
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae,
        text_encoder=build_clip(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=build_t5(tokenizer_2),
        tokenizer_2=tokenizer_2,
        transformer=build_transformer(vae.config.latent_channels),
    )


def save(pipe: Any, folder: Path) -> None:
    """Save in bfloat16. The text encoders' configs ask for float32, as diffusers loads the other parts, so
    that all parts are of one type however the folder is loaded."""
    pipe.to(torch.bfloat16).save_pretrained(folder)
    for path in folder.glob("text_encoder*/config.json"):
        write_json(path, read_json(path) | {"dtype": "float32"})
