"""What a policy sees of a denoising step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ddit_eval.ddit.trace import StepTrace
from ddit_eval.errors import DditError

if TYPE_CHECKING:
    from torch import Tensor

    from ddit_eval.ddit.layout import Grid, Layout


@dataclass(frozen=True)
class StepView:
    """What a policy may look at before a step.

    `signals` maps candidate scales to the percentile of the patch deviations (largest over the batch);
    None while the history is shorter than `order + 1` latents. `past` is the trace so far, oldest first.
    """

    index: int
    steps: int | None  # of the run; None where that is not known beforehand
    signals: Mapping[int, float] | None = None
    past: Sequence[StepTrace] = field(default=())
    seed: int | None = None

    @property
    def total(self) -> int:
        """Steps of the run. Raises `DditError` where they are not known, so that none are assumed."""
        if self.steps is None:
            raise DditError(
                "this policy needs the number of steps, and nothing says how many this run has; attach to "
                "the pipeline that runs, and in a loop of your own go through its scheduler's timesteps"
            )
        return self.steps

    def among_last(self, count: int) -> bool:
        """Whether this is one of the last `count` steps; of none it is not, however many there are."""
        return count > 0 and self.index >= self.total - count


@dataclass(frozen=True)
class Step:
    """One denoising step of one schedule, as a policy's `layout` sees it.

    timestep: as the diffusers scheduler counts. measured: the policy's `deviations`, on the
    host, None while there is no signal. before: the layout of the last step, None for the base's.
    """

    binding: Any  # `ddit.binding.Binding`, and its
    call: Any  # `ddit.families.Call` in progress
    timestep: float
    view: StepView
    measured: Tensor | None
    before: Layout | None

    @property
    def latents(self) -> Tensor:
        """(B, n, C) the base tokens that the run generates."""
        made: Tensor = self.binding.generated(self.call)
        return made

    @property
    def grid(self) -> Grid:
        """The grid of `latents`; reading it first may cost a synchronisation."""
        found: Grid = self.binding.generated_grid(self.call)
        return found

    @property
    def given(self) -> int:
        """Frames before these that condition the run."""
        return int(self.call.given)

    def tile(self, scale: int) -> Layout:
        """One scale everywhere; 0: the step is skipped."""
        found: Layout = self.binding.tile(self.call, scale)
        return found

    def tile_map(self, allowed: Tensor, scales: Sequence[int]) -> Layout:
        """The tiling of a map, of the shape of `grid`, of the coarsest scale that each base token allows."""
        found: Layout = self.binding.tile_map(self.call, allowed, scales)
        return found
