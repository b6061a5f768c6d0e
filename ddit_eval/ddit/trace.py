"""What one denoising step did: plain data, from the attachment to results and figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class StepTrace:
    """One denoising step of one pipeline call.

    `signals` holds the scheduler's value per candidate scale (None where no signal was measured).
    A step of several patch sizes has the coarsest as its `scale`, and says the rest in `counts` and `sizes`;
    one that called no transformer has scale 0 and no tokens.
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
