# SPDX-License-Identifier: Apache-2.0
"""The headers between callers and the gateway: the key, who calls, and when a spent quota is renewed."""

from __future__ import annotations

KEY_HEADER = "authorization"
USER_AGENT = "quorum-client"
"""Begin of the header ``user-agent`` of our own client, which chooses canary or stable itself."""
RETRY_AFTER = "retry-after"
"""Whole seconds until a quota is renewed, with the refusal."""


def key_value(key: str) -> str:
    """The header's value for a key."""
    return f"Bearer {key}"
