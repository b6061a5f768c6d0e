"""What a training run will take, said before it starts. From configurations alone: no weights are loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from ddit_eval.clock import machine
from ddit_eval.ddit.adapter.adapter import Adapter
from ddit_eval.ddit.adapter.config import config_for
from ddit_eval.models import cost, flops
from ddit_eval.models.find import text_tokens
from ddit_eval.training.distil.config import DistilConfig

SHARE = 0.4  # of the measured matrix rate, as training usually reaches
# Tensors of a token's width that a block keeps for its backward, roughly: norms, projections, feed-forward.
KEPT = 20
STATES = {"adamw": 2, "prodigy": 4}  # tensors of the optimizer for each weight


@dataclass(frozen=True)
class Estimate:
    """Bytes are of one process; text encoders and VAE come on top of both bytes and seconds."""

    steps: int
    processes: int
    base_parameters: int
    base_bytes: int
    adapter_parameters: int
    adapter_bytes: int  # weights, gradients and the optimizer's state, float32
    activation_bytes: int
    flops_a_sample: int
    gflops: float  # measured here
    seconds: float

    def __str__(self) -> str:
        gb = f"{self.base_bytes / 1e9:.2f} GB base, {self.adapter_bytes / 1e9:.2f} GB adapter and optimizer"
        return (
            f"{self.steps} steps by {self.processes} process(es), {self.flops_a_sample / 1e9:,.0f} GFLOP a "
            f"sample; memory of each about {gb}, {self.activation_bytes / 1e9:.2f} GB activations; about "
            f"{_duration(self.seconds)} at {SHARE:.0%} of the {self.gflops:,.0f} GFLOP/s measured here. Text "
            "encoders and VAE come on top of both"
        )


def estimate(config: DistilConfig, processes: int | None = None) -> Estimate:
    """Raises `DditError` where the model is not here."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    processes = processes or int(os.environ.get("WORLD_SIZE", 1))
    transformer: Any = cost.transformer_of(config.model, config.part)
    with torch.device("meta"):
        adapter = Adapter(
            config_for(transformer, config.scales, config.rank, config.detail, config.attention, config.time)
        )
    words = config.text_tokens or text_tokens(config.model)
    work = tokens = 0.0
    for side in config.source.sides:
        grid = cost.grid_of(config.model, side, side, config.source.frames)
        table = flops.by_scale(transformer, grid, words, config.scales, adapter)
        # The frozen base has no gradients of weights: a backward costs what a forward does.
        passes = 3 if config.checkpointing else 2
        taught = [passes * table[s] for s in config.scales]
        if config.mixed:
            taught.append(sum(taught) // len(taught))
        work += (table[1] + sum(taught)) / len(config.source.sides)
        tokens = max(tokens, grid[0] * grid[1] * grid[2] / min(config.scales) ** 2 + words)
    base, own = (sum(p.numel() for p in module.parameters()) for module in (transformer, adapter))
    blocks = sum(len(v) for k, v in transformer.named_children() if k.endswith("blocks"))
    kept = blocks + KEPT if config.checkpointing else blocks * KEPT
    gflops = machine.describe(device, dtype).matmul_gflops
    return Estimate(
        steps=max(1, config.pictures // (config.batch * processes)),
        processes=processes,
        base_parameters=base,
        base_bytes=base * dtype.itemsize,
        adapter_parameters=own,
        adapter_bytes=own * 4 * (2 + STATES[config.optimizer]),
        activation_bytes=int(config.batch * tokens * adapter.config.hidden * kept * dtype.itemsize),
        flops_a_sample=int(work),
        gflops=gflops,
        seconds=work * config.pictures / processes / (SHARE * gflops * 1e9),
    )


def _duration(seconds: float) -> str:
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
