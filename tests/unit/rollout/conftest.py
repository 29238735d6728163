# SPDX-License-Identifier: Apache-2.0
"""A deployment of three members, a server on its repository, and the rollout between them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.deployment import write_deployment
from support.loading_server import Server

from quorum.deployment import Deployment, load_deployment
from quorum.repository.render import render
from quorum.repository.store import Store
from quorum.rollout.channels import Rollout


@pytest.fixture
def spec(tmp_path: Path) -> Deployment:
    spec = load_deployment(write_deployment(tmp_path, {"alpha": {}, "beta": {}, "gamma": {}}))
    render(spec)
    return spec


@pytest.fixture
def server(spec: Deployment) -> Server:
    return Server(Store(spec.repository_path))


@pytest.fixture
def rollout(spec: Deployment, server: Server) -> Rollout:
    return Rollout(spec, server, server.probe)
