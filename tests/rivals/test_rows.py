"""Rows with a cache, another scheduler or a setup: each in effect for its own samples, and for no others."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

from ddit_eval.errors import DditError
from ddit_eval.experiment.generate import Generator
from ddit_eval.experiment.setting import Setting
from tests.conftest import TinyFolders

STEPS = 6
FIRST_BLOCK = {"cache": {"kind": "first-block", "threshold": 0.5}}
MAG = {"cache": {"kind": "mag", "threshold": 0.5}}
LITE = {
    "kind": "taylorseer",
    "use_lite_mode": True,
    "cache_interval": 2,
    "disable_cache_before_step": 1,
}
HEUN, COARSE = {"scheduler": {"kind": "heun"}}, {"policy": {"kind": "coarse-first", "steps": 3, "scale": 2}}
SHIFTED = {"scheduler": {"shift": 2.0}}
CACHES: dict[str, list[dict[str, Any]]] = {
    "tiny": [
        FIRST_BLOCK,
        MAG,
        {"cache": LITE},
        {"cache": LITE | {"use_lite_mode": False}},
        {"cache": {"kind": "pyramid-attention", "spatial_attention_block_skip_range": 2}},
        {"cache": {"kind": "faster"}},
    ],
    "tiny_video": [FIRST_BLOCK, MAG, {"cache": LITE}, {"cache": {"kind": "sea"}}],
}
SOLVERS = [
    HEUN,
    {"scheduler": {"kind": "dpmpp-2m"}},
    {"scheduler": {"kind": "unipc", "order": 3}},
    SHIFTED,
    {"scheduler": {"kind": "euler", "sigmas": [1.0, 0.9, 0.7, 0.5, 0.3, 0.1]}},
]


def make(folders: TinyFolders, *rows: dict[str, Any], pipe: Any = None) -> list[Any]:
    """A run of each row on one prompt, made in turn by one generator."""
    methods = [{"name": f"row-{i}", **row} for i, row in enumerate(rows)]
    setting = Setting(folders.experiment(methods=methods, reference="row-0", steps=STEPS, batch=1))
    setting.check()
    with Generator(setting, pipe) as generator:
        return [generator.sample([setting.job(m, setting.prompts[0])]) for m in setting.experiment.methods]


def cost(run: Any) -> int:
    return sum(step.flops for step in run.trace)


@pytest.mark.parametrize("which", CACHES)
def test_a_cache_saves_repeats_to_the_bit_and_ends_with_its_row(
    which: str, request: pytest.FixtureRequest
) -> None:
    folders, rows = request.getfixturevalue(which), CACHES[which]
    base, *runs, again = make(folders, {}, *(row for row in rows for _ in range(2)), {})
    assert np.array_equal(base.pixels, again.pixels)
    for one, other in zip(runs[::2], runs[1::2], strict=True):
        assert np.array_equal(one.pixels, other.pixels)
        assert not np.array_equal(one.pixels, base.pixels)
        assert [step.flops for step in one.trace] == [step.flops for step in other.trace]
        assert cost(one) < STEPS * max(step.flops for step in one.trace)


@pytest.mark.parametrize("which", CACHES)
def test_a_scheduler_solves_its_row_alone(which: str, request: pytest.FixtureRequest) -> None:
    base, *runs, again = make(request.getfixturevalue(which), {}, *SOLVERS, {})
    assert np.array_equal(base.pixels, again.pixels)
    assert [len(run.trace) for run in runs] == [2 * STEPS - 1, *[STEPS] * 4]
    for run in runs:
        distance = np.abs(run.pixels - base.pixels).mean()
        assert 0 < distance < 0.2


@pytest.mark.parametrize(("which", "kind"), [("tiny", "euler"), ("tiny_video", "unipc")])
def test_the_pipelines_own_solver_by_name_gives_the_bits_of_the_base(
    which: str, kind: str, request: pytest.FixtureRequest
) -> None:
    base, same = make(request.getfixturevalue(which), {}, {"scheduler": {"kind": kind}})
    assert np.array_equal(base.pixels, same.pixels)
    assert [s.timestep for s in base.trace] == [s.timestep for s in same.trace]


@pytest.mark.parametrize("which", CACHES)
def test_all_of_it_goes_together(which: str, request: pytest.FixtureRequest) -> None:
    rows = [FIRST_BLOCK | COARSE, MAG | HEUN, HEUN | COARSE, {"cache": LITE} | SHIFTED | COARSE]
    folders = request.getfixturevalue(which)
    alone, twice = make(folders, *rows), make(folders, *reversed(rows))
    for one, other in zip(alone, reversed(twice), strict=True):
        assert np.array_equal(one.pixels, other.pixels)
    assert [step.scale for step in alone[0].trace] == [2, 2, 2, 1, 1, 1]
    assert len(alone[1].trace) == len(alone[2].trace) == 2 * STEPS - 1


def test_counting_changes_no_bit(tiny: TinyFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    (counted,) = make(tiny, FIRST_BLOCK)
    monkeypatch.setattr("ddit_eval.rivals.cost.compiled", lambda transformer: True)
    with pytest.warns(UserWarning, match="compiled code is not counted"):
        (plain,) = make(tiny, FIRST_BLOCK)
    assert np.array_equal(counted.pixels, plain.pixels)
    assert plain.trace[0].flops is None


@pytest.mark.parametrize(
    ("which", "row", "why"),
    [
        ("tiny", {"cache": {"kind": "sea"}}, "does not tell its cache the step"),
        ("tiny_video", {"cache": {"kind": "pyramid-attention"}}, "hand one's attention to the other"),
        ("tiny_video", {"cache": {"kind": "faster"}}, "as one batch of latents"),
        ("tiny_video", {"cache": {"kind": "taylorseer"}}, "add `use_lite_mode: true`"),
        ("tiny", {"cache": LITE | {"use_lite_mode": False, "cache_identifiers": ["("]}}, "error: "),
    ],
)
def test_what_cannot_run_says_why_before_anything_is_made(
    which: str, row: dict[str, Any], why: str, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(DditError, match=f"method 'row-0': cache .* cannot run on .*{why}") as caught:
        make(request.getfixturevalue(which), row, pipe=nullcontext())
    assert "\n" not in str(caught.value)
