"""Every private part of diffusers that is used, in one place, with the versions that it is known of.

pyproject.toml allows no other versions; where one is installed nonetheless, the first use of a private part
warns, and one that is gone raises `DditError`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from typing import Any

import torch
from diffusers.hooks.hooks import (
    BaseState,
    HookFunctionReference,
    HookRegistry,
    ModelHook,
    StateManager,
)
from torch import nn

from ddit_eval.errors import DditError

KNOWN = ("0.42",)  # the series whose private parts were looked at and tested
HOOK_NAME = "ddit_eval"
REGISTRY = "_diffusers_hook"  # where a module has its hooks


@cache
def warn_unless_known() -> None:
    """Warn, once, where another diffusers is installed than those that are known."""
    found = version("diffusers")
    if not any(found == series or found.startswith(f"{series}.") for series in KNOWN):
        warnings.warn(
            f"diffusers {found}: its private parts, which this needs, are known of {', '.join(KNOWN)} only; "
            f"where steps or pictures look wrong, install diffusers=={KNOWN[-1]}.*",
            stacklevel=3,
        )


def part(owner: Any, name: str) -> Any:
    """A private attribute of a diffusers object. Raises `DditError` where this diffusers has none."""
    warn_unless_known()
    if not hasattr(owner, name):
        raise DditError(
            f"diffusers {version('diffusers')} has no {type(owner).__name__}.{name}; install "
            f"diffusers=={KNOWN[-1]}.*"
        )
    return getattr(owner, name)


def _method(name: str) -> Callable[..., Any]:
    return lambda owner, *args: part(owner, name)(*args)


# Of pipelines: between latents (B, C, [F,] h, w) and a transformer's tokens, and where these lie.
pack_latents = _method("_pack_latents")
unpack_latents = _method("_unpack_latents")
patchify_latents = _method("_patchify_latents")
unpatchify_latents = _method("_unpatchify_latents")
normalize_latents = _method("_normalize_latents")
latent_image_ids = _method("_prepare_latent_image_ids")
latent_ids = _method("_prepare_latent_ids")
# Of LTX's position module.
video_coords = _method("_prepare_video_coords")


def place_of_call(pipe: Any, timesteps: torch.Tensor) -> int | None:
    """Which of these timesteps a call of `pipe` is at, or was as it was aborted; None where it says none.

    Told by where they lie in memory, so that no device synchronisation is needed.
    """
    now = getattr(pipe, "_current_timestep", None)
    if not isinstance(now, torch.Tensor):
        return None
    same = now.untyped_storage().data_ptr() == timesteps.untyped_storage().data_ptr()
    return int(now.storage_offset() - timesteps.storage_offset()) if same else None


def steps_of_call(pipe: Any) -> int | None:
    """How many steps the present call of `pipe` has, or the last one had; None where it does not say."""
    return getattr(pipe, "_num_timesteps", None)


def execution_device(pipe: Any) -> torch.device:
    """Where a pipeline computes, offloading or not."""
    return torch.device(part(pipe, "_execution_device"))


def repeated_blocks(transformer: nn.Module) -> tuple[str, ...]:
    """Class names of the blocks that repeat; none where the transformer does not say."""
    return tuple(getattr(transformer, "_repeated_blocks", None) or ())


class _Context(StateManager):
    """Keeps the newest cache context; there is no state to manage."""

    def __init__(self) -> None:
        super().__init__(BaseState)  # type: ignore[arg-type]
        self.current: Any = None  # None outside of `cache_context`

    def set_context(self, context: Any) -> None:
        self.current = context


class Mailbox(ModelHook):
    """A passive diffusers hook: it hears of cache contexts and of the end of a pipeline call."""

    _is_stateful = True

    def __init__(self) -> None:
        super().__init__()
        self.context = _Context()
        self.ended = False
        self.at_end: Callable[[], None] = lambda: None

    def reset_state(self, module: nn.Module) -> nn.Module:
        self.ended = True
        self.at_end()
        return module

    def enter(self, transformer: nn.Module) -> None:
        """Register without touching `forward`.

        `HookRegistry.register_hook` would wrap `forward`, and removing it later would undo wrappers that came
        after it (CPU offload). First in the list, no other hook's removal depends on it.
        """
        warn_unless_known()
        registry = HookRegistry.check_if_exists_or_initialize(transformer)
        registry.hooks[HOOK_NAME] = self
        registry._hook_order.insert(0, HOOK_NAME)
        registry._fn_refs.insert(0, HookFunctionReference())

    def leave(self, transformer: nn.Module) -> None:
        registry = HookRegistry.check_if_exists_or_initialize(transformer)
        if registry.hooks.get(HOOK_NAME) is self:
            index = registry._hook_order.index(HOOK_NAME)
            del registry.hooks[HOOK_NAME], registry._hook_order[index], registry._fn_refs[index]

    @staticmethod
    def occupied(transformer: nn.Module) -> bool:
        return HOOK_NAME in hooks_of(transformer)


def hooks_of(module: nn.Module) -> dict[str, ModelHook]:
    """diffusers' hooks on a module, by name."""
    registry = getattr(module, REGISTRY, None)
    return registry.hooks if registry is not None else {}


def stateful_hooks(transformer: nn.Module) -> Iterator[tuple[nn.Module, str, Any]]:
    """Module, name and hook of every stateful diffusers hook on `transformer` and below, but ours."""
    for module in transformer.modules():
        for name, hook in hooks_of(module).items():
            if part(hook, "_is_stateful") and name != HOOK_NAME:
                yield module, name, hook


def managers_of(hook: Any) -> list[StateManager]:
    """What keeps a hook's states, one a cache context."""
    return [value for value in vars(hook).values() if isinstance(value, StateManager)]


def entered(manager: StateManager) -> Any:
    """The cache context that is entered; None outside of one."""
    return part(manager, "_context")


def states_of(manager: StateManager) -> list[Any]:
    """The states of all cache contexts."""
    return list(part(manager, "_state_cache").values())
