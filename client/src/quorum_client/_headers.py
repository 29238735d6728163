# SPDX-License-Identifier: Apache-2.0
"""Check the headers that a client sends with every call, and its key."""

from __future__ import annotations

import re
from collections.abc import Mapping

from quorum_client.errors import InvalidRequest
from quorum_contract.key import KEY_HEADER, key_value

_HEADER = re.compile(r"[0-9a-z_.-]+")


def with_key(headers: Mapping[str, str], key: str | None) -> dict[str, str]:
    """Add the header of the key.

    Raises:
        InvalidRequest: The key cannot be sent, or the headers have one already.
    """
    if key is None:
        return {**headers}
    if key == "":
        raise InvalidRequest("key: empty; give the server's inference key, or None for a server without one")
    if not isinstance(key, str) or not key.isascii() or not key.isprintable():
        raise InvalidRequest("key: not printable ASCII; give the server's inference key")
    if any(name.lower() == KEY_HEADER for name in headers):
        raise InvalidRequest(f"key: the headers have {KEY_HEADER!r} already; give one of the two")
    return {**headers, KEY_HEADER: key_value(key)}


def metadata_of(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The headers as gRPC takes them.

    Raises:
        InvalidRequest: A name or value that cannot be sent.
    """
    for name, value in headers.items():
        if not _HEADER.fullmatch(name.lower()) or name.lower().endswith("-bin"):
            raise InvalidRequest(
                f"headers: {name!r} is not a header name; use letters, digits, '-', '_' and '.'"
            )
        if not value.isascii() or not value.isprintable():
            raise InvalidRequest(f"headers: the value of {name!r} is not printable ASCII; encode it")
    return tuple((name.lower(), value) for name, value in headers.items())
