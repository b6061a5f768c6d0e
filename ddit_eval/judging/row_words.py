"""A row of an experiment in words, of its plain form: what its policy is need not be known here."""

from __future__ import annotations

from typing import Any

from ddit_eval.schema.model import Json


def in_words(row: Json, steps: int) -> str:
    """Steps, solver, time schedule, cache, setup, and what the policy does. `steps`: where the row gives
    none."""
    words = [f"{row.get('steps') or steps} steps"]
    words += [_beside(field, row[field]) for field in ("scheduler", "cache", "setup") if row.get(field)]
    policy = row.get("policy") or {"kind": "base"}
    words += [_policy(policy["kind"], policy)] if policy["kind"] != "base" else []
    return ", ".join(words)


def _beside(field: str, value: Any) -> str:
    if field == "setup":
        return f"set up by {value if isinstance(value, str) else value['call']}"
    name = f"{value['kind']} cache" if field == "cache" else f"solver {value.get('kind', 'own')}"
    options = [f"{name.replace('_', ' ')} {v}" for name, v in sorted(value.items()) if name != "kind"]
    return f"{name} ({', '.join(options)})" if options else name


def _policy(kind: str, policy: Json) -> str:
    scale = policy.get("scale", 2)
    match kind:
        case "skip" | "mixed":
            return _plan(policy, scale)
        case "explicit":
            marks = {0: ".", 1: "1"}
            steps = "".join(marks.get(s, str(s)) for s in policy["scales"])
            meant = [
                f"{marks.get(s, s)} {f'at {s}p' if s else 'skipped'}"
                for s in sorted({*policy["scales"]} - {1})
            ]
            return f"steps {steps} ({', '.join(meant)})" if meant else f"steps {steps}"
        case "coarse-first":
            return f"the first {policy['steps']} at {scale}p"
        case "fine-first":
            return f"the first {policy['steps']} fine, then {scale}p"
        case "fixed":
            return f"all at {scale}p"
    numbers = {
        k: v for k, v in sorted(policy.items()) if isinstance(v, int | float) and not isinstance(v, bool)
    }
    rule = "the DDiT rule" if kind == "threshold" else f"the rule {kind}"
    return f"{rule} ({', '.join(f'{k} {v:.3g}' for k, v in numbers.items())})" if numbers else rule


def _plan(policy: Json, scale: int) -> str:
    """Of policies that skip."""
    every, between = policy.get("every", 1), policy.get("between", 0)
    words = [f"the first {policy['coarse']} at {scale}p"] if policy.get("coarse") else []
    if every > 1:
        gain = f" with gain {policy['gain']:.3g}" if policy.get("gain", 1) != 1 else ""
        kept = f"forecast{gain}" if policy.get("forecast") else "kept"
        words.append(f"1 in {every} fine, between them the velocity {kept}" if not between else
                     f"1 in {every} fine, the others at {between}p")  # fmt: skip
    ends = (("first", 1), ("last", 0))  # and their values that mean: not used
    words += [f"{end} {policy[end]} fine" for end, unused in ends if policy.get(end, 0) > unused]
    return ", ".join(words) or "every step fine"
