"""Safetensors are whole or refused by their headers, and networks are no larger than what fills them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ddit_eval.errors import DditError
from ddit_eval.system import tensors


def one(shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("header", "length"),
    [
        ({"a": one([1], 0, 4)}, 2**60),
        ({"a": one([2**40, 2**40], 0, 4)}, None),
        ({"a": one([2**40], 0, 2**42)}, None),
        ({"a": one([1], 0, 4), "b": one([1], 0, 4)}, None),
        ({"a": one([2], 0, 4)}, None),
        ({}, 0),
    ],
)
def test_a_header_promises_the_bytes_that_follow(header: Any, length: int | None, tmp_path: Path) -> None:
    text = json.dumps(header).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + b"1234")
    for look in (tensors.shapes, tensors.read):
        with pytest.raises(DditError, match=r"a\.safetensors does not load as safetensors.*: copy it again"):
            look(path)


def test_a_network_is_filled_by_its_own_tensors_alone(tmp_path: Path) -> None:
    path, network = tmp_path / "a.safetensors", nn.Linear(2, 3)
    weights = {"weight": torch.ones(3, 2, dtype=torch.float16), "bias": torch.zeros(3)}
    save_file(weights, path)
    tensors.fill(network, path)
    assert network.weight.dtype == torch.float32
    assert network.weight.sum() == 6
    for wrong, says in [
        ({"weight": weights["weight"]}, r"bias is None, not \(3,\)"),
        (weights | {"more": torch.ones(1)}, r"more is \(1,\), not None"),
        (weights | {"bias": torch.ones(4)}, r"bias is \(4,\), not \(3,\)"),
    ]:
        save_file(wrong, path)
        with pytest.raises(DditError, match=says):
            tensors.fill(network, path)


def test_a_network_far_larger_than_its_weights_is_stopped_while_it_is_built() -> None:
    with tensors.no_larger([(8, 8)], "config.json"):
        nn.Linear(8, 8)
    for build in (lambda: nn.Linear(2**10, 2**10), lambda: [nn.Linear(1, 1) for _ in range(10**9)]):
        with pytest.raises(DditError, match="far larger"), tensors.no_larger([(8, 8)], "config.json"):
            build()
    nn.Linear(2**10, 2**10)  # outside, all is as before
