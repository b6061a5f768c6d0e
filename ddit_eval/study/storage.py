"""Where a study's trials are: a journal in a file, or a database."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ddit_eval.errors import DditError
from ddit_eval.study import journal
from ddit_eval.system.files import check_writable
from ddit_eval.system.read import check_regular
from ddit_eval.system.secret import hidden, without_secrets

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Location:
    """Where a study is; its name there; which quality is the better one; where its pictures go.

    storage: the path of a journal, or the URL of a database (postgresql://, mysql://, sqlite:///).
    """

    storage: str
    name: str
    better: Literal["higher", "lower"] = "higher"
    artifacts: Path | None = None

    def open(self) -> optuna.Study:
        """Open or create the study. Raises `DditError` where its storage cannot be reached."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # Metric names, artifacts and deterministic GP objectives are "experimental": no news for the user.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(
            study_name=self.name,
            storage=open_storage(self.storage),
            directions=["minimize", "maximize" if self.better == "higher" else "minimize"],
            load_if_exists=True,
        )
        if study.metric_names is None:
            study.set_metric_names(["cost", "quality"])
        return study


def open_storage(where: str | Path) -> optuna.storages.BaseStorage:
    """The storage at a path (a journal) or a URL (a database)."""
    if "://" in str(where):
        return _database(str(where))
    path = Path(where)
    if path.suffix != ".journal":
        raise DditError(
            f"the storage {hidden(str(where))} is neither a URL (postgresql://...) nor a file *.journal"
        )
    check_writable(path.parent)
    return journal.open_journal(path)


def _database(url: str) -> optuna.storages.BaseStorage:
    from optuna.storages import RDBStorage

    shown, given = hidden(url), url
    options: dict[str, Any] = {"pool_pre_ping": True}
    if url.startswith("sqlite"):
        options["connect_args"] = {"timeout": 60}  # seconds that a writer waits for the others
        file = Path(re.sub(r"^[^:]*:///", "", url))
        if file.exists():
            check_regular(file)
    # SQLAlchemy's default driver for PostgreSQL is the older psycopg2.
    url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)
    try:
        return RDBStorage(url, engine_kwargs=options)
    except ImportError as error:
        remedy = "pip install 'ddit_eval[postgres]'" if "psycopg" in url else "install its driver"
        raise DditError(f"the storage {shown} needs a driver that is not here ({error}); {remedy}") from None
    except Exception as error:  # of the driver, of SQLAlchemy, of a schema that is newer than Optuna
        why = without_secrets(without_secrets(str(error), url), given)
        raise DditError(
            f"the storage {shown} cannot be reached: {why}. Start it, mend the URL, or leave out --storage "
            f"and DDIT_STUDY_STORAGE to keep the study in a file."
        ) from None
