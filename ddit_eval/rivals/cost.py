"""What the steps of a run cost where no table knows: counted by torch while the run is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ddit_eval.ddit.trace import StepTrace
from ddit_eval.models.flops import counter


def compiled(transformer: nn.Module) -> bool:
    """Whether torch.compile has a part of it, of whose operations the counter sees nothing."""
    return any(getattr(module, "_compiled_call_impl", None) for module in transformer.modules())


class Counted:
    """FLOPs of each step of a run by its number in the trace; all transformer calls and samples together."""

    def __init__(self) -> None:
        self.steps: dict[int, int] = {}

    def share(self, trace: list[StepTrace], parts: int) -> None:
        """Put into the trace what a transformer call costs one sample; `parts`: how many a step has."""
        for step in trace:
            step.flops = round(self.steps.get(step.index, 0) / parts)


@contextmanager
def counting(handle: Any) -> Iterator[Counted]:
    """Count what the attached transformers compute while the context is open; changes no bit of it."""
    counted, begun = Counted(), [0]
    with counter() as count:

        def before(module: nn.Module, args: Any) -> None:
            begun[0] = count.get_total_flops()

        def after(module: nn.Module, args: Any, output: Any) -> None:
            step = len(handle.trace) - 1
            spent = count.get_total_flops() - begun[0]
            counted.steps[step] = counted.steps.get(step, 0) + int(spent)

        hooks = []
        for binding in handle.bindings:
            hooks.append(binding.transformer.register_forward_pre_hook(before))
            hooks.append(binding.transformer.register_forward_hook(after))
        try:
            yield counted
        finally:
            for hook in hooks:
                hook.remove()
