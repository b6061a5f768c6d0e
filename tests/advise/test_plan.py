from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddit_eval.advise.plan import PLACES, Prices, Shape, fit

FREE = Prices({0: 0.0, 1: 1.0, 2: 0.25, 4: 0.1})  # a skipped step costs nothing


@pytest.mark.parametrize(
    ("shape", "budget", "plan"),
    [
        (Shape(1.0), 5.5, "11111"),
        (Shape(0.5), 5.0, "1.1.1.1.1."),
        (Shape(0.1), 5.0, "1..1..1..1..1.."),  # of at most 15 steps
        (Shape(0.1, bend=2.0), 5.0, "111..1...1....."),
        (Shape(1.0, scale=2, share=0.5, place="early"), 2.5, "2211"),
        (Shape(1.0, scale=2, share=0.5, place="late"), 2.5, "1122"),
        (Shape(1.0, scale=2, share=0.5, place="between"), 2.5, "1212"),
        (Shape(0.5, scale=4, share=0.5, place="late"), 2.2, "1.1.4.4."),
        (Shape(1.0), 0.5, None),
    ],
)
def test_as_many_steps_as_a_budget_allows(shape: Shape, budget: float, plan: str | None) -> None:
    found = fit(shape, budget, FREE, 15)
    shown = found and "".join("." if scale == 0 else str(scale) for scale in found)
    assert (shown or None) == plan


@given(
    st.builds(
        Shape,
        density=st.floats(0.1, 1),
        bend=st.floats(0.5, 2),
        scale=st.sampled_from((2, 4)),
        share=st.one_of(st.just(0.0), st.floats(0.1, 0.9)),
        place=st.sampled_from(PLACES),
    ),
    st.floats(1.1, 15),
    st.integers(1, 30),
)
def test_every_plan_keeps_its_budget_and_begins_with_a_computed_step(
    shape: Shape, budget: float, most: int
) -> None:
    prices = Prices({0: 0.01, 1: 1.0, 2: 0.3, 4: 0.1}, 0.02)
    plan = fit(shape, budget, prices, most)
    assert plan is not None
    assert plan[0] > 0
    assert len(plan) <= most
    assert prices.of(plan) <= budget
    assert (max(plan) > 1) == (shape.share > 0)
