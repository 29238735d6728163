# SPDX-License-Identifier: Apache-2.0
"""Commands find the server by its record, also while it is restarted."""

from __future__ import annotations

from pathlib import Path

from support.deployment import write_deployment

from quorum.deployment import load_deployment
from quorum.server.endpoint import Endpoint
from quorum.server.runfile import (
    Running,
    endpoint_of,
    find_running,
    leave_attempt,
    leave_note,
    remove_attempt,
)


def test_the_address_stays_known_while_the_server_is_restarted(tmp_path: Path) -> None:
    spec = load_deployment(write_deployment(tmp_path, {"alpha": {}}))
    recorded = Endpoint("127.0.0.1", 4001, None, 4002, "an-admin-key")
    leave_note(spec, Running(99_999_999, "a start", tmp_path, recorded))
    assert find_running(spec) is None
    assert endpoint_of(spec).grpc_port == 0, "what served it is gone"
    leave_attempt(spec)
    assert endpoint_of(spec) == recorded
    remove_attempt(spec)
    assert endpoint_of(spec).grpc_port == 0
