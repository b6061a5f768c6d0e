"""What a profile's result files say, as plain data that report, figures and tracking share."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ddit_eval import stats
from ddit_eval.errors import DditError
from ddit_eval.system.files import read_json

Json = dict[str, Any]
Floats = stats.Floats

# Family of a method by the kind of its policy; "base" is told apart by its steps.
_FAMILY = {
    "fixed": "static coarse",
    "coarse-first": "static coarse",
    "fine-first": "static coarse",
    "explicit": "static coarse",
    "random": "random",
    "threshold": "DDiT",
    "budget": "budget",
    "calibrated": "calibrated",
    "region": "region",
}
# Which quality decides, in order of preference: one of fidelity to the base, one of prompt adherence.
_FIDELITY = ("psnr", "lpips", "reader-lpips", "ssim")
_ADHERENCE = ("object-accuracy", "adherence", "object-frames")


@dataclass(frozen=True)
class Results:
    """A profile: `quality` as in quality.json; the others are None or empty where their file is missing.

    `samples[method][metric]`: one value a prompt, in the order of the prompts' numbers; `prompts`: their
    texts.
    """

    quality: Json
    timing: Json | None = None
    traces: Json = field(default_factory=dict)
    study: Json | None = None
    distillation: Json | None = None
    oracle: Json | None = None
    samples: Mapping[str, Mapping[str, Floats]] = field(default_factory=dict)
    prompts: tuple[str, ...] = ()

    @property
    def rows(self) -> list[Json]:
        return list(self.quality["rows"])

    @property
    def reference(self) -> Json:
        return self.row(self.quality["reference"])

    def row(self, method: str) -> Json:
        for row in self.rows:
            if row["method"] == method:
                return dict(row)
        raise DditError(f"quality.json has no method {method!r}; evaluate the experiment again")

    def family(self, row: Json) -> str:
        """The family of a row, a key of `figures.FAMILIES`."""
        kind = row["policy"]["kind"]
        if kind != "base":
            return _FAMILY.get(kind, "other")
        if row["method"] == self.quality["reference"]:
            return "base"
        return "base again (null)" if row["steps"] == self.reference["steps"] else "fewer steps"

    def timed(self, method: str) -> Json | None:
        rows = self.timing["rows"] if self.timing else []
        return next((dict(row) for row in rows if row["method"] == method), None)

    def speed(self, row: Json) -> stats.Interval | None:
        """Measured speed-up over the base. None where the method was not timed: FLOPs do not stand in for
        it."""
        if row["method"] == self.quality["reference"]:
            return stats.Interval(1.0, 1.0, 1.0)
        timed = self.timed(row["method"])
        return stats.Interval.from_json(timed["speedup"]) if timed else None

    def direction(self, metric: str) -> str:
        return str(self.quality["metrics"].get(metric, {}).get("direction", "none"))

    def deciding(self) -> list[str]:
        """The metrics that decide a verdict: fidelity first, then adherence, as far as they were
        measured."""
        known = [m for m in self.quality["metrics"] if self.direction(m) in ("higher", "lower")]
        chosen = [next((m for m in names if m in known), None) for names in (_FIDELITY, _ADHERENCE)]
        return [m for m in chosen if m] or known[:1]


def coarse_share(row: Json) -> float:
    """Share of a method's steps that ran coarser than the base."""
    return float(sum(share for scale, share in row["scale_share"].items() if int(scale) > 1))


def load(folder: Path) -> Results:
    """Read results/<profile>; quality.json must be there, the other files may be missing."""

    def optional(name: str) -> Json | None:
        return read_json(folder / name) if (folder / name).exists() else None

    quality = read_json(folder / "quality.json")
    distillation = optional("distillation.json") or _shipped_errors(quality.get("adapter"))
    samples = folder / "samples.csv"
    return Results(
        quality=quality,
        timing=optional("timing.json"),
        traces=(optional("traces.json") or {}).get("methods", {}),
        study=optional("study.json"),
        distillation=distillation,
        oracle=optional("oracle.json"),
        samples=read_samples(samples, list(quality["metrics"])) if samples.exists() else {},
        prompts=read_texts(samples, quality["reference"]) if samples.exists() else (),
    )


def read_texts(path: Path, method: str) -> tuple[str, ...]:
    """The prompts of samples.csv in the order of their numbers."""
    with path.open(newline="", encoding="utf-8") as file:
        texts = {int(row["index"]): row["prompt"] for row in csv.DictReader(file) if row["method"] == method}
    return tuple(texts[index] for index in sorted(texts))


def read_samples(path: Path, metrics: list[str]) -> dict[str, dict[str, Floats]]:
    """samples.csv as method -> metric -> one value a prompt; several seeds of a prompt are averaged."""
    rows: dict[str, list[dict[str, str]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["method"], []).append(row)
    samples: dict[str, dict[str, Floats]] = {}
    for method, same in rows.items():
        same.sort(key=lambda row: (int(row["index"]), int(row["seed"])))
        prompts = [row["index"] for row in same]
        samples[method] = {
            m: stats.by_prompt(np.array([stats.number_from_json(row[m] or None) for row in same]), prompts)
            for m in metrics
            if m in same[0]
        }
    return samples


def read_records(folder: Path | None) -> dict[str, list[Json]]:
    """The records of a run by method, prompts in order; empty where there are none.

    `folder`: runs/<profile>, whose index.json names the records in force, or a bare folder of records.
    """
    if folder is None or not folder.is_dir():
        return {}
    index = folder / "index.json" if (folder / "index.json").exists() else folder.parent / "index.json"
    store = folder / "records" if (folder / "records").is_dir() else folder
    found: dict[str, list[Json]] = {}
    if index.exists():
        wanted = read_json(index)["methods"]
        pairs = [(method, store / f"{key}.json") for method, keys in wanted.items() for key in keys]
    else:
        pairs = [("", path) for path in sorted(store.glob("*.json"))]
    for method, path in pairs:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            record["image"] = store / record["image"]
            found.setdefault(method or record["method"], []).append(record)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # the runner names corrupt records and makes them again; pictures are a bonus here
    for same in found.values():
        same.sort(key=lambda record: record["index"])
    return found


def _shipped_errors(adapter: str | None) -> Json | None:
    """The distillation error that travels with a shipped adapter."""
    if not adapter or "/" in adapter:
        return None
    from importlib import resources

    file = resources.files("ddit_eval") / "weights" / "adapters" / adapter / "errors.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
