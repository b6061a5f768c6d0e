"""Set metrics as a torchmetrics metric, for loops that make pictures batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from ddit_eval.errors import DditError
from ddit_eval.metrics.sets.comparison import FAMILIES, KINDS, Against, Family, measure_of, metric_name
from ddit_eval.metrics.sets.frechet import statistics
from ddit_eval.metrics.sets.networks import Network, features
from ddit_eval.metrics.sets.networks import network as network_of


class SetMetric(Metric):
    """Distances of all pictures seen to reference features, by name: {"frechet-reader": 12.3, ...}.

    `reference`: features (m, D) of the same network, from `cached_features`. `update` takes float
    (N, 3, H, W) in [0, 1]. Features are kept, not statistics, so processes join exactly. No intervals and
    no warnings here: those are `compare`'s.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False
    features: list[Tensor]

    def __init__(
        self,
        reference: Tensor,
        network: str | Network = "reader",
        families: Sequence[Family] = FAMILIES,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.network = network_of(network) if isinstance(network, str) else network
        self.families = tuple(families)
        self.against = Against(reference, statistics(reference) if "frechet" in families else None)
        self.add_state("features", default=[], dist_reduce_fx="cat")

    def update(self, pictures: Tensor) -> None:
        """Add pictures."""
        self.features.append(features(self.network, pictures, device=str(self.device)).to(self.device))

    def compute(self) -> dict[str, float]:
        """Every value over all pictures so far."""
        if not len(self.features):
            raise DditError("nothing was measured yet: call update before compute")
        seen = self.features if isinstance(self.features, Tensor) else torch.cat(self.features)
        whole = torch.ones(1, len(seen), dtype=torch.float64)
        out: dict[str, float] = {}
        for family in self.families:
            values = measure_of(family, seen.cpu(), self.against)(whole)[0].tolist()
            names = [metric_name(kind.name, self.network) for kind in KINDS[family]]
            out |= dict(zip(names, values, strict=True))
        return out
