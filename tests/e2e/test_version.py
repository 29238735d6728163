# SPDX-License-Identifier: Apache-2.0
"""The version that ``quorum --version`` prints of the server is the one that a running server states."""

from __future__ import annotations

import pytest
from support.deployment import Live
from tritonclient.grpc import service_pb2 as pb

from quorum.server.install import triton_version

pytestmark = pytest.mark.e2e


def test_the_server_is_the_one_that_is_named(steady: Live) -> None:
    stated = steady.stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=60)
    assert triton_version().partition(",")[0] == stated.version
