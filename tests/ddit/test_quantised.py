"""Quantised bases: attach an adapter that was made before; a new one cannot start from packed weights.

GGUF is always tried; torchao and bitsandbytes, which slow every start, where they are installed
(`pip install -e ".[quantised]"`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import ddit_eval
from ddit_eval import Adapter, DditError
from ddit_eval.ddit.adapter.fingerprint import fingerprint, is_quantised
from ddit_eval.ddit.families import family_of
from ddit_eval.ddit.policies import Fixed, Region
from tests.support.attached import MAKE, STEPS, awake, scales


def replace_linears(transformer: nn.Module, packed: Callable[[nn.Linear], nn.Module]) -> None:
    """As diffusers' loaders do, which leave what embeds the timestep in full."""
    for name, module in list(transformer.named_modules()):
        for child, layer in list(module.named_children()):
            if type(layer) is nn.Linear and "time" not in f"{name}.{child}" and layer.in_features % 32 == 0:
                setattr(module, child, packed(layer))


def gguf(transformer: nn.Module) -> None:
    from diffusers.quantizers.gguf.utils import GGUFLinear, GGUFParameter
    from gguf import GGMLQuantizationType, quants

    kind = GGMLQuantizationType.Q8_0

    def packed(layer: nn.Linear) -> nn.Module:
        new = GGUFLinear(layer.in_features, layer.out_features, layer.bias is not None, torch.float32)
        data = torch.from_numpy(quants.quantize(layer.weight.detach().numpy(), kind).copy())
        new.weight, new.bias = GGUFParameter(data, quant_type=kind), layer.bias
        return new

    replace_linears(transformer, packed)


def torchao(transformer: nn.Module) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    quantization.quantize_(transformer, quantization.Int8WeightOnlyConfig())


def bitsandbytes(transformer: nn.Module, bits: int) -> None:
    library: Any = pytest.importorskip("bitsandbytes").nn

    def packed(layer: nn.Linear) -> nn.Module:
        shape, bias = (layer.in_features, layer.out_features), layer.bias is not None
        if bits == 4:
            new = library.Linear4bit(*shape, bias, compute_dtype=torch.float32, quant_type="nf4")
            new.weight = library.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4")
        else:
            new = library.Linear8bitLt(*shape, bias, has_fp16_weights=False)
            new.weight = library.Int8Params(layer.weight.data, requires_grad=False, has_fp16_weights=False)
        new.bias = layer.bias
        return new.to("cpu")

    replace_linears(transformer, packed)


WAYS: dict[str, Callable[[nn.Module], None]] = {
    "gguf": gguf,
    "torchao": torchao,
    "bitsandbytes 8": lambda transformer: bitsandbytes(transformer, 8),
    "bitsandbytes 4": lambda transformer: bitsandbytes(transformer, 4),
}


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("name", ["flux", "wan"])
def test_an_adapter_of_the_full_base_is_attached_to_the_quantised_one(name: str, way: str) -> None:
    """The base is another one then; at scale 1 it is that, bit for bit; coarse steps go near those before."""
    pipe, run = MAKE[name]()
    adapter = awake(Adapter.from_base(pipe, rank=2))
    policies, near = (Fixed(2), Region(budget=0.5, order=1)), 0.1 if way.endswith("4") else 0.001
    before = []
    for policy in policies:
        with ddit_eval.attach(pipe, adapter, policy):
            before.append(run())
    WAYS[way](pipe.transformer)
    assert any(is_quantised(p) for p in pipe.transformer.parameters())
    plain = run()
    with ddit_eval.attach(pipe, adapter) as handle:
        assert torch.equal(run(), plain)
        for policy, full in zip(policies, before, strict=True):
            handle.policy = policy
            coarse = run()
            assert not torch.equal(coarse, full)
            assert (coarse - full).square().mean() < near * full.var()
        assert scales(handle)[1:] == [4] * (STEPS - 1)
    assert torch.equal(run(), plain)


@pytest.mark.parametrize("way", list(WAYS))
def test_no_adapter_starts_from_packed_weights(way: str) -> None:
    pipe, _ = MAKE["wan"]()
    WAYS[way](pipe.transformer)
    family = family_of(pipe.transformer)
    assert is_quantised(pipe.transformer.get_submodule(family.head).weight)
    assert fingerprint(pipe.transformer).weights is None
    with pytest.raises(DditError, match=r"head is quantised .*base in bfloat16"):
        Adapter.from_base(pipe, rank=2)


def test_what_counts_as_quantised() -> None:
    class Packed(nn.Parameter):
        """torchao's keep a floating dtype, in a class of their own."""

    assert is_quantised(torch.zeros(2, dtype=torch.int8))
    assert is_quantised(Packed(torch.zeros(2)))
    for dtype in (torch.float32, torch.bfloat16, torch.float8_e4m3fn):
        assert not is_quantised(nn.Parameter(torch.zeros(2).to(dtype), requires_grad=False))
