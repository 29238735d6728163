# SPDX-License-Identifier: Apache-2.0
"""Ask a quorum deployment for the attributes of products, synchronously or with asyncio."""

from quorum_client._aio import AsyncClient
from quorum_client._connection import Tls
from quorum_client._results import Answer, Extraction, Item, Status, Vote
from quorum_client._sync import Client
from quorum_client.errors import (
    ChannelNotFound,
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    ProtocolError,
    QuorumError,
    ServerError,
    Unavailable,
    Unreachable,
)

__all__ = [
    "Answer",
    "AsyncClient",
    "ChannelNotFound",
    "Client",
    "DeadlineExceeded",
    "Extraction",
    "InvalidRequest",
    "Item",
    "Overloaded",
    "ProtocolError",
    "QuorumError",
    "ServerError",
    "Status",
    "Tls",
    "Unavailable",
    "Unreachable",
    "Vote",
]
