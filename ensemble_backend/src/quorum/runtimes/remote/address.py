# SPDX-License-Identifier: Apache-2.0
"""Check the address of an endpoint."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_BAD = re.compile(r"[\s\x00-\x1f\x7f]")
_PATH = "/chat/completions"


def address_problem(url: str, what: str = "the address of an API, as in https://api.example.com/v1") -> str:
    """Why a URL is no address of an endpoint, with the fix; "" if it is one. It never repeats a password."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"it is not {what}: {error}"
    if parts.username is not None or parts.password is not None:
        return "it holds a user or a password; keys belong in `api_key_env` or `api_key_file`"
    if _BAD.search(url) or parts.scheme not in ("http", "https") or not host:
        return f"it is not {what}"
    if parts.query or parts.fragment:
        return "it has a query (`?...`) or a fragment (`#...`); leave them out, keys belong in `api_key_env`"
    if parts.path.rstrip("/").endswith(_PATH):
        return f"it ends in {_PATH}, which is added; leave that out"
    return ""


def is_plain(url: str) -> bool:
    """Whether others on the way can read what goes to an address: HTTP to another machine."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not _is_loopback(parts.hostname or "")


def shown(url: str) -> str:
    """An address for people: scheme, host and port."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def chat_url(base_url: str) -> str:
    """Where chat completions are asked for."""
    return base_url.rstrip("/") + _PATH


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
