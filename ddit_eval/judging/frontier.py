"""Rows of the study's table: the points of the front on the prompts they were tuned on, and on others."""

from __future__ import annotations

from typing import Any

from ddit_eval.stats import Interval

Json = dict[str, Any]
# Parameters in words, in the order in which they are written.
_WORDS = {
    "tau": "tau {:.2g}", "order": "order {}", "scales": "scales {}", "region_scales": "scales {}",
    "share": "{:.0%} coarse",
    "scale": "at {}p", "rho": "rho {:.2f}", "dwell": "dwell {}", "hysteresis": "hysteresis {:.2g}",
    "warmup": "warm-up at {}p", "budget": "{:.0%} of the tokens", "window": "window {}",
}  # fmt: skip
_SILENT = {"dwell": 1, "hysteresis": 1, "warmup": 1}  # values that mean: not used
_BRIEF = ("tau", "share", "scale", "budget")


def study_rows(study: Json) -> list[Json]:
    """One row a confirmed point of study.json, cheapest first; empty for a study that confirmed nothing.

    Keys: `number`, `rule`, `schedule` (text), `steps`; `cost` and `quality`, each with `tuned` and `heldout`
    (`stats.Interval`); `within`: whether the tuned quality lies in the held-out interval; `stands`: whether
    no other confirmed point dominates it on the held-out prompts.
    """
    trials = {trial["number"]: trial for trial in study["trials"]}
    rows = []
    for point in study.get("confirmed", ()):
        trial = trials[point["number"]]
        values = {
            name: {part: Interval.from_json(point[part][name]) for part in ("tuned", "heldout")}
            for name in ("cost", "quality")
        }
        tuned, heldout = values["quality"]["tuned"], values["quality"]["heldout"]
        rows.append(
            {
                "number": point["number"],
                "rule": rule_of(trial),
                "schedule": schedule_of(trial),
                "steps": trial["params"].get("steps"),
                **values,
                "within": heldout.low <= tuned.value <= heldout.high,
                "stands": point["stands"],
            }
        )
    return rows


def study_counts(study: Json) -> dict[str, int]:
    """How the trials ended: `trials`, `complete`, `stopped` early, `infeasible`, on the `front`; and
    `prompt_runs` of `prompt_runs_full`, which is what stopping early has saved."""
    trials = study["trials"]
    full = study.get("prompts", 0)
    return {
        "trials": len(trials),
        "complete": sum(t["state"] == "COMPLETE" for t in trials),
        "stopped": sum(t["state"] == "PRUNED" for t in trials),
        "infeasible": sum(any(c > 0 for c in t.get("constraints") or ()) for t in trials),
        "front": sum(bool(t["pareto"]) for t in trials),
        "prompt_runs": sum(t.get("prompts", full) for t in trials),
        "prompt_runs_full": full * len(trials),
    }


def rule_of(trial: Json) -> str:
    """The rule of a trial of study.json."""
    return str(trial["params"].get("rule", "threshold"))


def schedule_of(trial: Json, brief: bool = False) -> str:
    """What a trial runs, in words, e.g. "coarse-first, 40% coarse, at 2p, 18 steps"."""
    params = trial["params"] | ({"tau": trial["tau"]} if "tau" in trial else {})
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
