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


class QuorumError(Exception):
    """Base of every error of this package.

    Attributes:
        request_id: Id of the request that failed, as the server saw it; ``None`` when nothing was sent.
    """

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        """Say what went wrong, where, and what to do next."""
        super().__init__(message)
        self.request_id = request_id


class InvalidRequest(QuorumError, ValueError):
    """The request breaks the contract: refused before it was sent, or by the server."""


class Unavailable(QuorumError):
    """Nobody there to answer now; the same call may succeed later."""


class Unreachable(Unavailable):
    """No connection to the address."""


class Disconnected(Unavailable):
    """The call broke off; members may have been asked, so the client does not send it again by itself."""


class Overloaded(Unavailable):
    """The server has as many requests in flight as it admits; it asked no member."""


class ChannelNotFound(QuorumError):
    """The server has no such channel."""


class DeadlineExceeded(QuorumError):
    """No answer within the deadline; members may have been asked."""


class ServerError(QuorumError):
    """The server failed, or something between here and there refused the call.

    Attributes:
        status: Name of the gRPC status, such as ``"INTERNAL"`` or ``"PERMISSION_DENIED"``.
    """

    def __init__(self, message: str, *, status: str, request_id: str | None = None) -> None:
        """Say what went wrong, with the status that came back."""
        super().__init__(message, request_id=request_id)
        self.status = status


class ProtocolError(QuorumError):
    """The answer is not what the contract says: client and server are of different versions."""
