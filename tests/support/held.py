# SPDX-License-Identifier: Apache-2.0
"""Requests inside a server's gate, as the file of its tickets shows them; some held there by the test itself.

A member that thinks for a while holds a slot for that time only, which a slow machine may need for less.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from quorum.serving.admission import Admission

LONG_NS = 600 * 10**9


def hold(gate: Admission, limit: int, count: int) -> Callable[[], None]:
    """Fill slots of a gate of that limit, as requests that members work on; what lets them go.

    The gate itself must not be admitting others meanwhile.
    """
    now_ns = time.monotonic_ns()
    tickets = [
        gate.claim(limit, now_ns, now_ns + LONG_NS, seal=secrets.randbits(40) + 1) for _ in range(count)
    ]
    for ticket in tickets:
        assert ticket is not None, "the gate is fuller than the test thinks"
        gate.use(ticket)

    def let_go() -> None:
        for ticket in tickets:
            gate.release(ticket or 0)

    return let_go


def is_inside(gate: Admission, request_id: str) -> bool:
    """Whether the request of that id is inside: not one of a supervisor, nor an earlier one."""
    tickets, expires, _, released, _, cancelled, requests = gate._table
    held = (requests == gate._hash(request_id)) & (expires > time.monotonic_ns())
    return bool((held & (released != tickets) & (cancelled != tickets)).any())
