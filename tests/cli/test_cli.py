from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from ddit_eval import cli
from ddit_eval.errors import DditError

runner = CliRunner()


def call(*words: str) -> Any:
    return runner.invoke(cli.app, list(words), catch_exceptions=True)


def command(monkeypatch: pytest.MonkeyPatch, capsys: Any, *words: str) -> tuple[int, str, str]:
    """What the installed command does: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["ddit-eval", *words])
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = int(end.code or 0)
    out = capsys.readouterr()
    return code, out.out, out.err


def test_help_teaches_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from ddit_eval import cli\n"
        "sys.argv = ['ddit-eval', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'diffusers', 'mlflow', 'optuna', 'matplotlib', 'numpy', 'pydantic'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("generate", "train", "run", "evaluate", "time", "study", "track", "report", "models"):
        assert name in done.stdout
    assert "ddit-eval generate" in done.stdout


@pytest.mark.parametrize("module", ["ddit_eval", "ddit_eval.cli"])
def test_it_runs_as_a_module(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "evaluate" in done.stdout


def test_models_says_what_is_missing_and_how_to_get_it() -> None:
    result = call("models")
    assert result.exit_code == 0
    assert "mini-flux" in result.output
    assert "hf download black-forest-labs/FLUX.1-dev" in result.output


def test_generate_draws_both_pictures_and_the_schedule(tiny: Any, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a red star\na blue cross\n")
    options = ["--model", str(tiny.model), "--adapter", str(tiny.adapter), "--side", "32", "--steps", "4"]
    result = call(
        "generate", "--file", str(tmp_path / "prompts.txt"), "--out", str(tmp_path / "out"), *options
    )
    assert result.exit_code == 0, result.exception
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names >= {"000.png", "000-base.png", "001.png", "001-base.png", "schedule.png"}
    fixed = ["--policy", "{kind: fixed, scale: 2}", "--out", str(tmp_path / "two")]
    result = call("generate", "a red star", *fixed, *options)
    assert "4.00 times fewer tokens, scales 2222: a red star" in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["generate"], "give a prompt"),
        (["generate", "  "], "the prompt is empty"),
        (["generate", "a star", "--file", "x.txt"], "one of the two"),
        (["generate", "--file", "no-such.txt"], "no-such.txt"),
        (["generate", "a star", "--tau", "-1"], "tau"),
        (["generate", "a star", "--rho", "3"], "rho"),
        (["generate", "a star", "--policy", "{kind: fixed, scale: 1.5}"], "scale"),
        (["generate", "a star", "--policy", "fast"], "fast"),
        (["generate", "a star", "--policy", "[1]"], "kind: fixed"),
        (["generate", "a star", "--model", "maxi-flux", "--side", "64"], "maxi-flux"),
        (["run", "no-such.yaml"], "no-such.yaml"),
        (["evaluate", "no-such.yaml"], "no-such.yaml"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = command(monkeypatch, capsys, *words)
    assert code == 2
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_debug_shows_where_an_error_came_from(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    with pytest.raises(DditError):
        command(monkeypatch, capsys, "--debug", "run", "no-such.yaml")


def test_an_adapter_that_is_not_there(
    tiny: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["generate", "a star", "--model", str(tiny.model), "--adapter", "nowhere", "--side", "32"]
    code, _, err = command(monkeypatch, capsys, *words)
    assert code == 2
    assert "nowhere" in err


def test_unknown_words_are_named_in_a_warning(
    tiny: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    import warnings

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    options = ["--model", str(tiny.model), "--adapter", str(tiny.adapter), "--side", "32", "--steps", "2"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, _, err = command(
            monkeypatch, capsys, "generate", "a red elephant", "--out", str(tmp_path / "out"), *options
        )
    assert code == 0
    assert "warning: the model does not know 'elephant'" in err


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "goes on from there"),
        (MemoryError(), 2, "smaller batch"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 2, "smaller batch"),
        (PermissionError(13, "Permission denied", "/x/y"), 2, "/x/y: Permission denied"),
        (DditError("a [/x]\n\x1b[31m \udcff"), 2, "a [/x] [31m \\udcff"),
    ],
)
def test_what_ends_a_command_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, raised: BaseException, code: int, words: str
) -> None:
    from ddit_eval.models import find

    def fails(_: str) -> None:
        raise raised

    monkeypatch.setattr(find, "find", fails)
    done, _, err = command(monkeypatch, capsys, "models")
    assert (done, err.count("\n")) == (code, 1)
    assert err.startswith("error: ")
    assert words in err


@pytest.mark.parametrize("debug", [False, True])
def test_a_model_that_fails_in_a_call_is_named(
    tiny: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path, debug: bool
) -> None:
    folder = Path(shutil.copytree(tiny.model, tmp_path / "model"))
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_shift": 1e9}))
    words = ["generate", "a star", "--model", str(folder), "--adapter", str(tiny.adapter), "--side", "32"]
    words += ["--steps", "2", "--out", str(tmp_path / "out")]
    if debug:
        with pytest.raises(OverflowError):
            command(monkeypatch, capsys, "--debug", *words)
        return
    code, _, err = command(monkeypatch, capsys, *words)
    _, line = err.splitlines()
    assert code == 2
    assert f"the model {folder} loads but fails in a call (OverflowError: math range error)" in line


def test_what_we_do_wrong_within_a_call_is_ours(
    tiny: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    from ddit_eval.ddit.adapter.adapter import Adapter

    monkeypatch.setattr(Adapter, "embed", lambda self, *_: torch.nn.Linear(1, 1)(torch.ones(7)))
    words = ["generate", "a star", "--model", str(tiny.model), "--adapter", str(tiny.adapter), "--side", "32"]
    words += ["--policy", "{kind: fixed, scale: 2}"]
    with pytest.raises(RuntimeError, match="shape"):
        command(monkeypatch, capsys, *words, "--steps", "2", "--out", str(tmp_path / "out"))


def test_a_mistake_of_ours_shows_its_traceback(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from ddit_eval.models import find

    monkeypatch.setattr(find, "find", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command(monkeypatch, capsys, "models")
