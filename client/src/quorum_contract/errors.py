# SPDX-License-Identifier: Apache-2.0
"""The base of every exception of this project, and error codes within messages.

Each class has its own stable ``code`` for programs; the message is for people. A step inside the server can
fail a request with a Triton status and a message only, so it appends the code to the message
(:func:`with_code`), and the client takes it off again (:func:`take_code`).
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, NamedTuple

_MARK = re.compile(r"\[quorum:([A-Z][A-Z0-9_]*)\]\s*\Z")


class QuorumError(Exception):
    """Base of every exception of this project.

    Attributes:
        code: Stable identifier of the kind of error, such as ``"VOTES_INVALID"``.
    """

    code: ClassVar[str] = "QUORUM_ERROR"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the message and the fields; Python's own way calls a class with the message alone."""
        return _restored, (type(self), self.args), self.__dict__


class RequestError(QuorumError):
    """Base of every error of a request.

    Attributes:
        request_id: Id of the request that failed, as the server saw it; ``None`` when nothing was sent.
    """

    code = "REQUEST_FAILED"

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id


class InvalidRequest(RequestError, ValueError):
    """The request breaks the contract; the message names the tensor, what is wrong and the fix."""

    code = "INVALID_REQUEST"


class Unavailable(RequestError):
    """The server cannot answer now; the same call may succeed later."""

    code = "UNAVAILABLE"


class Overloaded(Unavailable):
    """The server has as many requests in flight as it admits; it asked no member."""

    code = "OVERLOADED"


class Cancelled(RequestError):
    """The request only asked to cancel an earlier one; that is the answer to it, and no member was asked."""

    code = "CANCELLED"


def _restored(kind: type[QuorumError], args: tuple[object, ...]) -> QuorumError:
    return kind.__new__(kind, *args)


class Coded(NamedTuple):
    """A message of the server, without its code.

    Attributes:
        text: The message.
        code: Code of the error; ``None`` for a message that no step of quorum wrote.
    """

    text: str
    code: str | None


def with_code(error: QuorumError, limit: int) -> str:
    """Append the code to an error's message; the text is cut to keep both within ``limit``."""
    mark = f" [quorum:{error.code}]"
    return f"{str(error)[: limit - len(mark)]}{mark}"


def take_code(message: str) -> Coded:
    """Inverse of :func:`with_code`, also with the ensemble's name that Triton prepends.

    Only the end counts, so a caller's text that a message quotes is never taken for a code.
    """
    mark = _MARK.search(message)
    return Coded(message[: mark.start()].rstrip(), mark[1]) if mark else Coded(message, None)
