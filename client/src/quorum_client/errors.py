# SPDX-License-Identifier: Apache-2.0
"""The errors that a call can raise.

::

    QuorumError                  every error of this project
    └── RequestError             every error of a call
        ├── InvalidRequest       the request breaks the contract (also a ValueError)
        ├── Unavailable          the server cannot answer now; the same call may succeed later
        │   ├── Unreachable      no connection to the address
        │   ├── Disconnected     the call broke off; members may have been asked
        │   └── Overloaded       the server has as many requests as it admits
        ├── Unauthenticated      the key is wrong or missing
        ├── PermissionDenied     the key is right, and its caller may not do this
        ├── QuotaSpent           the caller has had as many requests, or as much for money, as it may
        ├── ChannelNotFound      the server has no such channel
        ├── DeadlineExceeded     no answer within the deadline
        ├── ServerError          the server failed, or a proxy refused the call
        └── ProtocolError        the answer breaks the contract

Each has a ``code`` that stays the same from release to release; messages do not.
gRPC's own exceptions are never raised; the error's ``__cause__`` keeps the original.
"""

from __future__ import annotations

from quorum_contract.errors import InvalidRequest as InvalidRequest
from quorum_contract.errors import Overloaded as Overloaded
from quorum_contract.errors import QuorumError as QuorumError
from quorum_contract.errors import RequestError as RequestError
from quorum_contract.errors import Unavailable as Unavailable


class Unreachable(Unavailable):
    """No connection to the address."""

    code = "UNREACHABLE"


class Disconnected(Unavailable):
    """The call broke off; members may have been asked, so the client does not send it again by itself."""

    code = "DISCONNECTED"


class Unauthenticated(RequestError):
    """The key is wrong or missing; no member was asked."""

    code = "UNAUTHENTICATED"


class PermissionDenied(RequestError):
    """The key is right, and its caller may not do this; no member was asked."""

    code = "PERMISSION_DENIED"


class QuotaSpent(RequestError):
    """The caller's quota of this minute or day is spent; no member was asked.

    Attributes:
        retry_after_s: Seconds until it is renewed; ``None`` where the server did not say.
    """

    code = "QUOTA_SPENT"

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.retry_after_s = retry_after_s


class ChannelNotFound(RequestError):
    """The server has no such channel."""

    code = "CHANNEL_NOT_FOUND"


class DeadlineExceeded(RequestError):
    """No answer within the deadline; members may have been asked."""

    code = "DEADLINE_EXCEEDED"


class ServerError(RequestError):
    """The server failed, or a proxy refused the call.

    Attributes:
        status: Name of the gRPC status, such as ``"INTERNAL"`` or ``"PERMISSION_DENIED"``.
        cause: Code of the server's own error, such as ``"WEIGHTS_INVALID"``; ``None`` without one.
    """

    code = "SERVER_ERROR"

    def __init__(
        self, message: str, *, status: str, cause: str | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.status, self.cause = status, cause


class ProtocolError(RequestError):
    """The answer breaks the contract: client and server are of different versions."""

    code = "PROTOCOL_ERROR"
