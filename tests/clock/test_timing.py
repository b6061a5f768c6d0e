from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from ddit_eval.clock import memory, timing
from ddit_eval.clock.compiling import CompiledBlocks, graphs
from ddit_eval.clock.machine import describe
from ddit_eval.clock.raw import NULL, Sample
from ddit_eval.clock.stopwatch import Stopwatch
from ddit_eval.ddit.adapter.adapter import Adapter
from ddit_eval.ddit.handle import attach
from ddit_eval.ddit.policies import Fixed
from ddit_eval.errors import DditError
from ddit_eval.experiment.prompts import prompts_of
from ddit_eval.experiment.time import COMPILED, groups_of, tables
from ddit_eval.judging.wording import written
from ddit_eval.schema.timing import Table
from tests.support.tiny import CALL, tiny_flux

PROMPTS = [f"prompt {i}" for i in range(8)]


class FakeMachine:
    """Seconds of a machine that grows slower with every run, on prompts of very different cost."""

    def __init__(self, drift: float = 0.02, noise: float = 0.05):
        self.rng, self.load, self.drift, self.noise = np.random.default_rng(0), 1.0, drift, noise
        self.ran: list[tuple[str, str, int]] = []

    def runner(self, name: str, cost: float) -> timing.Runner[str]:
        def run(prompt: str, seed: int) -> float:
            self.load *= 1 + self.drift
            self.ran.append((name, prompt, seed))
            return cost * (1 + int(prompt[-1])) * self.load * float(self.rng.lognormal(0, self.noise))

        return run


def runners(machine: FakeMachine) -> dict[str, timing.Runner[str]]:
    costs = {"base": 1.0, "twice": 0.5, "slower": 1.25}
    return {name: machine.runner(name, cost) for name, cost in costs.items()}


def test_known_ratios_are_recovered_in_spite_of_drift() -> None:
    machine = FakeMachine()
    samples = timing.run_blocks(runners(machine), PROMPTS, rounds=4, seed=3, reference="base")
    got = timing.summarise(samples, "base").plain()
    rows = {row["method"]: row for row in got["rows"]}
    for name, true in {"base": 1.0, "twice": 2.0, "slower": 0.8}.items():
        interval = rows[name]["speedup"]
        assert interval["low"] <= true <= interval["high"]
        assert interval["value"] == pytest.approx(true, rel=0.06)
        assert interval["n"] == len(PROMPTS)  # prompts, not runs
    assert rows["base"]["speedup"]["high"] == 1.0
    assert got["null"]["value"] == pytest.approx(1.0, abs=0.05)
    assert got["null"]["low"] <= 1 <= got["null"]["high"]
    assert rows["twice"]["runs"] == 32
    json.dumps(got, allow_nan=False)


def test_blocks_are_interleaved_and_their_order_is_drawn() -> None:
    machine = FakeMachine()
    samples = timing.run_blocks(runners(machine), PROMPTS, rounds=6, seed=1, reference="base")
    blocks = [samples[i : i + 4] for i in range(0, len(samples), 4)]
    for block in blocks:
        assert len({(s.prompt, s.round) for s in block}) == 1
        assert sorted(s.method for s in block) == sorted(["base", NULL, "slower", "twice"])
    assert Counter((b[0].prompt, b[0].round) for b in blocks) == Counter(
        (p, r) for p in range(8) for r in range(6)
    )
    first = Counter(block[0].method for block in blocks)
    assert min(first[name] for name in ("base", NULL, "slower", "twice")) >= 4  # 12 of 48 expected
    again = timing.run_blocks(runners(FakeMachine()), PROMPTS, rounds=6, seed=1, reference="base")
    assert [s.method for s in again] == [s.method for s in samples]


def test_methods_of_a_block_share_their_noise_and_warm_up_is_not_timed() -> None:
    machine = FakeMachine()
    samples = timing.run_blocks(runners(machine), PROMPTS[:2], rounds=2, seed=5, warm_up=2)
    assert [name for name, _, _ in machine.ran[:6]] == ["base", "twice", "slower"] * 2
    timed = machine.ran[6:]
    assert len(timed) == len(samples) == 3 * 2 * 2
    seeds = {timed[i : i + 3][0][2] for i in range(0, 12, 3)}
    assert len(seeds) == 4  # one a block
    assert all(len({seed for _, _, seed in timed[i : i + 3]}) == 1 for i in range(0, 12, 3))


def test_stages_that_were_timed_apart_share_a_row() -> None:
    loop = [Sample(m, p, 0, 0, {"denoise": s}) for p in range(3) for m, s in (("base", 4.0), ("fast", 1.0))]
    whole = [
        Sample(m, p, 0, 0, {"text": 0.5, "decode": 0.5, "end_to_end": s + 1})
        for p in range(3)
        for m, s in (("base", 4.0), ("fast", 1.0))
    ]
    fast = timing.summarise(loop + whole, "base").plain()["rows"][1]
    assert fast["speedup"]["value"] == pytest.approx(4.0)
    assert fast["speedups"]["end_to_end"]["value"] == pytest.approx(2.5)
    assert fast["stages"] == {"denoise": 1.0, "text": 0.5, "decode": 0.5, "end_to_end": 2.0}
    assert fast["seconds"] == {"p50": 1.0, "p95": 1.0, "mean": 1.0}


def test_a_round_that_one_method_lacks_drops_out() -> None:
    samples = [
        Sample("base", 0, 0, 0, {"denoise": 2.0}),
        Sample("fast", 0, 0, 1, {"denoise": 1.0}),
        Sample("base", 0, 1, 0, {"denoise": 50.0}),
    ]
    assert timing.speedup(samples, "fast", "base").value == pytest.approx(2.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: timing.run_blocks({}, PROMPTS),
        lambda: timing.run_blocks({"base": lambda p, s: 1.0}, []),
        lambda: timing.run_blocks({"base": lambda p, s: 1.0}, PROMPTS, reference="other"),
        lambda: timing.speedup([Sample("base", 0, 0, 0, {"denoise": 1.0})], "fast", "base"),
    ],
)
def test_bad_input_is_refused(call: Any) -> None:
    with pytest.raises(DditError):
        call()


def test_stopwatch_times_stages_and_leaves_the_pipeline_as_it_was() -> None:
    pipe = tiny_flux()
    watch = Stopwatch(pipe)
    call = {**CALL, "prompt": ["a red star"], "num_inference_steps": 2, "output_type": "pt"}
    encoded = Counter[str]()
    plain = pipe.encode_prompt
    object.__setattr__(pipe, "encode_prompt", lambda *a, **k: encoded.update(["text"]) or plain(*a, **k))
    watch.denoise(call)
    watch.denoise(call)
    before = encoded["text"]  # once by us; the pipeline asks too, and gets what it gave
    object.__delattr__(pipe, "encode_prompt")
    assert before == 3
    parts = watch.whole(call)
    assert set(parts) == {"text", "decode", "end_to_end"}
    assert 0 < parts["text"] + parts["decode"] < parts["end_to_end"]
    assert "encode_prompt" not in vars(pipe)
    assert "decode" not in vars(pipe.vae)
    peak = watch.peak_memory(call)
    assert peak is None or peak > 50 * 2**20  # torch alone is larger


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_given_embeddings_give_the_same_latents(guidance: float) -> None:
    pipe = tiny_flux()
    call = {**CALL, "prompt": ["a red star", "a blue square"], "num_inference_steps": 2}
    call["true_cfg_scale"] = guidance
    if guidance > 1:
        call["negative_prompt"] = ["", ""]
    one, other = (
        pipe(**arguments, generator=torch.Generator().manual_seed(0)).images
        for arguments in (call, Stopwatch(pipe).embed(call))
    )
    torch.testing.assert_close(one, other)


def test_machine_is_described_without_naming_it() -> None:
    import platform

    about = describe("cpu")
    assert about.matmul_gflops > 0
    assert about.copy_gb_s > 0
    assert about.cores >= 1
    if len(platform.node()) > 3:
        assert platform.node() not in str(about)


def test_the_memory_pass_runs_where_the_system_keeps_no_peak_since_it_warms_up_too(monkeypatch) -> None:
    pipe = tiny_flux()
    monkeypatch.setattr(memory, "reset_peak", lambda: False)
    calls: list[int] = []
    pipe.transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    call = {**CALL, "prompt": ["a red star"], "num_inference_steps": 2, "output_type": "pt"}
    assert Stopwatch(pipe).peak_memory(call) is None
    assert len(calls) == 2


def test_peak_memory_sees_a_passing_allocation() -> None:
    if not memory.reset_peak():
        pytest.skip("this system does not tell the peak of a process")
    before = memory.peak()
    torch.ones(64 * 2**20 // 4).sum()
    after = memory.peak()
    assert before is not None
    assert after is not None
    assert after - before > 48 * 2**20
    assert memory.reset_peak()
    lower = memory.peak()
    assert lower is not None
    assert lower < after


def test_compiled_twins_are_summed_up_apart() -> None:
    costs = {"base": 4.0, "fast": 2.0, "base" + COMPILED: 3.0, "fast" + COMPILED: 1.0, NULL: 4.0}
    samples = [Sample(m, p, 0, 0, {"denoise": s * (1 + p)}) for p in range(4) for m, s in costs.items()]
    eager, compiled = tables(samples, "base", ["base", "fast"])
    assert compiled is not None
    assert [row.method for row in eager.rows] == ["base", "fast"]
    assert eager.rows[1].speedup.value == pytest.approx(2.0)
    assert compiled.rows[1].speedup.value == pytest.approx(3.0)
    assert compiled.over_eager.value == pytest.approx(4 / 3)
    assert eager.null is not None
    assert eager.null.value == pytest.approx(1.0)


def test_compiled_blocks_are_a_switch_and_do_not_compile_again() -> None:
    pipe = tiny_flux()
    adapter = Adapter.from_base(pipe, scales=(2,), rank=2).eval()
    call = {**CALL, "prompt": ["a red star"], "num_inference_steps": 2}

    def run() -> torch.Tensor:
        return pipe(**call, generator=torch.Generator().manual_seed(0)).images

    with attach(pipe, adapter=adapter) as handle:
        compiled = CompiledBlocks(pipe.transformer, backend="eager")
        made = []
        for scale in (1, 2, 1, 2):
            handle.policy = Fixed(scale)
            eager, before = run(), graphs()
            with compiled.on():
                torch.testing.assert_close(run(), eager)
            made.append(graphs() - before)
    assert made[0] > 0
    assert made[2:] == [0, 0]
    before = graphs()
    run()
    assert graphs() == before


def test_blocks_that_nobody_names_cannot_be_compiled() -> None:
    with pytest.raises(DditError, match="repeated blocks"):
        CompiledBlocks(torch.nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("prompts", "count", "batch", "groups"),
    [(4, 8, 1, 4), (4, 2, 1, 2), (5, 8, 2, 2), (3, 8, 4, 1), (1, 8, 1, 1)],
)
def test_no_prompt_counts_twice(prompts: int, count: int, batch: int, groups: int) -> None:
    made = groups_of(prompts_of([f"prompt {i}" for i in range(prompts)], 0), count, batch)
    assert [len(group) for group in made] == [batch] * groups
    used = [prompt for group in made for prompt in {*group}]
    assert len(used) == len({*used})


def test_one_prompt_has_no_interval() -> None:
    samples = [
        Sample(m, 0, r, 0, {"denoise": s}) for r in (0, 1) for m, s in (("a", 2.0), ("b", 1.0), (NULL, 2.1))
    ]
    table = timing.summarise(samples, "a")
    assert str(table.rows[1].speedup) == "2, n = 1"
    assert written(table.rows[1].speedup, 2, unit="x") == "2.00x, n = 1"
    assert table.null is not None
    assert Table.model_validate(table.plain()).plain() == table.plain()
