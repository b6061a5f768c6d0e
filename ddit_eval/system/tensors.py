"""What safetensors files hold, by their headers, and networks built no larger than what is to fill them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from ddit_eval.errors import DditError
from ddit_eval.system.loading import loading
from ddit_eval.system.read import check_regular

ROOM = 4  # times what the file holds: tied weights are built before they are tied, packed ones unpacked


def shapes(path: Path, remedy: str = "copy it again") -> dict[str, tuple[int, ...]]:
    """The shape of each tensor, from the header, which must promise exactly the bytes that follow it.

    Raises `DditError` where the file is no ordinary or no whole one.
    """
    check_regular(path)
    with loading(path, "safetensors", remedy), safe_open(path, "pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def header(path: Path, remedy: str = "copy it again") -> dict[str, str]:
    """The texts that a safetensors file holds beside its tensors. Raises `DditError` as `shapes` does."""
    check_regular(path)
    with loading(path, "safetensors", remedy), safe_open(path, "pt") as file:
        return file.metadata() or {}


def read(path: Path, remedy: str = "copy it again") -> dict[str, Tensor]:
    """All tensors of a whole safetensors file that fits into memory; else raises `DditError`."""
    check_regular(path)
    check_memory(path.stat().st_size, str(path))
    with loading(path, "safetensors", remedy):
        return load_file(path)


def fill(network: nn.Module, path: Path, remedy: str = "copy it again") -> None:
    """Load a file's tensors into a network: exactly those that it has, in the network's own dtypes."""
    check_same(network, shapes(path, remedy), path, remedy)
    network.load_state_dict(read(path, remedy))


def check_same(network: nn.Module, held: Mapping[str, tuple[int, ...]], path: Path, remedy: str) -> None:
    """Raise `DditError` naming a tensor that `path` lacks, has to spare or holds in another shape."""
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    for name in sorted({**wanted, **held}, key=lambda name: (name in held, name)):
        if wanted.get(name) != held.get(name):
            raise DditError(f"{path}: {name} is {held.get(name)}, not {wanted.get(name)}: {remedy}")


def check_memory(size: float, what: str) -> None:
    """Refuse what needs more bytes than this machine has."""
    there = psutil.virtual_memory().total + psutil.swap_memory().total
    if size > there:
        raise DditError(
            f"{what} needs {size / 2**30:.0f} GiB of memory and this machine has {there / 2**30:.0f}: "
            "use a larger machine, or a smaller dtype"
        )


@contextmanager
def no_larger(held: Iterable[Sequence[int]], what: str) -> Iterator[None]:
    """Inside, a network of far more weights than the shapes `held` is refused while it is being built."""
    sizes = [math.prod(shape) for shape in held]
    left = {"tensors": ROOM * len(sizes) + 64, "values": ROOM * sum(sizes) + 2**16}

    def count(module: nn.Module, name: str, weight: Tensor | None) -> None:
        left["tensors"] -= 1
        left["values"] -= 0 if weight is None else weight.numel()
        if min(left.values()) < 0:
            raise DditError(f"{what} and its weights do not fit: the network is far larger: copy both again")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
