# SPDX-License-Identifier: Apache-2.0
"""A deployment whose retriever is rolled out."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.deployment import write_deployment
from support.retriever_rollout import of_retriever
from support.serving_files import Files, parse_once

from quorum.deployment import Deployment, load_deployment
from quorum.repository.render import render
from quorum.repository.store import Store
from quorum.rollout.channels import Rollout


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    parse_once(monkeypatch)


@pytest.fixture
def spec(tmp_path: Path) -> Deployment:
    spec = load_deployment(write_deployment(tmp_path / "deployment", {"alpha": {}, "beta": {}}))
    render(spec)
    return spec


@pytest.fixture
def server(spec: Deployment) -> Files:
    return Files(Store(spec.repository_path))


@pytest.fixture
def rollout(spec: Deployment, server: Files) -> Rollout:
    return of_retriever(spec, server)
