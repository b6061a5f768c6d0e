"""The Optuna dashboard, on loopback, of the study that DDIT_STUDY_STORAGE names, or the newest in .state.

python experiments/dashboard.py    # an address with a password is on no command line, where others see it
"""

from __future__ import annotations

import os
from pathlib import Path

import optuna_dashboard
from optuna.artifacts import FileSystemArtifactStore

from ddit_eval.errors import DditError
from ddit_eval.study.storage import open_storage


def main(state: Path = Path(".state")) -> None:
    """Serve until it is interrupted. Pictures of trials are in `state`."""
    found = sorted(state.glob("*.journal"), key=lambda path: path.stat().st_mtime)
    where = os.environ.get("DDIT_STUDY_STORAGE") or (found and found[-1])
    if not where:
        raise SystemExit("no study yet: run make repro first")
    try:
        storage = open_storage(where)
    except DditError as error:
        raise SystemExit(str(error)) from None
    (state / "artifacts").mkdir(parents=True, exist_ok=True)
    store = FileSystemArtifactStore(state / "artifacts")
    optuna_dashboard.run_server(storage, host="127.0.0.1", port=8080, artifact_store=store)


if __name__ == "__main__":
    main()
