"""What a policy may want and a transformer cannot do, told before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ddit_eval.ddit.binding import Binding
from ddit_eval.ddit.policies import Policy, StepView, choices
from ddit_eval.errors import DditError


def check(policy: Policy, bindings: Sequence[Binding]) -> None:
    """Raise `DditError` where no transformer, or of a policy that reads a signal not every one, has its
    scales. Skipping needs none."""
    wanted = choices(policy) - {0, 1}
    # What a signal will make of a step cannot be foreseen; what a static policy does is checked as the run
    # begins.
    foreseen = policy.order == 0 and any(wanted <= set(b.scales) for b in bindings)
    for binding in bindings:
        missing = sorted(wanted - set(binding.scales))
        if missing and not foreseen:
            raise _lacks(policy, missing, binding, bindings)


def foresee(
    policy: Policy, bindings: Sequence[Binding], pipe: Any, steps: Sequence[float], seed: int | None
) -> None:
    """Refuse a static policy that, at these timesteps of the pipeline, wants what a transformer lacks."""
    if policy.order or len(bindings) == 1:
        return
    # As Wan 2.2's pipelines share the steps out.
    boundary = pipe.config.boundary_ratio
    limit = -1.0 if boundary is None else boundary * pipe.scheduler.config.num_train_timesteps
    for index, timestep in enumerate(steps):
        binding = bindings[0 if timestep >= limit else 1]
        scale = policy.decide(StepView(index, len(steps), None, [], seed))
        if scale not in (0, 1, *binding.scales):
            raise _lacks(policy, [scale], binding, bindings, f" at step {index}")


def _lacks(
    policy: Policy, missing: list[int], binding: Binding, bindings: Sequence[Binding], when: str = ""
) -> DditError:
    one = len(bindings) == 1
    where, whose = ("", "") if one else (f" in {binding.name}{when}", f" of {binding.name}")
    have = f"the adapter{whose} has {list(binding.scales)}"
    remedy = "attach an adapter with these scales or choose another policy"
    if binding.adapter is None:
        have = "there is no adapter" if one else f"{binding.name} has no adapter"
        if not one:
            remedy = f"attach one ({'adapter_2' if binding.name.endswith('_2') else 'adapter'}=...) " + (
                "or choose a policy that is fine there"
            )
    return DditError(
        f"policy {policy.kind!r} may choose scale {', '.join(map(str, missing))}{where}, but {have}; "
        + remedy
    )
