"""Addresses without their secrets."""

from __future__ import annotations

import re
from urllib.parse import unquote


def hidden(url: str) -> str:
    """An address without user, password and query: `postgresql://host/db`.

    Where a password's own /, @, ? or # keep them from being told apart, the scheme alone. A path stays.
    """
    scheme, mark, rest = url.partition("://")
    found = re.fullmatch(r"(?:[^@/?#]*@)?([^@?#]*)(\?[^@?#]*)?", rest if mark else url)
    if not mark:
        return url if found and ":" not in url else "..."
    return f"{scheme}://{found[1] if found else '...'}"


def without_secrets(text: str, url: str) -> str:
    """The first line of another's error about `url`, with nothing in it of user, password or query."""
    rest = url.partition("://")[2] or url
    query = re.findall(r"=([^&]*)", rest)
    parts = [*re.split(r"[:@/?#]", rest.rpartition("@")[0]), *query, rest.rpartition("@")[0], url]
    secrets = {*parts, *map(unquote, parts)} - {""}
    for secret in sorted(secrets, key=len, reverse=True):
        pattern = re.escape(secret)
        if re.fullmatch(r"\w+", secret):
            pattern = rf"\b{pattern}\b"  # no part of another word
        shown = hidden(url) if secret == url else "..."
        text = re.sub(pattern, shown.replace("\\", r"\\"), text)
    return text.splitlines()[0] if text else ""
