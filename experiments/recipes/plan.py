"""The plan of a training: the stages under `plan` in a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ddit_eval.errors import DditError

Plan = TypeVar("Plan", bound=BaseModel)


def load_plan(path: Path, kind: type[Plan]) -> Plan:
    """Read `plan` of a YAML file; a wrong key or value is one `DditError` that names it."""
    try:
        return kind.model_validate(yaml.safe_load(path.read_text())["plan"])
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise DditError(f"cannot read the plan {path}: {error}; give a YAML file with `plan`") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        raise DditError(f"{path}: {where}: {first['msg']} (got {first['input']!r}); correct it") from error
