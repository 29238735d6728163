# SPDX-License-Identifier: Apache-2.0
"""What a user reads when a rollout is refused: what is wrong, where, and what to do next."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from support.command import quorum, quorum_json
from support.deployment import Live, running, title
from support.rollout import MEMBERS, trusting, write_split

from quorum.decision import weights as weights_file
from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights
from quorum.repository.store import Store
from quorum.server.probe import probe_channel
from quorum_client import Client
from quorum_contract import CANARY, STABLE

KEY = "the key"
TMPFS_KIB = 1024
LONG = bool(os.environ.get("QUORUM_LONG"))


@dataclass
class Desk:
    """A server, and the command line of somebody who has the key."""

    folder: Path
    live: Live

    def refused(self, *arguments: str | Path, key: str = KEY) -> str:
        _, err = quorum(self.folder, *arguments, code=1, QUORUM_ADMIN_KEY=key)
        return re.sub(r"\s+", " ", err)

    def done(self, *arguments: str | Path) -> dict[str, object]:
        found: dict[str, object] = quorum_json(self.folder, *arguments, QUORUM_ADMIN_KEY=KEY)
        return found

    def edit(self, **changes: object) -> None:
        path = self.folder / "deploy.yaml"
        data = yaml.safe_load(path.read_text("utf-8")) | changes
        path.write_text(yaml.safe_dump(data), encoding="utf-8")

    def weights(self, member: str = "alpha") -> Path:
        return self.write(trusting(self.live.spec.catalogue().hashes, member))

    def write(self, weights: Weights) -> Path:
        path = self.folder / "new.json"
        weights_file.dump(weights, path)
        return path

    def pins(self) -> dict[str, int]:
        url = self.live.url
        return {channel: probe_channel(self.live.spec, url, channel) for channel in (STABLE, CANARY)}


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    deploy = write_split(folder)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("QUORUM_ADMIN_KEY", KEY)
        with running(deploy) as live:
            desk = Desk(folder, live)
            desk.edit(fleet=[{"grpc": live.url}])
            yield desk


@pytest.fixture
def desk(office: Desk) -> Iterator[Desk]:
    yield office
    assert office.pins() == Store(office.live.server.repository).state().pins


def test_refusals_say_what_where_and_what_next(desk: Desk) -> None:
    folder = desk.folder
    others = desk.write(Weights("majority", ("alpha", "delta"), Parameters((1.0, 1.0))))
    said = desk.refused("publish", others)
    assert "weights are for the members ['alpha', 'delta']" in said
    assert "the deployment has ['alpha', 'beta', 'gamma']" in said
    assert "learn weights from votes of these members" in said

    assert desk.done("publish", desk.weights())["version"] == 2
    said = desk.refused("retire", "1")
    assert "version 1 cannot be retired: quorum and quorum_canary answer with it" in said
    assert "promote another version first, or end the canary (`quorum canary off`)" in said
    assert "there is no version 9 to promote; published are: 1, 2" in desk.refused("promote", "9")

    said = desk.refused("promote", "2", key="a guess")
    assert f"{desk.live.url} refuses this admin key; set QUORUM_ADMIN_KEY" in said
    assert desk.pins() == {STABLE: 1, CANARY: 1}

    desk.edit(fleet=[{"grpc": "127.0.0.1:9"}])
    said = desk.refused("promote", "2")
    assert "no server answers at 127.0.0.1:9; start it with `quorum up`" in said
    desk.edit(fleet=[{"grpc": desk.live.url}])

    desk.edit(gate={"max_in_flight": 7})
    said = desk.refused("promote", "2")
    assert f"{folder / 'model_repository'} differs from" in said
    assert "(quorum_gate/config.pbtxt)" in said
    assert "stop the server, run `quorum render`, start it again" in said
    quorum(folder, "render")
    said = desk.refused("promote", "2")
    assert "was rendered anew since the server started (quorum_gate): restart the server" in said
    desk.edit(gate={})
    quorum(folder, "render")
    assert desk.done("promote", "2")["before"] == 1


def test_weights_that_are_worse_are_refused_without_a_reason(desk: Desk) -> None:
    rows = [
        {
            "product": f"p{p}", "category": "", "title": f"product {p}", "attribute": "color",
            "gold": ["red"], "votes": {"alpha": "red", "beta": "blue" if p % 3 else "red", "gamma": "green"},
        }
        for p in range(60)
    ]  # fmt: skip
    (desk.folder / "heldout.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    desk.edit(rollout={"heldout": "heldout.jsonl"})
    running = desk.done("publish", desk.weights("alpha"))["version"]
    assert isinstance(running, int)
    desk.done("promote", str(running))
    worse = desk.weights("beta")
    said = desk.refused("publish", worse)
    assert "not published: 33.3% right against 100.0% of the running version, difference -66.7 points" in said
    assert "60 gold labels" in said
    assert "--force" in said
    forced = desk.done("publish", worse, "--force", "a rehearsal")
    assert forced["version"] == running + 1
    assert desk.done("history")[-1]["reason"] == "a rehearsal"  # type: ignore[index]

    # As good over all, and worse on one attribute: refused, or that one is kept.
    rows = [
        {
            "product": f"p{p}",
            "attribute": name,
            "gold": ["x"],
            "votes": dict.fromkeys(MEMBERS, "y") | {own: "x"},
        }
        for p in range(40)
        for name, own in (("brand", "alpha"), ("color", "beta"))
    ]
    (desk.folder / "heldout.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    desk.edit(rollout={"heldout": "heldout.jsonl", "guard": "per_attribute"})
    said = desk.refused("publish", worse)
    assert "not published: worse than the running version on brand (-100.0 points [" in said
    assert "(`--keep brand`)" in said
    assert "no attribute 'brnd' to keep; there are: brand, color" in desk.refused(
        "publish", worse, "--keep", "brnd"
    )
    kept = desk.done("publish", worse, "--keep", "brand")
    assert (kept["version"], kept["kept"]) == (running + 2, ["brand"])
    desk.done("canary", str(running + 2))
    with Client(desk.live.url) as client:
        found = client.extract(title(0), ["brand", "color"], channel=CANARY)
    assert [answer.value for answer in found.answers] == ["alpha's", "beta's"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    if os.geteuid():
        pytest.skip("mounting a small tmpfs takes root")
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_KIB}k", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_changes_nothing_and_is_named(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUORUM_ADMIN_KEY", KEY)
    repository = small_disk / "model_repository"
    deploy = write_split(tmp_path, repository=str(repository))
    with running(deploy) as live:
        desk = Desk(tmp_path, live)
        desk.edit(fleet=[{"grpc": live.url}])
        for version, left in enumerate((0, 1, 2) if LONG else (0, 2), start=2):
            before, stored = desk.pins(), Store(repository).state().versions
            fill(small_disk, left)
            said = desk.refused("publish", desk.weights())
            assert "No space left on device" in said
            assert desk.pins() == before
            (small_disk / "filler").unlink()
            assert Store(repository).state().versions == stored
            assert desk.done("publish", desk.weights())["version"] == version
            assert desk.done("promote", str(version))["before"] == before[STABLE]


def fill(disk: Path, pages: int) -> None:
    """Leave room for so many pages of 4 KiB."""
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            size = file.tell()
        file.truncate(max(0, size // 4096 - pages) * 4096)
