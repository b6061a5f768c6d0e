from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddit_eval.errors import DditError
from ddit_eval.metrics.pictures.clip_network import cosines
from experiments.recipes.recall import recall_among, recall_at_1
from tests.support.sets import noise


def test_recall_by_hand() -> None:
    captions = torch.eye(4)
    assert recall_at_1(captions, captions) == 1.0
    assert recall_at_1(captions.roll(1, 0), captions) == 0.0
    pictures = captions.clone()
    pictures[0] = torch.tensor([0.6, 0.8, 0, 0])  # nearer to the caption of another
    assert recall_at_1(pictures, captions) == 0.75
    assert recall_at_1(captions, pictures) == 1.0  # the other direction is another question
    same = torch.ones(8, 3)
    assert recall_at_1(same, same) == pytest.approx(1 / 8)  # a network that says nothing scores chance


def test_recall_among_rivals_by_hand() -> None:
    pictures = captions = torch.eye(3)
    nearer, farther, equal = pictures[0] * 2, torch.tensor([0.0, 1.0, 1.0]), captions[2] * 5
    rivals = torch.stack(
        [torch.stack([farther, farther]), torch.stack([equal, nearer]), torch.stack([equal, nearer])]
    )
    # Own caption first; own caption first; shares the place with its copy.
    assert recall_among(pictures, captions, rivals) == pytest.approx((1 + 1 + 0.5) / 3)
    wrong = torch.stack([pictures[0]] * 3)[:, None]
    assert recall_among(pictures, captions.roll(1, 0), wrong) == pytest.approx((0 + 0.5 + 0.5) / 3)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 9), st.integers(0, 1000), st.floats(0.01, 100))
def test_recall_ignores_order_and_length(count: int, seed: int, factor: float) -> None:
    a, b = noise(count, 5, seed=seed) - 0.5, noise(count, 5, seed=seed + 1) - 0.5
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    assert recall_at_1(factor * a[order], b[order]) == pytest.approx(recall_at_1(a, b))
    torch.testing.assert_close(cosines(a, factor * b), cosines(a, b))
    assert float(cosines(a, b).abs().max()) <= 1 + 1e-9


@pytest.mark.parametrize(
    "call",
    [
        lambda: cosines(torch.ones(2, 3), torch.ones(3, 3)),
        lambda: recall_at_1(torch.ones(2, 3), torch.ones(2, 4)),
        lambda: recall_at_1(torch.ones(0, 3), torch.ones(0, 3)),
        lambda: recall_among(torch.ones(2, 3), torch.ones(2, 3), torch.ones(3, 2, 3)),
    ],
)
def test_features_that_do_not_pair_are_refused(call: Any) -> None:
    with pytest.raises(DditError, match=r"\(N, "):
        call()
