# SPDX-License-Identifier: Apache-2.0
"""Commands, variables, mounts and probes of the chart's pods work as processes here, with QUORUM_LONG=1."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.command import quorum
from support.helm import Manifest, deploy_file, kind, manifests
from support.pod import Network, Pod, needed_rights
from support.supervised import until

pytestmark = pytest.mark.skipif(
    not os.environ.get("QUORUM_LONG"), reason="starts the demo's LLMs: QUORUM_LONG=1"
)
ASK = [
    "quorum",
    "ask",
    "Velmora trail running shoes, navy, for men",
    "--attributes",
    "color,gender",
    "--json",
]
START_S = 300


@pytest.fixture
def network() -> Iterator[Network]:
    needed_rights()
    network = Network()
    yield network
    network.close()


class Running:
    """The one container of a pod that runs."""

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        for container in pod.spec.get("initContainers", []):
            done = pod.run(container)
            assert done.returncode == 0, done.stderr
        (self.container,) = pod.spec["containers"]
        assert not self.passes("startupProbe")
        self.process = pod.start(self.container)

    def passes(self, probe: str) -> bool:
        """Do a probe once."""
        return self.pod.probe(self.container, probe)

    def wait(self, probe: str) -> None:
        """Wait until a probe passes."""

        def passes() -> bool:
            assert self.process.poll() is None, self.pod.log
            return self.passes(probe)

        until(passes, START_S)

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container."""
        given = [f"{name}={value}" for name, value in variables.items()]
        return self.pod.run(self.container, ["env", *given, *words])

    def stop(self) -> None:
        """Stop in order, in the time that the pod has."""
        assert self.pod.stop(self.process) == 0, self.pod.log


def _pods(
    network: Network, folder: Path, stack: ExitStack, given: dict[tuple[str, str], str]
) -> Callable[[list[Manifest], str], Pod]:
    def make(found: list[Manifest], what: str) -> Pod:
        (workload,) = kind(found, what)
        return stack.enter_context(closing(Pod(network, folder / what, found, workload, given)))

    return make


def test_a_server_with_a_key_starts_answers_and_stops(network: Network, tmp_path: Path) -> None:
    given = {
        ("quorum-admin", "admin-key"): secrets.token_hex(24),
        ("quorum-inference", "inference-key"): secrets.token_hex(24),
    }
    with ExitStack() as stack:
        server = Running(_pods(network, tmp_path, stack, given)(manifests("key"), "StatefulSet"))
        server.wait("startupProbe")
        server.wait("readinessProbe")
        assert server.passes("livenessProbe")
        outside = [*ASK, "--url", "127.0.0.1:8001"]
        done = server.run(*outside)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)
        refused = server.run(*outside, QUORUM_INFERENCE_KEY="wrong-and-long-enough")
        assert refused.returncode != 0
        assert "key" in refused.stderr
        done = server.run("quorum", "status", "--json")
        assert done.returncode == 0, done.stderr
        written = server.run("sh", "-c", "echo x > /srv/quorum/x || echo x > /x || echo x > /usr/x")
        assert written.returncode != 0
        assert written.stderr.count("Read-only file system") == 3
        server.stop()


@pytest.mark.parametrize("name", ["demo", "grpc-only"])
def test_a_gateway_is_ready_with_its_server_and_passes_questions_on(
    name: str, network: Network, tmp_path: Path
) -> None:
    found = manifests(name)
    spec: dict[str, Any] = yaml.safe_load(deploy_file(found))
    folder = tmp_path / "operator"
    (folder / "keys").mkdir(parents=True)
    (folder / "deploy.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    key = quorum(folder, "gateway", "keys", "add", "shop")[0].strip()
    given = {
        ("quorum-admin", "admin-key"): secrets.token_hex(24),
        ("quorum-gateway-keys", "keys.json"): (folder / "keys" / "keys.json").read_text(),
    }
    with ExitStack() as stack:
        make = _pods(network, tmp_path, stack, given)
        gateway = Running(make(found, "Deployment"))
        gateway.wait("startupProbe")
        assert gateway.passes("livenessProbe")
        assert not gateway.passes("readinessProbe")
        server = Running(make(found, "StatefulSet"))
        server.wait("readinessProbe")
        gateway.wait("readinessProbe")
        outside = [*ASK, "--url", f"127.0.0.1:{spec['gateway']['grpc_port']}"]
        done = gateway.run(*outside, QUORUM_INFERENCE_KEY=key)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)
        assert gateway.run(*outside, QUORUM_INFERENCE_KEY="wrong-and-long-enough").returncode != 0
        gateway.stop()
        server.stop()
