# SPDX-License-Identifier: Apache-2.0
"""What `quorum status` says of a fleet whose servers do not answer."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from support.command import quorum
from support.deployment import write_deployment
from support.retrievers import publish_by_hand

from quorum.deployment import Deployment, load_deployment
from quorum.operations.status import ChannelStatus, FleetStatus, status
from quorum_contract import RECOMMEND, RECOMMEND_CANARY

NOWHERE = "127.0.0.1:1"


@pytest.fixture
def spec(tmp_path: Path) -> Deployment:
    spec = load_deployment(write_deployment(tmp_path, {"alpha": {}}, fleet=[{"grpc": NOWHERE}]))
    publish_by_hand(spec, [1], 1, 1)
    return spec


def test_the_channels_of_a_retriever_count_on_each_server(spec: Deployment) -> None:
    report = status(spec)
    assert isinstance(report, FleetStatus)
    server = report.servers[NOWHERE]
    assert server.retriever is not None
    assert {c: (s.pinned, s.answers) for c, s in server.retriever.channels.items()} == {
        RECOMMEND: (1, False),
        RECOMMEND_CANARY: (1, False),
    }
    answering = ChannelStatus(1, True, 1)
    votes = dataclasses.replace(server, channels=dict.fromkeys(server.channels, answering))
    assert not FleetStatus({NOWHERE: votes}).all_answer
    both = dataclasses.replace(server.retriever, channels=dict.fromkeys(server.retriever.channels, answering))
    assert FleetStatus({NOWHERE: dataclasses.replace(votes, retriever=both)}).all_answer


def test_a_fleet_can_be_read_in_a_narrow_terminal(spec: Deployment) -> None:
    shown = quorum(spec.root, "status", code=1, COLUMNS="40")[0].splitlines()
    assert shown[0] == NOWHERE
    assert [line.split(":")[0].strip() for line in shown[1:]] == [
        "quorum", "quorum_canary", RECOMMEND, RECOMMEND_CANARY, "loaded", "repository",
    ]  # fmt: skip
    assert shown[1].startswith("  quorum: no ")
    assert shown[-1] == f"  repository: {spec.repository_path}"


def test_it_has_the_channels_of_a_retriever(spec: Deployment) -> None:
    told = json.loads(quorum(spec.root, "status", "--json", code=1)[0])
    assert [*told["fleet"][NOWHERE]["retriever"]["channels"]] == [RECOMMEND, RECOMMEND_CANARY]
    assert RECOMMEND in quorum(spec.root, "status", code=1)[0]
