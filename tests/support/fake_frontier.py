"""A frontier.json, made up: a target won with coarse patches, one without, one out of reach."""

from __future__ import annotations

from typing import Any

from ddit_eval.schema.frontier import Frontier, Target, Way
from ddit_eval.stats import Interval
from tests.support.made_results import MACHINE, measured

SKIP = {"kind": "skip", "every": 3, "forecast": 1, "gain": 0.5, "first": 2}
MIXED = {"kind": "mixed", "coarse": 4, "scale": 2, "every": 2}
RULE = {"kind": "threshold", "tau": 0.9, "order": 3}


def way(name: str, policy: dict[str, Any], speed: float, psnr: float, **beside: Any) -> Way:
    steps = beside.get("steps", 24)
    quality = {"psnr": Interval(psnr, psnr - 1.5, psnr + 1.5, 32),
               "object-accuracy": Interval(0.9, 0.8, 1.0, 32)}  # fmt: skip
    lost = {"psnr": Interval(float("-inf"), float("-inf"), float("-inf"), 32, 32),
            "object-accuracy": Interval(-0.02, -0.05, 0.01, 32)}  # fmt: skip
    return Way(
        name=name, of=measured(policy, steps), row={"name": name, "policy": policy, **beside},
        coarse=policy["kind"] in ("mixed", "threshold"), speedup=Interval(speed, speed - 0.1, speed + 0.1, 6),
        flop_ratio=speed * 1.05, tuned=quality, quality=quality, difference=lost,
    )  # fmt: skip


def frontier(gain: tuple[float, float, float] = (0.8, -0.7, 2.1), **changes: Any) -> Frontier:
    skipped = way("skip-3", SKIP, 2.9, 25.4, scheduler={"kind": "unipc", "order": 3, "shift": 1.5})
    rule = way("ddit-fast", RULE, 3.1, 18.2, cache={"kind": "taylorseer", "cache_interval": 2})
    targets = (
        Target(
            speed_up=2, best=way("skip-2", SKIP | {"every": 2}, 2.05, 30.9),
            best_without_coarse=way("skip-2", SKIP | {"every": 2}, 2.05, 30.9),
            best_ddit=way("ddit-2", RULE, 2.02, 21.0),
        ),
        Target(
            speed_up=3, best=way("mixed-10", MIXED, 3.05, 26.2, steps=10), best_without_coarse=skipped,
            best_ddit=rule, gain={"psnr": Interval(*gain, 32)},
        ),
        Target(
            speed_up=20, best=None, best_without_coarse=None, best_ddit=None, note="the fastest way is 5.4x",
        ),
    )  # fmt: skip
    content: dict[str, Any] = {
        "profile": "quick", "model": "mini-flux", "machine": MACHINE, "metric": "psnr", "tuning": 8,
        "heldout": 32, "trials": {"coarse": 40, "without": 40}, "targets": targets,
    }  # fmt: skip
    return Frontier.model_validate(content | changes)
