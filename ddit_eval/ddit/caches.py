"""diffusers' caches beside changing patch sizes.

A cache hands out what it kept of an earlier step. Kept under another layout that is of the wrong shape, or,
where two layouts have equally many tokens, silently wrong. So whatever is kept is dropped when the layout
changes, and the step that follows is computed in full.
"""

from __future__ import annotations

from torch import nn

from ddit_eval.ddit.diffusers_private import entered, managers_of, stateful_hooks, states_of
from ddit_eval.errors import DditError


def forget(transformer: nn.Module) -> None:
    """Drop what diffusers' cache hooks on `transformer` and below keep; entered cache contexts stay."""
    for module, name, hook in stateful_hooks(transformer):
        managers = managers_of(hook)
        contexts = [entered(manager) for manager in managers]
        if name.startswith("mag_cache"):
            # Its ratios go by the step's number, which has to stay.
            for state in (state for manager in managers for state in states_of(manager)):
                state.previous_residual = None
                state.accumulated_ratio, state.accumulated_err, state.accumulated_steps = 1.0, 0.0, 0
        elif name == "faster_cache_block":
            hook.state.cache, hook.state.iteration = None, hook.block_skip_range
        elif name != "faster_cache_denoiser":  # which counts steps and keeps nothing of a layout's shape
            hook.reset_state(module)
        for manager, context in zip(managers, contexts, strict=True):
            manager.set_context(context)  # `reset` leaves it, and the next call would be refused


def refuse_counting(transformer: nn.Module) -> None:
    """Raise `DditError` where a cache goes by the number of the step, and so must see every step."""
    if any(name.startswith("mag_cache") for _, name, _ in stateful_hooks(transformer)):
        raise DditError(
            "MagCache counts the steps that it sees, and this policy may skip some; call disable_cache() on "
            "the transformer, or choose another policy or cache"
        )


def has_cache(transformer: nn.Module) -> bool:
    """Whether any stateful hook but ours is there."""
    return next(stateful_hooks(transformer), None) is not None
