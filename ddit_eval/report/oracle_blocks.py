"""What the report says of the oracle: every way of choosing the steps, and the share of the gap it closes."""

from __future__ import annotations

from collections.abc import Sequence

from ddit_eval.judging.results import Json
from ddit_eval.judging.wording import label, read, show
from ddit_eval.report.blocks import Block, Folded, Table, Text
from ddit_eval.stats import Interval

RULES = {"DDiT": "the DDiT rule", "calibrated": "our calibrated policy"}


def oracle_blocks(oracle: Json) -> list[Block]:
    """A sentence on the rule, and on demand the shares of the gap and every row of oracle.json."""
    note = (
        f"The first {oracle['n']} prompts of the table below, {oracle['steps']} steps. The oracle has seen "
        "what each coarse step does to the picture before it chooses, by a table that takes their harms to "
        "add up: a bound for rules, not a rule. Cost is a share of the base's FLOPs. A share of the gap is 0 "
        "% for a way as good as the fixed schedules at its own cost, 100 % for one as good as the oracle, "
        "below 0 % for one that is worse than fixed; it is left out where the oracle is not surely better."
    )
    rows = [
        [r["name"], f"{100 * r['cost']:.0f} %", show(read(r.get("psnr")), "psnr")] for r in oracle["rows"]
    ]
    table = Table(["schedule", "cost", label("psnr")], rows)
    shares = [gap_table(oracle)] if oracle.get("gap") else []
    summary = "The oracle against every way of choosing the steps"
    return [Text(gap_line(oracle)), Folded(summary, [Text(note), *shares, table])]


def gap_line(oracle: Json) -> str:
    """What the DDiT rule and our own close of the gap between each kind of fixed schedules and the oracle."""
    families = {row["name"]: row["family"] for row in oracle["rows"]}
    said = []
    for family, who in RULES.items():
        own = [g for g in oracle.get("gap") or () if families[g["name"]] == family]
        parts = [f"{_range(same)} over {fixed}" for fixed, same in _by_fixed(own).items() if _shares(same)]
        if parts:
            said.append(f"{who} closes {', '.join(parts)}")
    if not said:
        line = (
            "The oracle is not surely better than the fixed schedules on these prompts: no share of a gap "
            "can be given."
        )
    else:
        line = f"Of the oracle's lead at equal cost, {'; '.join(said)}."
    beaten = [kind for kind, same in _by_fixed(oracle.get("gap") or ()).items() if _ahead_of_oracle(same)]
    return f"{line} The oracle itself loses to {' and '.join(beaten)}." if beaten else line


def gap_table(oracle: Json) -> Table:
    """A row a way and kind of fixed schedules: PSNR over these and below the oracle, share of the gap."""
    rows = []
    for item in oracle["gap"]:
        share = read(item["share"])
        over, below = (show(read(item[k]), "psnr", plus=True) for k in ("over_fixed", "below_oracle"))
        closed = "–" if share is None else percent(share)
        rows.append([item["name"], f"{100 * item['cost']:.0f} %", item["fixed"], over, below, closed])
    heads = ["over them (dB)", "below the oracle (dB)", "share of the gap"]
    return Table(["way", "cost", "fixed schedules", *heads], rows)


def percent(share: Interval) -> str:
    """ "12 % [-3, 20]"."""
    return f"{100 * share.value:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}]"


def _by_fixed(gaps: Sequence[Json]) -> dict[str, list[Json]]:
    by_fixed: dict[str, list[Json]] = {}
    for item in gaps:
        by_fixed.setdefault(item["fixed"], []).append(item)
    return by_fixed


def _shares(gaps: Sequence[Json]) -> list[Interval]:
    return [Interval.from_json(item["share"]) for item in gaps if item["share"] is not None]


def _ahead_of_oracle(gaps: Sequence[Json]) -> bool:
    """Whether the fixed schedules are surely better than the oracle at every cost."""
    leads = [Interval.from_json(item["gap"]) for item in gaps]
    return bool(leads) and all(lead.high < 0 for lead in leads)


def _range(gaps: Sequence[Json]) -> str:
    """The shares at all costs: "12 % [-3, 20]"; of several "12 to 30 % [-5, 41]", their outermost bounds."""
    found = sorted(_shares(gaps), key=lambda share: share.value)
    if len(found) == 1:
        return percent(found[0])
    low, high = min(share.low for share in found), max(share.high for share in found)
    return f"{100 * found[0].value:.0f} to {100 * found[-1].value:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"
