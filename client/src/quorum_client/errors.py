# SPDX-License-Identifier: Apache-2.0
"""Everything that a call can raise.

::

    QuorumError
    ├── InvalidRequest       the request breaks the contract (also a ValueError)
    ├── Unavailable          nobody there to answer now; the same call may succeed later
    │   ├── Unreachable      no connection to the address
    │   ├── Disconnected     the call broke off; members may have been asked
    │   └── Overloaded       the server has as many requests as it admits
    ├── ChannelNotFound      the server has no such channel
    ├── DeadlineExceeded     no answer within the deadline
    ├── ServerError          the server failed, or something between refused the call
    └── ProtocolError        the answer is not what the contract says

gRPC's own exceptions are never raised; the one that was the cause is kept as ``__cause__``.
"""

from __future__ import annotations

from quorum_contract.errors import QuorumError as QuorumError


class RequestError(QuorumError):
    """Base of every error that a call can raise.

    Attributes:
        request_id: Id of the request that failed, as the server saw it; ``None`` when nothing was sent.
    """

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        """Say what went wrong, where, and what to do next."""
        super().__init__(message)
        self.request_id = request_id


class InvalidRequest(RequestError, ValueError):
    """The request breaks the contract: refused before it was sent, or by the server."""

    code = "INVALID_REQUEST"


class Unavailable(RequestError):
    """Nobody there to answer now; the same call may succeed later."""

    code = "UNAVAILABLE"


class Unreachable(Unavailable):
    """No connection to the address."""

    code = "UNREACHABLE"


class Disconnected(Unavailable):
    """The call broke off; members may have been asked, so the client does not send it again by itself."""

    code = "DISCONNECTED"


class Overloaded(Unavailable):
    """The server has as many requests in flight as it admits; it asked no member."""

    code = "OVERLOADED"


class ChannelNotFound(RequestError):
    """The server has no such channel."""

    code = "CHANNEL_NOT_FOUND"


class DeadlineExceeded(RequestError):
    """No answer within the deadline; members may have been asked."""

    code = "DEADLINE_EXCEEDED"


class ServerError(RequestError):
    """The server failed, or something between here and there refused the call.

    Attributes:
        status: Name of the gRPC status, such as ``"INTERNAL"`` or ``"PERMISSION_DENIED"``.
    """

    code = "CALL_FAILED"

    def __init__(self, message: str, *, status: str, request_id: str | None = None) -> None:
        """Say what went wrong, with the status that came back."""
        super().__init__(message, request_id=request_id)
        self.status = status


class ProtocolError(RequestError):
    """The answer is not what the contract says: client and server are of different versions."""

    code = "PROTOCOL_ERROR"
