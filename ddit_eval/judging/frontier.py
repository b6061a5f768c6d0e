"""Rows of the study's table: the points of the front on the prompts they were tuned on, and on others."""

from __future__ import annotations

from dataclasses import dataclass

from ddit_eval.schema.study import Confirmed, Study, Trial

# Parameters in words, in the order in which they are written.
_WORDS = {
    "tau": "tau {:.2g}", "order": "order {}", "scales": "scales {}", "region_scales": "scales {}",
    "share": "{:.0%} coarse",
    "scale": "at {}p", "rho": "rho {:.2f}", "dwell": "dwell {}", "hysteresis": "hysteresis {:.2g}",
    "warmup": "warm-up at {}p", "budget": "{:.0%} of the tokens", "window": "window {}",
    "head": "the first {:.0%} coarse", "every": "then 1 in {} fine", "first": "first {} fine",
    "last": "last {} fine", "between": "{}p between", "forecast": "forecast", "gain": "gain {:.2f}",
}  # fmt: skip
_SILENT = {  # values that mean: not used
    "dwell": 1, "hysteresis": 1, "warmup": 1, "first": 1, "last": 0, "between": 0, "forecast": 0,
}  # fmt: skip
_BRIEF = ("tau", "share", "scale", "budget", "head", "every")


@dataclass(frozen=True)
class Point:
    """A confirmed point of the front. `within`: whether the tuned quality lies in the held-out
    interval."""

    trial: Trial
    confirmed: Confirmed

    @property
    def within(self) -> bool:
        heldout = self.confirmed.heldout.quality
        return heldout.low <= self.confirmed.tuned.quality.value <= heldout.high


def confirmed_points(study: Study) -> list[Point]:
    """The confirmed points, cheapest first; none for a study that confirmed nothing."""
    trials = {trial.number: trial for trial in study.trials}
    return [Point(trials[confirmed.number], confirmed) for confirmed in study.confirmed]


def is_feasible(trial: Trial) -> bool:
    return not any(c > 0 for c in trial.constraints)


def study_counts(study: Study) -> dict[str, int]:
    """How the trials ended: `trials`, `complete`, `stopped` early, `infeasible`, on the `front`."""
    trials = study.trials
    return {
        "trials": len(trials),
        "complete": sum(t.state == "COMPLETE" for t in trials),
        "stopped": sum(t.state == "PRUNED" for t in trials),
        "infeasible": sum(not is_feasible(t) for t in trials),
        "front": sum(t.pareto for t in trials),
    }


def rule_of(trial: Trial) -> str:
    return str(trial.params.get("rule", "threshold"))


def schedule_of(trial: Trial, brief: bool = False) -> str:
    """What a trial runs, in words, e.g. "coarse-first, 40% coarse, at 2p, 18 steps"."""
    params = trial.params | ({} if trial.tau is None else {"tau": trial.tau})
    words = [] if brief and rule_of(trial) == "threshold" else [rule_of(trial)]
    segments = [str(params[name]) for name in sorted(params) if name.startswith("segment_")]
    if segments:
        words.append("-".join(segments))
    for name, form in _WORDS.items():
        if name in params and (not brief or name in _BRIEF) and _SILENT.get(name) != params[name]:
            words.append(form.format(params[name]))
    if "steps" in params:
        words.append(f"{params['steps']} steps")
    return ", ".join(words)
