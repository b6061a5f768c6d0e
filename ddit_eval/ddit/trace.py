"""What one denoising step did: plain data, from the attachment to results and figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class StepTrace:
    """One denoising step of one pipeline call.

    `signals` holds the scheduler's value per candidate scale (None where no signal was measured).
    A step of several patch sizes has the coarsest as its `scale`, and says the rest in `counts` and `sizes`.
    `seconds` runs from the step's first transformer call to the end of its last one, the decision included.
    """

    index: int
    timestep: float  # as the diffusers scheduler counts, 0 to 1000
    scale: int
    signals: dict[int, float] | None
    tokens: int  # image tokens that the transformer ran
    base_tokens: int  # image tokens of the undivided base grid
    seconds: float = 0.0
    counts: dict[int, int] | None = None  # tokens by scale
    sizes: str | None = None  # scale over each base token: digits (base 36), rows parted by /, frames by |
    flops: int | None = None  # of a transformer call on one sample; None: as its scale's table says

    def to_json(self) -> dict[str, Any]:
        signals = None if self.signals is None else {str(k): v for k, v in sorted(self.signals.items())}
        plain: dict[str, Any] = {
            "index": self.index,
            "timestep": self.timestep,
            "scale": self.scale,
            "signals": signals,
            "tokens": self.tokens,
            "base_tokens": self.base_tokens,
            "seconds": self.seconds,
        }
        if self.counts is None:
            return plain
        return plain | {"counts": {str(k): v for k, v in sorted(self.counts.items())}, "sizes": self.sizes}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> StepTrace:
        signals, counts = data["signals"], data.get("counts")
        return cls(
            index=int(data["index"]),
            timestep=float(data["timestep"]),
            scale=int(data["scale"]),
            signals=None if signals is None else {int(k): float(v) for k, v in signals.items()},
            tokens=int(data["tokens"]),
            base_tokens=int(data["base_tokens"]),
            seconds=float(data["seconds"]),
            counts=None if counts is None else {int(k): int(v) for k, v in counts.items()},
            sizes=data.get("sizes"),
        )
