# SPDX-License-Identifier: Apache-2.0
"""Which answers a rollout takes for a decision; real channels are probed in ``tests/e2e``."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.deployment import write_deployment

from quorum.deployment import load_deployment
from quorum.deployment.schema import Deployment
from quorum.server import probe
from quorum_client import Answer, Client, DecisionStatus, Extraction, ServerError, Status, Vote
from quorum_contract import CANARY, STABLE

DOWN = [Status.ERROR, Status.ERROR]


@pytest.fixture
def spec(tmp_path: Path) -> Deployment:
    return load_deployment(write_deployment(tmp_path, {"alpha": {}, "beta": {}}))


def extraction(
    statuses: list[Status], value: str | None = None, decided: DecisionStatus = DecisionStatus.NO_ANSWER
) -> Extraction:
    votes = tuple(
        Vote(name, "red" if status is Status.ANSWERED else None, status)
        for name, status in zip(("alpha", "beta"), statuses, strict=True)
    )
    return Extraction("id", (Answer("color", value, 0.0, votes, decided),), 7, 0.1)


@pytest.mark.parametrize(
    ("stable", "canary", "fault"),
    [
        (extraction([Status.ANSWERED, Status.ERROR], "red"), extraction(DOWN), None),
        (extraction([Status.UNPARSABLE, Status.ERROR]), extraction(DOWN), None),
        (extraction([Status.TIMEOUT, Status.TIMEOUT]), extraction(DOWN), None),
        (extraction(DOWN), extraction([Status.UNPARSABLE, Status.ERROR]), "every vote is an error"),
        (extraction(DOWN), extraction(DOWN), None),
        (extraction([Status.ANSWERED, Status.ERROR], None, DecisionStatus.NO_QUORUM), extraction(DOWN), None),
        (extraction([Status.ANSWERED, Status.ERROR]), extraction(DOWN), "no value was chosen"),
    ],
)
def test_an_answer_that_is_no_decision_is_refused(
    spec: Deployment, monkeypatch: pytest.MonkeyPatch,
    stable: Extraction, canary: Extraction, fault: str | None,
) -> None:  # fmt: skip
    answers = {STABLE: stable, CANARY: canary}
    monkeypatch.setattr(probe, "_ask", lambda spec, url, channel, *_: answers[channel])
    if fault is None:
        assert probe.probe_decision(spec, "nowhere:1", STABLE) == 7
    else:
        with pytest.raises(ServerError, match=f"version 7, decides nothing: .*{fault}"):
            probe.probe_decision(spec, "nowhere:1", STABLE)
    assert probe.probe_channel(spec, "nowhere:1", STABLE) == 7


@pytest.mark.parametrize(("least", "ready"), [(1, True), (2, False)])
def test_fewer_working_members_than_a_quorum_are_not_ready(
    spec: Deployment, monkeypatch: pytest.MonkeyPatch, least: int, ready: bool
) -> None:
    monkeypatch.setattr(probe, "_ask", lambda *_: extraction([Status.ANSWERED, Status.ERROR], "red"))
    vote = spec.vote.model_copy(update={"min_members": least})
    pulse = probe.take_pulse(spec.model_copy(update={"vote": vote}), "nowhere:1", STABLE, full=True)
    assert (pulse.ready, pulse.reason) == (ready, "abstained: beta ERROR")


def test_a_member_that_found_nothing_works(spec: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_ask", lambda *_: extraction([Status.NOT_FOUND, Status.ERROR]))
    pulse = probe.take_pulse(spec, "nowhere:1", STABLE, full=True)
    assert (pulse.ready, pulse.reason) == (True, "abstained: beta ERROR")


@pytest.mark.parametrize("refusing", [[Status.REFUSED, Status.REFUSED], [Status.ANSWERED, Status.REFUSED]])
def test_an_answer_in_which_a_step_refuses_the_ticket_is_no_sign_of_life(
    spec: Deployment, monkeypatch: pytest.MonkeyPatch, refusing: list[Status]
) -> None:
    answer = [extraction(refusing)]
    monkeypatch.setattr(probe, "_ask_with", lambda *_: answer[0])
    with Client("127.0.0.1:1") as client:
        assert not probe.gives_sign(spec, client, STABLE)
        pulse = probe.take_pulse(spec, "127.0.0.1:1", STABLE)
        assert not pulse.ready
        assert "beta refuse the gate's tickets" in pulse.reason
        answer[0] = extraction([Status.NOT_ASKED, Status.ERROR])
        assert probe.gives_sign(spec, client, STABLE)
        assert probe.take_pulse(spec, "127.0.0.1:1", STABLE).ready


@pytest.mark.parametrize(
    ("early", "late", "fault"),
    [
        (extraction([Status.ANSWERED, Status.ERROR], "red"), None, ""),
        (extraction([Status.TIMEOUT, Status.ERROR]), extraction([Status.UNPARSABLE, Status.ERROR]), ""),
        (extraction([Status.OVERLOADED, Status.ERROR]), None, ""),
        (
            extraction([Status.TIMEOUT, Status.TIMEOUT]),
            extraction([Status.TIMEOUT, Status.ERROR]),
            "no member works: alpha TIMEOUT, beta ERROR",
        ),
    ],
)
def test_a_channel_whose_members_all_fail_decides_nothing(
    spec: Deployment, monkeypatch: pytest.MonkeyPatch,
    early: Extraction, late: Extraction | None, fault: str,
) -> None:  # fmt: skip
    """A member that needs more than two seconds is asked again, with more time."""
    answers = [early, late]
    waits: list[float] = []

    def ask(spec: Deployment, url: str, channel: str, timeout_s: float, wait_s: float) -> Extraction | None:
        waits.append(wait_s)
        return answers.pop(0)

    monkeypatch.setattr(probe, "_ask", ask)
    assert probe.fault_of(spec, "nowhere:1", STABLE, 20.0) == fault
    assert waits == [2.0, 16.0][: 1 if late is None else 2]
