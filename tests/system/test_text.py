"""Text on its way to a terminal and into tables."""

from __future__ import annotations

import io

from ddit_eval.system.progress import Terminal
from ddit_eval.system.text import visible


def test_nothing_in_a_text_acts_on_a_terminal() -> None:
    out = io.StringIO()
    terminal = Terminal(emoji=False, file=out, force_terminal=True, width=200)
    text = "a \x1b[31mstar\x07\x9b2J \u202egnp \udcff \u2028 :smile: 🌟 \u200f [/x] [red]"
    terminal.print(text, markup=False, highlight=False)
    shown = out.getvalue()
    assert shown == "a \\x1b[31mstar\\x07\\x9b2J \\u202egnp \\udcff \\u2028 :smile: 🌟 \u200f [/x] [red]\n"
    assert visible("a\nb\tc", one_line=True) == "a\\nb\\tc"
    assert visible("a\nb") == "a\nb"
