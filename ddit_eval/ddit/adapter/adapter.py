"""The adapter: all that a frozen transformer needs to read and write coarser patches.

It lives outside the transformer's module tree, so that offloading, saving and LoRA loading of the pipeline
never see it. One branch per scale: patch embedding, de-embedding, patch-size identifier, LoRA on the
feed-forward layers (and, if asked for, on the attention's), residual block (DDiT, arXiv 2602.16968, 3.1).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddit_eval.ddit.adapter import storage
from ddit_eval.ddit.adapter.config import AdapterConfig, config_for
from ddit_eval.ddit.adapter.detail import AnalyticDetail, ConvDetail, DetailConfig, Kind, ZeroBlock, linear
from ddit_eval.ddit.adapter.fingerprint import fingerprint
from ddit_eval.ddit.adapter.places import CONFIG, WEIGHTS, find
from ddit_eval.ddit.adapter.resize import resize_embedding, resize_projection
from ddit_eval.ddit.families import family_of
from ddit_eval.ddit.layout import Grid, Group, Layout, uniform
from ddit_eval.errors import DditError
from ddit_eval.system.loading import loading
from ddit_eval.system.tensors import check_same, no_larger, read, shapes


class Lora(nn.Module):
    """Low-rank update of one linear layer; zero at the start."""

    def __init__(self, inputs: int, outputs: int, rank: int):
        super().__init__()
        self.a = nn.Parameter(torch.empty(rank, inputs))
        self.b = nn.Parameter(torch.zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.a.to(x.dtype)), self.b.to(x.dtype))


class Branch(nn.Module):
    """The adapter's parts for one scale."""

    def __init__(self, config: AdapterConfig, scale: int):
        super().__init__()
        self.config, self.scale, self.time = config, scale, config.time.get(scale, 1)
        self.cells = self.time * scale**2
        kind, c_in, c_out = config.detail.kind, config.in_channels, config.out_channels
        self.emitted = c_out + config.detail.emitted
        self.embed = nn.Linear(self.cells * c_in, config.hidden)
        self.out = nn.Linear(config.hidden, self.cells * self.emitted)
        self.identifier = nn.Parameter(torch.zeros(config.hidden))
        rank = config.rank
        self.lora = nn.ModuleDict(
            {_flat(n): Lora(i, o, rank) for n, (i, o) in config.layers.items()} if rank else {}
        )
        self.zero: ZeroBlock | None = None
        self.analytic: AnalyticDetail | None = None
        self.conv: ConvDetail | None = None
        if kind == "zero":
            self.zero = ZeroBlock(self.cells * c_in, self.cells * c_out, config.detail.width)
        if kind in ("analytic", "conv"):
            channels = c_out // config.patch**2
            self.analytic = AnalyticDetail(scale, config.patch, channels, config.channel_first, self.time)
        if kind == "conv":
            self.conv = ConvDetail(c_in, c_out, config.detail)

    def velocity(self, hidden: Tensor, patches: Tensor, t: Tensor) -> Tensor:
        """What each patch gives its base tokens.

        hidden (B, n, d) after the final norm, patches (B, n, cells, C_in), t (B,); returns
        (B, n, cells, C_out + features).
        """
        result = linear(hidden, self.out).unflatten(-1, (self.cells, self.emitted))
        c_out = self.config.out_channels
        if self.zero is not None:
            result = result + self.zero(patches.flatten(2)).view_as(result)
        if self.analytic is not None:
            result[..., :c_out] += self.analytic(patches[..., :c_out], t)
        return result


class Adapter(nn.Module):
    """Coarser patches for one frozen base; see `from_base` and `from_pretrained`."""

    def __init__(self, config: AdapterConfig):
        super().__init__()
        self.config = config
        self.name = "this adapter"  # for messages; of one from a folder, the folder
        self.branches = nn.ModuleDict({str(s): Branch(config, s) for s in config.scales})

    @property
    def scales(self) -> tuple[int, ...]:
        return self.config.scales

    @classmethod
    def from_base(
        cls,
        base: Any,
        scales: Iterable[int] = (2, 4),
        rank: int = 32,
        detail: DetailConfig | Kind = "conv",
        attention: bool = False,
        seed: int = 0,
        time: Mapping[int, int] | None = None,
    ) -> Adapter:
        """An untrained adapter with FlexiViT start values, in float32 and training mode.

        `base` is a pipeline (whose `transformer` is taken) or a transformer. `attention` gives the
        attention's layers a LoRA too; the paper has it on the feed-forwards alone. `seed` fixes what starts
        at random (LoRA's A, convolutions). `time` makes patches span several latent frames, by scale, e.g.
        {4: 2}; the paper's span one.
        """
        transformer = getattr(base, "transformer", base)
        config = config_for(transformer, scales, rank, detail, attention, time)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapter = cls(config)
        family = family_of(transformer)
        embedding, head = family.embedding_of(transformer), family.head_of(transformer)
        for scale in adapter.scales:
            _start(adapter.branch(scale), embedding, head)
        return adapter

    @classmethod
    def from_pretrained(cls, path: str | Path) -> Adapter:
        """Load from a folder, in evaluation mode. Raises DditError if it is missing or broken."""
        config, file = storage.read_config(path), find(path) / WEIGHTS
        held = shapes(file, storage.AGAIN)
        with loading(file, f"the adapter of its {CONFIG}", storage.AGAIN):
            with no_larger(held.values(), str(file.with_name(CONFIG))), torch.device("meta"):
                check_same(cls(config), held, file, f"it does not fit its {CONFIG}; {storage.AGAIN}")
            adapter = cls(config)
            adapter.load_state_dict(read(file, storage.AGAIN), assign=True)
        adapter.name = f"the adapter in {file.parent}"
        return adapter.eval()

    def save_pretrained(self, path: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write `adapter.safetensors` and `config.json`; `dtype` (e.g. torch.bfloat16) halves the file."""
        storage.write(path, self.config, self.state_dict(), dtype)

    def check(self, transformer: nn.Module) -> None:
        """Raise DditError unless `transformer` is the base that this adapter was made for."""
        family = family_of(transformer)
        if family.name != self.config.family:
            raise DditError(
                f"{self.name} was made for the family {self.config.family!r}, the pipeline is "
                f"{family.name!r}; load the adapter of this model or train one (ddit-eval train)"
            )
        difference = self.config.base.difference(fingerprint(transformer))
        if difference:
            raise DditError(
                f"{self.name} was made for another base model: {difference}; "
                "load the adapter of this model or train one (ddit-eval train)"
            )

    def fits(self, transformer: nn.Module) -> bool:
        """Whether `transformer` is the base that this adapter was made for."""
        try:
            self.check(transformer)
        except DditError:
            return False
        return True

    def on(self, device: torch.device, dtype: torch.dtype) -> Adapter:
        """This adapter as a transformer there can use it: itself, which is never moved or cast, or a copy.

        In training mode it is itself, whose float32 masters take the gradients. Raises `DditError` where
        these lie on another device.
        """
        first = next(self.parameters())
        if first.device == device and (first.dtype == dtype or self.training):
            return self
        if self.training:
            raise DditError(
                f"the adapter is in training mode and on {first.device}, the pipeline on {device}; "
                f"move it with adapter.to({str(device)!r}), or call adapter.eval()"
            )
        with torch.inference_mode(False):
            return copy.deepcopy(self).to(device, dtype)

    def state(self) -> list[tuple[int, int]]:
        """Differs after any change of the parameters, but for one past autograd's eyes (`.data`)."""
        return [(id(p), 0 if p.is_inference() else p._version) for p in self.parameters()]

    def embed(self, layout: Layout, latents: Tensor, fine: Tensor) -> Tensor:
        """Image tokens of a layout.

        latents (B, N, C_in) base tokens, fine (B, N, d) their embedding by the base; returns (B, tokens, d).
        """
        places = layout.on(latents.device)
        parts = []
        for group in layout.groups:
            if group.scale == 1:
                parts.append(fine.index_select(1, places.flat[1]))
                continue
            branch = self._branch_of(group)
            patches = self._patches(layout, group, latents)
            parts.append(linear(patches.flatten(2), branch.embed) + branch.identifier.to(fine.dtype))
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def loras(self, name: str) -> dict[int, Lora]:
        """The LoRA of layer `name` by scale; empty where the rank is 0."""
        if not self.config.rank:
            return {}
        return {s: self.branch(s).lora[_flat(name)] for s in self.scales}  # type: ignore[misc]

    def de_embed(self, layout: Layout, hidden: Tensor, fine: Tensor, latents: Tensor, t: Tensor) -> Tensor:
        """Velocity of all base tokens, from the tokens of a layout.

        hidden (B, tokens, d) after the final norm, fine (B, tokens, C_out) the base's own projection of it,
        latents (B, N, C_in), t (B,) or () in 0..1; returns (B, N, C_out).
        """
        t = t.expand(len(latents)) if t.ndim == 0 or len(t) == 1 else t
        emitted, c_out = self.config.detail.emitted, self.config.out_channels
        parts = []
        for group, s in zip(layout.groups, layout.segments, strict=True):
            if group.scale == 1:
                part = fine[:, s.start : s.stop]
                parts.append(F.pad(part, (0, emitted)) if emitted else part)
                continue
            patches = self._patches(layout, group, latents)
            parts.append(
                self.branch(group.scale).velocity(hidden[:, s.start : s.stop], patches, t).flatten(1, 2)
            )
        places = layout.on(latents.device)
        coarse = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        if places.inverse is not None:
            coarse = coarse.index_select(1, places.inverse)
        velocity = coarse[..., :c_out]
        for scale, mask in places.coarse.items():
            conv = self.branch(scale).conv
            if conv is not None:
                correction = conv(latents, coarse, t, layout.grid)
                velocity = velocity + (correction if mask is None else correction * mask)
        return velocity

    def flops(self, layout: Layout) -> dict[str, int]:
        """Operations of one sample's pass that this adapter adds, by part; a multiply-add counts 2.

        The base's own embedding and head are counted with the base.
        """
        total = dict.fromkeys(("embed", "out", "lora", "detail"), 0)
        for group in layout.groups:
            if group.scale == 1:
                continue
            branch, n = self.branch(group.scale), len(group.indices)
            total["embed"] += 2 * n * branch.embed.weight.numel()
            total["out"] += 2 * n * branch.out.weight.numel()
            total["lora"] += 2 * n * sum(p.numel() for p in branch.lora.parameters())
            for block, tokens in ((branch.zero, n), (branch.analytic, n), (branch.conv, layout.base_tokens)):
                total["detail"] += 0 if block is None else block.flops(tokens)
        return total

    def branch(self, scale: int) -> Branch:
        """The parts for `scale`. Raises DditError if the adapter lacks it."""
        if scale not in self.config.scales:
            raise DditError(
                f"scale {scale} is asked for, but the adapter has the scales {list(self.config.scales)}"
            )
        return self.branches[str(scale)]  # type: ignore[return-value]

    def tile(self, grid: Grid, scale: int, given: int = 0) -> Layout:
        """Patches of `scale` wherever they fit; see `uniform`."""
        return uniform(grid, scale, self.config.times, given)

    def _branch_of(self, group: Group) -> Branch:
        branch = self.branch(group.scale)
        if group.indices.shape[1] != branch.cells:
            raise DditError(
                f"the layout's patches of scale {group.scale} cover {group.indices.shape[1]} base tokens, "
                f"this adapter's cover {branch.cells}; make the layout with Adapter.tile"
            )
        return branch

    def _patches(self, layout: Layout, group: Group, latents: Tensor) -> Tensor:
        """(B, N, C) to (B, n, cells, C)."""
        picked = latents.index_select(1, layout.on(latents.device).flat[group.scale])
        return picked.unflatten(1, (-1, group.indices.shape[1]))


def add_loras(
    loras: Mapping[int, Lora], layout: Layout, x: Tensor, output: Tensor, text_first: bool = True
) -> Tensor:
    """Add to a layer's output, in place, what the LoRA of each scale makes of the input of its own tokens.

    x (B, T, in), output (B, T, out); the layout's image tokens are the last of the T (the first, if not
    `text_first`), text stays as it is.
    """
    if len(layout.groups) > 1 and torch.compiler.is_compiling():
        # As slices, the lengths of the segments would be constants of the compiled code, and every tiling
        # would compile anew; so here all mixed tilings of a grid are alike.
        places, length = layout.on(x.device), x.shape[1]
        scales = places.last[-length:] if text_first else places.first[:length]
        for scale, lora in loras.items():
            output += lora(x) * (scales == scale)
        return output
    start = x.shape[1] - layout.tokens if text_first else 0
    for s in layout.segments:
        if s.scale > 1:
            span = slice(start + s.start, start + s.stop)
            output[:, span] += loras[s.scale](x[:, span])
    return output


@torch.no_grad()
def _start(branch: Branch, embedding: tuple[Tensor, Tensor], head: tuple[Tensor, Tensor]) -> None:
    c = branch.config
    kind = (c.patch, branch.scale, c.channel_first, branch.time)
    branch.embed.weight.copy_(resize_embedding(embedding[0].float().cpu(), *kind))
    branch.embed.bias.copy_(embedding[1])
    # The feature channels keep their random start: the convolutions' zero output hides them.
    weight = branch.out.weight.view(branch.cells, branch.emitted, c.hidden)[:, : c.out_channels]
    weight.copy_(resize_projection(head[0].float().cpu(), *kind).view_as(weight))
    bias = branch.out.bias.view(branch.cells, branch.emitted)[:, : c.out_channels]
    bias.copy_(resize_projection(head[1].float().cpu(), *kind).view_as(bias))


def _flat(name: str) -> str:
    # Module names may not hold dots.
    return name.replace(".", "-")
