"""What a policy costs and is worth on a prompt, against the base model from the same noise."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ddit_eval import metrics
from ddit_eval.ddit.policies import Base, Policy, Threshold
from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Experiment, FilePrompts, Method
from ddit_eval.experiment.generate import Generator, describe_weights, job_of, size_of
from ddit_eval.experiment.prompts import Prompt, load_prompts, tuning_prompts
from ddit_eval.models.cost import flop_table, flops_of, tokens_of
from ddit_eval.study.latency import Latency
from ddit_eval.study.rungs import Scores
from ddit_eval.system.workers import threads

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

Trace = Sequence[Mapping[str, Any]]
CAP = 100.0  # an infinite PSNR (identical pictures) counts as this: samplers need finite values
UNIT_PROMPTS = 4  # prompts that the unit of tau is measured on


@dataclass(frozen=True)
class Reading:
    """A policy on one prompt, seeds averaged: cost as a share of the base's, quality (nan: not asked for).

    Of the first seed: `scales` of the steps, the picture and the base's.
    """

    cost: float
    quality: float
    scales: tuple[int, ...] = ()
    picture: Image | None = None  # of a clip, its middle frame
    base: Image | None = None


class Lab(Protocol):
    """Where trials are measured."""

    held_out_prompts: int

    def measure(self, policy: Policy, steps: int, prompt: int) -> Reading:
        """A policy on a tuning prompt, by its place among them."""

    def held_out(self, policy: Policy, steps: int, prompt: int) -> Reading:
        """A policy on a held-out prompt."""

    def unit(self, order: int) -> float:
        """The base's median signal of an order: what a relative tau of 1 stands for."""

    def memory(self, scales: Iterable[int]) -> float | None:
        """Peak GiB of a run over these scales; None where it is not known."""

    def close(self) -> None:
        """Free what the lab holds."""


def scores_of(readings: Sequence[Reading]) -> Scores:
    return Scores(tuple(r.cost for r in readings), tuple(r.quality for r in readings))


def prompt_sets(experiment: Experiment) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts to tune on, and held-out ones: the first of the experiment's own.

    Of a file the tuning prompts are the first lines and the held-out ones follow. Raises `DditError` where
    it has too few.
    """
    space = experiment.study
    tuning = tuning_prompts(experiment.prompts, space.prompts)
    own = load_prompts(experiment.prompts)
    if isinstance(experiment.prompts, FilePrompts):
        own = own[space.prompts :]
        if len(tuning) < space.prompts or (space.confirm and not own):
            raise DditError(
                f"study: {experiment.prompts.path} has {len(tuning) + len(own)} prompts, of which "
                f"{space.prompts} are to tune on and others to confirm; lengthen it or lower `study.prompts`"
            )
    return tuning, own[: space.heldout] if space.confirm else []


class PictureLab:
    """The lab of an experiment. On a CPU with one thread: the values must not depend on how many share it."""

    def __init__(self, experiment: Experiment, latency: Latency | None = None, pipe: Any = None):
        import torch

        self._open = ExitStack()
        if not torch.cuda.is_available():
            self._open.enter_context(threads(1))
        self.experiment = experiment
        self.latency = latency
        self.metric = metrics.get(experiment.study.quality)
        self.weights = describe_weights(experiment)
        self.tuning, self.heldout = prompt_sets(experiment)
        self.held_out_prompts = len(self.heldout)
        self.flops = flop_table(experiment.model, experiment.adapter, *size_of(experiment))
        self.generator = self._open.enter_context(Generator(experiment, pipe))
        self._base: dict[tuple[str, int], tuple[list[Image], float]] = {}

    def measure(self, policy: Policy, steps: int, prompt: int) -> Reading:
        return self._read(policy, steps, self.tuning[prompt])

    def held_out(self, policy: Policy, steps: int, prompt: int) -> Reading:
        return self._read(policy, steps, self.heldout[prompt])

    def unit(self, order: int) -> float:
        silent = Threshold(tau=1e-30, order=order)
        traces = [self._run(silent, self.experiment.steps, p)[1] for p in self.tuning[:UNIT_PROMPTS]]
        signals = [v for trace in traces for step in trace for v in (step["signals"] or {}).values()]
        return float(np.median(signals)) if signals else 1.0

    def memory(self, scales: Iterable[int]) -> float | None:
        return self.latency.peak(scales) if self.latency else None

    def close(self) -> None:
        self._open.close()

    def _read(self, policy: Policy, steps: int, prompt: Prompt) -> Reading:
        """The policy on every seed of a prompt, each against the base."""
        seeds = [reseeded(prompt, i) for i in range(self.experiment.study.seeds)]
        runs = [self._run(policy, steps, p) for p in seeds]
        bases = [self._base_of(p) for p in seeds]
        pictures, reference = (
            _stack([frame for frames, _ in made for frame in frames]) for made in (runs, bases)
        )
        if self.metric.of == "films":
            pictures, reference = (p.unflatten(0, (len(seeds), -1)) for p in (pictures, reference))
        columns = self.metric(pictures, reference, [prompt.text] * len(pictures))
        values = np.minimum(next(iter(columns.values())), CAP)
        asked = values[~np.isnan(values)]
        return Reading(
            cost=sum(self._cost(trace) for _, trace in runs) / sum(cost for _, cost in bases),
            quality=float(asked.mean()) if asked.size else float("nan"),
            scales=tuple(step["scale"] for step in runs[0][1]),
            picture=_middle(runs[0][0]),
            base=_middle(bases[0][0]),
        )

    def _base_of(self, prompt: Prompt) -> tuple[list[Image], float]:
        key = (prompt.text, prompt.seed)
        if key not in self._base:
            image, trace = self._run(Base(), self.experiment.steps, prompt)
            self._base[key] = image, self._cost(trace)
        return self._base[key]

    def _run(self, policy: Policy, steps: int, prompt: Prompt) -> tuple[list[Image], Trace]:
        method = Method(name="trial", policy=policy, steps=steps)
        samples, trace = self.generator.sample([job_of(self.experiment, self.weights, method, prompt)])
        return samples[0], trace

    def _cost(self, trace: Trace) -> float:
        if self.experiment.study.cost == "latency":
            assert self.latency is not None
            return self.latency.seconds_of(trace)
        return tokens_of(trace) if self.experiment.study.cost == "tokens" else flops_of(trace, self.flops)


def reseeded(prompt: Prompt, index: int) -> Prompt:
    """The prompt with its noise number `index`; 0 is its own."""
    if index == 0:
        return prompt
    digest = hashlib.sha256(f"{prompt.seed}/{index}".encode()).digest()
    return replace(prompt, seed=int.from_bytes(digest[:4], "big") >> 1)


def _middle(frames: Sequence[Image]) -> Image:
    return frames[len(frames) // 2]


def _stack(images: Sequence[Image]) -> Tensor:
    """(N, 3, H, W) in [0, 1]."""
    import torch

    return torch.from_numpy(np.stack([np.asarray(i) for i in images])).permute(0, 3, 1, 2).float() / 255
