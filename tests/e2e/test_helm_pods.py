# SPDX-License-Identifier: Apache-2.0
"""Commands, variables, mounts and probes of the chart's pods work as processes here, with QUORUM_LONG=1."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.helm import kind, manifests
from support.pod import Network, Pod, needed_rights
from support.supervised import until

pytestmark = pytest.mark.skipif(
    not os.environ.get("QUORUM_LONG"), reason="starts the demo's LLMs: QUORUM_LONG=1"
)
TEXT = "Velmora trail running shoes, navy, for men"
START_S = 300


@pytest.fixture
def network() -> Iterator[Network]:
    needed_rights()
    network = Network()
    yield network
    network.close()


def test_a_server_with_a_key_starts_answers_and_stops(network: Network, tmp_path: Path) -> None:
    found, key = manifests("key"), secrets.token_hex(24)
    (workload,) = kind(found, "StatefulSet")
    given = {
        ("quorum-admin", "admin-key"): secrets.token_hex(24),
        ("quorum-inference", "inference-key"): key,
    }
    pod = Pod(network, tmp_path / "pod", found, workload, given)
    try:
        for container in pod.spec["initContainers"]:
            done = pod.run(container)
            assert done.returncode == 0, done.stderr
        (server,) = pod.spec["containers"]
        assert not pod.probe(server, "startupProbe")
        process = pod.start(server)

        def passes(probe: str) -> bool:
            assert process.poll() is None, pod.log
            return pod.probe(server, probe)

        until(lambda: passes("startupProbe"), START_S)
        until(lambda: passes("readinessProbe"), START_S)
        assert pod.probe(server, "livenessProbe")
        asked = ["quorum", "ask", TEXT, "--attributes", "color,gender", "--json", "--url", "127.0.0.1:8001"]
        done = pod.run(server, asked)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)
        refused = pod.run(server, ["env", "QUORUM_INFERENCE_KEY=wrong-and-long-enough", *asked])
        assert refused.returncode != 0
        assert "key" in refused.stderr
        done = pod.run(server, ["quorum", "status", "--json"])
        assert done.returncode == 0, done.stderr
        written = pod.run(server, ["sh", "-c", "echo x > /srv/quorum/x || echo x > /x || echo x > /usr/x"])
        assert written.returncode != 0
        assert written.stderr.count("Read-only file system") == 3
        assert pod.stop(process) == 0, pod.log
    finally:
        pod.close()
