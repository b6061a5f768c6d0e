"""Wan 2.2: a transformer for the noisy steps and one for the rest, with one latent history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanPipeline
from torch import Tensor

import ddit_eval
from ddit_eval import Adapter, DditError
from ddit_eval.ddit.families.video import patchify
from ddit_eval.ddit.policies import Base, CoarseFirst, Explicit, Fixed, Threshold
from ddit_eval.ddit.schedule import finite_difference, signals
from tests.support.attached import awake, scales
from tests.support.tiny_wan import STEPS, tiny_wan, tiny_wan_transformer
from tests.support.tiny_wan import run_wan as run

GRID = (3, 4, 4)


@pytest.fixture(scope="module")
def pipe() -> WanPipeline:
    return tiny_wan()


@pytest.fixture(scope="module")
def adapter(pipe: WanPipeline) -> Adapter:
    return awake(Adapter.from_base(pipe, rank=4))


@pytest.fixture(scope="module")
def pair() -> WanPipeline:
    parts = dict(tiny_wan().components)
    torch.manual_seed(7)
    return quiet(WanPipeline(**parts | {"transformer_2": tiny_wan_transformer().eval()}, boundary_ratio=0.8))


def quiet(pipe: WanPipeline) -> WanPipeline:
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def adapters(pair: WanPipeline) -> tuple[Adapter, Adapter]:
    first, second = (awake(Adapter.from_base(t, rank=4)) for t in (pair.transformer, pair.transformer_2))
    return first, second


def watched(pair: WanPipeline) -> tuple[list[tuple[int, int]], list[Any]]:
    """(which transformer, tokens) of every call."""
    seen: list[tuple[int, int]] = []

    def note(which: int) -> Any:
        return lambda m, a, out: seen.append((which, out.shape[1]))

    blocks = (pair.transformer.blocks[0], pair.transformer_2.blocks[0])
    return seen, [block.register_forward_hook(note(i)) for i, block in enumerate(blocks, 1)]


def test_two_transformers_share_the_steps_of_one_run(
    pair: WanPipeline, adapters: tuple[Adapter, Adapter]
) -> None:
    plain = run(pair, guidance=2.0)
    seen, watches = watched(pair)
    with ddit_eval.attach(pair, adapters[0], Explicit([2, 1, 4, 2, 4]), adapter_2=adapters[1]) as handle:
        for _ in range(2):
            seen.clear()
            coarse = run(pair, guidance=2.0)
            assert scales(handle) == [2, 1, 4, 2, 4]
            assert [tokens for _, tokens in seen] == [12, 12, 48, 48, 3, 3, 12, 12, 3, 3]
            # As the pipeline shares them out: t >= 0.8 * 1000 is the first transformer's.
            early = sum(t >= 800 for t in pair.scheduler.timesteps.tolist())
            assert 0 < early < STEPS
            assert [which for which, _ in seen] == [1] * 2 * early + [2] * 2 * (STEPS - early)
        assert [s.timestep for s in handle.trace] == pytest.approx(pair.scheduler.timesteps.tolist())
        handle.policy = Base()
        assert torch.equal(run(pair, guidance=2.0), plain)
    for watch in watches:
        watch.remove()
    assert not torch.allclose(coarse, plain)
    assert torch.equal(run(pair, guidance=2.0), plain)
    for transformer in (pair.transformer, pair.transformer_2):
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in transformer.modules())


def test_the_history_goes_on_where_the_second_transformer_begins(
    pair: WanPipeline, adapters: tuple[Adapter, Adapter]
) -> None:
    latents: list[Tensor] = []
    watches = [
        t.register_forward_pre_hook(
            lambda m, args, kwargs: latents.append(kwargs["hidden_states"].clone()), with_kwargs=True
        )
        for t in (pair.transformer, pair.transformer_2)
    ]
    policy = Threshold(1e-9, order=3, rho=0.5)
    with ddit_eval.attach(pair, adapters[0], policy, adapter_2=adapters[1]) as handle:
        run(pair)
        trace = handle.trace
    for watch in watches:
        watch.remove()
    tokens = torch.stack([patchify(z) for z in latents])
    for step in (3, 4):
        expected = signals(finite_difference(tokens[: step + 1], 3), GRID, (2, 4), 0.5)[0].tolist()
        assert trace[step].signals == pytest.approx(dict(zip((2, 4), expected, strict=True)), rel=1e-4)


def test_a_folder_of_two_adapters(
    pair: WanPipeline, adapters: tuple[Adapter, Adapter], tmp_path: Path
) -> None:
    for adapter, name in zip(adapters, ("transformer", "transformer_2"), strict=True):
        adapter.save_pretrained(tmp_path / name)
    with ddit_eval.attach(pair, adapters[0], Fixed(2), adapter_2=adapters[1]):
        expected = run(pair)
    with ddit_eval.attach(pair, tmp_path, Fixed(2)):
        torch.testing.assert_close(run(pair), expected, rtol=1e-4, atol=1e-5)


def test_one_adapter_for_two_transformers(pair: WanPipeline, adapters: tuple[Adapter, Adapter]) -> None:
    """The second runs at scale 1, and a policy that wants more is refused before anything is computed."""
    pair.scheduler.set_timesteps(STEPS)  # another test may not have run it yet
    early = sum(t >= 800 for t in pair.scheduler.timesteps.tolist())
    with ddit_eval.attach(pair, adapters[0], CoarseFirst(early)) as handle:
        run(pair)
        assert scales(handle) == [2] * early + [1] * (STEPS - early)
        handle.policy = CoarseFirst(early + 1)
        with pytest.raises(DditError, match=rf"scale 2 in transformer_2 at step {early}.*adapter_2"):
            run(pair)
        assert not handle.trace
        with pytest.raises(DditError, match="transformer_2 has no adapter"):
            handle.policy = Threshold(1.0)
    with pytest.raises(DditError, match=r"transformer_2: .* was made for another base"):
        ddit_eval.attach(pair, adapters[0], adapter_2=adapters[0])
    with pytest.raises(DditError, match="no transformer_2"):
        ddit_eval.attach(tiny_wan(), adapter_2=adapters[0])


def test_twins_need_one_adapter(pipe: WanPipeline, adapter: Adapter) -> None:
    parts = dict(pipe.components) | {"transformer_2": pipe.transformer}
    # The same object twice is one transformer.
    with ddit_eval.attach(quiet(WanPipeline(**parts, boundary_ratio=0.8)), adapter, Fixed(2)) as handle:
        assert len(handle.bindings) == 1
    twin = tiny_wan_transformer().eval()
    twin.load_state_dict(pipe.transformer.state_dict())
    pair = quiet(WanPipeline(**parts | {"transformer_2": twin}, boundary_ratio=0.8))
    with ddit_eval.attach(pair, adapter, Fixed(4)) as handle:
        run(pair)
        assert scales(handle) == [4] * STEPS
