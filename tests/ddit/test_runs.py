"""The run is what runs: its steps, their timesteps and their number, whatever pipeline and scheduler."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from diffusers import FluxImg2ImgPipeline, FluxPipeline
from torch import Tensor

import ddit_eval
from ddit_eval import Adapter, DditError
from ddit_eval.ddit.families import family_of
from ddit_eval.ddit.policies import Base, Budget, CoarseFirst, Explicit, Policy, Random, Region, Threshold
from tests.support.attached import awake, scales
from tests.support.tiny import CALL, tiny_flux
from tests.support.tiny_tasks import TASKS, Task


def adapter_of(task: Task) -> Adapter:
    kind: Any = "conv" if family_of(task.pipe.transformer).flow else "none"
    return awake(Adapter.from_base(task.pipe, rank=2, detail=kind))


@pytest.mark.parametrize("name", TASKS)
def test_the_steps_are_those_that_run(name: str) -> None:
    task = TASKS[name]()
    plain, timesteps = task.watched()
    assert len(timesteps) == task.steps
    adapter = adapter_of(task)
    ones = [1] * (task.steps - 1)
    first, last = [2, *ones], [*ones, 2]
    for pipe, wanted in ((task.pipe, first), (task.shared, last)):
        with ddit_eval.attach(pipe, adapter, Base()) as handle:
            assert torch.equal(task.run(), plain)
            assert [step.timestep for step in handle.trace] == pytest.approx(timesteps)
            handle.policy = Explicit(wanted)
            if task.refused:
                with pytest.raises(DditError, match=task.refused):
                    task.run()
                continue
            assert not torch.equal(task.run(), plain)
            assert scales(handle) == wanted
            assert [step.timestep for step in handle.trace] == pytest.approx(timesteps)
            assert [step.tokens < step.base_tokens for step in handle.trace] == [s > 1 for s in wanted]


# Of six steps.
POLICIES: list[tuple[Policy, list[int]]] = [
    (Threshold(1e9, order=1, final_fine=2), [1, 4, 4, 4, 1, 1]),
    (Budget(0.5, order=1, final_fine=1), [1, 2, 2, 2, 1, 1]),
    (Region(tau=1e9, order=1, final_fine=2), [1, 4, 4, 4, 1, 1]),
    (Random({1: 2, 4: 1}, seed=0), [1, 4, 4, 1, 1, 1]),
]


@pytest.mark.parametrize("name", ["flux image", "wan video"])
def test_every_policy_counts_them(name: str) -> None:
    task = TASKS[name]()
    task.call["num_inference_steps"] = 12
    with ddit_eval.attach(task.pipe, adapter_of(task)) as handle:
        for policy, expected in POLICIES:
            handle.policy = policy
            task.run()
            found = scales(handle)
            if isinstance(policy, (Budget, Random)):
                assert (len(found), sorted(found)) == (6, sorted(expected))
                assert isinstance(policy, Random) or found[0] == found[-1] == 1
            else:
                assert found == expected


@pytest.fixture(scope="module")
def pipe() -> FluxPipeline:
    return tiny_flux()


@pytest.fixture(scope="module")
def adapter(pipe: FluxPipeline) -> Adapter:
    return awake(Adapter.from_base(pipe, rank=2))


def run(pipe: Any, steps: int = 4, **extra: Any) -> Tensor:
    noise = torch.Generator().manual_seed(0)
    return pipe("a red star", num_inference_steps=steps, generator=noise, **{**CALL, **extra}).images


def strength(pipe: Any, value: float, steps: int = 10, **extra: Any) -> Tensor:
    return run(pipe, steps, image=torch.ones(1, 3, 16, 16), strength=value, **extra)


class Stop(Exception):
    pass


def stopping(at: int) -> Any:
    def stop(pipe: Any, step: int, *_: Any) -> dict[str, Any]:
        if step == at:
            raise Stop
        return {}

    return stop


def interrupting(at: int) -> Any:
    def interrupt(pipe: Any, step: int, *_: Any) -> dict[str, Any]:
        pipe._interrupt = step >= at
        return {}

    return interrupt


def test_a_run_that_ends_early_is_not_gone_on_with(pipe: FluxPipeline, adapter: Adapter) -> None:
    """The second run begins further down the list, or at the place where the first was left."""
    image = FluxImg2ImgPipeline(**pipe.components)
    image.set_progress_bar_config(disable=True)
    last = Explicit([1, 2])
    with ddit_eval.attach(image, adapter, last) as handle:
        expected = strength(image, 0.2)
        for ended in (0, 1):
            handle.policy = Base()
            with pytest.raises(Stop):
                strength(image, 0.5, callback_on_step_end=stopping(ended))
            assert len(handle.trace) == ended + 1
            handle.policy = last
            assert torch.equal(strength(image, 0.2), expected)
            assert scales(handle) == [1, 2]
            handle.policy = Base()
            strength(image, 0.5, callback_on_step_end=interrupting(ended))
            assert len(handle.trace) == ended + 1
            handle.policy = last
            assert torch.equal(strength(image, 0.2), expected)
            assert scales(handle) == [1, 2]


def test_an_aborted_call_of_another_pipeline_says_nothing(pipe: FluxPipeline, adapter: Adapter) -> None:
    image = FluxImg2ImgPipeline.from_pipe(pipe)
    image.set_progress_bar_config(disable=True)
    with ddit_eval.attach(pipe, adapter, Base()) as handle:
        with pytest.raises(Stop):
            run(pipe, 3, callback_on_step_end=stopping(1))
        handle.policy = Explicit([1, 1, 1, 1, 2])
        strength(image, 0.5)
        assert scales(handle) == [1, 1, 1, 1, 2]
        handle.policy = Explicit([2, 1])
        run(pipe, 2)
        assert scales(handle) == [2, 1]


def test_a_run_in_another_thread(pipe: FluxPipeline, adapter: Adapter) -> None:
    made: list[Tensor] = []
    with ddit_eval.attach(pipe, adapter, Explicit([1, 2, 1])) as handle:
        expected = run(pipe, 3)
        thread = threading.Thread(target=lambda: made.append(run(pipe, 3)))
        thread.start()
        thread.join()
        assert torch.equal(made[0], expected)
        assert scales(handle) == [1, 2, 1]


def test_a_pipeline_that_leaves_the_last_steps_out(adapter: Adapter) -> None:
    """As `denoising_end` does: the pipeline says how many steps it takes."""

    class Ends(FluxPipeline):
        @property
        def num_timesteps(self) -> int:
            return self._num_timesteps

        def progress_bar(self, iterable: Any = None, total: Any = None) -> Any:
            self._num_timesteps = total = 2
            return super().progress_bar(iterable, total)

    pipe = Ends(**tiny_flux().components)
    pipe.set_progress_bar_config(disable=True)
    with ddit_eval.attach(pipe, adapter, Threshold(1e9, order=1, final_fine=1)) as handle:
        run(pipe, 4, callback_on_step_end=interrupting(1))
        assert scales(handle) == [1, 1]


def call(pipe: Any, z: Tensor, t: float) -> Tensor:
    with torch.no_grad():
        return pipe.transformer(
            hidden_states=z,
            timestep=torch.tensor([t]),
            pooled_projections=torch.ones(1, 96),
            encoder_hidden_states=torch.ones(1, 6, 96),
            txt_ids=torch.zeros(6, 3),
            img_ids=pipe._prepare_latent_image_ids(1, 8, 8, "cpu", torch.float32),
            return_dict=False,
        )[0]


def test_a_loop_of_ones_own(adapter: Adapter) -> None:
    """The number of its steps is known where it goes through the scheduler's timesteps; else what needs it is
    refused, and what does not runs."""
    pipe = tiny_flux()
    z = torch.randn(1, 64, 12, generator=torch.Generator().manual_seed(0))
    needing = [Explicit([1, 2, 1]), Budget(), Random({1: 1, 2: 1}), Threshold(1.0, final_fine=1)]
    with ddit_eval.attach(pipe, adapter) as handle:
        for before in ("nothing", "a whole run", "an aborted one"):
            if before == "a whole run":
                run(pipe)
            if before == "an aborted one":
                handle.policy = Base()
                with pytest.raises(Stop):
                    run(pipe, callback_on_step_end=stopping(1))
            for policy in needing:
                handle.policy = policy
                with pytest.raises(DditError, match="nothing says how many this run has"):
                    call(pipe, z, 0.87)
            handle.policy = CoarseFirst(1)
            for t in (0.9, 0.6, 0.6, 0.2):  # a solver of two stages comes back to a timestep
                call(pipe, z + t * torch.rand(1), t)
            assert scales(handle) == [2, 1, 1, 1]
            assert [step.timestep for step in handle.trace] == pytest.approx([900, 600, 600, 200])
        pipe.scheduler.set_timesteps(sigmas=[1.0, 0.7, 0.3], mu=1.0)
        for handle.policy in (Explicit([1, 2, 1]), Threshold(1e9, order=1, final_fine=1, scales=(2,))):
            for stepping in (True, False):
                pipe.scheduler.set_timesteps(sigmas=[1.0, 0.7, 0.3], mu=1.0)
                now = z
                for t in pipe.scheduler.timesteps:
                    v = call(pipe, now, float(t) / 1000)
                    now = pipe.scheduler.step(v, t, now)[0] if stepping else now - 0.1 * v
                assert scales(handle) == [1, 2, 1]
