"""Distillation on the tiny pipeline: it learns, resumes to the step, and refuses bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ddit_eval.ddit.adapter.adapter import Adapter
from ddit_eval.ddit.adapter.detail import DetailConfig
from ddit_eval.ddit.handle import attach
from ddit_eval.errors import DditError
from ddit_eval.models import flops
from ddit_eval.models.load import load_pipeline
from ddit_eval.tracking import track_training
from ddit_eval.training.distil import DistilConfig, distil, estimate, load_config
from ddit_eval.training.distil.config import Source
from ddit_eval.training.distil.data import pictures_of
from ddit_eval.training.distil.measure import FLOW_TIMES, relative_error
from ddit_eval.training.inputs import inputs_of
from tests.support.tiny import tiny_flux


def config(out, **changes):
    values = {
        "model": "tiny",
        "out": out,
        "rank": 2,
        "detail": DetailConfig(width=8, depth=1, features=2),
        "source": Source(side=32),
        "pictures": 48,
        "batch": 4,
        "text_tokens": 8,
        "probe_pictures": 4,
        "checkpoint_minutes": 1e-6,
    }
    return DistilConfig(**{**values, **changes})


def test_it_learns_and_reports_the_error_by_timestep(tmp_path):
    rows = list(distil(config(tmp_path / "a", pictures=240, lr=3e-3), tiny_flux()))
    assert rows[-1]["step"] == rows[-1]["of"] == 60
    record = json.loads((tmp_path / "a" / "errors.json").read_text())
    assert record["timesteps"] == list(FLOW_TIMES)
    mean = {(r["scale"], r["stage"]): sum(r["error"]) for r in record["rows"]}
    for scale in (2, 4):
        assert mean[scale, "trained"] < 0.9 * mean[scale, "start"]
    assert [row["step"] for row in record["log"]] == [20, 40, 60]
    with attach(tiny_flux(), adapter=tmp_path / "a") as handle:
        assert handle.adapter.scales == (2, 4)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert track_training(tmp_path / "a", uri)
    assert not track_training(tmp_path / "a", uri)  # logged once


def test_each_side_has_its_own_rows(tmp_path):
    settings = config(tmp_path, pictures=12, source=Source(side=[32, 64, 32]), probe_pictures=8)
    list(distil(settings, tiny_flux()))
    rows = json.loads((tmp_path / "errors.json").read_text())["rows"]
    found = {(r["stage"], r["side"], r["scale"]): r["n"] for r in rows}
    assert found == {
        (stage, side, scale): n
        for stage in ("start", "trained")
        for side, n in ((32, 8), (64, 2))
        for scale in (2, 4)
    }
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert track_training(tmp_path, uri)


def test_it_learns_with_the_papers_optimizer(tmp_path):
    settings = config(tmp_path, pictures=240, optimizer="prodigy", lr=1.0)
    list(distil(settings, tiny_flux()))
    record = json.loads((tmp_path / "errors.json").read_text())
    mean = {(r["scale"], r["stage"]): sum(r["error"]) for r in record["rows"]}
    for scale in (2, 4):
        assert mean[scale, "trained"] < 0.9 * mean[scale, "start"]


def test_a_run_can_begin_with_the_adapter_of_an_earlier_base(tmp_path):
    list(distil(config(tmp_path / "old", pictures=240, lr=3e-3), tiny_flux()))
    further = config(tmp_path / "new", pictures=4, lr=1e-9, begin=str(tmp_path / "old"))
    list(distil(further, tiny_flux(seed=1)))
    old, new = (Adapter.from_pretrained(tmp_path / n) for n in ("old", "new"))
    assert old.config.base != new.config.base
    for name, value in old.state_dict().items():
        torch.testing.assert_close(value, new.state_dict()[name], rtol=1e-2, atol=1e-4)
    wider = config(tmp_path / "wider", pictures=4, lr=1e-9, attention=True, begin=str(tmp_path / "old"))
    list(distil(wider, tiny_flux(seed=1)))
    weights = Adapter.from_pretrained(tmp_path / "wider").state_dict()
    assert old.state_dict().keys() < weights.keys()
    for name, value in old.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=1e-2, atol=1e-4)
    block = DetailConfig(width=12, depth=1, features=3)
    other = config(tmp_path / "block", pictures=4, lr=1e-9, detail=block, begin=str(tmp_path / "old"))
    list(distil(other, tiny_flux(seed=1)))
    weights = Adapter.from_pretrained(tmp_path / "block").state_dict()
    kept = [n for n, v in old.state_dict().items() if v.shape == weights[n].shape]
    assert any("lora" in n for n in kept)
    assert any(n.endswith("embed.weight") for n in kept)
    for name in kept:
        torch.testing.assert_close(old.state_dict()[name], weights[name], rtol=1e-2, atol=1e-4)
    assert weights["branches.2.conv.leave.weight"].abs().max() < 1e-6  # at its start value
    with pytest.raises(DditError, match=r"rank 2 and this run 3"):
        list(distil(config(tmp_path / "other", rank=3, begin=str(tmp_path / "old")), tiny_flux()))


def test_the_base_is_left_as_it_was(tmp_path):
    pipe = tiny_flux()
    before = {k: v.clone() for k, v in pipe.transformer.state_dict().items()}
    list(distil(config(tmp_path, pictures=8), pipe))
    after = pipe.transformer.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(v, after[k]) for k, v in before.items())


def test_inputs_lie_on_the_flow():
    pipe = tiny_flux()
    latents = inputs_of(pipe).encode(pipe, torch.rand(2, 3, 32, 32) * 2 - 1)
    noise = torch.randn_like(latents)
    ends = [
        inputs_of(pipe).build(pipe, latents, ["a", "b"], torch.full((2,), t), noise, 8) for t in (0.0, 1.0)
    ]
    clean, pure = (pipe._unpack_latents(e["hidden_states"], 32, 32, 2) for e in ends)
    torch.testing.assert_close(clean, latents)
    torch.testing.assert_close(pure, noise)


def test_relative_error_of_the_mean_velocity_is_one():
    base = torch.randn(4, 64, 12)
    assert relative_error(base.mean().expand_as(base), base) == pytest.approx(1)
    assert relative_error(base, base) == 0


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("model: m\nout: o\nscales: [2, 1]\n", "scales"),
        ("model: m\nout: o\nscals: [2]\n", "scals"),
        ("model: m\nout: o\nlr: -1\n", "lr"),
        ("model: [\n", "line 2"),
        ("model: m\nout: o\nbatch: 4.0\n", "batch"),
        ("model: m\nout: o\nlr: .inf\n", ".inf is not a finite"),
    ],
)
def test_a_bad_config_is_named(tmp_path, text, named):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(DditError, match=named):
        load_config(path)


def test_several_sides_take_turns(tmp_path, monkeypatch):
    shown = []
    draw = pictures_of(Source())
    monkeypatch.setattr(
        "ddit_eval.training.distil.run.pictures_of",
        lambda source: lambda start, count, side: shown.append((count, side)) or draw(start, count, side),
    )
    run = config(tmp_path, source=Source(side=[32, 64]), pictures=16)
    list(distil(run, tiny_flux()))
    assert [side for count, side in shown if count == run.batch and side in (32, 64)][1:5] == [32, 64, 32, 64]
    with pytest.raises(ValueError, match="side"):
        Source(side=[])


def test_an_empty_folder_of_pictures_is_named(tmp_path):
    with pytest.raises(DditError, match="no picture"):
        pictures_of(Source(kind="folder", path=tmp_path))
    for name in ("10.png", "9.png"):
        (tmp_path / name).touch()
    with pytest.raises(DditError, match=r"2 pictures have no .txt.*the first is .*/9\.png; write the prompt"):
        pictures_of(Source(kind="folder", path=tmp_path))


def test_the_estimate_counts_what_a_run_computes(tmp_path: Path) -> None:
    config = DistilConfig(model="mini-flux", out=tmp_path, rank=4, pictures=640, batch=4)
    found = estimate(config, processes=2)
    pipe = load_pipeline("mini-flux")
    adapter = Adapter.from_base(pipe, rank=4)
    table = flops.by_scale(pipe.transformer, (1, 16, 16), 32, (2, 4), adapter)
    assert found.steps == 80
    assert found.flops_a_sample == table[1] + 2 * (table[2] + table[4])
    assert found.base_parameters == sum(p.numel() for p in pipe.transformer.parameters())
    assert found.adapter_parameters == sum(p.numel() for p in adapter.parameters())
    assert found.adapter_bytes == 16 * found.adapter_parameters  # weights, gradients, two of AdamW
    assert found.seconds == pytest.approx(320 * found.flops_a_sample / (0.4e9 * found.gflops))
    again = estimate(config.model_copy(update={"checkpointing": True, "mixed": True}), processes=2)
    assert again.activation_bytes < found.activation_bytes
    assert again.flops_a_sample > found.flops_a_sample
    assert "80 steps by 2 process(es)" in str(found)
