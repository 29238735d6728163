# SPDX-License-Identifier: Apache-2.0
"""Errors over HTTP: their statuses, and the three forms in which callers expect them."""

from __future__ import annotations

import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

from quorum_client.errors import (
    ChannelNotFound,
    DeadlineExceeded,
    Disconnected,
    InvalidRequest,
    PermissionDenied,
    ProtocolError,
    QuotaSpent,
    RequestError,
    ServerError,
    Unauthenticated,
    Unavailable,
)
from quorum_contract.errors import QuorumError

_RETRY_S = 1
_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}


class HttpRefused(RequestError):
    """A request that HTTP itself refuses: its path, method, size or media type, or a body that is no JSON.

    Attributes:
        status: The status of the answer.
        headers: More headers of the answer.
    """

    code = "HTTP_REFUSED"

    def __init__(self, message: str, *, status: int, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers or {}


class GatewayFailed(ServerError):
    """The gateway has a fault; its log says more, by the id of the request."""

    code = "GATEWAY_FAILED"


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Problem details of RFC 9457.

    Attributes:
        title: The phrase of the status.
        status: The status of the answer, or that the product would have had alone.
        detail: What is wrong, where, and what to do next.
        code: Stable identifier of the kind of error; ``docs/errors.md`` lists them.
        request_id: Of this request.
        retry_after_s: Seconds after which it may succeed.
        error: The same as ``detail``, by the name that KServe has for it; on paths of ``/v2``.
        type: ``about:blank``: the code says more than a page would.
    """

    title: str
    status: int
    detail: str
    code: str
    request_id: str = ""
    retry_after_s: int | None = None
    error: str = ""
    type: str = "about:blank"


class OpenAiError(msgspec.Struct, frozen=True):
    """An error as OpenAI's API has it; ``code`` is that of :class:`Problem`."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAiProblem(msgspec.Struct, frozen=True):
    """The body of an error on OpenAI's paths."""

    error: OpenAiError


_STATUS: tuple[tuple[type[QuorumError], int], ...] = (
    (InvalidRequest, 422),
    (Unauthenticated, 401),
    (PermissionDenied, 403),
    (ChannelNotFound, 404),
    (QuotaSpent, 429),
    (DeadlineExceeded, 504),
    (Disconnected, 502),
    (Unavailable, 503),
    (ProtocolError, 502),
    (GatewayFailed, 500),
    (ServerError, 502),
)

Form = Callable[[QuorumError, str], Response]
"""Makes the answer for an error and the id of its request."""


def status_of(error: QuorumError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, HttpRefused):
        return error.status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem_of(error: QuorumError, request_id: str = "") -> Problem:
    """Problem details of an error."""
    status = status_of(error)
    title = HTTPStatus(status).phrase
    return Problem(title, status, str(error), error.code, request_id, _retry_after(error))


def problem_json(error: QuorumError, request_id: str) -> Response:
    """The answer in the form of RFC 9457."""
    return _answer(error, problem_of(error, request_id), "application/problem+json")


def kserve_problem(error: QuorumError, request_id: str) -> Response:
    """The same, with the one field that KServe v2 demands; what breaks the contract is a 400 there."""
    found = problem_of(error, request_id)
    status = 400 if found.status == 422 else found.status
    changed = msgspec.structs.replace(
        found, status=status, title=HTTPStatus(status).phrase, error=found.detail
    )
    return _answer(error, changed, "application/problem+json", status)


def openai_problem(error: QuorumError, request_id: str) -> Response:
    """The answer in OpenAI's form, where what breaks the contract is a 400."""
    status = status_of(error)
    status = 400 if status == 422 else status
    kind = _OPENAI_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    param = getattr(error, "param", None)
    body = OpenAiProblem(OpenAiError(str(error), kind, param, error.code))
    return _answer(error, body, "application/json", status)


def _answer(error: QuorumError, body: Any, media_type: str, status: int | None = None) -> Response:
    headers = dict(getattr(error, "headers", {}))
    seconds = _retry_after(error)
    if seconds is not None:
        headers["retry-after"] = str(seconds)
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    return Response(msgspec.json.encode(body), status or status_of(error), headers, media_type)


def _retry_after(error: QuorumError) -> int | None:
    """Seconds after which the same request may succeed; None: who knows."""
    if isinstance(error, QuotaSpent):
        return None if error.retry_after_s is None else max(1, math.ceil(error.retry_after_s))
    return _RETRY_S if status_of(error) == 503 else None
