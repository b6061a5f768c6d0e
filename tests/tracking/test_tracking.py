"""MLflow runs: derived from result files, each once, also after a kill."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ddit_eval import stats, tracking
from ddit_eval.ddit.trace import StepTrace
from ddit_eval.errors import DditError
from ddit_eval.experiment.config import load_experiment
from ddit_eval.experiment.records import Store
from ddit_eval.judging.results import load
from ddit_eval.schema import Index, Quality, read, write
from tests.support import fake_results
from tests.support.made_results import made_job

mlflow = pytest.importorskip("mlflow")

EXPERIMENT = load_experiment(Path(__file__).parents[2] / "experiments" / "quick.yaml")


METHODS = ("base", "steps-12", "always-2p", "ddit-o3", "random")
WAYS = ("oracle-70", "ddit-70", "calibrated-70", "fine-first-70")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    folder = fake_results.write(root, prompts=4, trials=3, only=METHODS)
    write(folder / "oracle.json", fake_results.oracle())
    return root


@pytest.fixture(scope="module")
def uri(project: Path) -> str:
    return f"sqlite:///{project / 'mlflow.db'}"


@pytest.fixture(scope="module")
def first(project: Path, uri: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_STAGE", "track")
        return track(project, uri)


def track(project: Path, uri: str) -> int:
    """With an experiment that made-up results are not of: that they belong to it is not looked at here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "load", lambda folder, _: load(folder))
        return tracking.track(project / "results" / "quick", project / "runs" / "quick", uri, EXPERIMENT)


def test_results_of_another_experiment_are_refused_before_anything_is_created(
    project: Path, tmp_path: Path
) -> None:
    with pytest.raises(DditError, match="does not belong"):
        tracking.track(project / "results" / "quick", None, f"sqlite:///{tmp_path / 'mlflow.db'}", EXPERIMENT)
    assert not (tmp_path / "mlflow.db").exists()


def runs(uri: str, profile: str = "quick") -> dict[str, list]:
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name(f"ddit-{profile}")
    found: dict[str, list] = {}
    for run in client.search_runs([experiment.experiment_id]):
        found.setdefault(run.info.run_name, []).append(run)
    return found


def test_one_run_a_method_a_trial_and_a_row_of_the_oracle(first: int, uri: str) -> None:
    names = set(METHODS) | {f"trial-{i:03d}" for i in range(3)} | {f"{way} at equal cost" for way in WAYS}
    found = runs(uri)
    assert first == len(names)
    assert set(found) == names
    assert all(len(same) == 1 and same[0].info.status == "FINISHED" for same in found.values())


def test_a_method_run_holds_parameters_metrics_steps_and_artifacts(
    first: int, uri: str, project: Path
) -> None:
    run = runs(uri)["ddit-o3"][0]
    assert run.data.params["tau"] == "0.5"
    assert run.data.params["scales"] == "[2,4]"
    assert run.data.params["policy"] == "threshold"
    quality = json.loads((project / "results" / "quick" / "quality.json").read_text())
    row = next(r for r in quality["rows"] if r["method"] == "ddit-o3")
    assert run.data.metrics["psnr_low"] == pytest.approx(row["quality"]["psnr"]["low"])
    assert run.data.metrics["token_ratio"] == pytest.approx(row["token_ratio"])
    assert {"speedup", "speedup_low", "speedup_high", "flop_ratio"} <= set(run.data.metrics)
    assert run.data.tags["method"] == "ddit-o3"
    assert run.data.tags["profile"] == "quick"
    assert run.data.tags["DVC_STAGE"] == "track"
    (shown,) = run.inputs.dataset_inputs
    assert shown.dataset.digest == quality["prompts_hash"]
    assert shown.tags[0].value == "evaluation"
    client = mlflow.MlflowClient(uri)
    history = client.get_metric_history(run.info.run_id, "step_scale")
    assert [m.step for m in history] == list(range(fake_results.STEPS))
    signal = client.get_metric_history(run.info.run_id, "step_signal_2")
    assert [m.step for m in signal] == list(range(3, fake_results.STEPS))  # order 3: no signal before
    timing = json.loads((project / "results" / "quick" / "timing.json").read_text())
    timed = next(r for r in timing["rows"] if r["method"] == "ddit-o3")
    seconds = client.get_metric_history(run.info.run_id, "step_seconds")
    assert [m.value for m in seconds] == pytest.approx([sum(parts.values()) for parts in timed["by_step"]])
    assert {a.path for a in client.list_artifacts(run.info.run_id)} == {
        "config.yaml", "images", "schedule.png", "signal.png",
    }  # fmt: skip
    pictures = [a.path for a in client.list_artifacts(run.info.run_id, "images") if a.path.endswith(".png")]
    assert len(pictures) == tracking.PICTURES


def test_a_trial_run_holds_its_values_and_the_study(first: int, uri: str) -> None:
    run = runs(uri)["trial-001"][0]
    assert run.data.tags["study"] == "tau-rho-scales"
    assert (run.data.tags["method"], run.data.tags["feasible"]) == ("threshold", "true")
    names = {f"{name}{end}" for name in ("relative_flops", "psnr") for end in ("", "_low", "_high")}
    assert set(run.data.metrics) == names
    assert run.data.metrics["psnr_low"] < run.data.metrics["psnr"] < run.data.metrics["psnr_high"]
    assert "tau" in run.data.params
    assert run.inputs.dataset_inputs[0].dataset.digest == "1" * 12
    found = {a.path for a in mlflow.MlflowClient(uri).list_artifacts(run.info.run_id)}
    assert found == {"config.yaml", "schedule.png"}


def test_a_row_of_the_oracle_holds_the_share_of_the_gap(first: int, uri: str) -> None:
    found = runs(uri)
    ours = found["calibrated-70 at equal cost"][0]
    assert (ours.data.tags["study"], ours.data.tags["method"]) == ("quick-oracle", "calibrated")
    assert ours.data.metrics["gap_closed_fine-first"] == 0.25
    assert ours.data.metrics["relative_flops"] == 0.7
    fixed = found["fine-first-70 at equal cost"][0]
    history = mlflow.MlflowClient(uri).get_metric_history(fixed.info.run_id, "step_scale")
    assert [m.value for m in history] == [1, 1, 2, 2]


def test_methods_trials_and_the_oracle_share_the_axes_of_one_chart(first: int, uri: str) -> None:
    same = [run for group in runs(uri).values() for run in group]
    assert {run.data.tags["kind"] for run in same} == {"method", "trial", "oracle"}
    for run in same:
        finite = run.info.run_name != "base"  # whose PSNR to itself is infinite
        assert {"relative_flops", *(["psnr"] * finite)} <= set(run.data.metrics)
        assert {"study", "method", "model"} <= set(run.data.tags)
    assert runs(uri)["base"][0].data.metrics["relative_flops"] == pytest.approx(1)


def test_a_second_pass_logs_nothing(first: int, uri: str, project: Path) -> None:
    assert track(project, uri) == 0
    assert sum(map(len, runs(uri).values())) == first


def test_a_run_that_was_killed_is_made_again(first: int, uri: str, project: Path) -> None:
    client = mlflow.MlflowClient(uri)
    killed = runs(uri)["steps-12"][0].info.run_id
    client.delete_tag(killed, tracking.COMPLETE)
    client.update_run(killed, status="RUNNING")
    assert track(project, uri) == 1
    (again,) = runs(uri)["steps-12"]
    assert again.info.run_id != killed
    assert again.info.status == "FINISHED"


def test_a_kill_between_two_requests_leaves_no_duplicate(
    first: int, uri: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quality = project / "results" / "quick" / "quality.json"
    old = quality.read_text()
    data = read(quality, Quality)
    row = data.rows[0].model_copy(update={"token_ratio": data.rows[0].token_ratio + 1})
    write(quality, data.model_copy(update={"rows": (row, *data.rows[1:])}))
    name = row.method
    with monkeypatch.context() as patch:
        patch.setattr(tracking, "_log_artifacts", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            track(project, uri)
    assert track(project, uri) == 1
    kept = runs(uri)[name]
    assert len(kept) == 2  # the old result and the new one: both are history, the killed one is gone
    assert all(run.data.tags[tracking.COMPLETE] == "true" for run in kept)
    quality.write_text(old)
    assert track(project, uri) == 0


def test_a_moved_database_is_set_aside_not_broken(
    first: int, uri: str, project: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "mlflow.db"
    moved.write_bytes((project / "mlflow.db").read_bytes())
    fresh = f"sqlite:///{moved}"
    assert track(project, fresh) == first
    client = mlflow.MlflowClient(fresh)
    run = runs(fresh)["ddit-o3"][0]
    assert run.info.artifact_uri.startswith(tmp_path.as_uri())
    assert any("before a move" in e.name for e in client.search_experiments())


def test_the_database_is_at_the_root_that_dvc_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert tracking.default_uri() == f"sqlite:///{tmp_path.resolve() / 'mlflow.db'}"
    monkeypatch.delenv("DVC_ROOT")
    (tmp_path / ".git").mkdir()
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    assert tracking.default_uri() == f"sqlite:///{tmp_path.resolve() / 'mlflow.db'}"


def test_two_at_once_log_each_run_once_and_an_infinity_as_a_share(
    first: int, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fake_results.write(tmp_path, prompts=4, trials=1, only=("base", "steps-12"))
    quality = read(folder / "quality.json", Quality)
    psnr = stats.mean([math.inf, math.inf, 40.0, 42.0])
    rows = tuple(r.model_copy(update={"quality": r.quality | {"psnr": psnr}}) for r in quality.rows)
    write(folder / "quality.json", quality.model_copy(update={"rows": rows, "profile": "two"}))
    for name in ("_log_artifacts", "_log_figure"):
        monkeypatch.setattr(tracking, name, lambda *_: None)
    with ThreadPoolExecutor(2) as pool:
        new = [pool.submit(tracking.track, folder, None, uri) for _ in range(2)]
        assert sorted(call.result() for call in new) == [0, 3]
    found = runs(uri, "two")
    assert [len(found[name]) for name in ("base", "steps-12", "trial-000")] == [1, 1, 1]
    metrics = found["base"][0].data.metrics
    assert (metrics["psnr"], metrics["psnr_infinite"]) == (41.0, 0.5)
    assert max(metrics.values()) < 1e300


def test_missing_results_are_an_error_before_anything_is_created(tmp_path: Path) -> None:
    with pytest.raises(DditError, match=r"quality\.json is missing"):
        tracking.track(tmp_path / "results" / "none", None, f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert not (tmp_path / "mlflow.db").exists()


def free_port() -> int:
    """A port that nobody listens at, below those that the system hands out on its own meanwhile."""
    for port in random.sample(range(20_000, 30_000), 50):
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port among 50")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running MLflow server on loopback, with a store of its own."""
    root = tmp_path_factory.mktemp("server")
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "-w",
        "1",
    ]
    command += ["--backend-store-uri", f"sqlite:///{root / 'server.db'}"]
    command += ["--artifacts-destination", (root / "artifacts").as_uri()]
    env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = (root / "log").open("wb")
    process = subprocess.Popen(command, env=env, cwd=root, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, (root / "log").read_text()
                time.sleep(0.5)
        else:
            pytest.fail("the MLflow server did not answer:\n" + (root / "log").read_text())
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def test_a_running_server_gets_the_same_runs_once(server: str, first: int, project: Path) -> None:
    assert track(project, server) == first
    assert track(project, server) == 0
    run = runs(server)["ddit-o3"][0]
    client = mlflow.MlflowClient(server)
    assert "schedule.png" in {a.path for a in client.list_artifacts(run.info.run_id)}


def test_clips_are_logged_as_films(project: Path, tmp_path: Path) -> None:
    frames = np.stack([np.full((16, 16, 3), (60 * n, 0, 90), np.uint8) for n in range(3)])
    job = made_job(prompt="a red star / moves", frames=3, fps=8, height=16, width=16)
    Store(tmp_path / "records").save(job, frames, [StepTrace(0, 1000.0, 1, None, 4, 4, 0.1)])
    write(tmp_path / "index.json", Index(methods={"base": (job.key,)}, flops={1: 1}))
    uri = f"sqlite:///{tmp_path / 'clips.db'}"
    tracking.track(project / "results" / "quick", tmp_path, uri)
    client = mlflow.MlflowClient(uri)
    (shown,) = client.list_artifacts(runs(uri)["base"][0].info.run_id, "clips")
    assert shown.path.removesuffix(".gif").removesuffix(".mp4") == "clips/0-a red star _ moves"
