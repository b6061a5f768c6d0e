"""What rules close of the gap between fixed schedules and the oracle."""

from __future__ import annotations

from collections.abc import Sequence

from ddit_eval.judging.families import METHOD
from ddit_eval.judging.wording import listed, percent
from ddit_eval.schema.oracle import Gap, Oracle
from ddit_eval.stats import Interval

RULES = {METHOD: "the DDiT rule", "calibrated": "our calibrated policy"}


def determined(share: Interval | None) -> bool:
    """Whether a share says something: its interval lies within 0 to 100 %."""
    return share is not None and share.low >= 0 and share.high <= 1


def gap_line(oracle: Oracle) -> str:
    """What the DDiT rule and our own close of the oracle's lead over each kind of fixed schedules."""
    families = {row.name: row.family for row in oracle.rows}
    said = []
    for family, who in RULES.items():
        by_fixed = _by_fixed([gap for gap in oracle.gap if families[gap.name] == family])
        shares = {fixed: [g.share for g in same if determined(g.share)] for fixed, same in by_fixed.items()}
        closed = [f"{_range([s for s in own if s])} over {fixed}" for fixed, own in shares.items() if own]
        still = [fixed for fixed, own in shares.items() if not own]
        if closed:
            rest = f" (not determined over {listed(still)})" if still else ""
            said.append(f"{who} closes {', '.join(closed)}{rest}")
        elif still:
            said.append(f"what {who} closes is not determined")
    if not any(gap.share for gap in oracle.gap):
        line = (
            "The oracle is not surely better than the fixed schedules on these prompts: no share of a gap "
            "can be given."
        )
    else:
        line = f"Of the oracle's lead at equal cost, {'; '.join(said)}."
    ahead = [kind for kind, same in _by_fixed(oracle.gap).items() if all(g.gap.high < 0 for g in same)]
    return f"{line} The oracle itself loses to {listed(ahead)}." if ahead else line


def _by_fixed(gaps: Sequence[Gap]) -> dict[str, list[Gap]]:
    by_fixed: dict[str, list[Gap]] = {}
    for gap in gaps:
        by_fixed.setdefault(gap.fixed, []).append(gap)
    return by_fixed


def _range(shares: Sequence[Interval]) -> str:
    """The shares at all costs: "12 % [3, 20]"; of several "12 to 30 % [5, 41]", their outermost bounds."""
    if len(shares) == 1:
        return percent(shares[0])
    low, high = min(share.low for share in shares), max(share.high for share in shares)
    values = sorted(share.value for share in shares)
    return f"{100 * values[0]:.0f} to {100 * values[-1]:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"
