"""What the training runs of the small models share.

A run goes through the stages of a plan. Every step is a pure function of the weights and its number, so
that a run which was stopped ends like one that was not. Several processes average their gradients.
"""

from __future__ import annotations

import copy
import json
import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from accelerate import Accelerator
from pydantic import TypeAdapter
from torch import Tensor, nn

from ddit_eval.models.find import fingerprint
from ddit_eval.system.lock import alone
from ddit_eval.system.read import file_digest
from ddit_eval.training import checkpoint
from ddit_eval.training.precision import bfloat16, fast_matmul

Model = TypeVar("Model", bound=nn.Module)


class Stretch(Protocol):
    """What the loop reads of a stage."""

    lr: float
    decay: float  # share of the stage over which the learning rate falls to zero
    batch: int  # samples a step, over all processes

    @property
    def samples(self) -> int:
        """Samples in the whole stage."""


def rate(stage: Stretch, step: int, steps: int) -> float:
    """Learning rate: a rise over a hundred steps, a plateau, a linear fall to one hundredth."""
    fall = min(1.0, (1 - step / steps) / max(stage.decay, 1e-6))
    return stage.lr * min(1.0, (step + 1) / 100) * max(fall, 0.01)


def sample_timesteps(count: int, shift: float) -> Tensor:
    """Logit-normal times in 0..1 under the sampler's shift (s -> shift s / (1 + (shift - 1) s)), with a
    tenth of them uniform."""
    s = torch.sigmoid(torch.randn(count))
    s = shift / (shift + (1 / s - 1))
    return torch.where(torch.rand(count) < 0.1, torch.rand(count), s)


def shift_of(tokens: int) -> float:
    """FLUX's shift for a picture of so many tokens."""
    return math.exp(0.5 + (tokens - 256) / (4096 - 256) * (1.15 - 0.5))


class Loop(Generic[Model]):
    """The state of a run: model, its moving average, optimizer, and where in the plan it stands.

    `plan` has `stages`, `ema`, `seed`, `unseen` (how many samples `validate` takes) and perhaps `bfloat16`;
    `out` takes checkpoint, log and, a folder a stage, what `export` writes.
    """

    def __init__(self, plan: Any, out: Path, student: Model):
        self.plan, self.out, self.student = plan, out, student
        self.given: dict[str, Path | None] = {}
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available())
        self.processes, self.rank = self.accelerator.num_processes, self.accelerator.process_index
        self.average = copy.deepcopy(student).eval().requires_grad_(False)
        self.stage, self.step, self.seconds = 0, 0, 0.0
        self.optimizer = self.new_optimizer()

    # What a model says of itself.

    def losses(self, stage: Any, first: int) -> tuple[Tensor, Tensor]:
        """What to minimise, and what to show, for this process's share of samples `first` onwards."""
        raise NotImplementedError

    def validate(self, stage: Any) -> dict[str, float]:
        """Measures of the averaged model on unseen samples."""
        raise NotImplementedError

    def export(self, folder: Path) -> None:
        """Write the averaged model."""
        raise NotImplementedError

    def exported(self, stage: int) -> Path:
        """Where the model lies as a stage left it."""
        return self.out / f"stage-{stage}"

    def prepare(self, stage: Any) -> None:
        """Called at the start of a stage, also after a restart."""

    # The loop.

    def new_optimizer(self) -> torch.optim.Optimizer:
        plain = [p for p in self.student.parameters() if p.ndim < 2]
        matrices = [p for p in self.student.parameters() if p.ndim >= 2]
        return torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}],
            lr=1e-3,
            betas=(0.9, 0.98),
            fused=True,
        )

    def train_step(self, stage: Any, steps: int, start: int) -> float:
        """One step of a stage of `steps` steps whose first sample is `start`; returns the loss to show."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate(stage, self.step, steps)
        torch.manual_seed((self.plan.seed * 7_919 + self.stage * 1_000_003 + self.step) * 64 + self.rank)
        with fast_matmul(), bfloat16(self.accelerator.device, getattr(self.plan, "bfloat16", False)):
            loss, shown = self.losses(stage, start + self.step * stage.batch)
            self.optimizer.zero_grad()
            loss.backward()
        self.average_gradients()
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        decay = min(self.plan.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for a, p in zip(self.average.parameters(), self.student.parameters(), strict=True):
                a.lerp_(p, 1 - decay)
        return float(shown.detach())

    def average_gradients(self) -> None:
        if self.processes == 1:
            return
        # A rank whose captions all happen to be empty has no gradient for the word head: all must agree.
        for p in self.student.parameters():
            if p.grad is None and p.requires_grad:
                p.grad = torch.zeros_like(p)
        gradients = [p.grad for p in self.student.parameters() if p.grad is not None]
        flat = self.accelerator.reduce(torch.cat([g.flatten() for g in gradients]), "mean")
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def modules(self) -> dict[str, nn.Module]:
        return {"student": self.student, "average": self.average}

    def made(self) -> dict[str, Any]:
        """What decides a run: its plan, the files in `given` and how many processes share it."""
        plan = TypeAdapter(type(self.plan)).dump_python(self.plan, mode="json")
        files = {name: p for name, p in self.given.items() if p}
        digests = {name: fingerprint(p) if p.is_dir() else file_digest(p) for name, p in files.items()}
        return plan | digests | {"processes": self.processes}

    def save(self) -> None:
        meta = {"stage": self.stage, "step": self.step, "seconds": self.seconds}
        checkpoint.save(self.out / "checkpoint", self.modules(), self.optimizer, meta, self.made())

    def resume(self) -> bool:
        """Go on from the last checkpoint, if there is one."""
        meta = checkpoint.load(self.out / "checkpoint", self.modules(), self.optimizer, self.made())
        if meta:
            self.stage, self.step, self.seconds = meta["stage"], meta["step"], meta["seconds"]
        self.accelerator.wait_for_everyone()  # nobody writes the next before all have read this one
        return meta is not None

    def run(self, every: float = 120.0) -> None:
        """Train to the end of the plan; a row of log.jsonl and a checkpoint every so many seconds."""
        with alone(self.out / "checkpoint", "training") if self.rank == 0 else nullcontext():
            self._run(every)

    def _run(self, every: float) -> None:
        log = (self.out / "log.jsonl").open("a")
        saved = time.monotonic()
        while self.stage < len(self.plan.stages):
            stage = self.plan.stages[self.stage]
            self.prepare(stage)
            steps = max(1, stage.samples // stage.batch)
            start = sum(s.samples for s in self.plan.stages[: self.stage])
            running = 0.0
            while self.step < steps:
                began = time.monotonic()
                loss = self.train_step(stage, steps, start)
                self.seconds += time.monotonic() - began
                running = loss if running == 0 else 0.98 * running + 0.02 * loss
                self.step += 1
                if self.rank == 0 and (time.monotonic() - saved > every or self.step == steps):
                    row = {"stage": self.stage, "step": self.step, "of": steps, "loss": running}
                    row |= self.validate(stage) | {"seconds": self.seconds}
                    log.write(json.dumps(row) + "\n")
                    log.flush()
                    print(json.dumps(row), flush=True)
                    self.save()
                    saved = time.monotonic()
            self.stage, self.step = self.stage + 1, 0
            self.optimizer = self.new_optimizer()
            if self.rank == 0:
                self.save()
                self.export(self.exported(self.stage - 1))
            self.accelerator.wait_for_everyone()  # the next stage may begin with what was just exported
