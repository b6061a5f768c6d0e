"""A rule that knows how much harm a coarse patch does at each step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, model_validator

from ddit_eval.ddit.policies.base import PolicyBase, Real, Share, fired
from ddit_eval.ddit.policies.calibration import Calibration, load
from ddit_eval.ddit.policies.step import StepView
from ddit_eval.ddit.trace import StepTrace

_KNOBS = ("psnr", "harm", "cost", "price")


class Calibrated(PolicyBase):
    """Our rule: the scale of least expected harm + price * cost, as `ddit-eval calibrate` measured them.

    A threshold on the raw signal coarsens the wrong steps: the signal is high early and low in mid-run,
    the harm is not. Here the step says how much harm a coarse patch does, and the signal only how this
    picture ranks among others at that step. One knob of these:

    psnr   at least this expected PSNR to the base's picture, in dB (of the mean squared error)
    harm   at most this expected mean squared error of the picture, in [0, 1]
    cost   at most this expected share of the base's FLOPs
    price  the harm that a whole base step is worth, as the rule uses it

    Expected means: on the calibration prompts, as measured with this rule. `calibration` is the name or the
    folder of an adapter, a file, or the content itself; `digest` is filled in from the content, so that
    records of another table are told apart.
    """

    family: ClassVar[str] = "calibrated"
    colour: ClassVar[str] = "#F0E442"

    kind: Literal["calibrated"] = "calibrated"
    calibration: str | Calibration
    psnr: Annotated[Real, Field(gt=0)] | None = None
    harm: Annotated[Real, Field(ge=0)] | None = None
    cost: Annotated[Share, Field(gt=0)] | None = None
    price: Annotated[Real, Field(ge=0)] | None = None
    digest: str | None = None
    _table: Calibration = PrivateAttr()

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, **knob: Any) -> Calibrated:
        """The policy of an adapter's calibration, e.g. `from_pretrained("mini-flux", psnr=35)`."""
        return cls(calibration=str(name_or_folder), **knob)

    @model_validator(mode="after")
    def _resolve(self) -> Calibrated:
        named = [name for name in _KNOBS if getattr(self, name) is not None]
        if len(named) != 1:
            got = " and ".join(named) or "none"
            raise ValueError(f"give one knob of {', '.join(_KNOBS)}, e.g. psnr: 35; got {got}")
        known = self.calibration
        self._table = known if isinstance(known, Calibration) else load(known)
        digest = self._table.digest
        if self.digest not in (None, digest):
            raise ValueError(
                f"the calibration is {digest} by now, not {self.digest}; leave `digest` out to use it"
            )
        object.__setattr__(self, "digest", digest)
        return self

    @property
    def knob(self) -> str:
        """The knob as written, e.g. "psnr = 35"."""
        name = next(name for name in _KNOBS if getattr(self, name) is not None)
        return f"{name} = {getattr(self, name):g}"

    @property
    def order(self) -> int:
        return self._table.order

    @property
    def rho(self) -> float:
        return self._table.rho

    @property
    def scales(self) -> tuple[int, ...]:
        return self._table.scales

    def price_at(self, total: int) -> float:
        """The price of a base step that the knob stands for in a run of `total` steps."""
        if self.price is not None:
            return self.price
        run = self._table.run_of(total)
        if self.cost is not None:
            return run.price("cost", self.cost)
        return run.price("harm", self.harm if self.harm is not None else 10 ** (-(self.psnr or 0) / 10))

    def verdict(self, traces: Sequence[Sequence[StepTrace]]) -> str | None:
        return fired(self.knob, [p for trace in traces for p in trace])

    def decide(self, view: StepView) -> int:
        table, price = self._table, self.price_at(view.total)
        rank = table.last_rank(view.index, view.total, view.signals, view.past)
        harm = {1: 0.0, **table.expected(view.index, view.total, rank)}
        cost = {1: 1.0, **table.cost}
        # Of equal value the finer one: at price 0 that is the base.
        return min(sorted(harm), key=lambda s: harm[s] + price * cost[s])
