"""What decides a trained adapter, and whether a folder holds the one that a configuration asks for."""

from __future__ import annotations

import os
from typing import Any

from ddit_eval.ddit.adapter.fingerprint import fingerprint
from ddit_eval.ddit.adapter.places import WEIGHTS, find
from ddit_eval.errors import DditError
from ddit_eval.models import find as models
from ddit_eval.schema.distillation import FILE, adapter_digest, load
from ddit_eval.system.files import digest
from ddit_eval.system.read import file_digest
from ddit_eval.training import checkpoint
from ddit_eval.training.distil.config import DistilConfig, Source
from ddit_eval.training.distil.data import pictures_of

# Settings that decide no weight, and names of what has a digest.
FREE = ("out", "checkpoint_minutes", "checkpointing", "model", "begin")


def inputs_of(config: DistilConfig, pipe: Any | None = None) -> dict[str, Any]:
    """Digests of what a training starts from: base model, the adapter to begin with, pictures; and how many
    processes share it. `pipe`: a loaded pipeline in the model's place."""
    base = getattr(pipe, config.part, None)
    found: dict[str, Any] = {"processes": int(os.environ.get("WORLD_SIZE", 1))}
    if config.source.kind == "folder":
        found["pictures"] = _folder(config.source)
    if pipe is None:
        found["model"] = models.fingerprint(models.locate(config.model))
    elif base is not None:
        found["model"] = fingerprint(base).model_dump()
    if config.begin is not None:
        found["begin"] = adapter_digest(find(config.begin))
    return found


def made_of(config: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    """All that decides an adapter, as JSON. config: `DistilConfig` in its JSON form."""
    made = {k: v for k, v in config.items() if k not in FREE}
    return made | {"source": {k: v for k, v in made["source"].items() if k != "path"}} | inputs


def is_finished(config: DistilConfig, inputs: dict[str, Any]) -> bool:
    """Whether `config.out` holds the adapter that is asked for, whole, with its errors.json.

    Raises `DditError` where it holds another one, or one of which it is not known how it was trained.
    """
    out = config.out
    if not (out / WEIGHTS).exists():
        return False
    try:
        record = load(out / FILE, out)
    except DditError as error:
        record, why = None, str(error)
    else:
        why = f"it has no {FILE}"
    if record is None:
        if (out / "checkpoint" / checkpoint.FILE).exists():
            return False  # a kill has left what is there; the checkpoint knows better
        raise DditError(f"{out} holds the adapter of an unknown training ({why}); name another `out`")
    there, now = made_of(record.config, record.inputs), made_of(config.model_dump(mode="json"), inputs)
    there.pop("processes", None), now.pop("processes", None)  # who asks for what is finished may be fewer
    checkpoint.check_same(out / FILE, there, now, out)
    return True


def _folder(source: Source) -> str:
    """Of names and content of the files in a folder. Raises `DditError` where it holds no picture."""
    pictures_of(source)
    assert source.path is not None
    files = sorted(p for p in source.path.iterdir() if p.is_file() and not p.name.startswith("."))
    return digest([[path.name, file_digest(path)] for path in files])
