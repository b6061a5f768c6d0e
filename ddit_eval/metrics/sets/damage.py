"""Known damage, and which distance between sets sees it: negative controls, as for single pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from ddit_eval.metrics.damage import DAMAGES, GRAIN, Damage, grain, sight_of
from ddit_eval.metrics.sets.comparison import compare_paired
from ddit_eval.metrics.sets.feature_network import Network
from ddit_eval.metrics.sets.kinds import KINDS
from ddit_eval.metrics.sets.reference import PictureSet, tensor_set
from ddit_eval.schema.quality import Sighting


def set_sightings(
    pictures: Tensor,
    reference: PictureSet,
    network: str | Network = "reader",
    *,
    families: Sequence[str] = tuple(KINDS),
    damages: Mapping[str, Damage] = DAMAGES,
) -> list[Sighting]:
    """Every set metric under every damage to `pictures` (N, 3, H, W) in [0, 1], against a reference set.

    The loss is the paired difference to the undamaged pictures. A set has no order, so another prompt's
    pictures are the same set: a distance between sets is blind to them, and the table says so.
    """
    whole = {"": pictures} | {name: damage(pictures).clamp(0, 1) for name, damage in damages.items()}
    stacks = [tensor_set(grain(stack, GRAIN), name) for name, stack in whole.items()]
    # A family that these pictures are too few for has no row here; `set_rows` says why.
    before, *after = compare_paired(stacks, 0, reference, network, families=families, skipped={})
    rows = []
    for name, pairs in zip(damages, after, strict=True):
        for (base, _), (row, paired) in zip(before, pairs, strict=True):
            assert paired is not None
            loss = paired.interval
            if row.direction == "higher":
                loss = replace(loss, value=-loss.value, low=-loss.high, high=-loss.low)
            rows.append(
                Sighting(
                    metric=row.metric,
                    damage=name,
                    before=base.interval.value,
                    after=row.interval.value,
                    loss=loss,
                    sight=sight_of(loss),
                )
            )
    return rows
