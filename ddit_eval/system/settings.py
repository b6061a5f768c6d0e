"""Settings that people write: strict types, and errors that name place, value and what is known."""

from __future__ import annotations

import json
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ddit_eval.errors import DditError


class Settings(BaseModel):
    """Frozen plain data; a name that is not known is an error, and so is a number that is not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


M = TypeVar("M", bound=BaseModel)


def checked(model: type[M], data: Any, where: str) -> M:
    """The model of plain data, types strict as JSON's: true is no number, "4" and 4.0 no whole one.

    Raises `DditError` of one line that starts with `where`.
    """
    try:
        return model.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        raise DditError(explain(where, error, model)) from None


def explain(where: str, error: ValidationError, model: type[BaseModel], most: int | None = None) -> str:
    """What pydantic found, in one line that names the values; of more than `most` how many more."""
    found = error.errors(include_url=False)
    said = "; ".join(_explain(item, model) for item in found[:most])
    return f"{where}: {said}" + (f" (and {len(found) - most} more)" if most and len(found) > most else "")


def _explain(item: Any, model: type[BaseModel]) -> str:
    place = ".".join(str(part) for part in item["loc"])
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        return f"{place} is not a known name{_nearest(str(item['loc'][-1]), _names(model, item['loc'][:-1]))}"
    if item["type"] == "missing":
        return f"{place} is not there"
    if not place:  # what is wrong with the whole names its own value
        return message
    message = "write true or false" if item["type"] == "bool_type" else message
    value = repr(item.get("input"))
    return f"{place}: {message} (got {value if len(value) < 80 else value[:77] + '...'})"


def _nearest(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    close = get_close_matches(name, known, 1)
    return f"; did you mean {close[0]!r}?" if close else f", only {', '.join(known)}"


def _names(model: type[BaseModel], place: Iterable[Any]) -> set[str]:
    """The names that are known at a place; a tag chooses among models, numbers lead nowhere further."""
    models = [model]
    for part in place:
        fields = [m.model_fields[part] for m in models if part in m.model_fields]
        tagged = [m for m in models if any(part in get_args(f.annotation) for f in m.model_fields.values())]
        models = [m for field in fields for m in _models(field.annotation)] or tagged or models
    return {field.alias or name for m in models for name, field in m.model_fields.items()}


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if twice := [value for i, value in enumerate(values) if value in values[:i]]:
        raise ValueError(f"{twice[0]!r} is there twice; give each once")
    return values


T = TypeVar("T")
Distinct = Annotated[tuple[T, ...], AfterValidator(_once)]  # none twice
Once = Annotated[Distinct[T], Field(min_length=1)]  # nor none at all

# What no one can mean is no value: no schedule has more steps, no model such sides.
Steps = Annotated[int, Field(ge=1, le=1000)]
Pixels = Annotated[int, Field(ge=8, le=16_384)]
Frames = Annotated[int, Field(ge=1, le=1000)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Guidance = Annotated[float, Field(ge=0, le=1000)]
