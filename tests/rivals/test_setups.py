"""Setups: undone after each call or on a pipeline of their own; what one leaves behind is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

from ddit_eval.errors import DditError
from ddit_eval.experiment.generate import Generator
from ddit_eval.experiment.setting import Setting
from ddit_eval.rivals import cost, setups
from ddit_eval.rivals.row import Setup
from tests.conftest import TinyFolders
from tests.support.tiny import CALL, tiny_flux

HERE = "tests.support.speedups"
COARSE = {"policy": {"kind": "coarse-first", "steps": 2, "scale": 2}}
CACHE = {"cache": {"kind": "first-block", "threshold": 0.5}}


def named(function: str, **given: Any) -> dict[str, Any]:
    return {"setup": {"call": f"{HERE}:{function}", "with": given}}


def setup_of(function: str) -> Setup:
    return Setup.model_validate({"call": f"{HERE}:{function}"})


def make(folders: TinyFolders, *rows: dict[str, Any]) -> list[Any]:
    methods = [{"name": f"row-{i}", **row} for i, row in enumerate(rows)]
    setting = Setting(folders.experiment(methods=methods, reference="row-0"))
    setting.check()
    with Generator(setting) as generator:
        return [generator.sample([setting.job(m, setting.prompts[0])]) for m in setting.experiment.methods]


@pytest.fixture
def clean() -> Iterator[None]:
    """What a setup of these tests leaves of the process and the classes is taken away."""
    yield
    torch.set_float32_matmul_precision("highest")
    if hasattr(FluxPipeline, "left"):
        del FluxPipeline.left


def differ(one: Any, other: Any) -> bool:
    return not np.array_equal(one.pixels, other.pixels)


def test_a_setup_changes_its_own_row_alone(tiny: TinyFolders) -> None:
    kinds = [named("attention"), named("lora"), named("lora") | COARSE, named("attention") | CACHE]
    base, kernel, lora, coarse, cached, again = make(tiny, {}, *kinds, {})
    assert not differ(base, again)
    assert np.abs(kernel.pixels - base.pixels).max() < 1e-5  # another kernel, the same attention
    assert differ(lora, base)
    assert differ(coarse, lora)
    assert differ(cached, base)
    assert sum(s.flops for s in lora.trace) > sum(s.flops for s in kernel.trace) > 0  # counted
    assert [step.scale for step in coarse.trace] == [2, 2, 1, 1]


def test_what_our_own_attachment_does_in_a_row_is_none_of_its_leavings(tiny: TinyFolders) -> None:
    """Hooks and detours come when the first call needs them, which may be a setup's: after a kill, say."""
    skipping = {"policy": {"kind": "skip", "every": 2}}
    first, skipped, base = make(tiny, named("attention") | COARSE, named("attention") | skipping, {})
    assert [step.scale for step in skipped.trace] == [1, 0, 1, 0]
    assert differ(first, base)


def test_hooks_of_ours_that_a_setup_takes_away_are_missed(tiny: TinyFolders) -> None:
    with pytest.raises(DditError, match=r"leaves behind.*_forward_hooks of ddit_eval"):
        make(tiny, COARSE, named("unhooked"))


def test_what_is_compiled_is_not_counted() -> None:
    """Of what a row then costs see `test_counting_changes_no_bit`."""
    pipe = tiny_flux()
    assert not cost.compiled(pipe.transformer)
    assert not setups.tried(pipe, setup_of("compiled"))
    assert cost.compiled(pipe.transformer)


def test_cache_dit_is_a_row_among_others(tiny: TinyFolders) -> None:
    pytest.importorskip("cache_dit", reason="pip install cache-dit")
    base, one, other, again = make(tiny, {}, *[named("cache_dit", threshold=1.0)] * 2, {})
    assert not differ(base, again)
    assert not differ(one, other)
    assert differ(one, base)
    assert sum(s.flops for s in one.trace) < len(one.trace) * max(s.flops for s in one.trace)


BAD = {
    "fails": "failed: RuntimeError: no such kernel",
    "takes_none": "cannot be called with a pipeline: too many",
    "returns_five": "returned 5; return None, or a function that undoes it",
    "cannot_be_undone": "cannot be undone: IndexError",
    "NOT_A_FUNCTION": "is 3, which cannot be called",
    "nothing": "cannot be imported: AttributeError",
    "leaves_process": "leaves behind for other rows: torch's precision of float32 products; return",
    "leaves_class": r"leaves behind for other rows: FluxPipeline\.left",
    "leaves_forward": r"leaves behind for other rows: transformer\.forward",
    "leaves_weights": r"leaves behind for other rows: transformer\.proj_out\.weight",
    "leaves_dtype": "leaves behind for other rows: transformer",
    "leaves_hook": r"leaves behind for other rows: transformer\.proj_out\._forward_hooks",
    "leaves_scheduler": "leaves behind for other rows: the pipeline.scheduler",
}


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("function", BAD)
def test_a_bad_setup_is_told_in_one_line(function: str) -> None:
    with pytest.raises(DditError, match=BAD[function]) as caught:
        setups.tried(tiny_flux(), setup_of(function))
    assert re.fullmatch(rf"setup '{HERE}:{function}' .*", str(caught.value))


def test_what_a_setup_breaks_is_told_of_its_row(tiny: TinyFolders) -> None:
    with pytest.raises(DditError, match="method 'row-1' fails with setup: RuntimeError: mat1 and mat2"):
        make(tiny, {}, named("breaks"))


def test_the_transformer_of_all_rows_is_not_replaced(tiny: TinyFolders) -> None:
    with pytest.raises(DditError, match="puts another transformer into the pipeline of all rows"):
        make(tiny, named("another_transformer"))


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ("no_such_package.at_all:f", "cannot be imported: ModuleNotFoundError"),
        ("no-such-entry", "no entry point of ddit_eval.rivals has this name"),
    ],
)
def test_a_setup_that_is_not_there(call: str, why: str) -> None:
    with pytest.raises(DditError, match=why):
        setups.resolve(Setup(call=call))


def test_arguments_that_a_setup_does_not_take() -> None:
    with pytest.raises(DditError, match="cannot be called with a pipeline and kernel: got an unexpected"):
        setups.resolve(Setup.model_validate(named("attention", kernel="math")["setup"]))


def test_a_module_of_the_present_folder_is_found_and_decides_the_key(
    tiny: TinyFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_speedups.py").write_text("def nothing(pipe):\n    return lambda: None\n")
    rows = [{"name": "base"}, {"name": "mine", "setup": "my_speedups:nothing"}]
    setting = Setting(tiny.experiment(methods=rows))

    def keys() -> list[str]:
        return [setting.job(m, setting.prompts[0]).key for m in setting.experiment.methods]

    base, mine = keys()
    Path("my_speedups.py").write_text("def nothing(pipe):\n    return lambda: 1\n")
    assert keys()[0] == base
    assert keys()[1] != mine


def test_an_entry_point_is_a_setup(monkeypatch: pytest.MonkeyPatch) -> None:
    function: Callable[[Any], None] = lambda pipe: None  # noqa: E731
    monkeypatch.setattr(setups, "plugins", lambda group, needs: {"mine": function})
    assert setups.resolve(Setup(call="mine")) is function


def test_a_call_between_leaves_nothing_that_counts() -> None:
    """A pipeline's own traces of a call are no setup's."""
    pipe = tiny_flux()
    with setups.set_up(pipe, setup_of("attention")):
        pipe("a red star", num_inference_steps=2, **CALL)
