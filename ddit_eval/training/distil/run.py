"""The distillation loop: the base is frozen, only the adapter learns.

L = || v_student(z_t, t, c; s) - v_base(z_t, t, c) ||^2 for the same z_t (2602.16968, section 3),
summed over the coarse scales, so that one forward of the base serves them all.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cached_property, partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ddit_eval.ddit.adapter.adapter import Adapter
from ddit_eval.ddit.families import family_of
from ddit_eval.ddit.handle import attach
from ddit_eval.ddit.layout import Layout
from ddit_eval.ddit.regions import random_map, tile
from ddit_eval.errors import DditError
from ddit_eval.models.load import load_pipeline
from ddit_eval.models.names import known
from ddit_eval.schema import write
from ddit_eval.schema.distillation import FILE, Distillation, adapter_digest
from ddit_eval.system.files import check_writable, sweep
from ddit_eval.system.lock import alone
from ddit_eval.training import checkpoint
from ddit_eval.training.distil import generated
from ddit_eval.training.distil.config import DistilConfig
from ddit_eval.training.distil.data import pictures_of, world_prompts
from ddit_eval.training.distil.made import inputs_of as digests_of
from ddit_eval.training.distil.made import is_finished, made_of
from ddit_eval.training.distil.measure import FLOW_TIMES, error_table
from ddit_eval.training.flow import sample_timesteps, shift_of, span_of
from ddit_eval.training.inputs import inputs_of
from ddit_eval.training.precision import bfloat16, fast_matmul

Row = dict[str, float]
LOG_EVERY = 20  # steps that a row of the kept log averages


def _optimizer(config: DistilConfig, adapter: Adapter) -> torch.optim.Optimizer:
    parameters = [p for p in adapter.parameters() if p.requires_grad]
    if config.optimizer == "prodigy":
        from prodigyopt import Prodigy

        return Prodigy(parameters, lr=config.lr)
    return torch.optim.AdamW(parameters, lr=config.lr, betas=(0.9, 0.98), weight_decay=0.0)


def _rate(config: DistilConfig, step: int, steps: int) -> float:
    """Learning rate: a short rise, a plateau, a linear fall to one hundredth."""
    fall = (1 - step / steps) / config.decay if config.decay else 1.0
    return config.lr * min(1.0, (step + 1) / 50, max(fall, 0.01))


def _fits(ours: Tensor | None, theirs: Tensor) -> bool:
    return ours is not None and ours.shape == theirs.shape


class Distiller:
    """State of one run: pipeline, adapter, optimizer, step."""

    def __init__(self, config: DistilConfig, pipe: Any | None = None, inputs: dict[str, Any] | None = None):
        """inputs: digests of what it starts from, by default found here."""
        self.config = config
        self.digests = digests_of(config, pipe) if inputs is None else inputs
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available())
        self.pipe = pipe if pipe is not None else load_pipeline(config.model)
        self.pipe.to(self.accelerator.device)
        self.span = span_of(self.pipe, config.part)
        self.transformer = getattr(self.pipe, config.part)
        self.transformer.requires_grad_(False)
        if config.checkpointing:
            self.transformer.enable_gradient_checkpointing()
        self.inputs = inputs_of(self.pipe)
        model = known(config.model)
        self.text_tokens = config.text_tokens or (model.text_tokens if model else 512)
        self.adapter = Adapter.from_base(
            self.transformer,
            scales=config.scales,
            rank=config.rank,
            detail=config.detail,
            attention=config.attention,
            seed=config.seed,
            time=config.time,
        ).to(self.accelerator.device)
        self.optimizer = _optimizer(config, self.adapter)
        self.step, self.seconds = 0, 0.0
        self.steps = max(1, config.pictures // (config.batch * self.accelerator.num_processes))

    @cached_property
    def draw(self) -> Callable[[int, int, int], tuple[Tensor, list[str]]]:
        """(start, count, side) -> clean latents and their prompts."""
        source, device = self.config.source, self.accelerator.device
        if source.kind == "generated":
            folder, probes = self.config.out / "generated", self.config.probe_pictures
            share = slice(self.accelerator.process_index, None, self.accelerator.num_processes)
            prompts = partial(world_prompts, source)
            made = generated.made_of(source, self.text_tokens, self.digests.get("model"))
            generated.make(self.pipe, source, prompts, self.text_tokens, folder, probes, share, made)
            self.accelerator.wait_for_everyone()
            return generated.load(source, folder, probes, device, made)
        pictures = pictures_of(source)

        def coded(start: int, count: int, side: int) -> tuple[Tensor, list[str]]:
            clean, texts = pictures(start, count, side)
            return torch.cat([self.inputs.encode(self.pipe, part) for part in clean.split(16)]), texts

        return coded

    def begin(self) -> None:
        """Take over the weights of `config.begin`: when a base is trained further, its adapter need not
        start from nothing. Layers that had no LoRA begin at zero, and a residual block of another shape
        (with the de-embedding that feeds it) at its start values. Raises `DditError` where anything else
        has another shape."""
        if self.config.begin is None:
            return
        earlier = Adapter.from_pretrained(self.config.begin)
        ours = self.adapter.config.model_dump(exclude={"base", "detail"})
        theirs = earlier.config.model_dump(exclude={"base", "detail"})
        if theirs["layers"].items() <= ours["layers"].items():
            theirs["layers"] = ours["layers"]
        differing = [name for name in ours if ours[name] != theirs[name]]
        if differing:
            name = differing[0]
            raise DditError(
                f"begin: the adapter {self.config.begin} has {name} {theirs[name]} and this run "
                f"{ours[name]}; make them equal, or leave `begin` out"
            )
        start = self.adapter.state_dict()
        weights = {k: v.float() for k, v in earlier.state_dict().items()}
        self.adapter.load_state_dict(start | {k: w for k, w in weights.items() if _fits(start.get(k), w)})

    def train_step(self, handle: Any) -> Row:
        """One optimizer step; a pure function of (weights, step)."""
        config, rank = self.config, self.accelerator.process_index
        index = self.step * self.accelerator.num_processes + rank
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + index)
        sides = config.source.sides
        latents, prompts = self.draw(index * config.batch, config.batch, sides[self.step % len(sides)])
        blank = torch.rand(len(prompts), generator=generator) < config.drop
        prompts = ["" if b else p for p, b in zip(prompts, blank.tolist(), strict=True)]
        noise = torch.randn(latents.shape, generator=generator)
        tokens = latents.shape[2:].numel() // family_of(self.transformer).patch ** 2
        t = sample_timesteps(len(latents), shift_of(self.pipe.scheduler, tokens), generator, self.span)
        kwargs = self.inputs.build(self.pipe, latents, prompts, t, noise, self.text_tokens)
        with torch.no_grad(), handle.forced(1):
            target = self.transformer(**kwargs)[0].float()
        row: Row = {}
        self.optimizer.zero_grad()
        for name, layout in self.layouts(latents, generator).items():
            with handle.forced(layout):
                student = self.transformer(**kwargs)[0].float()
            loss = (student - target).square().mean()
            if not math.isfinite(loss.detach()):
                raise DditError(
                    f"the loss is {float(loss.detach())} in step {self.step + 1} of {self.steps}; lower "
                    f"`lr`, remove {config.out} and train again"
                )
            self.accelerator.backward(loss)
            row[f"error_{name}"] = float(loss.detach() / target.var())
        for parameter in self.adapter.parameters():
            if parameter.grad is not None:
                parameter.grad = self.accelerator.reduce(parameter.grad, "mean")
        torch.nn.utils.clip_grad_norm_(self.adapter.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = _rate(config, self.step, self.steps)
        self.optimizer.step()
        self.step += 1
        return row

    def layouts(self, latents: Tensor, generator: torch.Generator) -> dict[str, int | Layout]:
        """What one step teaches: every scale alone, and with `mixed` a random tiling too."""
        config, patch = self.config, family_of(self.transformer).patch
        taught: dict[str, int | Layout] = {f"{scale}p": scale for scale in config.scales}
        if config.mixed:
            frames = latents.shape[2] if latents.ndim == 5 else 1
            grid = (frames, latents.shape[-2] // patch, latents.shape[-1] // patch)
            allowed = random_map(grid, config.scales, generator)
            layout = tile(allowed, config.scales, self.adapter.config.times)
            taught["mixed"] = config.scales[0] if layout.is_base else layout  # the base has nothing to learn
        return taught

    @property
    def times(self) -> tuple[float, ...]:
        """Those of the table that the transformer is called at."""
        low, high = self.span
        return tuple(t for t in FLOW_TIMES if low <= t <= high)

    def table(self, handle: Any, stage: str) -> list[dict[str, Any]]:
        """Error by timestep on pictures that training never draws, a row a side and scale; a larger side
        has fewer pictures, as many as make up the same number of tokens."""
        rows = []
        for side in sorted(set(self.config.source.sides)):
            share = (min(self.config.source.sides) / side) ** 2
            count = max(2, round(self.config.probe_pictures * share))
            latents, prompts = self.draw(generated.PROBE, count, side)
            errors = error_table(self.pipe, handle, latents, prompts, self.text_tokens, self.times)
            rows += [
                {"scale": scale, "side": side, "n": count, "stage": stage, "error": values}
                for scale, values in errors.items()
            ]
        return rows


def distil(
    config: DistilConfig, pipe: Any | None = None, inputs: dict[str, Any] | None = None
) -> Iterator[Row]:
    """Train an adapter; yields a row a step, the caller logs.

    Killed at any moment, a second call goes on from the last checkpoint (at most `checkpoint_minutes` old);
    of a finished training it yields nothing. Writes `config.out`: the adapter, `errors.json` (error relative
    to the velocity's variance by timestep, at the start values and after training), `checkpoint/`. inputs:
    digests of what it starts from, where they are known; else found here.

    Raises `DditError` before any work where `config.out` cannot be written to, is at work in another process
    or holds another training than this one.
    """
    main = int(os.environ.get("RANK", 0)) == 0
    if main:
        check_writable(config.out)
    with alone(config.out / "checkpoint", "training") if main else nullcontext():
        inputs = digests_of(config, pipe) if inputs is None else inputs
        if is_finished(config, inputs):
            return
        if main:
            sweep(config.out)
        yield from _train(config, inputs, pipe)


def _train(config: DistilConfig, inputs: dict[str, Any], pipe: Any | None) -> Iterator[Row]:
    plain = config.model_dump(mode="json")
    folder, made = config.out / "checkpoint", made_of(plain, inputs)
    run = Distiller(config, pipe, inputs)
    main = run.accelerator.is_main_process
    meta = checkpoint.load(folder, {"adapter": run.adapter}, run.optimizer, made)
    log: list[Row] = meta["log"] if meta else []
    recent: list[Row] = meta["recent"] if meta else []
    with attach(run.transformer, adapter=run.adapter) as handle:
        if meta:
            run.step, run.seconds, start = meta["step"], meta["seconds"], meta["start"]
        else:
            start = run.table(handle, "start")
            run.begin()
        saved = time.monotonic()
        while run.step < run.steps:
            began = time.monotonic()
            with fast_matmul(), bfloat16(run.accelerator.device, config.bfloat16):
                row = run.train_step(handle)
            run.seconds += time.monotonic() - began
            recent.append(row)
            if len(recent) == LOG_EVERY:
                log.append({"step": run.step} | {k: sum(r[k] for r in recent) / LOG_EVERY for k in row})
                recent = []
            last = run.step == run.steps
            if main and (last or time.monotonic() - saved > 60 * config.checkpoint_minutes):
                state = {"step": run.step, "seconds": run.seconds, "start": start}
                state |= {"log": log, "recent": recent}
                checkpoint.save(folder, {"adapter": run.adapter}, run.optimizer, state, made)
                saved = time.monotonic()
            yield row | {"step": run.step, "of": run.steps, "seconds": run.seconds}
        if main:
            run.adapter.save_pretrained(config.out, dtype=torch.bfloat16)
            errors = {
                "timesteps": run.times,
                "rows": start + run.table(handle, "trained"),
                "seconds": run.seconds,
                "n": config.probe_pictures,
                "log": log,
                "config": plain,
                "inputs": inputs,
                "adapter": adapter_digest(config.out),
            }
            # Last, as it says that the training is finished.
            write(config.out / FILE, Distillation.model_validate(errors))
