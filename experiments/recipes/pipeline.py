"""mini-flux: a complete `FluxPipeline` of ten million parameters, built from scratch.

Nothing here trains; `experiments.recipes.train` does. Everything is diffusers' and transformers' own
classes, so that the saved folder loads with `FluxPipeline.from_pretrained`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from tokenizers import AddedToken
from transformers import (  # type: ignore[attr-defined]
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from ddit_eval.world import vocabulary

TEXT_TOKENS = 32
TEXT_WIDTH = 96


def build_clip_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer over bytes, with each word of the world as one token."""
    printable = [chr(c) for c in range(33, 127)]
    pieces = [*printable, *(p + "</w>" for p in printable), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=TEXT_TOKENS
    )
    tokenizer.add_tokens([AddedToken(w, single_word=True, normalized=True) for w in vocabulary()])
    return tokenizer


def build_t5_tokenizer(words: Sequence[str] | None = None) -> T5TokenizerFast:
    """T5's tokenizer with whole words (default: those of still scenes) as pieces; others become <unk>."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    pieces += [("\u2581" + word, -1.0) for word in (vocabulary() if words is None else words)]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=TEXT_TOKENS)


def build_clip(tokenizer: CLIPTokenizer) -> CLIPTextModel:
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


def build_t5(tokenizer: T5TokenizerFast) -> T5EncoderModel:
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
