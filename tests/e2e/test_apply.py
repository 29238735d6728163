# SPDX-License-Identifier: Apache-2.0
"""`quorum apply` on a real server under load: no request fails, and each is answered by one configuration."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import command
from support.deployment import START_S, Live, running, title, write_deployment, write_jsonl

import quorum
from quorum.deployment import load_deployment
from quorum.repository.history import History
from quorum.repository.loaded import models_in
from quorum.rollout.apply import Applying, Wanted
from quorum.rollout.apply_journal import APPLY_FILE
from quorum.rollout.lock import RolloutError
from quorum.server.probe import probe_decision
from quorum.server.runfile import leave_note
from quorum.server.supervise import running_of, wait_channels
from quorum_client import AsyncClient, Extraction

CALLERS, PAUSE_S = 10, 0.2
TRIES = 5
LONG = bool(os.environ.get("QUORUM_LONG"))
STAGES = ("load", "over", "steps", "back", "clean")
MEMBERS = ("alpha", "beta", "gamma", "delta", "epsilon", *(f"killed-{stage}" for stage in STAGES))
ASKED = ("color", "material")
SPELLINGS = {"values": ["blue", "red"], "synonyms": {"navy": "blue"}}


Edit = Callable[[dict[str, Any]], object]


def rows() -> list[dict[str, Any]]:
    """Every member says navy: as the catalogue has it, that is navy or blue."""
    return [
        {
            "product": f"p{p}",
            "category": "",
            "title": title(p),
            "attribute": attribute,
            "gold": [],
            "votes": dict.fromkeys(MEMBERS, "navy" if attribute == "color" else "cotton"),
        }
        for p in range(24)
        for attribute in ASKED
    ]


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("apply")
    members = {name: {} for name in MEMBERS[:1]}
    return write_deployment(folder, members, rows=rows(), attributes={"color": {}})


@pytest.fixture(scope="module")
def live(deploy: Path) -> Iterator[Live]:
    with running(deploy) as live:
        yield live


def edit(deploy: Path, change: Edit) -> None:
    """Change ``deploy.yaml``."""
    spec = yaml.safe_load(deploy.read_text("utf-8"))
    change(spec)
    deploy.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")


def applying(deploy: Path, live: Live) -> Applying:
    spec = load_deployment(deploy)
    return Applying(Wanted(spec), live.control, lambda channel: probe_decision(spec, live.url, channel))


def with_member(name: str, votes: str = "votes.jsonl") -> Edit:
    member = {"name": name, "runtime": "replay", "options": {"votes": votes}}
    return lambda spec: spec["members"].append(member)


def without_member(name: str) -> Edit:
    def remove(spec: dict[str, Any]) -> None:
        spec["members"] = [member for member in spec["members"] if member["name"] != name]

    return remove


Shape = tuple[int, tuple[str, ...], tuple[str | None, ...]]
"""What tells a configuration: version, members, and how each spells the color."""


def shape(found: Extraction) -> Shape:
    votes = found.answers[0].votes
    return found.weights_version, tuple(v.member for v in votes), tuple(v.value for v in votes)


@dataclass
class Load:
    answers: list[tuple[float, float, Shape]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    def wait_for(self, more: int) -> None:
        wanted = len(self.answers) + more
        while len(self.answers) < wanted and not self.failures:
            time.sleep(0.005)


@contextmanager
def under_load(url: str) -> Iterator[Load]:
    """50 requests a second, half of each channel."""
    load, stop = Load(), threading.Event()

    async def caller(number: int) -> None:
        channel = ("quorum", "quorum_canary")[number % 2]
        async with AsyncClient(url, channel=channel, retries=False, timeout_s=60) as client:
            turn = number
            while not stop.is_set():
                turn += 1
                sent = time.monotonic()
                try:
                    found = await client.extract(title(turn % 24), ASKED)
                except Exception as error:
                    load.failures.append(error)
                    return
                load.answers.append((sent, time.monotonic(), shape(found)))
                await asyncio.sleep(PAUSE_S)

    async def everybody() -> None:
        await asyncio.gather(*map(caller, range(CALLERS)))

    thread = threading.Thread(target=lambda: asyncio.run(everybody()))
    thread.start()
    try:
        load.wait_for(CALLERS)
        yield load
        load.wait_for(2 * CALLERS)
    finally:
        stop.set()
        thread.join()


class Spans:
    """Which configurations were live, and when; a change is open from its call to its return."""

    def __init__(self, load: Load, first: Shape) -> None:
        self.load, self._spans = load, [(0.0, float("inf"), first)]

    def change(self, make: Callable[[], object], then: Shape) -> None:
        since = time.monotonic()
        make()
        start, _, old = self._spans[-1]
        self._spans[-1] = (start, time.monotonic(), old)
        self._spans.append((since, float("inf"), then))
        self.load.wait_for(2 * CALLERS)

    def check(self) -> None:
        """Nothing failed, and every answer is of a configuration that was live while it was made."""
        assert self.load.failures == []
        for sent, answered, found in self.load.answers:
            assert found in {live for start, end, live in self._spans if start <= answered and sent <= end}
        assert {found for _, _, found in self.load.answers} == {live for _, _, live in self._spans}


def of(version: int, members: tuple[str, ...], color: str = "navy") -> Shape:
    return version, members, (color,) * len(members)


REPLACED = ("alpha", "gamma")
CHANGES: list[tuple[Edit, Shape]] = [
    (with_member("beta"), of(2, ("alpha", "beta"))),
    (lambda spec: (without_member("beta")(spec), with_member("gamma")(spec)), of(3, REPLACED)),
    (lambda spec: spec["attributes"].update(material={}, color=SPELLINGS), of(3, REPLACED, "blue")),
    (lambda spec: spec.update(gate={"max_in_flight": 77}), of(3, REPLACED, "blue")),
    (without_member("gamma"), of(4, ("alpha",), "blue")),
]
LONG_CHANGES: list[tuple[Edit, Shape]] = [
    (lambda spec: spec["attributes"].update(color={}), of(4, ("alpha",))),
    (lambda spec: spec.update(lazy={}), of(4, ("alpha",))),
    (
        lambda spec: (with_member("delta")(spec), with_member("gamma")(spec)),
        of(5, ("alpha", "delta", "gamma")),
    ),
    (lambda spec: spec.update(vote={"min_members": 2, "grace_ms": 500}), of(5, ("alpha", "delta", "gamma"))),
    (lambda spec: spec["members"].reverse(), of(6, ("gamma", "delta", "alpha"))),
    (lambda spec: spec.pop("lazy"), of(6, ("gamma", "delta", "alpha"))),
]


def test_no_request_fails_and_each_is_answered_by_a_live_configuration(deploy: Path, live: Live) -> None:
    changes = CHANGES + LONG_CHANGES * LONG
    with under_load(live.url) as load:
        spans = Spans(load, of(1, ("alpha",)))
        for change, then in changes:
            edit(deploy, change)
            spans.change(lambda: applying(deploy, live).apply(), then)
        with pytest.raises(RolloutError, match=r"undone: .*does-not-exist"):
            edit(deploy, with_member("broken", "does-not-exist.jsonl"))
            applying(deploy, live).apply()
        load.wait_for(2 * CALLERS)
    spans.check()
    edit(deploy, without_member("broken"))
    assert applying(deploy, live).plan().is_empty
    ready = {model.name for model in live.control.index() if model.state == "READY"}
    assert ready == {*models_in(live.spec.repository_path, with_retriever=False)}
    done = [event.outcome == "done" for event in History(live.spec.repository_path).events()]
    assert done == [True] * (1 + len(changes)) + [False]


@pytest.mark.skipif(not LONG, reason="long form: another start of the server")
def test_a_restart_serves_what_was_applied(deploy: Path, live: Live) -> None:
    edit(deploy, with_member("epsilon"))
    applying(deploy, live).apply()
    live.server.end()
    live.server.start_again()
    wait_channels(live.server, START_S)
    assert live.ask(title(1), ASKED).members[-1] == "epsilon"


@pytest.fixture
def noted(deploy: Path, live: Live) -> Path:
    """The folder of the deployment, where commands find the server."""
    leave_note(live.spec, running_of(live.server, live.server.pid or 0))
    return deploy.parent


@pytest.mark.usefixtures("noted")
def test_members_that_all_fail_are_put_back(deploy: Path, live: Live) -> None:
    before = deploy.read_text("utf-8")
    options = {"base_url": "http://127.0.0.1:9/v1", "model": "none"}
    deaf = {"name": "deaf", "runtime": "openai", "options": options}
    edit(deploy, lambda spec: spec.update(members=[deaf]))
    with pytest.raises(RolloutError, match=r"undone: .* decides nothing: no member works: deaf ERROR"):
        quorum.apply(load_deployment(deploy))
    deploy.write_text(before, encoding="utf-8")
    assert applying(deploy, live).plan().is_empty
    assert live.ask(title(1), ASKED).members[0] == "alpha"


@pytest.mark.usefixtures("noted")
def test_a_change_of_the_gateway_is_remarked(deploy: Path) -> None:
    before = deploy.read_text("utf-8")
    edit(deploy, lambda spec: spec.update(gateway={"http_port": 0}))
    assert "gateway: its change takes a restart" in " ".join(quorum.apply(load_deployment(deploy)).remarks)
    deploy.write_text(before, encoding="utf-8")
    assert quorum.apply(load_deployment(deploy), dry_run=True).remarks == ()


@pytest.mark.usefixtures("noted")
def test_settings_of_the_server_are_refused(deploy: Path) -> None:
    edit(deploy, lambda spec: spec["server"].update(connection_age_s=100))
    with pytest.raises(RolloutError, match=r"server\.connection_age_s 600\.0 -> 100\.0"):
        quorum.apply(load_deployment(deploy), dry_run=True)
    edit(deploy, lambda spec: spec["server"].pop("connection_age_s"))
    assert all(plan.is_empty for plan in quorum.apply(load_deployment(deploy)).servers.values())


def test_the_command_shows_the_plan_and_applies_it(deploy: Path, live: Live, noted: Path) -> None:
    edit(deploy, lambda spec: spec.update(gate={"max_in_flight": 77}))
    applying(deploy, live).apply()
    edit(deploy, lambda spec: spec.update(gate={"max_in_flight": 78}))
    plan, _ = command.quorum(noted, "apply", "--dry-run")
    assert "gate.max_in_flight: 77 -> 78" in plan
    assert "loads: quorum_gate\n" in plan
    made, _ = command.quorum(noted, "apply")
    assert "gate.max_in_flight: 77 -> 78" in made
    _, said = command.quorum(noted, "apply")
    assert "serves deploy.yaml already" in said


def test_a_deployment_in_a_folder_of_links_is_applied_as_in_a_pod(
    deploy: Path, live: Live, tmp_path: Path
) -> None:
    for path in deploy.parent.glob("*"):
        (tmp_path / path.name).symlink_to(path)
    copy = tmp_path / "deploy.yaml"
    copy.unlink()
    copy.write_text(deploy.read_text("utf-8"), "utf-8")
    address = live.url.replace("127.0.0.1", "dns:localhost")
    edit(copy, lambda spec: spec.update(gate={"max_in_flight": 79}, fleet=[{"grpc": address}]))
    key = live.server.endpoint.admin_key
    made, _ = command.quorum(tmp_path, "apply", "--deploy", copy, QUORUM_ADMIN_KEY=key)
    assert "-> 79" in made
    edit(deploy, lambda spec: spec.update(gate={"max_in_flight": 79}))
    command.quorum(deploy.parent, "render", "--check")
    assert live.ask(title(1), ASKED).members


def test_extract_at_an_address_needs_no_deployment(live: Live, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", [{"id": str(p), "title": title(p)} for p in range(3)])
    asked = ("--url", live.url, "--attributes", "color", "--text", "title", "--out", "out.jsonl")
    command.quorum(tmp_path, "extract", "in.jsonl", *asked)
    assert len((tmp_path / "out.jsonl").read_text("utf-8").splitlines()) == 3


@pytest.mark.skipif(not LONG, reason="long form: a kill -9 at every stage takes minutes")
@pytest.mark.parametrize("stage", STAGES)
def test_a_kill_at_every_stage_fails_no_request(deploy: Path, live: Live, noted: Path, stage: str) -> None:
    name = f"killed-{stage}"
    with under_load(live.url) as load:
        edit(deploy, with_member(name))
        for _ in range(TRIES):
            if kill_at(stage, noted, live):
                break
            # The stage was too short to be seen: once more.
            edit(deploy, without_member(name))
            command.quorum(noted, "apply")
            edit(deploy, with_member(name))
        else:
            pytest.fail(f"no kill in stage {stage}, {TRIES} times")
        if (live.spec.repository_path / APPLY_FILE).exists():
            assert "apply" in command.quorum(noted, "status")[1]
        command.quorum(noted, "apply")
        load.wait_for(2 * CALLERS)
    assert load.failures == []
    assert live.ask(title(1), ASKED).members[-1] == name
    assert applying(deploy, live).plan().is_empty


def kill_at(stage: str, folder: Path, live: Live) -> bool:
    """Run an apply and kill it in a stage; whether it died of that."""
    journal = live.spec.repository_path / APPLY_FILE
    process = command.start(folder, "apply")
    while process.poll() is None:
        with suppress(OSError):
            if f'"stage": "{stage}"' in journal.read_text("utf-8"):
                process.kill()
                break
    process.communicate()
    return process.returncode == -signal.SIGKILL
