# SPDX-License-Identifier: Apache-2.0
"""The header in which callers send their key to the door."""

from __future__ import annotations

KEY_HEADER = "authorization"


def key_value(key: str) -> str:
    """The header's value for a key."""
    return f"Bearer {key}"
