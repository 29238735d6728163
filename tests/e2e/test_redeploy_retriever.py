# SPDX-License-Identifier: Apache-2.0
"""Versions of the retriever go live on a real server under load, by commands, and no request fails."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
import pytest
from support import crashing
from support.command import quorum, quorum_json, up
from support.deployment import ATTRIBUTES, title, write_deployment
from support.retrievers import WORDS, Encoder, write_version

from quorum.deployment import Deployment, load_deployment
from quorum.files import hash_file
from quorum.operations.rollout import end_canary, history, promote, publish, rollback
from quorum.repository.render import difference
from quorum.repository.store import Store
from quorum.retrieval.manifest import (
    ENCODER_FILE,
    ManifestError,
    read_retriever,
    read_student,
    write_manifest,
)
from quorum.rollout.channels import RolloutError
from quorum.server.runfile import find_running
from quorum_client import Client, QuorumError
from quorum_contract import RECOMMEND, RECOMMEND_CANARY, RETRIEVER

pytestmark = pytest.mark.skipif(not find_spec("onnx"), reason="needs onnx: run `make setup-tune`")

KEYPHRASES: dict[str, list[str]] = {f"{a} {b}": [] for a in WORDS for b in WORDS if a < b}
_PAUSE_S = 0.04
ITEM, K = "red leather shoe for women", 10
ENCODERS = {version: Encoder(version) for version in (1, 2, 3)}


def best(version: int, text: str = ITEM, k: int = K) -> list[str]:
    """What a version recommends, reckoned without it."""
    scores = ENCODERS[version].keyphrases([*KEYPHRASES]) @ ENCODERS[version].items([text])[0]
    order = np.argsort(-scores, kind="stable")[:k]
    return [[*KEYPHRASES][row] for row in order]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment served by `quorum up`, and folders of versions beside it."""
    folder = tmp_path_factory.mktemp("desk")
    usual = [
        {
            "product": f"p{p}",
            "title": title(p),
            "attribute": a,
            "gold": [],
            "votes": {"alpha": "x", "beta": "x"},
        }
        for p in range(4)
        for a in ATTRIBUTES
    ]
    path = write_deployment(folder, {"alpha": {}, "beta": {}}, rows=usual)
    for version, encoder in ENCODERS.items():
        write_version(folder / f"of-{version}", KEYPHRASES, encoder)
    with up(folder):
        yield load_deployment(path)


class Load:
    """Calls of both kinds in threads, one after another, until it ends."""

    def __init__(self, url: str) -> None:
        self.failures: list[str] = []
        self.answers: list[tuple[str, int, list[str]]] = []
        self.decided = 0
        self._client = Client(url, timeout_s=20, retries=False)
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._add(self._decide)

    def add(self, channel: str) -> None:
        """Ask a channel of the retriever too."""
        self._add(lambda: self._recommend(channel))

    def _add(self, ask: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=self._call, args=(ask,)))
        self._threads[-1].start()

    def _call(self, ask: Callable[[], None]) -> None:
        # Not as fast as it can: the commands need the CPU.
        while not self._ended.wait(_PAUSE_S):
            try:
                ask()
            except QuorumError as error:
                self.failures.append(f"{type(error).__name__}: {error}")

    def _decide(self) -> None:
        assert self._client.extract(title(0), [*ATTRIBUTES])["brand"].value == "x"
        self.decided += 1

    def _recommend(self, channel: str) -> None:
        found = self._client.recommend(ITEM, K, channel=channel)
        self.answers.append((channel, found.version, [keyphrase.text for keyphrase in found.keyphrases]))

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(60)
        self._client.close()


def url_of(spec: Deployment) -> str:
    running = find_running(spec)
    assert running is not None
    return running.endpoint.grpc_url


def kill(spec: Deployment, folder: Path, step: str) -> None:
    """Publish a folder in a process that kills itself at a step."""
    running = find_running(spec)
    assert running is not None
    key = running.endpoint.admin_key
    process = crashing.start(spec.path, running.endpoint.grpc_url, key, "publish", folder, step)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.timeout(300)
def test_versions_go_live_under_load_and_fail_nobody(desk: Deployment) -> None:
    folder, store = desk.root, Store(desk.repository_path)
    before = store.state()
    load = Load(url_of(desk))
    try:
        # A process that dies while the channels begin: the next command takes it back, and begins anew.
        kill(desk, folder / "of-1", "after load")
        done = quorum_json(folder, "publish", folder / "of-1")
        assert (done["version"], done["first"], done["model"]) == (1, True, RETRIEVER)
        load.add(RECOMMEND)
        load.add(RECOMMEND_CANARY)
        assert quorum_json(folder, "publish", folder / "of-2")["version"] == 2
        kill(desk, folder / "of-3", "before log")
        _, said = quorum(folder, "canary", "2", "--retriever", "--share", "5%")
        assert "quorum_recommend_canary answers with version 2 (before: 1); 5 % of the items are" in said
        with Client(url_of(desk), canary_share="served") as client:
            routed = {client.recommend(ITEM, 1, item_id=f"i{n}").channel for n in range(100)}
        assert routed == {RECOMMEND, RECOMMEND_CANARY}
        for _ in range(3):
            assert promote(desk, 2, retriever=True).before == 1
            assert rollback(desk, retriever=True).version == 1
        _, said = quorum(folder, "promote", "2", "--retriever")
        assert "quorum_recommend answers with version 2 (before: 1)" in said
        end_canary(desk, retriever=True)
        assert quorum_json(folder, "retire", "1", "--retriever")["model"] == RETRIEVER
        assert publish(desk, store.version_folder(RETRIEVER, 1)).version == 3
    finally:
        load.end()
    assert load.failures == []
    assert len(load.answers) >= 25
    assert load.decided >= 25
    assert {version for _, version, _ in load.answers} == {1, 2}
    expected = {version: best(version) for version in (1, 2)}
    assert [(v, found) for _, v, found in load.answers if found != expected[v]] == []
    state = store.state()
    assert (state.versions, state.pins) == (before.versions, before.pins)
    assert difference(desk).is_clean
    assert "retriever 2" in quorum(folder, "history")[0]
    undone = [event for event in history(desk) if event.outcome.startswith("undone")]
    assert [(event.model, event.version) for event in undone] == [(RETRIEVER, 1), (RETRIEVER, 3)]


STRIDE = 1 if os.environ.get("QUORUM_LONG") else 11


@pytest.mark.timeout(300)
def test_a_publish_killed_before_any_file_operation_is_made_by_the_next(desk: Deployment) -> None:
    """The running version answers meanwhile; no channel, and no list of versions, has half of the new one."""
    store, folder = Store(desk.repository_path), desk.root / "of-3"
    if store.state().retriever is None:
        publish(desk, desk.root / "of-1")
    running = find_running(desk)
    assert running is not None
    operation, died = 0, True
    while died:
        before = store.state().retriever
        assert before is not None
        stable = before.pins[RECOMMEND]
        step = f"{crashing.OPERATION}{operation}"
        process = crashing.start(
            desk.path, running.endpoint.grpc_url, running.endpoint.admin_key, "publish", folder, step
        )
        process.join(60)
        assert process.exitcode in (0, -signal.SIGKILL)
        died = process.exitcode != 0
        with Client(url_of(desk)) as client:
            assert client.recommend(ITEM, 1).version == stable, operation
        found = quorum_json(desk.root, "status")["retriever"]
        assert {*map(int, found["versions"])} >= {*before.versions}, operation
        change = publish(desk, folder)
        now = store.state().retriever
        assert now is not None
        assert now.pins == before.pins
        assert {*now.versions} - {*before.versions} == {change.version}, operation
        assert difference(desk).is_clean
        hidden = {path.name for path in desk.repository_path.rglob(".*")} - {".gitkeep", ".rollout.lock"}
        assert hidden == set(), operation
        assert promote(desk, change.version, retriever=True).before == stable
        with Client(url_of(desk)) as client:
            assert [one.text for one in client.recommend(ITEM, K).keyphrases] == best(3)
        rollback(desk, retriever=True)
        quorum(desk.root, "retire", str(change.version), "--retriever")
        operation += STRIDE
    assert operation > 15


def test_a_version_that_does_not_open_leaves_the_running_one_answering(
    desk: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are those that its manifest names; only the encoder cannot be computed."""
    bad = write_version(desk.root / "bad", KEYPHRASES, ENCODERS[3])
    (bad / ENCODER_FILE).write_bytes(b"no network")
    name = hash_file(bad / ENCODER_FILE)
    student = read_student(bad)
    write_manifest(bad, msgspec.structs.replace(student, files={**student.files, ENCODER_FILE: name}))
    found = read_retriever(bad)
    files = {one: hash_file(bad / one) for one in found.files}
    write_manifest(bad, msgspec.structs.replace(found, student=name, files=files))
    before = Store(desk.repository_path).state()
    with pytest.raises(ManifestError, match="holds no encoder that can be read"):
        publish(desk, bad)
    # As on a machine where it can be read, and not on the server's.
    monkeypatch.setattr("quorum.rollout.retriever.check_vectors", lambda *_: None)
    with pytest.raises(RolloutError, match=r"(?s)was undone: .*serving as before: quorum_recommend 2"):
        publish(desk, bad)
    assert Store(desk.repository_path).state() == before
    with Client(url_of(desk)) as client:
        assert client.recommend(ITEM, 1).version == 2
