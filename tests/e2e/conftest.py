# SPDX-License-Identifier: Apache-2.0
"""Servers shared by several test files; each file that changes its server starts one of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.deployment import WITH_HTTP, Live, running, write_deployment


@pytest.fixture(scope="session")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Three members that answer at once."""
    members = {"alpha": {}, "beta": {}, "gamma": {}}
    with running(write_deployment(tmp_path_factory.mktemp("steady"), members, server=WITH_HTTP)) as live:
        yield live
