# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.fault_server import FaultServer, fault_server
from support.openai_members import RIGHT


@pytest.fixture
def served() -> Iterator[tuple[FaultServer, str]]:
    """A server that answers rightly until a test sets a fault, and its address."""
    with fault_server() as (server, url):
        server.values = dict(RIGHT)
        yield server, url
