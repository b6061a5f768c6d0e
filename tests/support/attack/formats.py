"""Every format that the package reads: an example, and the reading that a command does.

An example is made once, in a folder; a reader gets a copy of the folder in which one file is damaged.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ddit_eval.cli.make import _flow
from ddit_eval.ddit.policies import calibration
from ddit_eval.experiment.config import load_experiment, parse_experiment
from ddit_eval.experiment.records import Job, Store
from ddit_eval.folders.compare import opened
from ddit_eval.folders.prompts import prompts_of
from ddit_eval.judging.results import load
from ddit_eval.judging.verdict import judge
from ddit_eval.metrics.sets.reference import cached_statistics, tensor_set
from ddit_eval.report.summary import summarise
from ddit_eval.system.films import write_film
from ddit_eval.system.prompts import read_prompts
from ddit_eval.tracking.plan import bounds, methods, training, trials
from ddit_eval.training.distil.config import Source, load_config
from ddit_eval.training.distil.data import folder_pictures
from tests.support.attack.kit import Kit, timeless
from tests.support.jobs import JOB, STEP
from tests.support.sets import means, noise

ROOT = Path(__file__).parents[3]
Make = Callable[[Path], object]  # writes an example into a folder
AGAIN = "to be made again"  # what a reader says of a file that the next run replaces

# Why another result may be right: the content is valid, says something else, and nothing says what it was.
WRITTEN = "written by people: another value is another wish"
PIXELS = "pictures of others carry no checksum: other bytes may be another picture"
WEIGHTS = "carries no checksum of its own: its hash is in every record and result made with it"
NUMBERS = "numbers in git, without a checksum: an edit is seen there"
JOURNAL = "Optuna's format, without a checksum"
CACHE = "a measurement of this machine, without a checksum"


@dataclass(frozen=True)
class Format:
    """`files`: globs of what is damaged. `legal`: why another result is allowed; empty: it is not.
    `share`: of the cases, 1 for most."""

    name: str
    files: tuple[str, ...]
    make: Make
    read: Callable[[Path], Any]
    legal: str = ""
    share: float = 1.0


# Readings that need no model.


def experiment(folder: Path) -> Any:
    return load_experiment(folder / "quick.yaml").model_dump(mode="json")


def distillation(folder: Path) -> Any:
    return load_config(folder / "mini-flux-adapter.yaml").model_dump(mode="json")


def policy(folder: Path) -> Any:
    """As the shell hands it over."""
    given = (folder / "of.policy").read_bytes().decode("utf-8", "surrogateescape").split("\0")[0]
    rows = [{"name": "base"}, {"name": "ddit", "policy": _flow(given)}]
    return parse_experiment({"methods": rows}, "--policy").model_dump(mode="json")


def prompts(ending: str) -> Callable[[Path], Any]:
    return lambda folder: read_prompts(folder / f"prompts{ending}")


def beside(folder: Path) -> Any:
    return prompts_of(folder, NAMES, None)


def lines(folder: Path) -> Any:
    return prompts_of(folder, NAMES, folder / "lines.txt")


def trained_on(folder: Path) -> Any:
    return folder_pictures(Source(kind="folder", path=folder, side=16))(0, 3, 16)


def looked_at(folder: Path) -> list[Any]:
    found = opened(folder)
    found.check()
    return [found.of, list(found.files), *found.batches()]


def clip(folder: Path) -> Any:
    store = Store(folder)
    record = store.load(CLIP.key)
    return AGAIN if record is None else [timeless(record), store.levels(record)]


def results(folder: Path) -> list[Any]:
    """What report and track make of a profile's files."""
    found = load(folder)
    plans = [p.hash for p in (*methods(found, {}), *trials(found), *bounds(found))]
    return [repr(judge(found)), repr(summarise(found)), plans, found.samples, found.prompts]


def errors(folder: Path) -> str:
    return training(folder).hash


def table(folder: Path) -> Any:
    found = calibration.load(folder / "calibration.json")
    return [found.digest, found.run_of(24).price("cost", 0.7)]


def reference(folder: Path) -> Any:
    found = cached_statistics(tensor_set(noise(8, 3, 8, 8)), means(), folder)
    return [found.mean, found.covariance]


# Examples.

NAMES = ["000", "001", "002"]
PICTURES = [np.random.default_rng(seed).integers(0, 255, (16, 16, 3), np.uint8) for seed in range(3)]
CLIP = Job(**dict(JOB) | {"frames": 3, "height": 16, "width": 16})
CLIP_LEVELS = np.stack(PICTURES)
GENERATED = {"kind": "generated", "count": 8, "steps": 1}
RESULTS = ("quality.json", "timing.json", "study.json", "oracle.json", "traces.json", "frontier.json")
TABLES = ("samples.csv", "times.csv")
OPTIONAL = ("timing.json", "study.json", "oracle.json", "frontier.json")  # results are read without them
PROMPTS = {
    ".txt": "# three\na red star\na cross, and a disc\ntwo things\n",
    ".csv": 'category,prompt\ncolours,a red star\nshapes,"a cross, and a disc"\nwords,two things\n',
    ".tsv": "category\tPrompt\ncolours\ta red star\nshapes\ta cross, and a disc\nwords\ttwo things\n",
    ".json": '[{"prompt_en": "a red star", "dimension": ["colour"]}, {"prompt_en": "a cross"}]\n',
    ".jsonl": '{"tag": "one", "prompt": "a red star"}\n{"tag": "two", "include": [1], "prompt": "a cross"}\n',
}


def made(place: str | Path) -> Make:
    """A file or folder of the repository (or an absolute path), figures left out."""

    def make(folder: Path) -> None:
        if (found := ROOT / place).is_dir():
            shutil.copytree(found, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("figures"))
        else:
            shutil.copy(found, folder)

    return make


def there(name: str) -> bool:
    """Whether the shipped results have this file."""
    return (ROOT / "results" / "quick" / name).is_file()


def text(name: str, content: str) -> Make:
    return lambda folder: (folder / name).write_text(content)


def saved(ending: str, prompts: bool = False, below: str = ".") -> Make:
    """Pictures, with prompts beside them or in a folder below."""

    def make(folder: Path) -> None:
        (folder / below).mkdir(exist_ok=True)
        for name, levels in zip(NAMES, PICTURES, strict=True):
            Image.fromarray(levels).save(folder / below / f"{name}{ending}")
            if prompts:
                (folder / f"{name}.txt").write_text(f"a red star and {name} things\n")

    return make


def film(ending: str) -> Make:
    return lambda folder: write_film(list(map(Image.fromarray, PICTURES)), folder / f"a{ending}", 8)


def formats(kit: Kit) -> list[Format]:
    """All of them. Of models and adapters the example is a tiny one, made here."""
    assert kit.experiment  # loaded before any fork
    model, adapter = made(kit.root / "model"), made(kit.root / "adapter")
    beside_mini_flux = "ddit_eval/weights/adapters/mini-flux"
    return [
        Format("experiment", ("*",), made("experiments/quick.yaml"), experiment, WRITTEN, 2),
        Format("distillation", ("*",), made("experiments/train/mini-flux-adapter.yaml"), distillation,
               WRITTEN),
        Format("--policy", ("*",), text("of.policy", "{kind: threshold, tau: 0.01, scales: [2, 4]}"), policy,
               WRITTEN),
        *(Format(f"prompts {e}", ("*",), text(f"prompts{e}", content), prompts(e), WRITTEN)
          for e, content in PROMPTS.items()),
        Format("prompts beside", ("*.txt",), saved(".png", prompts=True), beside, WRITTEN),
        Format("prompts of a folder", ("*",), text("lines.txt", "a star\na cross\ntwo things\n"), lines,
               WRITTEN),
        Format("pictures to train on", ("*",), saved(".png", prompts=True), trained_on, PIXELS),
        Format("records, run", ("records/*", "index.json"), kit.run, kit.run, share=0.7),
        Format("records, evaluate", ("records/*", "index.json"), kit.run, kit.looked_up),
        Format("a clip's record", ("*",), lambda f: Store(f).save(CLIP, CLIP_LEVELS, [STEP]), clip),
        *(Format(name, (name,), made("results/quick"), results, legal, 0.4)
          for names, legal in ((RESULTS, ""), (TABLES, NUMBERS)) for name in names if there(name)),
        Format("errors.json", ("errors.json",), made(beside_mini_flux), errors, NUMBERS),
        Format("calibration", ("*",), made(f"{beside_mini_flux}/calibration.json"), table, WEIGHTS),
        Format("adapter", ("*",), adapter, kit.adapter, WEIGHTS),
        Format("model, JSON", ("*.json", "*/*.json"), model, kit.model, WEIGHTS, 0.7),
        Format("model, weights", ("*/*.safetensors",), model, kit.model, WEIGHTS, 0.7),
        Format("study journal", ("*.journal",), kit.study, kit.study, JOURNAL, 0.7),
        Format("checkpoint", ("checkpoint/*",), partial(kit.distil, until=1), kit.distil, WEIGHTS, 0.3),
        Format("generated samples", ("generated/*",), partial(kit.distil, until=1, **GENERATED),
               partial(kit.distil, **GENERATED), WEIGHTS, 0.3),
        Format("latency table", ("*",), kit.latency, kit.latency, share=0.6),
        Format("harm tables", ("*/*/*",), kit.harm, kit.harm, CACHE, 0.7),
        *(Format(f"pictures {e}", ("*",), saved(e), looked_at, PIXELS, 0.7)
          for e in (".png", ".jpg", ".webp", ".bmp")),
        *(Format(f"film {e}", ("*",), film(e), looked_at, PIXELS) for e in (".gif", ".mp4")),
        *(Format(f"frames {e}", ("*/*",), saved(e, below="film"), looked_at, PIXELS, 0.5)
          for e in (".png", ".tif")),
        Format("reference features", ("*",), reference, reference),
    ]  # fmt: skip
