"""diffusers' caches beside changing patch sizes.

A cache hands out what it kept of an earlier step. Kept under another layout that is of the wrong shape, or,
where two layouts have equally many tokens, silently wrong. So whatever is kept is dropped when the layout
changes, and the step that follows is computed in full.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diffusers.hooks.hooks import ModelHook, StateManager
from torch import nn

from ddit_eval.ddit.steps import HOOK_NAME


def forget(transformer: nn.Module) -> None:
    """Drop what diffusers' cache hooks on `transformer` and below keep; entered cache contexts stay."""
    for module, name, hook in _stateful(transformer):
        managers = [value for value in vars(hook).values() if isinstance(value, StateManager)]
        entered = [manager._context for manager in managers]
        if name.startswith("mag_cache"):
            _forget_magnitudes(managers)
        elif name == "faster_cache_block":
            hook.state.cache, hook.state.iteration = None, hook.block_skip_range
        elif name != "faster_cache_denoiser":  # which counts steps and keeps nothing of a layout's shape
            hook.reset_state(module)
        for manager, context in zip(managers, entered, strict=True):
            manager.set_context(context)  # `reset` leaves it, and the next call would be refused


def has_cache(transformer: nn.Module) -> bool:
    """Whether any stateful hook but ours is there."""
    return next(_stateful(transformer), None) is not None


def _stateful(transformer: nn.Module) -> Iterator[tuple[nn.Module, str, Any]]:
    for module in transformer.modules():
        registry = getattr(module, "_diffusers_hook", None)
        hooks: dict[str, ModelHook] = registry.hooks if registry is not None else {}
        for name, hook in hooks.items():
            if hook._is_stateful and name != HOOK_NAME:
                yield module, name, hook


def _forget_magnitudes(managers: list[StateManager]) -> None:
    """MagCache's: its ratios go by the step's number, which has to stay."""
    for manager in managers:
        for state in manager._state_cache.values():
            state.previous_residual = None
            state.accumulated_ratio, state.accumulated_err, state.accumulated_steps = 1.0, 0.0, 0
