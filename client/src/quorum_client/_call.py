# SPDX-License-Identifier: Apache-2.0
"""One request, ready to send."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from quorum_client._routing import Channels
from quorum_contract import INTERACTIVE, Priority

Result = TypeVar("Result")
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Call(Generic[Result]):
    """One request, ready to send.

    Attributes:
        read: Turns the response, this call and its latency in seconds into the result.
        channels: Of its kind.
        metadata: Headers, as gRPC takes them.
    """

    message: Any
    read: Callable[[Any, Call[Result], float], Result]
    channels: Channels
    channel: str
    timeout_s: float
    request_id: str
    metadata: Metadata
    members_timeout_s: float | None = None
    routed: bool = False
    fallback_from: str | None = None
    is_look: bool = False
    priority: Priority = INTERACTIVE
