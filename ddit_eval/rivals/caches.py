"""diffusers' caches, switched on around a call of the pipeline; switched on anew, a cache is empty."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import diffusers
import torch
from torch import nn

from ddit_eval.ddit.diffusers_private import managers_of, stateful_hooks, states_of
from ddit_eval.errors import DditError
from ddit_eval.rivals.row import Cache, Mag
from ddit_eval.system.text import one_line

CONFIGS = {
    "first-block": "FirstBlockCacheConfig",
    "taylorseer": "TaylorSeerCacheConfig",
    "mag": "MagCacheConfig",
    "sea": "SeaCacheConfig",
    "pyramid-attention": "PyramidAttentionBroadcastConfig",
    "faster": "FasterCacheConfig",
}
KINDS = tuple(CONFIGS)
_NAMES = {  # what finds something to cache where diffusers' own names do not
    "taylorseer": "add `use_lite_mode: true`, or name modules with `cache_identifiers`",
    "faster": "name modules with `spatial_attention_block_identifiers`",
    "pyramid-attention": "name modules with `spatial_attention_block_identifiers`",
}
Ratios = Mapping[str, Sequence[float]]  # MagCache's, by the name of the transformer


def transformers_of(pipe: Any) -> dict[str, Any]:
    """The transformers of a pipeline by name: Wan 2.2 has two."""
    found = {name: getattr(pipe, name, None) for name in ("transformer", "transformer_2")}
    return {name: module for name, module in found.items() if module is not None}


def why_not(pipeline: type, transformer: type, kind: str, calls: int) -> str | None:
    """Why a pipeline's class cannot run a cache, as far as the classes tell; `calls` of a step."""
    code = inspect.unwrap(pipeline.__call__).__code__
    apart = calls > 1 and "cond_uncond" not in code.co_consts
    words = {word for const in code.co_consts if isinstance(const, tuple) for word in const}
    if not issubclass(transformer, diffusers.CacheMixin):
        return f"{transformer.__name__} has no enable_cache in diffusers"
    if kind in ("first-block", "taylorseer", "sea") and "cache_context" not in code.co_names:
        return f"{pipeline.__name__} does not say which call is whose (cache_context)"
    if kind == "sea" and "sigma" not in words:
        return f"{pipeline.__name__} does not tell its cache the step and the noise level"
    if kind == "sea" and transformer is not diffusers.WanTransformer3DModel:
        return f"diffusers does not know where {transformer.__name__} has its latents"
    if kind == "pyramid-attention" and apart:
        return "it keeps one state for both calls of guidance, and would hand one's attention to the other"
    if kind == "faster" and calls > 1:
        return "it needs both calls of guidance as one batch of latents, which this pipeline does not give it"
    if kind in ("pyramid-attention", "faster") and not hasattr(pipeline, "current_timestep"):
        return f"{pipeline.__name__} does not say at which timestep it is"
    return None


def enable(
    transformer: Any,
    cache: Cache,
    pipeline: type,
    pipe: Any,
    calls: int,
    length: int,
    ratios: Sequence[float],
) -> None:
    """Switch a cache on; `calls` of a step, `length`: how often a run evaluates the velocity.

    Raises `DditError` where it cannot run there, or would do nothing.
    """
    kind = cache.kind
    why = why_not(pipeline, type(transformer), kind, calls)
    if why is None:
        before = sum(1 for _ in stateful_hooks(transformer))
        try:
            transformer.enable_cache(_config(cache, pipe, length, ratios))
        except Exception as error:
            why = one_line(error)
        else:
            hooks = [name for _, name, _ in stateful_hooks(transformer)][before:]
            if all(name == "faster_cache_denoiser" for name in hooks):
                transformer.disable_cache()
                remedy = _NAMES.get(kind, "take another cache")
                why = f"it finds nothing to cache under the names that it looks for; {remedy}"
    if why is not None:
        raise DditError(f"cache {kind} cannot run on {type(transformer).__name__}: {why}")


def _config(cache: Cache, pipe: Any, length: int, ratios: Sequence[float]) -> Any:
    options = cache.model_dump(exclude_none=True, exclude={"kind"})
    if dtype := options.get("taylor_factors_dtype"):
        options["taylor_factors_dtype"] = getattr(torch, dtype)
    if isinstance(cache, Mag):
        options |= {"num_inference_steps": length, "mag_ratios": list(cache.mag_ratios or ratios)}
    if cache.kind in ("pyramid-attention", "faster"):
        options["current_timestep_callback"] = lambda: pipe.current_timestep
    if cache.kind == "faster":
        options["is_guidance_distilled"] = True  # under guidance it is refused
    return getattr(diffusers, CONFIGS[cache.kind])(**options)


@contextmanager
def cached(pipe: Any, cache: Cache, calls: int, length: int, ratios: Ratios) -> Iterator[None]:
    """A cache in all transformers of `pipe` while the context is open; what one keeps ends with it."""
    on: list[Any] = []
    try:
        for name, module in transformers_of(pipe).items():
            own = ratios.get(name, ())
            enable(module, cache, type(pipe), pipe, calls, len(own) or length, own)
            on.append(module)
        yield
    finally:
        for module in on:
            module.disable_cache()


@contextmanager
def calibrating(pipe: Any, length: int) -> Iterator[dict[str, list[float]]]:
    """MagCache's ratios of the run that is made while the context is open, by transformer: those of the
    call with the prompt, 1 first. A transformer that is not called has [1]."""
    found: dict[str, list[float]] = {}
    undo: list[Callable[[], None]] = []
    try:
        for name, module in transformers_of(pipe).items():
            found[name] = [1.0]
            try:  # a step more than there are, as the last one throws the ratios away
                module.enable_cache(diffusers.MagCacheConfig(calibrate=True, num_inference_steps=length + 1))
            except Exception as error:
                why = one_line(error)
                raise DditError(f"cache mag cannot run on {type(module).__name__}: {why}") from None
            undo.append(module.disable_cache)
            undo.append(module.register_forward_hook(_reader(found, name)).remove)
        yield found
    finally:
        for step in undo:
            step()


def _reader(found: dict[str, list[float]], name: str) -> Any:
    def read(module: nn.Module, args: Any, output: Any) -> None:
        states = [s for _, _, hook in stateful_hooks(module) for m in managers_of(hook) for s in states_of(m)]
        told = [s.calibration_ratios for s in states if getattr(s, "calibration_ratios", None)]
        if told:
            found[name] = list(told[0])

    return read
