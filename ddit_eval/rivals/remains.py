"""What a setup leaves behind: the state of a pipeline, of its classes and of the process."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from diffusers.models import attention_dispatch
from torch import nn

from ddit_eval.ddit.diffusers_private import REGISTRY, hooks_of, part
from ddit_eval.rivals.caches import transformers_of

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_SKIPPED = {"_parameters", "_buffers", "_modules", REGISTRY, "_hf_hook", "forward", *_HOOKS}
_PLAIN = (bool, int, float, str, bytes, type(None), tuple, list, dict, set, torch.Tensor, torch.device)
Facts = dict[tuple[str, str], Any]  # by what it is of, and its name
_OURS = " of ddit_eval"  # behind the name of a count of hooks, which a row may add to and may not take from


class State:
    """A pipeline, its classes and the process as they are; the objects are held, so that none is mistaken."""

    def __init__(self, pipe: Any):
        self._own = dict(_of_pipe(pipe))
        self._kinds = _kinds(pipe)
        self._shared = dict(_shared(self._kinds))

    def left(self, pipe: Any) -> list[str]:
        """What is another thing by now; of `pipe` itself too, where it is given."""
        found = _changed(self._shared, dict(_shared(self._kinds)))
        return found + (_changed(self._own, dict(_of_pipe(pipe))) if pipe is not None else [])


def _changed(before: Facts, after: Facts) -> list[str]:
    return [
        f"{of}.{name}".removeprefix(".")
        for of, name in {**before, **after}
        if not _kept(name, before.get((of, name)), after.get((of, name)))
    ]


def _kept(name: str, before: Any, after: Any) -> bool:
    return (after or 0) >= (before or 0) if name.endswith(_OURS) else _same(before, after)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return one is other or (type(one) is type(other) and isinstance(one, _PLAIN[:5]) and one == other)


def _of_pipe(pipe: Any) -> Iterator[tuple[tuple[str, str], Any]]:
    """Parts and methods of a pipeline, and all that the modules of its parts have of their own."""
    for name, value in vars(pipe).items():
        if name[0] != "_" or (callable(value) and not isinstance(value, type)):  # others are of a call
            yield ("the pipeline", name), value
    for name, value in vars(pipe).items():
        if isinstance(value, nn.Module):
            yield from _of_modules(name, value)


def _of_modules(root: str, top: nn.Module) -> Iterator[tuple[tuple[str, str], Any]]:
    for place, module in top.named_modules():
        of = f"{root}.{place}".removesuffix(".")
        for name, value in vars(module).items():
            if name not in _SKIPPED and not isinstance(value, _PLAIN[7:]) and not _is_ours(value):
                yield (of, name), value
        forward = vars(module).get("forward")  # a hook that was removed leaves the class's own behind
        if getattr(forward, "__func__", None) is not type(module).forward:
            yield (of, "forward"), forward
        for name in _HOOKS:
            hooks = [*getattr(module, name).values()]
            yield (of, name + _OURS), sum(map(_is_ours, hooks))
            for hook in hooks:
                if not _is_ours(hook):
                    yield (of, f"{name} {id(hook)}"), hook
        for name, hook in hooks_of(module).items():
            yield (of, f"hook {name}"), hook
        yield (of, "_hf_hook"), getattr(module, "_hf_hook", None)
        own = vars(module)
        for name, tensor in [*own["_parameters"].items(), *own["_buffers"].items()]:
            if tensor is not None:
                yield (of, name), (tensor, _version(tensor), str(tensor.dtype), str(tensor.device))
        for name, child in own["_modules"].items():
            yield (of, name), child
        for name, value in getattr(getattr(module, "processor", None), "__dict__", {}).items():
            yield (of, f"processor.{name}"), value


def _is_ours(value: Any) -> bool:
    """Whether it is what an attachment puts on modules: it does so when a call needs it, in whichever row."""
    function = value.func if isinstance(value, partial) else value
    return callable(function) and str(getattr(function, "__module__", "")).startswith("ddit_eval.ddit.")


def _version(tensor: torch.Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version


def _kinds(pipe: Any) -> set[type]:
    """The classes of a pipeline, of its transformers and of their modules, less torch's and Python's."""
    modules = [m for top in transformers_of(pipe).values() for m in top.modules()]
    kinds = {kind for thing in (pipe, pipe.scheduler, *modules) for kind in type(thing).__mro__}
    return {kind for kind in kinds if kind.__module__.partition(".")[0] not in ("builtins", "abc", "typing")}


def _shared(kinds: set[type]) -> Iterator[tuple[tuple[str, str], Any]]:
    """Attributes of classes, and what decides the bits of everything that the process computes."""
    for kind in kinds:
        for name, value in vars(kind).items():
            if not name.startswith(("_abc_", "__dict__", "__weakref__", "__annotat")):
                yield (kind.__name__, name), value
    for name, value in settings_of_process().items():
        yield ("", name), value


def settings_of_process() -> dict[str, Any]:
    """What decides the bits of everything that this process computes, by what to call it."""
    attention = part(attention_dispatch, "_AttentionBackendRegistry")
    return {
        "torch's default dtype": str(torch.get_default_dtype()),
        "torch's number of threads": torch.get_num_threads(),
        "torch's precision of float32 products": torch.get_float32_matmul_precision(),
        "torch's grad mode": torch.is_grad_enabled(),
        "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "cuDNN's benchmark": torch.backends.cudnn.benchmark,
        "diffusers' attention backend": part(attention, "_active_backend"),
    }
