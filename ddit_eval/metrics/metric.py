"""What a metric is: a name, a pure function over pictures, and what has to be said beside its numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ddit_eval.errors import DditError

if TYPE_CHECKING:
    from torch import Tensor

# (pictures, reference, prompts) -> one value a picture for each column; nan: the prompt does not ask for it.
Measure: TypeAlias = "Callable[[Tensor, Tensor | None, Sequence[str]], dict[str, list[float]]]"


# fidelity: to the base's picture; adherence: of the prompt; score: another quality that a verdict of
# "no loss" needs; description: says something and decides nothing.
Role: TypeAlias = Literal["fidelity", "adherence", "score", "description"]


@dataclass(frozen=True)
class Column:
    """One number a picture or film, and all that a reader of it must know.

    `low`, `high`: None where there is no end (PSNR: inf is legal). `title`: for people ("": the name).
    `rank`: of the columns of one role the lowest decides. `margin`: the loss that still counts as none, from
    the metric's own scale and alike for all methods (None: none makes sense).
    """

    name: str
    direction: Literal["higher", "lower"]
    low: float | None
    high: float | None
    title: str = ""
    unit: str = ""
    digits: int = 3
    role: Role = "description"
    rank: int = 0
    margin: float | None = None

    def describe(self) -> dict[str, Any]:
        """The facts as JSON: a report of the numbers needs no metric to be importable."""
        return {
            "title": self.title or self.name.replace("-", " "),
            "unit": self.unit,
            "digits": self.digits,
            "direction": self.direction,
            "range": ["-inf" if self.low is None else self.low, "inf" if self.high is None else self.high],
            "role": self.role,
            "rank": self.rank,
            "margin": self.margin,
        }


@dataclass(frozen=True)
class Metric:
    """A metric and its columns. `needs`: what it compares a picture with ("pictures": nothing).

    `weights`: the files that it needs, with size and hash (None: none). `missing()` returns None when the
    metric can run here, else a sentence that names what is missing and where it belongs.
    """

    name: str
    columns: tuple[Column, ...]
    needs: Literal["reference", "prompts", "pictures"]
    measure: Measure
    source: str
    network: str | None = None
    note: str | None = None
    weights: str | None = None
    missing: Callable[[], str | None] = lambda: None

    def __call__(
        self, pictures: Tensor, reference: Tensor | None = None, prompts: Sequence[str] = ()
    ) -> dict[str, list[float]]:
        """Values by column, N each. `pictures` (and `reference`): float (N, 3, H, W) in [0, 1]."""
        why = self.missing()
        if why:
            raise DditError(why)
        check_pictures(pictures, "pictures")
        if self.needs == "reference":
            if reference is None:
                raise DditError(f"{self.name} compares with reference pictures, and none were given")
            check_pictures(reference, "reference")
            if reference.shape != pictures.shape:
                raise DditError(
                    f"{self.name} compares pictures one to one: {tuple(pictures.shape)} against "
                    f"{tuple(reference.shape)} of the reference"
                )
        elif self.needs == "prompts" and len(prompts) != len(pictures):
            raise DditError(f"{self.name} needs one prompt a picture: {len(prompts)} for {len(pictures)}")
        return self.measure(pictures, reference, prompts)

    def describe(self) -> dict[str, dict[str, Any]]:
        """What a reader of the numbers must know, by column name (JSON)."""
        return {
            c.name: {
                **c.describe(),
                "network": self.network,
                "weights": self.weights,
                "n_note": self.note,
                "source": self.source,
            }
            for c in self.columns
        }


def check_pictures(pictures: Tensor, what: str) -> None:
    """Refuse anything but float (N, 3, H, W) in [0, 1]; integer pictures wrap when subtracted."""
    shape = tuple(pictures.shape)
    if len(shape) != 4 or shape[1] != 3:
        raise DditError(f"{what} must be (N, 3, H, W), not {shape}")
    if not pictures.is_floating_point():
        raise DditError(f"{what} must be floats in [0, 1], not {pictures.dtype}: divide bytes by 255")
    if not pictures.numel():
        raise DditError(f"{what} {shape}: nothing to measure")
    low, high = float(pictures.min()), float(pictures.max())
    # nan fails this comparison as well.
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        raise DditError(f"{what} must lie in [0, 1], but span {low:.3g} to {high:.3g}")
