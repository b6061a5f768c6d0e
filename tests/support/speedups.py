"""Setups of a pipeline, as a user's own module has them: good ones, and each kind of bad one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Undo = Callable[[], Any]
NOT_A_FUNCTION = 3


def attention(pipe: Any, backend: str = "_native_math") -> Undo:
    """Another kernel for attention, and back."""
    pipe.transformer.set_attention_backend(backend)

    def undo() -> None:
        pipe.transformer.set_attention_backend("native")  # of the process
        pipe.transformer.reset_attention_backend()

    return undo


def lora(pipe: Any) -> None:
    """A LoRA of random weights; nothing undoes it, so that the row gets a pipeline of its own."""
    from peft import LoraConfig

    torch.manual_seed(0)
    pipe.transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False))


def compiled(pipe: Any) -> None:
    pipe.transformer.compile_repeated_blocks(backend="eager")


def cache_dit(pipe: Any, threshold: float = 0.5) -> Undo:
    """DBCache, of the package cache-dit."""
    import cache_dit

    cache_dit.enable_cache(
        pipe,
        cache_config=cache_dit.DBCacheConfig(
            Fn_compute_blocks=1, max_warmup_steps=1, residual_diff_threshold=threshold
        ),
    )

    def undo() -> None:
        cache_dit.disable_cache(pipe)
        for name in ("forward", "_is_patched"):  # which it leaves
            vars(pipe.transformer).pop(name, None)

    return undo


def fails(pipe: Any) -> None:
    raise RuntimeError("no such\nkernel")


def takes_none() -> None:
    pass


def returns_five(pipe: Any) -> int:
    return 5


def cannot_be_undone(pipe: Any) -> Undo:
    return lambda: [][0]


def breaks(pipe: Any) -> None:
    pipe.transformer.proj_out.to(torch.bfloat16)


def another_transformer(pipe: Any) -> Undo:
    before, pipe.transformer = pipe.transformer, torch.nn.Linear(2, 2)
    return lambda: setattr(pipe, "transformer", before)


def leaves_process(pipe: Any) -> None:
    torch.set_float32_matmul_precision("medium")


def leaves_class(pipe: Any) -> Undo:
    type(pipe).left = 1  # by what a test finds and removes it
    return lambda: None


def leaves_forward(pipe: Any) -> Undo:
    plain = pipe.transformer.forward
    pipe.transformer.forward = lambda *args, **kwargs: plain(*args, **kwargs)
    return lambda: None


def leaves_weights(pipe: Any) -> Undo:
    with torch.no_grad():
        pipe.transformer.proj_out.weight.mul_(2)
    return lambda: None


def leaves_dtype(pipe: Any) -> Undo:
    pipe.transformer.to(torch.bfloat16)
    return lambda: None


def leaves_hook(pipe: Any) -> Undo:
    pipe.transformer.proj_out.register_forward_hook(lambda *args: None)
    return lambda: None


def leaves_scheduler(pipe: Any) -> Undo:
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    return lambda: None


def unhooked(pipe: Any) -> Undo:
    """Takes off what others have put on."""
    for module in pipe.transformer.modules():
        module._forward_hooks.clear()
    return lambda: None
