"""What a metric is: a name, a pure function over pictures or films, and what is said beside its numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from ddit_eval.errors import DditError

if TYPE_CHECKING:
    from torch import Tensor

Columns: TypeAlias = dict[str, list[float]]
# (pixels, reference, prompts) -> one value a sample for each column; nan: the prompt does not ask for it.
Measure: TypeAlias = "Callable[[Tensor, Tensor | None, Sequence[str]], Columns]"
Subject: TypeAlias = Literal["pictures", "films"]  # (N, 3, H, W) or (N, F, 3, H, W)
Need: TypeAlias = Literal["reference", "prompts", "pictures"]  # what a sample is compared with (none: itself)
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


class OutsideMetric(Protocol):
    """What the object behind an entry point of `ddit_eval.metrics` must have; a `Metric` has it all.

    `measure`: float (N, 3, H, W) in [0, 1], of films (N, F, 3, H, W), the reference's (None where `needs` is
    not "reference") and the prompts, to N values a column. `source`: what is computed, for a reader.
    `missing()`: None where it can run here, else a sentence that names what is missing and where it belongs.
    """

    @property
    def of(self) -> Subject: ...
    @property
    def needs(self) -> Need: ...
    @property
    def columns(self) -> Sequence[Column]: ...
    @property
    def source(self) -> str: ...
    @property
    def measure(self) -> Measure: ...
    @property
    def missing(self) -> Callable[[], str | None]: ...


class AnyMetric(OutsideMetric, Protocol):
    """A metric of pictures or films as the registry gives it: `Metric`, `films.metric.FilmMetric`."""

    @property
    def name(self) -> str: ...
    @property
    def columns(self) -> tuple[Column, ...]: ...
    @property
    def network(self) -> str | None: ...
    @property
    def weights(self) -> str | None: ...
    def describe(self) -> dict[str, dict[str, Any]]: ...
    def __call__(
        self, pixels: Tensor, reference: Tensor | None = None, prompts: Sequence[str] = (), /
    ) -> Columns: ...


@dataclass(frozen=True)
class Metric:
    """A metric and its columns.

    `weights`: the files that it needs, with size and hash (None: none). `missing()` returns None when the
    metric can run here, else a sentence that names what is missing and where it belongs.
    """

    name: str
    columns: tuple[Column, ...]
    needs: Need
    measure: Measure
    source: str
    network: str | None = None
    note: str | None = None
    weights: str | None = None
    missing: Callable[[], str | None] = lambda: None
    of: Subject = "pictures"

    def __call__(
        self, pixels: Tensor, reference: Tensor | None = None, prompts: Sequence[str] = ()
    ) -> Columns:
        """Values by column, N each. `pixels` (and `reference`): float in [0, 1], shaped as `of` says."""
        if why := self.missing():
            raise DditError(why)
        check_samples(self.name, self.of, self.needs, pixels, reference, prompts)
        return checked(self.name, self.columns, self.measure(pixels, reference, prompts), len(pixels))

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


def paired(column: str, compare: Callable[[Tensor, Tensor], Tensor]) -> Measure:
    """The measure of one column that compares each sample with its reference: (N, ...) twice to (N,)."""

    def measure(pixels: Tensor, reference: Tensor | None, prompts: Sequence[str]) -> Columns:
        assert reference is not None
        return {column: compare(pixels, reference).tolist()}

    return measure


def unavailable(why: str) -> Callable[..., Any]:
    """Stands for what computes a metric that cannot run here."""

    def refuse(*_: Any) -> Any:
        raise DditError(why)

    return refuse


def check_samples(
    name: str,
    of: Subject,
    needs: Need,
    pixels: Tensor,
    reference: Tensor | None,
    prompts: Sequence[str],
) -> None:
    """Refuse samples of another shape or range than a metric takes, and what they are compared with."""
    check_pixels(pixels, of, of)
    if needs == "reference":
        if reference is None:
            raise DditError(f"{name} compares with reference {of}, and none were given")
        check_pixels(reference, "reference", of)
        if reference.shape != pixels.shape:
            raise DditError(
                f"{name} compares {of} one to one: {tuple(pixels.shape)} against "
                f"{tuple(reference.shape)} of the reference"
            )
    elif needs == "prompts" and len(prompts) != len(pixels):
        raise DditError(f"{name} needs one prompt a {of[:-1]}: {len(prompts)} for {len(pixels)}")


def checked(name: str, columns: Sequence[Column], values: Columns, n: int) -> Columns:
    """The values that a metric gave, if they are N of each of its columns and of no other."""
    wanted = [column.name for column in columns]
    if not isinstance(values, dict) or set(values) != set(wanted):
        found = ", ".join(map(str, values)) if isinstance(values, dict) else type(values).__name__
        raise DditError(f"metric {name!r} gave {found}, and its columns are {', '.join(wanted)}; mend it")
    for column, numbers in values.items():
        if len(numbers) != n:
            raise DditError(
                f"metric {name!r} gave {len(numbers)} values of {column} for {n} samples; mend it"
            )
        if odd := [value for value in numbers if not isinstance(value, float | int)]:
            raise DditError(f"metric {name!r} gave {odd[0]!r} as a value of {column}, no number; mend it")
    return values


def check_pixels(pixels: Tensor, what: str, of: Subject = "pictures") -> None:
    """Refuse anything but float (N, 3, H, W), of films (N, F, 3, H, W), in [0, 1].

    Integer pictures wrap when subtracted.
    """
    shape, dimensions = tuple(pixels.shape), 4 if of == "pictures" else 5
    if len(shape) != dimensions or shape[-3] != 3:
        raise DditError(f"{what} must be ({'N, ' if of == 'pictures' else 'N, F, '}3, H, W), not {shape}")
    if not pixels.is_floating_point():
        raise DditError(f"{what} must be floats in [0, 1], not {pixels.dtype}: divide bytes by 255")
    if not pixels.numel():
        raise DditError(f"{what} {shape}: nothing to measure")
    low, high = float(pixels.min()), float(pixels.max())
    # nan fails this comparison as well.
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        raise DditError(f"{what} must lie in [0, 1], but span {low:.3g} to {high:.3g}")
