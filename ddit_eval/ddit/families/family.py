"""What the core asks of a model family; each family is a small file that answers.

Installed packages add theirs as entry points of the group `ddit_eval.families`: an instance of a subclass of
`ModelFamily`. What distillation needs of it is in `ddit_eval.training.inputs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from ddit_eval.ddit.layout import Grid, Layout

FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")  # as diffusers' FeedForward names its two layers
CONTROLLED = "a ControlNet adds to its tokens at the base patch size"


@dataclass(frozen=True)
class Call:
    """What the data path reads of one transformer call."""

    handed: Tensor  # the latents as the pipeline handed them over: the same object means the same step
    timestep: Tensor  # (B,), flow time 0 (data) to 1 (noise)
    tokenise: Callable[[Tensor], Tensor]  # from `handed` to base tokens
    where: Any  # what the grid is read from: equal (a tuple) or the same (a tensor) where the grid is
    beside: Any = None  # what positions depend on besides the layout: a tuple, or the same tensor again
    given: int = 0  # frames at the front that condition the run and are not generated
    aside: bool = False  # one more call of a step that has been decided, with fewer samples
    refused: str = ""  # why this call can have no coarse patches

    @cached_property
    def latents(self) -> Tensor:
        """(B, N, C_in) base tokens, each (C, p, p); conditioning channels come last."""
        return self.tokenise(self.handed)


@dataclass(frozen=True)
class ModelFamily:
    """Where a transformer's embedding, positions, head and feed-forwards are.

    Inside the core a base token is (C, p, p) in every family; `velocity_in` and `velocity_out` translate.
    Where a pipeline doubles the batch for guidance, both halves count as samples: their latents are equal,
    and so are their signals.
    """

    name: str
    class_name: str
    patch: int  # latent pixels per side of a base token
    time_scale: float  # scheduler's timestep per unit of flow time
    embedding: str  # the module whose output is replaced
    position: str  # likewise; empty where positions are a table that the embedding adds
    head: str
    weights: str = ""  # the embedding's layer, where it is a part of `embedding`
    text_apart: bool = False  # the position module is called once more, for the text
    flow: bool = True  # predicts the velocity of a rectified flow, and not noise
    head_channel_first: bool = True  # else what the head emits is (p, p, C)
    text_first: bool = True  # where a block runs over text and image tokens together
    video: bool = False
    guided_by: str = "true_cfg_scale"  # the setting that, above 1, asks for two calls a step
    of_batch: tuple[str, ...] = ()  # the call's arguments that hold no row a sample
    # The call's arguments that `encode_prompt` of the pipeline returns, in this order; empty for one that
    # returns the prompt's embedding and the negative one's.
    embeds: tuple[str, ...] = ()
    # Of a family from outside, to be distilled: a `ddit_eval.training.inputs.base.Inputs`.
    inputs: Any = None

    def owns(self, transformer: nn.Module) -> bool:
        return any(cls.__name__ == self.class_name for cls in type(transformer).__mro__)

    def feed_forwards(self, transformer: Any) -> Iterator[tuple[str, nn.Module]]:
        """The linear layers of every block's feed-forward on the image stream, by name."""
        raise NotImplementedError

    def attentions(self, transformer: Any) -> Iterator[tuple[str, nn.Module]]:
        """The linear layers that attention on the image stream passes through, by name."""
        raise NotImplementedError

    def embedding_of(self, transformer: Any) -> tuple[Tensor, Tensor]:
        """Weight (d, C_in) and bias (d,) of the embedding, as a linear layer on base tokens."""
        layer = self.embedding_layer(transformer)
        return layer.weight.flatten(1), bias_of(layer)

    def embedding_layer(self, transformer: Any) -> Any:
        """The layer that holds the embedding's weights."""
        return plain(transformer.get_submodule(self.weights or self.embedding))

    def head_layer(self, transformer: Any) -> Any:
        """The layer that holds the output projection's weights."""
        return plain(transformer.get_submodule(self.head))

    def head_of(self, transformer: Any) -> tuple[Tensor, Tensor]:
        """Weight (C_out, d) and bias (C_out,) of the output projection to base tokens."""
        layer = self.head_layer(transformer)
        return self.velocity_in(layer.weight.T).T, self.velocity_in(bias_of(layer))

    def read(self, transformer: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
        """The call's tensors, whether they were passed by place or by name."""
        raise NotImplementedError

    def grid(self, call: Call) -> Grid:
        """The grid of base tokens. Raises `DditError` where the call can have no coarse patches."""
        raise NotImplementedError

    def positions(self, module: Any, call: Call, layout: Layout, output: Any) -> Any:
        """What the position module would return for the centres of a layout's patches; `output` is what it
        did return. Without such a module: what to add to the tokens of the embedding, `module`."""
        raise NotImplementedError

    def fewest_positions(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The position module's arguments, cut down: what it returns is replaced anyhow."""
        return args

    def embedded(self, output: Tensor) -> Tensor:
        """The embedding's output as tokens (B, N, d)."""
        return output

    def as_embedded(self, tokens: Tensor) -> Tensor:
        """Tokens (B, n, d) as the embedding would return them."""
        return tokens

    def macs(self, config: Any, layout: Layout, text_tokens: int) -> dict[str, int]:
        """Multiply-adds of the base's forward pass of one sample by part: embed, modulation, blocks,
        attention, head.

        The attachment keeps the base's own embedding (of every base token) and head (of every token of the
        layout) running, and they are counted so. Element-wise work is not counted.
        """
        raise NotImplementedError

    def velocity_in(self, output: Tensor) -> Tensor:
        """The head's output (..., C_out), each token turned to (C, p, p)."""
        if self.head_channel_first:
            return output
        return output.unflatten(-1, (self.patch**2, -1)).transpose(-1, -2).flatten(-2)

    def velocity_out(self, velocity: Tensor) -> Tensor:
        """The way back from `velocity_in`."""
        if self.head_channel_first:
            return velocity
        return velocity.unflatten(-1, (-1, self.patch**2)).transpose(-1, -2).flatten(-2)


def layers_of(transformer: Any, blocks: str, *names: str) -> Iterator[tuple[str, nn.Module]]:
    """The layers `names` of every block in the list `blocks`, by their full names."""
    for i, block in enumerate(getattr(transformer, blocks)):
        for name in names:
            yield f"{blocks}.{i}.{name}", block.get_submodule(name)


def attention(name: str, *more: str) -> tuple[str, ...]:
    """Names of the projections to queries, keys and values of an attention, and `more` of it."""
    return tuple(f"{name}.{part}" for part in ("to_q", "to_k", "to_v", *more))


def bias_of(layer: Any) -> Tensor:
    """The bias of a layer, zeros where it has none."""
    return layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias


def plain(module: Any) -> Any:
    """The layer itself where a LoRA library has wrapped it."""
    return getattr(module, "base_layer", module)
