"""A tiny model, loaded once, and what commands read of runs, weights, trainings and measurements with it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from ddit_eval import Adapter, attach
from ddit_eval.ddit.policies import Fixed
from ddit_eval.experiment.config import Experiment, Study, parse_experiment
from ddit_eval.experiment.generate import Generator, generate, records_of
from ddit_eval.experiment.records import Store
from ddit_eval.experiment.setting import Setting
from ddit_eval.models.cost import flop_table
from ddit_eval.models.find import fingerprint, locate, text_tokens
from ddit_eval.models.load import load_pipeline
from ddit_eval.oracle.bench import Bench
from ddit_eval.schema import Record, read
from ddit_eval.schema.study import Latency
from ddit_eval.study import latency, worker
from ddit_eval.study.export import export
from ddit_eval.study.storage import Location
from ddit_eval.training.distil.config import DistilConfig
from ddit_eval.training.distil.run import distil
from tests.support.fake_evaluator import FakeEvaluator
from tests.support.made_results import measured
from tests.support.tiny import CALL, tiny_flux

DDIT = {"kind": "threshold", "tau": 0.05, "order": 1}


@dataclass(frozen=True)
class Kit:
    """A tiny model with its adapter in `root`, and an experiment on it."""

    root: Path

    @cached_property
    def pipe(self) -> Any:
        pipe = tiny_flux()
        pipe.save_pretrained(self.root / "model")
        Adapter.from_base(pipe, rank=2).save_pretrained(self.root / "adapter")
        return load_pipeline(self.root / "model")

    @cached_property
    def experiment(self) -> Experiment:
        assert self.pipe
        return parse_experiment(
            {
                "profile": "tiny", "model": str(self.root / "model"), "adapter": str(self.root / "adapter"),
                "side": 32, "steps": 2, "prompts": {"source": "world", "count": 2}, "metrics": ["psnr"],
                "methods": [{"name": "base"}, {"name": "ddit", "policy": DDIT}],
                "timing": {"prompts": 1, "rounds": 1, "most": 1, "whole": 1},
                "study": {"trials": 2, "prompts": 1, "steps": [2], "heldout": 1, "confirm": 1},
            },
            "attack",
        )  # fmt: skip

    # Records.

    def run(self, folder: Path) -> dict[str, Any]:
        generate(self.experiment, folder, pipe=self.pipe)
        records = {p.name: timeless(read(p, Record)) for p in sorted(folder.glob("records/*.json"))}
        return records | {p.name: p.read_bytes() for p in sorted(folder.glob("records/*.png"))}

    def looked_up(self, folder: Path) -> list[Any]:
        store, found = Store(folder / "records"), records_of(self.experiment, folder)
        return [[timeless(r), store.levels(r)] for same in found.values() for r in same]

    # Weights.

    def model(self, folder: Path) -> list[Any]:
        assert fingerprint(locate(folder))
        told, pipe = [text_tokens(folder), flop_table(str(folder), None, 32, 32)], load_pipeline(folder)
        parts = {n: m for n, m in pipe.components.items() if isinstance(m, torch.nn.Module)}
        return [*told, *((n, m.state_dict()) for n, m in parts.items()), self.sample(pipe)]

    def adapter(self, folder: Path) -> list[Any]:
        handle = attach(self.pipe, adapter=folder, policy=Fixed(scale=2))
        return [handle.adapter and handle.adapter.state_dict(), self.sample(self.pipe)]

    def sample(self, pipe: Any) -> Any:
        seed = torch.Generator().manual_seed(0)
        return pipe("a red star", num_inference_steps=1, generator=seed, **CALL).images

    # Trainings and studies.

    def distil(self, folder: Path, until: int | None = None, **source: Any) -> list[Any]:
        """Two steps, of which the first `until` are taken, each with a checkpoint."""
        config = DistilConfig.model_validate(
            {
                "model": "tiny", "out": folder, "rank": 2, "pictures": 4, "batch": 2, "probe_pictures": 2,
                "text_tokens": 8, "checkpoint_minutes": 1e-9, "source": {"side": 32} | source,
            }
        )  # fmt: skip
        rows = distil(config, self.pipe)
        list(islice(rows, until))
        rows.close()  # type: ignore[attr-defined]
        return [p.read_bytes() for p in folder.glob("adapter.safetensors")]

    def study(self, folder: Path) -> Any:
        space = Study(trials=4, prompts=2, heldout=1, confirm=1)
        study = worker.run(Location(str(folder / "study-1.journal"), "tiny"), space, FakeEvaluator)
        return export(study, space, measured({"kind": "base"}, 24)).plain()

    # What is measured once.

    def latency(self, folder: Path) -> Any:
        constant = Latency(
            seconds={0: 0.001, 1: 0.2, 2: 0.1, 4: 0.05},
            signal=0.01,
            beside=0.0,
            worker=(0.2, 0.1),
            memory=None,
        )
        with patch.object(latency, "calibrate", lambda *args: constant):
            return latency.table_of(Setting(self.experiment), folder, self.pipe).plain()

    def harm(self, folder: Path) -> Any:
        setting = Setting(self.experiment)
        with Generator(setting, self.pipe) as generator:
            table = Bench(generator).table(setting.prompts, 2, folder)
        return [table.harm, *table.signals.values()]


def timeless(record: Record) -> dict[str, Any]:
    """A record less the seconds of its steps and what is a digest of them."""
    data = {k: v for k, v in record.plain().items() if "sha" not in k and "digest" not in k}
    return data | {"trace": [{k: v for k, v in step.items() if k != "seconds"} for step in data["trace"]]}
