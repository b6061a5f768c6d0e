"""Faster products for training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def fast_matmul() -> Iterator[None]:
    """Inside, float32 matrix products may round their inputs, on a CPU convolutions too: to bfloat16 on a
    CPU that has it (1.3 times as many training steps a second on AMD Zen 4), to TF32 on CUDA. Sums and
    weights stay float32."""
    convolution: Any = torch.backends.mkldnn.conv  # type: ignore[attr-defined]
    before = torch.get_float32_matmul_precision(), convolution.fp32_precision
    torch.set_float32_matmul_precision("medium")
    convolution.fp32_precision = "bf16"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        convolution.fp32_precision = before[1]
