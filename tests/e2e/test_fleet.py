# SPDX-License-Identifier: Apache-2.0
"""Two real servers as one: changed one at a time, put back at the first failure; and who runs what."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.command import quorum, quorum_json
from support.rollout import trusting, write_split

from quorum.decision import weights as weights_file
from quorum.deployment import load_deployment
from quorum.repository.history import History
from quorum.repository.render import render
from quorum.repository.store import Store
from quorum.server.probe import probe_channel
from quorum.server.supervise import wait_channels
from quorum.server.triton import TritonServer
from quorum_contract import CANARY, STABLE

KEY = "the fleet's key"


@dataclass
class Servers:
    """Two servers, a ``deploy.yaml`` that names them, and the command line."""

    folder: Path
    servers: list[TritonServer]

    @property
    def urls(self) -> list[str]:
        return [server.endpoint.grpc_url for server in self.servers]

    def stores(self) -> list[Store]:
        return [Store(path) for path in dict.fromkeys(server.repository for server in self.servers)]

    def quorum(self, *arguments: str | Path, code: int = 0) -> str:
        return "".join(quorum(self.folder, *arguments, code=code, QUORUM_ADMIN_KEY=KEY))

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        return quorum_json(self.folder, *arguments, code=code, QUORUM_ADMIN_KEY=KEY)

    def answers(self) -> list[int]:
        spec = load_deployment(self.folder / "deploy.yaml")
        return [probe_channel(spec, url, STABLE) for url in self.urls]

    def new_weights(self, member: str) -> Path:
        path = self.folder / f"{member}.json"
        catalogue = load_deployment(self.folder / "deploy.yaml").catalogue().hashes
        path.write_text(weights_file.dumps(trusting(catalogue, member)), encoding="utf-8")
        return path

    def kill(self, number: int) -> None:
        os.kill(self.servers[number].pid or 0, signal.SIGKILL)
        self.servers[number].stop(drain_s=0)


def start_two(folder: Path, own: bool) -> Servers:
    deploy = write_split(folder)
    spec = load_deployment(deploy)
    render(spec)
    repositories = [folder / "model_repository"] * 2
    if own:
        repositories[1] = folder / "west"
        shutil.copytree(repositories[0], repositories[1])
    servers = [
        TritonServer(spec, repository=repository, log_path=folder / f"server-{number}.log")
        for number, repository in enumerate(repositories)
    ]
    fleet = [{"grpc": s.endpoint.grpc_url, "repository": str(s.repository)} for s in servers]
    data = yaml.safe_load(deploy.read_text("utf-8")) | {"fleet": fleet}
    deploy.write_text(yaml.safe_dump(data), encoding="utf-8")
    return Servers(folder, servers)


@pytest.fixture(scope="module", params=["shared repository", "repositories of their own"])
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """For both tests: the second kills a server."""
    with pytest.MonkeyPatch.context() as environment, ExitStack() as stack:
        environment.setenv("QUORUM_ADMIN_KEY", KEY)
        two = start_two(tmp_path_factory.mktemp("fleet"), own=request.param != "shared repository")
        for server in two.servers:
            stack.callback(server.stop, drain_s=0)
            server.start()
        for server in two.servers:
            wait_channels(server, 90)
        yield two


def test_what_looks_like_errors_of_a_healthy_start_is_explained(two: Servers) -> None:
    first, *lines = two.servers[0].log_path.read_text("utf-8").splitlines()
    for line in (line for line in lines if re.match(r"E\d{4} ", line)):
        explained = [part for part in first.split('"')[1::2] if part in line]
        assert explained, line


def test_the_server_that_cannot_load_is_put_back(two: Servers) -> None:
    """Alive, but it cannot load: its Python environment was taken away under it."""
    two.json("publish", two.new_weights("alpha"))
    second = two.servers[1]
    assert second._scratch is not None
    backend = second._scratch / "quorum_vote" / "model.py"
    code = backend.read_text("utf-8")
    backend.write_text("raise RuntimeError('the disk of this host is broken')\n", encoding="utf-8")
    failed = two.quorum("publish", two.new_weights("beta"), code=1)
    assert "the disk of this host is broken" in failed
    assert two.urls[1] in failed
    assert two.answers() == [1, 1]
    listed = [list(store.state().versions) for store in two.stores()]
    assert listed == ([[1, 2]] if len(listed) == 1 else [[1, 2, 3], [1, 2]])
    last = [list(History(store.path).events())[-1].outcome[:6] for store in two.stores()]
    assert last == (["undone"] if len(listed) == 1 else ["done", "undone"])
    backend.write_text(code, encoding="utf-8")
    assert two.json("publish", two.folder / "beta.json")["version"] == 3
    assert two.json("promote", "3")["before"] == 1
    assert two.answers() == [3, 3]


def test_a_fleet_changes_as_one_and_stops_at_the_first_failure(two: Servers) -> None:
    shared = len(two.stores()) == 1
    before = two.answers()
    assert before[0] == before[1]
    published = two.json("publish", two.new_weights("gamma"))["version"]
    assert two.json("promote", str(published))["before"] == before[0]
    assert two.answers() == [published, published]
    status = two.json("status")["fleet"]
    assert list(status) == two.urls
    for server in status.values():
        assert server["loaded"] == [1, 2, 3, published]
        assert server["channels"][STABLE] == {"pinned": published, "answers": True, "version": published}
        assert server["channels"][CANARY]["version"] == 1
    shown = two.quorum("status").splitlines()
    assert set(two.urls) <= {*shown}
    assert shown.count(f"  {STABLE}: {published}") == 2

    two.kill(1)
    refused = two.quorum("promote", "2", code=1)
    assert two.urls[1] in refused
    assert "no server answers" in refused
    assert shared or "nothing was changed" in refused
    assert probe_channel(load_deployment(two.folder / "deploy.yaml"), two.urls[0], STABLE) == published
    assert {store.state().pins[STABLE] for store in two.stores()} == {published}
    status = two.json("status", code=1)["fleet"]
    assert status[two.urls[0]]["channels"][STABLE]["answers"]
    assert not status[two.urls[1]]["channels"][STABLE]["answers"]
    assert "no server answers" in status[two.urls[1]]["reason"]
