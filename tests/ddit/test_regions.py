"""Maps of the signal and the tilings that come of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddit_eval import Adapter, attach
from ddit_eval.clock.compiling import CompiledBlocks, graphs
from ddit_eval.ddit.layout import Group, Layout, uniform
from ddit_eval.ddit.policies import Base, Explicit, Region
from ddit_eval.ddit.regions import local_variance, scale_map, sizes, spend, tile
from ddit_eval.errors import DditError
from ddit_eval.figures.regions import parse_sizes, patches_of
from ddit_eval.training.inputs import inputs_of
from tests.support.attached import awake
from tests.support.tiny import tiny_flux
from tests.support.tiny_wan import tiny_wan

GRIDS = st.tuples(st.integers(1, 4), st.integers(1, 11), st.integers(1, 11))


@st.composite
def maps(draw: Any, values: tuple[int, ...] = (1, 2, 4)) -> torch.Tensor:
    grid = draw(GRIDS)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    # Few different values in large blocks, or noise.
    noise = torch.randint(len(values), grid, generator=generator)
    if draw(st.booleans()):
        noise = noise[:, : (grid[1] + 3) // 4, : (grid[2] + 3) // 4]
        noise = noise.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, : grid[1], : grid[2]]
    return torch.tensor(values)[noise]


@settings(deadline=None, max_examples=80)
@given(maps(), st.sampled_from([(), ((2, 1), (4, 2)), ((2, 2), (4, 2))]), st.integers(0, 2))
def test_every_base_token_is_covered_once_and_by_no_coarser_patch_than_it_allows(
    allowed: torch.Tensor, times: tuple[tuple[int, int], ...], front: int
) -> None:
    layout = tile(allowed, (2, 4), times, front)
    frames, height, width = allowed.shape
    assert layout.grid == (frames + front, height, width)
    covered = torch.cat([group.indices.flatten() for group in layout.groups])
    assert torch.equal(covered.sort().values, torch.arange(layout.base_tokens))
    found = sizes(layout)
    assert (found[:front] == 1).all()
    assert (found[front:] <= allowed).all()
    for group in layout.groups:
        if group.scale == 1:
            continue
        span = dict(times).get(group.scale, 1)
        assert group.indices.shape[1] == span * group.scale**2
        first = group.indices[:, 0]
        row, column = first // width % height, first % width
        assert (row % group.scale == 0).all()
        assert (column % group.scale == 0).all()


@pytest.mark.parametrize("grid", [(1, 8, 8), (2, 9, 6), (1, 3, 3)])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_one_scale_everywhere_is_the_uniform_layout(grid: tuple[int, int, int], scale: int) -> None:
    layout = tile(torch.full(grid, scale), (scale,))
    assert layout.key == uniform(grid, scale).key


def test_a_patch_takes_the_finest_that_any_of_its_tokens_asks_for() -> None:
    allowed = torch.full((1, 8, 8), 4)
    allowed[0, 0, 0] = 1
    allowed[0, 5, 5] = 2
    found = sizes(tile(allowed, (2, 4)))[0]
    assert (found[:2, :2] == 1).all()
    assert (found[:2, 2:4] == 2).all()
    assert (found[4:, 4:] == 2).all()
    assert (found[:4, 4:] == 4).all()
    assert tile(allowed, (2, 4)) is tile(allowed.clone(), (4, 2))


def test_scales_that_do_not_divide_each_other_keep_their_own_grids() -> None:
    layout = tile(torch.full((1, 6, 6), 3), (2, 3))
    assert [g.scale for g in layout.groups] == [3]
    allowed = torch.full((1, 6, 6), 3)
    allowed[0, 0, 0] = 2
    found = sizes(tile(allowed, (2, 3)))[0]
    assert (found[:2, :2] == 2).all()
    assert (found[2, :3] == 1).all()  # no patch of 2 on its own grid fits beside the patches of 3


# The signal.


@pytest.mark.parametrize("window", [1, 2, 3, 4])
def test_the_variance_is_that_of_the_window(window: int) -> None:
    grid = (2, 5, 6)
    difference = torch.randn(2, 60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = local_variance(difference, grid, window)
    values = difference.abs().view(2, *grid, 3)
    low, high = (window - 1) // 2, window // 2
    for row, column in ((0, 0), (2, 3), (4, 5)):
        part = values[:, :, max(0, row - low) : row + high + 1, max(0, column - low) : column + high + 1]
        torch.testing.assert_close(found[:, :, row, column], part.var((2, 3, 4), correction=0))


def test_what_moves_as_a_whole_has_no_variance() -> None:
    moved = torch.full((1, 64, 4), 1000.0)
    assert local_variance(moved, (1, 8, 8)).abs().max() < 1e-6
    with pytest.raises(DditError, match="do not fill"):
        local_variance(moved, (1, 8, 7))


def test_the_limits_double_from_scale_to_scale() -> None:
    variance = torch.tensor([[[0.049, 0.051, 0.099, 0.101]]])
    assert scale_map(variance, 0.05, (2, 4)).tolist() == [[[4, 2, 2, 1]]]
    assert scale_map(variance, 0.05, (4,)).tolist() == [[[4, 1, 1, 1]]]


def test_hysteresis_keeps_what_a_token_had() -> None:
    variance = torch.tensor([[[0.06, 0.06, 0.12, 0.2]]])
    before = torch.tensor([[[4, 2, 2, 4]]])
    assert scale_map(variance, 0.05, (2, 4), before, 1.5).tolist() == [[[4, 2, 2, 1]]]


# The budget.


@settings(deadline=None, max_examples=80)
@given(GRIDS, st.floats(0.1, 1), st.sampled_from([(2,), (4,), (2, 4), (3,)]), st.integers(0, 999))
def test_a_budget_is_kept_whatever_the_signal(
    grid: tuple[int, int, int], share: float, scales: tuple[int, ...], seed: int
) -> None:
    coarsest = uniform(grid, max(scales))
    share = max(share, coarsest.tokens / coarsest.base_tokens)
    generator = torch.Generator().manual_seed(seed)
    counts = set()
    for _ in range(3):
        variance = torch.rand(grid, generator=generator)
        layout = tile(spend(variance, share, scales), scales)
        counts.add(tuple((g.scale, len(g.indices)) for g in layout.groups))
    assert len(counts) == 1
    assert layout.tokens <= share * layout.base_tokens + 1e-6


def test_the_budget_goes_where_the_signal_is_highest() -> None:
    variance = torch.zeros(1, 16, 16)
    variance[0, 5, 9] = 1.0  # in the cell of rows 4 to 7, columns 8 to 11
    variance[0, 0, 0] = 0.5
    found = sizes(tile(spend(variance, 35 / 256, (2, 4)), (2, 4)))[0]  # 16 + 4 + 14 cells of one token
    assert (found[4:8, 8:12] == 1).all()
    assert (found[:4, :4] == 2).all()
    assert (found == 4).sum() == 14 * 16
    assert (spend(variance, 1.0, (2, 4)) == 1).all()
    with pytest.raises(DditError, match=r"raise it to at least 0\.062"):
        spend(variance, 0.05, (2, 4))
    with pytest.raises(DditError, match="divide each other"):
        spend(variance, 0.5, (2, 3))


# In a pipeline.


def flux_run(policy: Any, prompts: list[str], steps: int = 6) -> tuple[torch.Tensor, list[Any]]:
    pipe = tiny_flux()
    pipe.set_progress_bar_config(disable=True)
    adapter = Adapter.from_base(pipe, rank=2)
    generators = [torch.Generator().manual_seed(i) for i in range(len(prompts))]
    with attach(pipe, adapter, policy) as handle:
        images = pipe(
            prompts, height=64, width=64, num_inference_steps=steps, generator=generators,
            max_sequence_length=8, output_type="latent",
        ).images  # fmt: skip
    return images, handle.trace


def wan_run(policy: Any, prompts: list[str], steps: int = 6) -> tuple[torch.Tensor, list[Any]]:
    pipe = tiny_wan()
    pipe.set_progress_bar_config(disable=True)
    adapter = Adapter.from_base(pipe, rank=2)
    generators = [torch.Generator().manual_seed(i) for i in range(len(prompts))]
    with attach(pipe, adapter, policy) as handle:
        frames = pipe(
            prompts, height=64, width=64, num_frames=9, num_inference_steps=steps, generator=generators,
            max_sequence_length=8, guidance_scale=2.0, output_type="latent",
        ).frames  # fmt: skip
    return frames, handle.trace


RUNS = pytest.mark.parametrize("run", [flux_run, wan_run])
ONE = ["a red star"]


@RUNS
def test_a_limit_that_nothing_reaches_is_the_base_bit_for_bit(run: Any) -> None:
    fine, trace = run(Region(tau=1e-30), ONE)
    assert torch.equal(fine, run(Base(), ONE)[0])
    assert {step.scale for step in trace} == {1}
    assert str(Region(tau=1e-30).verdict([trace])).startswith("tau = 1e-30 never fired")


@RUNS
def test_a_limit_that_everything_reaches_is_the_coarse_step(run: Any) -> None:
    coarse, trace = run(Region(tau=1e30), ONE)
    expected, _ = run(Explicit([1, 1, 1, 4, 4, 4]), ONE)
    torch.testing.assert_close(coarse, expected)
    assert [step.scale for step in trace] == [1, 1, 1, 4, 4, 4]
    assert str(Region(tau=1e30).verdict([trace])).startswith("tau = 1e+30 always fired")


@RUNS
def test_a_budget_mixes_sizes_in_one_step_with_the_same_tokens_in_each(run: Any) -> None:
    policy = Region(budget=0.4, final_fine=1)
    mixed, trace = run(policy, ONE)
    assert torch.isfinite(mixed).all()
    base = trace[0].base_tokens
    assert [step.tokens for step in trace[:3]] == [base] * 3
    assert trace[-1].tokens == base
    between = trace[3:-1]
    assert len({step.tokens for step in between}) == 1
    assert 0.25 * base < between[0].tokens <= 0.4 * base
    for step in between:
        assert sum(step.counts.values()) == step.tokens
        drawn = parse_sizes(step.sizes)
        assert drawn.size == base
        assert set(drawn.flatten().tolist()) == set(step.counts) == {1, 2, 4}
        found = [patches_of(frame) for frame in drawn]
        assert {s: sum(len(f.get(s, ())) for f in found) for s in (1, 2, 4)} == step.counts
    assert trace[0].counts is None


def test_one_tiling_serves_a_batch_where_its_signals_are_largest() -> None:
    both, together = flux_run(Region(tau=0.02), ["a red star", "a blue square"], 5)
    assert both.shape[0] == 2
    alone = [flux_run(Region(tau=0.02), [prompt], 5)[1] for prompt in ("a red star",)]
    assert together[3].tokens >= alone[0][3].tokens


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"tau": 0}, "tau"),
        ({"budget": 0.5, "scales": (2, 3)}, "divide each other"),
        ({"window": 0}, "window"),
        ({"scales": (1,)}, "scales"),
    ],
)
def test_bad_values_are_named(values: dict[str, Any], words: str) -> None:
    with pytest.raises(DditError, match=words):
        Region(**values)


def test_a_permutation_of_the_tokens_changes_nothing() -> None:
    """The order of patches inside a layout is ours to choose; the model must not see it."""
    pipe = tiny_flux()
    adapter = Adapter.from_base(pipe, rank=2).eval()
    allowed = torch.full((1, 16, 16), 4)
    allowed[0, :5, :5] = 1
    allowed[0, 9:, 3:8] = 2
    layout = tile(allowed, (2, 4))
    turned = Layout(layout.grid, tuple(Group(g.scale, g.indices.flip(0)) for g in layout.groups))
    kwargs = inputs_of(pipe).build(
        pipe, torch.randn(1, pipe.transformer.config.in_channels // 4, 32, 32), ONE, torch.tensor([0.5]),
        torch.zeros(1, pipe.transformer.config.in_channels // 4, 32, 32), 8,
    )  # fmt: skip
    with attach(pipe, adapter) as handle, torch.no_grad():
        found = []
        for each in (layout, turned):
            with handle.forced(each):
                found.append(pipe.transformer(**kwargs)[0])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", [Region(budget=0.4, order=1), Region(tau=1, order=1, window=1)])
def test_new_tilings_do_not_compile_again(policy: Region) -> None:
    pipe = tiny_flux()
    pipe.set_progress_bar_config(disable=True)
    adapter = awake(Adapter.from_base(pipe, rank=2))
    tokens: list[set[int]] = []

    def run(seed: int) -> torch.Tensor:
        return pipe(
            "a red star", height=64, width=64, num_inference_steps=6, max_sequence_length=8,
            generator=torch.Generator().manual_seed(seed), output_type="latent",
        ).images  # fmt: skip

    with attach(pipe, adapter, policy) as handle:
        run(0)
        medians = [step.signals[2] for step in handle.trace if step.signals]
        if policy.budget is None:
            handle.policy = policy.model_copy(update={"tau": medians[-1]})
        compiled = CompiledBlocks(pipe.transformer, backend="eager")
        expected, made = run(0), []
        with compiled.on():
            for seed in range(4):
                before = graphs()
                images = run(seed)
                if seed == 0:
                    torch.testing.assert_close(images, expected)
                made.append(graphs() - before)
                tokens.append({step.tokens for step in handle.trace})
    # Two kinds of block: all fine, all of each scale, mixed; a second length makes the last dynamic.
    assert 0 < sum(made[:2]) <= 2 * (1 + len(adapter.scales) + 2)
    assert made[2:] == [0, 0]
    if policy.budget is None:
        assert len(set.union(*tokens[2:]) - set.union(*tokens[:2])) > 0, "a new length is to come up"
