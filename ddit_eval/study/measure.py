"""What a row costs and is worth on a prompt, against the base model from the same noise."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ddit_eval import metrics
from ddit_eval.ddit.policies import Base, Threshold
from ddit_eval.ddit.sampling import Run
from ddit_eval.errors import DditError
from ddit_eval.experiment.config import FilePrompts, Method
from ddit_eval.experiment.generate import Generator
from ddit_eval.experiment.prompts import Prompt, tuning_prompts
from ddit_eval.experiment.records import pictures, pixels_of
from ddit_eval.experiment.setting import Setting
from ddit_eval.models.cost import tokens_of
from ddit_eval.schema.study import Latency
from ddit_eval.stats import CAP
from ddit_eval.study.trials import Scores
from ddit_eval.system.quiet import quiet_libraries
from ddit_eval.system.workers import a_thread_each

if TYPE_CHECKING:
    from PIL.Image import Image

PromptSets = tuple[list[Prompt], list[Prompt]]  # to tune on, held out
UNIT_PROMPTS = 4  # prompts that the unit of tau is measured on


@dataclass(frozen=True)
class Score:
    """A row on one prompt, seeds averaged: cost as a share of the base's, quality (nan: not asked for).

    Of the first seed: `scales` of the steps, the picture and the base's.
    """

    cost: float
    quality: float
    scales: tuple[int, ...] = ()
    picture: Image | None = None  # of a clip, its middle frame
    base: Image | None = None


class Evaluator(Protocol):
    """Where trials are measured."""

    held_out_prompts: int

    def measure(self, method: Method, prompt: int) -> Score:
        """A row on a tuning prompt, by its place among them."""

    def held_out(self, method: Method, prompt: int) -> Score:
        """A row on a held-out prompt."""

    def unit(self, order: int) -> float:
        """The base's median signal of an order: what a relative tau of 1 stands for."""

    def memory(self, scales: Iterable[int]) -> float | None:
        """Peak GiB of a run over these scales; None where it is not known."""

    def close(self) -> None:
        """Free what the evaluator holds."""


def scores_of(scored: Sequence[Score]) -> Scores:
    return Scores(tuple(r.cost for r in scored), tuple(r.quality for r in scored))


def prompt_sets(setting: Setting) -> PromptSets:
    """Prompts to tune on, and held-out ones: the first of the experiment's own.

    Of a file the tuning prompts are the first lines and the held-out ones follow. Raises `DditError` where
    it has too few.
    """
    source, space = setting.experiment.prompts, setting.experiment.study
    tuning, own = tuning_prompts(source, space.prompts), list(setting.prompts)
    if isinstance(source, FilePrompts):
        own = own[space.prompts :]
        if len(tuning) < space.prompts or (space.confirm and not own):
            raise DditError(
                f"study: {source.path} has {len(tuning) + len(own)} prompts, of which "
                f"{space.prompts} are to tune on and others to confirm; lengthen it or lower `study.prompts`"
            )
    return tuning, own[: space.heldout] if space.confirm else []


class PictureEvaluator:
    """Measures on an experiment's pictures."""

    def __init__(
        self, setting: Setting, prompts: PromptSets, latency: Latency | None = None, pipe: Any = None
    ):
        quiet_libraries()  # a second worker has no command line that has done so
        self._open = ExitStack()
        self._open.enter_context(a_thread_each())
        self.setting, self.space = setting, setting.experiment.study
        self.latency = latency
        self.metric = metrics.get(self.space.quality)
        self.tuning, self.heldout = prompts
        self.held_out_prompts = len(self.heldout)
        self.generator = self._open.enter_context(Generator(setting, pipe))
        self._base: dict[tuple[str, int], Run] = {}

    def measure(self, method: Method, prompt: int) -> Score:
        return self._score(method, self.tuning[prompt])

    def held_out(self, method: Method, prompt: int) -> Score:
        return self._score(method, self.heldout[prompt])

    def unit(self, order: int) -> float:
        silent = Method(name="silent", policy=Threshold(tau=1e-30, order=order))
        traces = [self._run(silent, p).trace for p in self.tuning[:UNIT_PROMPTS]]
        signals = [v for trace in traces for step in trace for v in (step.signals or {}).values()]
        return float(np.median(signals)) if signals else 1.0

    def memory(self, scales: Iterable[int]) -> float | None:
        return self.latency.peak(scales) if self.latency else None

    def close(self) -> None:
        self._open.close()

    def _score(self, method: Method, prompt: Prompt) -> Score:
        """The row on every seed of a prompt, each against the base."""
        seeds = [reseeded(prompt, i) for i in range(self.space.seeds)]
        runs = [self._run(method, p) for p in seeds]
        bases = [self._base_of(p) for p in seeds]
        ours, theirs = (
            pixels_of(frame[None] for run in made for frame in run.levels[0]) for made in (runs, bases)
        )
        if self.metric.of == "films":
            ours, theirs = (pixels.unflatten(0, (len(seeds), -1)) for pixels in (ours, theirs))
        columns = self.metric(ours, theirs, [prompt.text] * len(ours))
        values = np.minimum(next(iter(columns.values())), CAP)
        asked = values[~np.isnan(values)]
        return Score(
            cost=sum(map(self._cost, runs)) / sum(map(self._cost, bases)),
            quality=float(asked.mean()) if asked.size else float("nan"),
            scales=tuple(step.scale for step in runs[0].trace),
            picture=_middle(runs[0]),
            base=_middle(bases[0]),
        )

    def _base_of(self, prompt: Prompt) -> Run:
        key = (prompt.text, prompt.seed)
        if key not in self._base:
            self._base[key] = self._run(Method(name="base", policy=Base()), prompt)
        return self._base[key]

    def _run(self, method: Method, prompt: Prompt) -> Run:
        return self.generator.sample([self.setting.job(method, prompt)])

    def _cost(self, run: Run) -> float:
        if self.space.cost == "latency":
            assert self.latency is not None
            return self.latency.seconds_of(run.trace, self.setting.flops)
        return tokens_of(run.trace) if self.space.cost == "tokens" else self.setting.flops_of(run.trace)


def reseeded(prompt: Prompt, index: int) -> Prompt:
    """The prompt with its noise number `index`; 0 is its own."""
    if index == 0:
        return prompt
    digest = hashlib.sha256(f"{prompt.seed}/{index}".encode()).digest()
    return replace(prompt, seed=int.from_bytes(digest[:4], "big") >> 1)


def _middle(run: Run) -> Image:
    return pictures(run.levels[0])[len(run.levels[0]) // 2]
