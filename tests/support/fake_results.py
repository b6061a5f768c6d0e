"""A realistic results folder, made up: what figures, tracking and report are developed and tested against.

Every number is invented; the shapes, names and files are those of the real pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ddit_eval.ddit.adapter.places import find
from ddit_eval.experiment.records import Store
from ddit_eval.experiment.samples import to_csv
from ddit_eval.schema import Index, Oracle, Quality, Study, Timing, Traces
from ddit_eval.schema import write as write_file
from ddit_eval.schema.distillation import Distillation, adapter_digest
from ddit_eval.system.read import file_digest
from tests.support.made_results import MACHINE, column, facts, made_job, measured

STEPS = 24
BASE_TOKENS = 256
SECONDS = {1: 0.034, 2: 0.015, 4: 0.010}
SCENES = (
    "a red star on a plain white background",
    "a blue square left of a green circle on a gradient",
    "a small yellow triangle above a large striped cross, noisy background",
    "a dotted purple circle",
)


@dataclass(frozen=True)
class Method:
    name: str
    policy: dict[str, Any] = field(default_factory=lambda: {"kind": "base"})
    steps: int = STEPS
    psnr: float = 30.0
    adherence: float = 0.9
    coarse: tuple[tuple[int, int, int], ...] = ()  # (scale, from step, to step)
    verdict: str | None = None


def _threshold(tau: float, order: int = 3, **more: Any) -> dict[str, Any]:
    return {"kind": "threshold", "tau": tau, "rho": 0.4, "order": order, "scales": [2, 4], **more}


def methods(ddit_bonus: float = 0.0) -> list[Method]:
    """A plausible field; `ddit_bonus` (dB) shifts the threshold rows to let the method win or lose."""
    d = ddit_bonus
    never = "the policy never fired: tau 1e-06 is below every signal seen (0.0021 to 0.31)"
    return [
        Method("base", psnr=float("inf")),
        Method("base-again", psnr=float("inf")),
        Method("steps-18", steps=18, psnr=46.9, adherence=0.91),
        Method("steps-12", steps=12, psnr=40.9, adherence=0.90),
        Method("steps-9", steps=9, psnr=37.2, adherence=0.90),
        Method("steps-7", steps=7, psnr=34.3, adherence=0.89),
        Method("always-2p", {"kind": "fixed", "scale": 2}, psnr=22.0, adherence=0.72, coarse=((2, 0, 24),)),
        Method("always-4p", {"kind": "fixed", "scale": 4}, psnr=18.5, adherence=0.42, coarse=((4, 0, 24),)),
        Method(
            "coarse-first-4",
            {"kind": "coarse-first", "steps": 4, "scale": 2},
            psnr=26.9,
            adherence=0.85,
            coarse=((2, 0, 4),),
        ),
        Method(
            "coarse-first-8",
            {"kind": "coarse-first", "steps": 8, "scale": 2},
            psnr=24.2,
            adherence=0.84,
            coarse=((2, 0, 8),),
        ),
        Method(
            "coarse-first-16",
            {"kind": "coarse-first", "steps": 16, "scale": 2},
            psnr=23.0,
            adherence=0.8,
            coarse=((2, 0, 16),),
        ),
        Method(
            "random",
            {"kind": "random", "mix": {"1": 0.5, "2": 0.3, "4": 0.2}, "seed": 0},
            psnr=22.5,
            adherence=0.78,
            coarse=((2, 3, 10), (4, 14, 18)),
        ),
        Method("ddit-o1", _threshold(0.9, 1), psnr=25.1 + d, adherence=0.84, coarse=((2, 6, 14),)),
        Method("ddit-o2", _threshold(0.6, 2), psnr=26.0 + d, adherence=0.85, coarse=((2, 7, 15),)),
        Method("ddit-o3", _threshold(0.5), psnr=26.2 + d, adherence=0.86, coarse=((2, 8, 16),)),
        Method(
            "ddit-o3-fast", _threshold(1.5), psnr=23.5 + d, adherence=0.8, coarse=((2, 6, 12), (4, 12, 20))
        ),
        Method("ddit-o3-low", _threshold(1e-6), psnr=float("inf"), verdict=never),
        Method(
            "budget-50", {"kind": "budget", "coarse": 0.5}, psnr=27.9, adherence=0.87, coarse=((2, 8, 20),)
        ),
    ]


def _interval(values: np.ndarray) -> dict[str, Any]:
    if np.isinf(values).all():
        return {"value": "inf", "low": "inf", "high": "inf"}
    mean, half = float(values.mean()), 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5
    return {"value": mean, "low": mean - half, "high": mean + half}


def _spread(value: float, relative: float = 0.02) -> dict[str, float]:
    half = abs(value) * relative
    return {"value": value, "low": value - half, "high": value + half}


def _scales(method: Method, prompts: int, rng: np.random.Generator) -> list[list[int]]:
    dynamic = method.policy["kind"] in {"threshold", "budget", "random"}
    rows = []
    for _ in range(prompts):
        row = [1] * method.steps
        for scale, start, stop in method.coarse:
            jitter = int(rng.integers(-2, 3)) if dynamic else 0
            for step in range(max(0, start + jitter), min(method.steps, stop + jitter)):
                row[step] = scale
        rows.append(row)
    return rows


def _signals(
    method: Method, prompts: int, rng: np.random.Generator
) -> dict[str, list[list[float | None]]] | None:
    order = method.policy.get("order", 3)
    if method.policy["kind"] not in {"threshold", "budget"}:
        return None
    t = np.linspace(0, 1, method.steps)
    shape = 0.25 + 1.6 * np.exp(-6 * t) + 0.8 * np.exp(12 * (t - 1))
    out: dict[str, list[list[float | None]]] = {}
    for scale in (2, 4):
        rows: list[list[float | None]] = []
        for prompt in range(prompts):
            values = shape * (0.7 + 0.6 * prompt / max(1, prompts - 1)) * (1 + 0.2 * (scale == 4))
            values = values * rng.lognormal(0, 0.12, method.steps)
            rows.append([None if i < order else float(v) for i, v in enumerate(values)])
        out[str(scale)] = rows
    return out


def _picture(index: int, error: float, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:64, 0:64] / 63.0
    colour = np.array([(0.9, 0.2, 0.2), (0.2, 0.3, 0.9), (0.95, 0.85, 0.2), (0.6, 0.2, 0.7)][index % 4])
    disc = ((x - 0.35 - 0.1 * (index % 3)) ** 2 + (y - 0.5) ** 2 < 0.06)[..., None]
    image = np.where(disc, colour, np.stack([0.8 - 0.3 * x, 0.8 + 0 * x, 0.6 + 0.3 * y], -1))
    return (np.clip(image + error * rng.normal(size=image.shape), 0, 1) * 255).astype(np.uint8)


def write(
    root: Path,
    profile: str = "quick",
    prompts: int = 32,
    trials: int = 24,
    seed: int = 0,
    ddit_bonus: float = 0.0,
    only: tuple[str, ...] | None = None,
) -> Path:
    """Write results/<profile>/*.json and runs/<profile>/records under `root`; returns results/<profile>.

    `only`: names of the methods to write, all where not given; the base must be among them.
    """
    rng = np.random.default_rng(seed)
    out, records = root / "results" / profile, root / "runs" / profile / "records"
    difficulty = rng.normal(0, 1.0, prompts)
    rows, timing, traces, samples = [], [], {}, []
    index: dict[str, list[str]] = {}
    base_cost = STEPS * SECONDS[1] + 0.06
    for method in (m for m in methods(ddit_bonus) if only is None or m.name in only):
        scales, signals = _scales(method, prompts, rng), _signals(method, prompts, rng)
        timesteps = [[round(1000 * (1 - i / method.steps), 3) for i in range(method.steps)]] * prompts
        tokens = np.array([[BASE_TOKENS // s**2 for s in row] for row in scales])
        psnr = method.psnr + difficulty + rng.normal(0, 0.4, prompts)
        lpips = np.zeros(prompts) if np.isinf(method.psnr) else 2.0 ** (-psnr / 6)
        adherence = np.clip(method.adherence + 0.03 * difficulty + rng.normal(0, 0.03, prompts), 0, 1)
        if method.name in {"base", "base-again", "ddit-o3-low"}:
            adherence = np.clip(0.905 + 0.03 * difficulty, 0, 1)
        values = {"psnr": psnr, "reader-lpips": lpips, "object-accuracy": adherence}
        if method.name == "base":
            base_values = values
        differences = {
            "reader-lpips": lpips - base_values["reader-lpips"],
            "object-accuracy": adherence - base_values["object-accuracy"],
        }
        share = {str(s): float(np.mean(np.array(scales) == s)) for s in (1, 2, 4)}
        cost = float(np.mean([[SECONDS[s] for s in row] for row in scales])) * method.steps + 0.06
        rows.append(
            {
                "method": method.name,
                **facts(method.policy, method.steps),
                "n": prompts,
                "token_ratio": BASE_TOKENS * STEPS * prompts / float(tokens.sum()),
                "flop_ratio": 0.93 * BASE_TOKENS * STEPS * prompts / float(tokens.sum()) + 0.07,
                "scale_share": share,
                "verdict": method.verdict,
                "quality": {k: _interval(v) for k, v in values.items()},
                "difference": {k: _interval(v) for k, v in differences.items()},
            }
        )
        speedup = base_cost / cost * (1.004 if method.name == "base-again" else 1)
        stages = {"text": 0.012, "denoise": cost - 0.05, "decode": 0.02, "end_to_end": cost}
        timing.append(
            {
                "method": method.name,
                "of": measured(method.policy, method.steps),
                "prompts": prompts,
                "runs": prompts,
                "speedup": _spread(speedup),
                "speedups": {"denoise": _spread(speedup), "end_to_end": _spread(1 + 0.9 * (speedup - 1))},
                "stages": stages,
                "seconds": {"p50": cost, "p95": 1.1 * cost, "mean": 1.02 * cost},
                "by_step": [
                    {str(s): SECONDS[s] * column.count(s) / prompts for s in set(column)}
                    for column in zip(*scales, strict=True)
                ],
            }
        )
        traces[method.name] = {"scales": scales, "signals": signals, "timesteps": timesteps}
        for i in range(prompts):
            samples.append(
                [
                    method.name,
                    i,
                    SCENES[i % 4],
                    100 + i,
                    *(float(v[i]) for v in values.values()),
                    int(tokens[i].sum()),
                    int(tokens[i].sum()) * 10**6,
                ]
            )
            steps = [
                {
                    "index": k,
                    "timestep": timesteps[i][k],
                    "scale": s,
                    "tokens": int(tokens[i][k]),
                    "base_tokens": BASE_TOKENS,
                    "seconds": SECONDS[s] * float(rng.lognormal(0, 0.05)),
                    "signals": {n: v[i][k] for n, v in (signals or {}).items() if v[i][k]} or None,
                }
                for k, s in enumerate(scales[i])
            ]
            job = made_job(
                measured(method.policy, method.steps), method=method.name, prompt=SCENES[i % 4], index=i,
                seed=100 + i, repeat=len(rows),
            )  # fmt: skip
            index.setdefault(method.name, []).append(job.key)
            if i < 4:
                noise = 0.0 if np.isinf(method.psnr) else 2.0 * 10 ** (-method.psnr / 20)
                Store(records).save(job, _picture(i, noise, rng)[None], steps)  # type: ignore[arg-type]
    metrics = {name: column(name) for name in ("psnr", "reader-lpips", "object-accuracy")}
    write_file(out / "traces.json", Traces.model_validate({"methods": traces}))
    (out / "samples.csv").write_text(to_csv([*metrics], samples))
    files = {name: file_digest(out / name) for name in ("samples.csv", "traces.json")}
    quality = {
        "files": files, "profile": profile, "model": "mini-flux", "adapter": "mini-flux", "n": prompts,
        "prompts_hash": "0" * 12, "reference": "base", "reference_hash": "r", "rows": rows,
        "metrics": metrics,
    }  # fmt: skip
    write_file(out / "quality.json", Quality.model_validate(quality))
    timed = {
        "profile": profile, "model": "mini-flux", "reference": "base", "machine": MACHINE, "batch": 1,
        "prompts": prompts, "rounds": 1, "stage": "denoise", "rows": timing, "scales": [],
        "null": {"value": 1.004, "low": 0.991, "high": 1.017},
    }  # fmt: skip
    write_file(out / "timing.json", Timing.model_validate(timed))
    index_file = {"methods": index, "flops": {"1": 100, "2": 30, "4": 12}}
    write_file(records.parent / "index.json", Index.model_validate(index_file))
    write_file(out / "study.json", study(trials, rng))
    write_file(out / "distillation.json", distillation())
    return out


def study(trials: int, rng: np.random.Generator) -> Study:
    points = []
    for _ in range(trials):
        tau = float(10 ** rng.uniform(-2, 0.6))
        cost = float(np.clip(1 / (1 + 0.5 * tau) + rng.normal(0, 0.03), 0.2, 1))
        points.append((tau, cost, 18 + 14 * cost + float(rng.normal(0, 0.7))))
    pareto = [
        not any(c2 <= c and q2 >= q and (c2, q2) != (c, q) for _, c2, q2 in points) for _, c, q in points
    ]
    content: dict[str, Any] = {
        "study": "tau-rho-scales",
        "objectives": [
            {"name": "relative_flops", "direction": "minimize"},
            {"name": "psnr", "direction": "maximize"},
        ],
        "prompts": 8,
        "prompts_hash": "1" * 12,
        "sampler": "tpe",
        "seeds": 1,
        "confirmed": [],
        "trials": [
            {
                "number": n,
                "of": measured({"kind": "threshold", "tau": t}, 24, "1" * 12),
                "params": {"rule": "threshold", "steps": 24, "tau_relative": t, "rho": 0.4, "scales": "2,4"},
                "prompts": 8,
                "tau": t,
                "values": [c, q],
                "intervals": {"cost": _spread(c), "quality": _spread(q)},
                "schedules": ["1 1 2 4", "1 2 2 4"],
                "pareto": pareto[n],
                "state": "COMPLETE",
                "constraints": [],
            }
            for n, (t, c, q) in enumerate(points)
        ],
    }
    if trials > 4:
        ends = sorted((c, n) for n, (_, c, _) in enumerate(points) if pareto[n])
        for cost, n in dict.fromkeys((ends[0], ends[-1])):
            quality = points[n][2]
            held = {"cost": _spread(cost), "quality": _spread(quality - 0.6)}
            tuned = {"cost": _spread(cost), "quality": _spread(quality)}
            content["confirmed"].append({"number": n, "tuned": tuned, "heldout": held, "stands": True})
        stopped = next(row for row in reversed(content["trials"]) if not row["pareto"])
        del stopped["intervals"]
        stopped |= {"state": "PRUNED", "values": None, "partial": stopped["values"], "prompts": 2}
    return Study.model_validate(content)


def oracle() -> Oracle:
    """Two ways and the oracle at one cost."""

    def row(name: str, family: str, psnr: float, **more: Any) -> dict[str, Any]:
        values = {"psnr": _spread(psnr), "mse": _spread(10 ** (-psnr / 10))}
        of = measured({"kind": "base"}, 4)
        return {"name": name, "family": family, "of": of, "steps": 4, "cost": 0.7, **values, **more}

    def gap(name: str, fixed: str, share: float | None) -> dict[str, Any]:
        apart = {k: _spread(2.0) for k in ("over_fixed", "below_oracle", "gap")}
        return {"name": name, "fixed": fixed, "cost": 0.7, "share": share and _spread(share), **apart}

    content = {
        "profile": "quick",
        "n": 4,
        "steps": 4,
        "costs": [0.7],
        "every": 1,
        "additivity": [],
        "calibration": "2" * 12,
        "rows": [
            row("oracle-70", "oracle", 34.0),
            row("ddit-70", "DDiT", 27.0),
            row("calibrated-70", "calibrated", 31.0),
            row("fine-first-70", "fine-first", 30.0, schedule=[1, 1, 2, 2]),
        ],
        "gap": [
            gap("ddit-70", "fine-first", -0.5),
            gap("ddit-70", "coarse-first", None),
            gap("calibrated-70", "fine-first", 0.25),
        ],
        "harm": {
            "scales": [2],
            "mean": [[1e-3, 8e-4, 4e-4, 2e-4]],
            "quartiles": [[[5e-4, 4e-4, 2e-4, 1e-4]], [[2e-3, 1e-3, 8e-4, 4e-4]]],
        },
    }
    return Oracle.model_validate(content)


def distillation(**changes: Any) -> Distillation:
    """Distillation error by t, start values against trained."""
    curves = {
        (2, "start"): [0.81, 0.80, 0.78, 0.75, 0.70, 0.63, 0.58, 0.58],
        (2, "trained"): [0.14, 0.13, 0.11, 0.06, 0.04, 0.03, 0.02, 0.02],
        (4, "start"): [0.94, 0.91, 0.95, 0.96, 0.90, 0.85, 0.84, 0.82],
        (4, "trained"): [0.29, 0.31, 0.28, 0.15, 0.10, 0.08, 0.05, 0.05],
    }
    errors = {
        "timesteps": [0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95, 1.0], "n": 8, "seconds": 60.0, "log": [],
        "config": {"model": "mini-flux", "scales": [2, 4]}, "inputs": {},
        "adapter": adapter_digest(find("mini-flux")),
        "rows": [{"scale": scale, "side": 64, "n": 8, "stage": stage, "error": error}
                 for (scale, stage), error in curves.items()],
    }  # fmt: skip
    return Distillation.model_validate(errors | changes)
