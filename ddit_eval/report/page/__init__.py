"""The report as one HTML page that needs nothing beside it: no file, no network."""

from __future__ import annotations

from ddit_eval.report.page.html import to_html

__all__ = ["to_html"]
