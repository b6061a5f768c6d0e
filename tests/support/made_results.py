"""Results of a few rows, with values that a test chooses; the facts that every row and metric must have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ddit_eval.experiment.records import Job
from ddit_eval.judging.results import Results
from ddit_eval.schema import Measured, Quality, Record, Timing
from ddit_eval.schema.quality import Column, Row

N = 16
NOISE = np.random.default_rng(0).normal(0, 0.3, (40, N))

# Family, colour and kind of control by the kind of a policy.
FAMILIES: dict[str, tuple[str, str, str | None]] = {
    "base": ("base", "#000000", None),
    "fixed": ("static coarse", "#56B4E9", None),
    "coarse-first": ("static coarse", "#56B4E9", "coarse-first"),
    "random": ("random", "#CC79A7", "random"),
    "threshold": ("DDiT", "#0072B2", None),
    "budget": ("budget", "#009E73", None),
    "region": ("region", "#E69F00", None),
    "explicit": ("static coarse", "#56B4E9", None),
}
RIVALS = ("cache", "scheduler", "setup")
MACHINE = {
    "cpu": "made-up CPU", "cores": 2, "threads": 2, "memory_gb": 8.0, "system": "Linux x86_64",
    "python": "3.11.7", "torch": "2.14.1", "device": "cpu", "matmul_gflops": 200.0,
    "matmul_dtype": "float32", "copy_gb_s": 40.0,
}  # fmt: skip
ROLES: dict[str, dict[str, Any]] = {
    "psnr": {"title": "PSNR to base", "unit": "dB", "digits": 1, "role": "fidelity", "rank": 0},
    "reader-lpips": {"direction": "lower", "role": "fidelity", "rank": 2},
    "ssim": {"title": "SSIM to base", "role": "fidelity", "rank": 3, "margin": 0.05},
    "object-accuracy": {"role": "adherence", "rank": 0, "margin": 0.05},
    "clip": {"role": "score", "margin": 1.0},
    "clip-world": {"role": "score", "margin": 1.0},
}


def column(metric: str, **changes: Any) -> Column:
    """What quality.json says of a metric."""
    facts: dict[str, Any] = {
        "direction": "higher", "range": (0.0, "inf"), "network": None, "source": "made up", "unit": "",
        "title": metric.replace("-", " "), "digits": 3, "role": "description", "rank": 0, "margin": None,
    }  # fmt: skip
    return Column.model_validate(facts | ROLES.get(metric, {}) | changes)


def measured(policy: dict[str, Any], steps: int, prompts: str = "0" * 12) -> Measured:
    return Measured(
        model="mini-flux", model_hash="1" * 12, adapter="mini-flux", adapter_hash="2" * 12, dtype="float32",
        policy=policy, steps=steps, size=(64, 64), guidance_scale=3.5, true_cfg_scale=1.0, prompts=prompts,
        code="4" * 12,
    )  # fmt: skip


def facts(policy: dict[str, Any], steps: int) -> dict[str, Any]:
    """Of a row, what its policy says."""
    family, colour, control = FAMILIES[policy["kind"]]
    return {"of": measured(policy, steps), "policy": policy, "steps": steps, "family": family,
            "colour": colour, "control": control}  # fmt: skip


def made_job(of: Measured | None = None, **changes: Any) -> Job:
    """A picture to be made."""
    facts = (of or measured({"kind": "base"}, 24)).model_dump(exclude={"size", "prompts"})
    sample = {"method": "base", "prompt": "a star", "index": 0, "seed": 1, "height": 64, "width": 64}
    return Job.model_validate(facts | sample | changes)


def made_record(image: str = "k.png", **changes: Any) -> Record:
    """A record of a picture without steps."""
    return Record(key="k", image=image, image_sha256="", trace=(), **dict(made_job(**changes)))


def timing(speeds: dict[str, float], **changes: Any) -> Timing:
    """timing.json of methods with these speed-ups."""
    rows = [
        {"method": name, "speedup": exactly(speed), "speedups": {}, "stages": {}, "prompts": 4, "runs": 4,
         "seconds": {"p50": 1 / speed, "p95": 1 / speed, "mean": 1 / speed}}
        for name, speed in speeds.items()
    ]  # fmt: skip
    content = {
        "profile": "t", "model": "m", "reference": "base", "batch": 1, "prompts": 4, "rounds": 1,
        "stage": "denoise", "machine": MACHINE, "rows": rows, "null": None, "scales": [],
    }  # fmt: skip
    return Timing.model_validate(content | changes)


def exactly(value: float) -> dict[str, float]:
    return {"value": value, "low": value, "high": value}


def make(rows: list[tuple[str, dict[str, Any], int, float, Any]], direction: str = "higher") -> Results:
    """Results from (method, policy, steps, speed-up, mean quality or one value a prompt). A policy that is
    `idle` never fired; `cache`, `scheduler` and `setup` beside it are the row's."""
    samples, table = {}, []
    for i, (name, said, steps, _, value) in enumerate(rows):
        policy = {k: v for k, v in said.items() if k not in RIVALS}
        beside = {k: v for k, v in said.items() if k in RIVALS}
        samples[name] = {"psnr": value + NOISE[i] if np.isscalar(value) else np.asarray(value, float)}
        fires = policy["kind"] != "base" and not policy.get("idle")
        scales = policy["scales"] if policy["kind"] == "explicit" else (1, 2) if fires else (1,)
        ratio = 1.5 if fires or steps < 24 else 1.0
        row = facts(policy, steps) | {
            "method": name, "n": N, "scale_share": {s: scales.count(s) / len(scales) for s in scales},
            "token_ratio": ratio, "flop_ratio": ratio, "verdict": None, "quality": {"psnr": exactly(1.0)},
            "difference": {},
        }  # fmt: skip
        row["of"] = row["of"].model_copy(update=beside)
        table.append(Row.model_validate(row))
    quality = Quality(
        profile="t", model="m", adapter=None, n=N, prompts_hash="0" * 12, reference="base",
        reference_hash="r", rows=tuple(table), metrics={"psnr": column("psnr", direction=direction)},
    )  # fmt: skip
    return Results(quality, timing({row[0]: row[3] for row in rows}), samples=samples)


def changed(results: Results, **changes: Any) -> Results:
    """With other values in quality.json."""
    return replace(results, quality=results.quality.model_copy(update=changes))


BASE: tuple[str, dict[str, Any], int, float, Any] = ("base", {"kind": "base"}, 24, 1.0, np.full(N, np.inf))
DDIT = {"kind": "threshold", "tau": 0.5, "order": 3}
FIRST = {"kind": "coarse-first", "steps": 8, "scale": 2}
RANDOM = {"kind": "random", "mix": {"1": 0.5, "2": 0.5}}


def field_of(ddit: Any, steps: float = 35.0, first: float = 25.0, random: float = 24.0) -> Results:
    """A DDiT row of these values at 1.6x, between fewer steps and beside both kinds of control."""
    return make(
        [
            BASE,
            ("steps-18", {"kind": "base"}, 18, 1.3, steps + 4),
            ("steps-12", {"kind": "base"}, 12, 2.0, steps - 4),
            ("coarse-first", FIRST, 24, 1.55, first),
            ("random", RANDOM, 24, 1.65, random),
            ("ddit", DDIT, 24, 1.6, ddit),
        ]
    )
