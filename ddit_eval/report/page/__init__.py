"""The report as one HTML page that needs nothing beside it: no file, no network."""

from __future__ import annotations

from ddit_eval.report.page.gallery import Gallery, gallery
from ddit_eval.report.page.html import to_html

__all__ = ["Gallery", "gallery", "to_html"]
