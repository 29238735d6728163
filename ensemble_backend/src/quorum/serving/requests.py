# SPDX-License-Identifier: Apache-2.0
"""Read what steps that take raw requests have in common: priority, deadline, single elements, refusals."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import triton_python_backend_utils as pb_utils

from quorum.serving.tensors import refusal
from quorum_contract import INTERACTIVE, PRIORITIES, PRIORITY, Priority
from quorum_contract.errors import Cancelled, InvalidRequest, RequestError


def priority_of(parameters: str) -> Priority:
    """How urgent a request is by its parameters, as JSON; raises InvalidRequest for an unknown priority."""
    if PRIORITY not in parameters:
        return INTERACTIVE
    given = json.loads(parameters).get(PRIORITY, INTERACTIVE)
    for known in PRIORITIES:
        if given == known:
            return known
    raise InvalidRequest(f"{PRIORITY}: {given!r:.100}; send one of {', '.join(PRIORITIES)}, or leave it out")


def deadline_of(request: Any, usual_s: float, longest_s: float, now_ns: int | None = None) -> int:
    """When a request is not waited for any more, on the monotonic clock, in nanoseconds.

    Args:
        request: The request, which may bring a time of its own.
        usual_s: The time of one that brings none.
        longest_s: The longest time.
        now_ns: When it came; None: now.
    """
    now_ns = time.monotonic_ns() if now_ns is None else now_ns
    own_ns = int(request.timeout()) * 1000 or int(usual_s * 1e9)
    return now_ns + min(own_ns, int(longest_s * 1e9))


def single(inputs: Mapping[str, list[Any]], name: str) -> Any:
    """The one element of an input; raises InvalidRequest for none, or several."""
    elements = inputs[name]
    if len(elements) != 1:
        raise InvalidRequest(f"{name}: {len(elements)} elements, expected 1; send one product a request")
    return elements[0]


def refuse(error: RequestError) -> Any:
    """Fail a request with the Triton status of an error of the contract."""
    statuses = pb_utils.TritonError
    match error:
        case InvalidRequest():
            return refusal(error, statuses.INVALID_ARG)
        case Cancelled():
            return refusal(error, statuses.CANCELLED)
    return refusal(error, statuses.UNAVAILABLE)
