# SPDX-License-Identifier: Apache-2.0
"""Ask a quorum deployment for attributes of products and keyphrases for items, blocking or with asyncio."""

from quorum_client._aio import AsyncClient
from quorum_client._limits import AUTO
from quorum_client._results import (
    Answer,
    Extraction,
    Item,
    Keyphrase,
    Recommendation,
    RecommendItem,
    Span,
    Vote,
)
from quorum_client._room import AWAY_S, OnWait
from quorum_client._routing import SERVED, takes_canary
from quorum_client._sync import Client
from quorum_client._tls import Tls
from quorum_client._wire import cancel_request
from quorum_client.errors import (
    ChannelNotFound,
    DeadlineExceeded,
    Disconnected,
    InvalidRequest,
    Overloaded,
    PermissionDenied,
    ProtocolError,
    QuorumError,
    QuotaSpent,
    RequestError,
    ServerError,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from quorum_contract import DecisionStatus, Spent, Status

__all__ = [
    "AUTO",
    "AWAY_S",
    "SERVED",
    "Answer",
    "AsyncClient",
    "ChannelNotFound",
    "Client",
    "DeadlineExceeded",
    "DecisionStatus",
    "Disconnected",
    "Extraction",
    "InvalidRequest",
    "Item",
    "Keyphrase",
    "OnWait",
    "Overloaded",
    "PermissionDenied",
    "ProtocolError",
    "QuorumError",
    "QuotaSpent",
    "RecommendItem",
    "Recommendation",
    "RequestError",
    "ServerError",
    "Span",
    "Spent",
    "Status",
    "Tls",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
    "Vote",
    "cancel_request",
    "takes_canary",
]
