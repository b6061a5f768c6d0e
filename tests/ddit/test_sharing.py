"""What is attached stays its owner's: adapters are not cast, pipelines are not copied with a handle on them,
and what is saved is what diffusers alone would have saved."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxImg2ImgPipeline, FluxPipeline
from torch import Tensor

import ddit_eval
from ddit_eval import Adapter, DditError
from ddit_eval.ddit.policies import Explicit, Fixed, Threshold
from tests.support.attached import MAKE, awake, scales
from tests.support.tiny import CALL, tiny_flux


@pytest.fixture(scope="module")
def pipe() -> FluxPipeline:
    return tiny_flux()


@pytest.fixture
def adapter(pipe: FluxPipeline) -> Adapter:
    return awake(Adapter.from_base(pipe, rank=2))


def run(pipe: Any, **extra: Any) -> Tensor:
    noise = torch.Generator().manual_seed(0)
    return pipe("a red star", num_inference_steps=3, generator=noise, **{**CALL, **extra}).images


def bits(adapter: Adapter) -> list[tuple[int, Tensor]]:
    return [(p.data_ptr(), p.detach().clone()) for p in adapter.state_dict().values()]


def test_one_adapter_in_two_precisions(pipe: FluxPipeline, adapter: Adapter) -> None:
    half = tiny_flux().to(torch.bfloat16)
    before = bits(adapter)
    with ddit_eval.attach(pipe, adapter, Fixed(2)) as handle:
        expected = run(pipe)
        assert handle.bindings[0]._used is adapter  # nothing is copied without need
        with ddit_eval.attach(half, adapter, Fixed(2)) as other:
            made = run(half)
            used = other.bindings[0]._used
            assert torch.equal(run(half), made)
            assert other.bindings[0]._used is used  # nor twice
            assert used is not None
            assert used.branch(2).embed.weight.dtype == torch.bfloat16
            assert other.adapter is adapter
        assert torch.equal(run(pipe), expected)
    rounded = copy.deepcopy(adapter).to(torch.bfloat16)
    with ddit_eval.attach(half, rounded, Fixed(2)):
        assert torch.equal(run(half), made)
    for (place, values), (place_after, after) in zip(before, bits(adapter), strict=True):
        assert place == place_after
        assert torch.equal(values, after)


@pytest.mark.parametrize("name", ["flux", "wan"])
def test_a_pipeline_may_be_cast_after_it_is_attached_to(name: str) -> None:
    pipe, generate = MAKE[name]()
    adapter = awake(Adapter.from_base(pipe, rank=2))
    with ddit_eval.attach(pipe, adapter, Fixed(2)) as handle:
        generate()
        made = []
        for dtype in (torch.bfloat16, torch.float32):
            pipe.to(dtype)
            made.append(generate())
            assert {step.scale for step in handle.trace} == {2}
    with ddit_eval.attach(pipe, adapter, Fixed(2)):  # the base's weights are rounded by now
        assert torch.equal(generate(), made[1])
        pipe.to(torch.bfloat16)
        assert torch.equal(generate(), made[0])
    assert next(adapter.parameters()).dtype == torch.float32


def test_a_copy_follows_the_adapter(adapter: Adapter) -> None:
    half = tiny_flux().to(torch.bfloat16)
    with ddit_eval.attach(half, adapter, Fixed(2)):
        before = run(half)
        with torch.no_grad():
            adapter.branch(2).out.bias.add_(1)
        assert not torch.equal(run(half), before)
        adapter.load_state_dict({k: v.clone() for k, v in adapter.state_dict().items()}, assign=True)
        after = run(half)
    with ddit_eval.attach(half, adapter, Fixed(2)):
        assert torch.equal(run(half), after)


def test_in_training_mode_on_another_device_is_refused(pipe: FluxPipeline, adapter: Adapter) -> None:
    adapter.train().to("meta")
    refusal = pytest.raises(DditError, match="in training mode and on meta, the pipeline on cpu; move it")
    with ddit_eval.attach(pipe, adapter, Fixed(2)), refusal:
        run(pipe)


def test_two_pipelines_on_one_transformer(pipe: FluxPipeline, adapter: Adapter) -> None:
    image = FluxImg2ImgPipeline.from_pipe(pipe)
    image.set_progress_bar_config(disable=True)
    with ddit_eval.attach(pipe, adapter, Explicit([1, 2, 1])) as handle:
        with pytest.raises(DditError, match="attachment already"):
            ddit_eval.attach(image, adapter)
        run(image, image=torch.ones(1, 3, 16, 16), strength=1.0)
        assert scales(handle) == [1, 2, 1]
    for _ in range(2):
        with ddit_eval.attach(image, adapter, Explicit([1, 1, 2])) as handle:
            run(pipe)
            assert scales(handle) == [1, 1, 2]


def test_copies_are_refused_while_attached(pipe: FluxPipeline, adapter: Adapter) -> None:
    expected = run(pipe)
    for make in (copy.deepcopy, pickle.dumps):
        with ddit_eval.attach(pipe, adapter, Fixed(2)):
            run(pipe)
            for what in (pipe, pipe.transformer):
                with pytest.raises(DditError, match="cannot be copied or pickled; call detach"):
                    make(what)
    again = copy.deepcopy(pipe)
    again.set_progress_bar_config(disable=True)
    assert torch.equal(run(again), expected)
    ddit_eval.attach(again, adapter).detach()


def test_saved_while_attached(pipe: FluxPipeline, adapter: Adapter, tmp_path: Path) -> None:
    plain = run(pipe)
    pipe.save_pretrained(tmp_path / "plain")
    with ddit_eval.attach(pipe, adapter, Fixed(2)):
        run(pipe)
        pipe.save_pretrained(tmp_path / "attached")
    files = [p.relative_to(tmp_path / "plain") for p in (tmp_path / "plain").rglob("*") if p.is_file()]
    found = [p.relative_to(tmp_path / "attached") for p in (tmp_path / "attached").rglob("*") if p.is_file()]
    assert sorted(found) == sorted(files)
    for file in files:
        assert (tmp_path / "attached" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()
    loaded = FluxPipeline.from_pretrained(tmp_path / "attached")
    loaded.set_progress_bar_config(disable=True)
    assert torch.equal(run(loaded), plain)


def test_one_bad_patch_is_seen(pipe: FluxPipeline, adapter: Adapter) -> None:
    """A low percentile would not show it."""

    def spoil(_: Any, step: int, __: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
        values["latents"][:, 0] = float("inf")
        return {"latents": values["latents"]}

    for policy in (Threshold(1e9, order=1, rho=0.1), Threshold(1e-9, order=1, rho=0.0)):
        refusal = pytest.raises(DditError, match="NaN or infinity at step 1 ")
        with ddit_eval.attach(pipe, adapter, policy), refusal:
            run(pipe, callback_on_step_end=spoil)
