"""A policy takes numbers for numbers: no truth value, no text, no fraction, nothing that is not finite."""

import math

import pytest

from ddit_eval.ddit.policies import Threshold, parse_policy
from ddit_eval.errors import DditError


@pytest.mark.parametrize(
    ("kind", "name", "others"),
    [
        ("threshold", "tau", {}),
        ("threshold", "rho", {"tau": 1}),
        ("threshold", "hysteresis", {"tau": 1}),
        ("budget", "coarse", {}),
        ("region", "tau", {}),
        ("region", "budget", {}),
        ("calibrated", "psnr", {"calibration": "mini-flux"}),
        ("calibrated", "price", {"calibration": "mini-flux"}),
    ],
)
@pytest.mark.parametrize("value", [math.nan, math.inf, "0.5", True])
def test_real_numbers(kind, name, others, value):
    with pytest.raises(DditError, match=name):
        parse_policy({"kind": kind, name: value, **others})


@pytest.mark.parametrize(
    ("kind", "name", "others"),
    [
        ("fixed", "scale", {}),
        ("coarse-first", "steps", {}),
        ("budget", "order", {}),
        ("budget", "final_fine", {}),
        ("region", "window", {}),
        ("threshold", "dwell", {"tau": 1}),
        ("threshold", "max_run", {"tau": 1}),
        ("random", "seed", {"mix": {1: 1}}),
    ],
)
@pytest.mark.parametrize("value", [True, 2.0, "2", math.nan])
def test_whole_numbers(kind, name, others, value):
    with pytest.raises(DditError, match=name):
        parse_policy({"kind": kind, name: value, **others})


@pytest.mark.parametrize("weight", [math.inf, math.nan, -1, "1", True])
def test_weights_of_a_mix(weight):
    with pytest.raises(DditError, match="mix"):
        parse_policy({"kind": "random", "mix": {1: weight, 2: 1}})


def test_a_whole_number_is_a_real_one():
    assert Threshold(tau=5).model_dump_json() == Threshold(tau=5.0).model_dump_json()
