# SPDX-License-Identifier: Apache-2.0
"""Probe a channel's readiness with a canned question.

Triton's own readiness is wrong: a model with a dead process is ready, a server that is loading is not. The
question goes through the gate, every member's process and the pinned version of the vote. Its deadline for
members has passed already, so no member asks its LLM: the probe costs no LLM call and waits for none.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from quorum.deployment.schema import Deployment
from quorum.server.exposure import client_key
from quorum_client import Client, DecisionStatus, Extraction, Overloaded, QuorumError, ServerError, Status
from quorum_contract import CHANNELS
from quorum_contract.names import PROBE_TEXT

PROBE_TIMEOUT_S = 5.0
_RETRY_S = 0.25
_PATIENCE_S = 2.0
# Statuses of a working member: recorded votes and catalogues lack the canned question, a small LLM may write
# nonsense.
_WORKING = (Status.ANSWERED, Status.UNPARSABLE, Status.NOT_ASKED, Status.NOT_FOUND, Status.BUDGET)


@dataclass(frozen=True, slots=True)
class Pulse:
    """The result of one probe.

    Attributes:
        channel: The ensemble that was asked.
        ready: Whether it can answer callers now.
        version: Version of the weights, or of the retriever, that answered; ``None`` without an answer.
        latency_ms: Time to the answer or the timeout.
        reason: Why it is not ready, or a remark; may be empty.
    """

    channel: str
    ready: bool
    version: int | None
    latency_ms: float
    reason: str = ""

    def __str__(self) -> str:
        """One line."""
        version = f"version {self.version}, " if self.version is not None else ""
        text = f"{self.channel} {'ready' if self.ready else 'not ready'}: {version}{self.latency_ms:.0f} ms"
        return f"{text}; {self.reason}" if self.reason else text


def take_pulse(
    spec: Deployment, url: str, channel: str, timeout_s: float = PROBE_TIMEOUT_S, full: bool = False
) -> Pulse:
    """Probe whether a channel can answer, within the timeout and without raising.

    With ``full``, the LLMs are asked a real question, and as many must work as ``vote.min_members``
    says, at least one; else no LLM is asked.
    """
    start = time.monotonic()
    version, ready, reason = None, False, ""
    try:
        extraction = _ask(spec, url, channel, timeout_s, timeout_s * 0.8 if full else 0.0)
        version = extraction.weights_version
        ready, reason = _judge(extraction, spec.vote.min_members) if full else _judge_tickets(extraction)
    except Overloaded:
        ready, reason = True, "the gate is full"
    except QuorumError as error:
        reason = str(error)
    return Pulse(channel, ready, version, round((time.monotonic() - start) * 1e3, 1), reason)


def take_recommend_pulse(url: str, channel: str, timeout_s: float = PROBE_TIMEOUT_S) -> Pulse:
    """Probe a channel that recommends keyphrases, as :func:`take_pulse` does one for attributes."""
    start = time.monotonic()
    version, ready, reason = None, False, ""
    try:
        version, ready = probe_recommend(url, channel, timeout_s), True
    except Overloaded:
        ready, reason = True, "the retriever is full"
    except QuorumError as error:
        reason = str(error)
    return Pulse(channel, ready, version, round((time.monotonic() - start) * 1e3, 1), reason)


def probe_recommend(url: str, channel: str, timeout_s: float = PROBE_TIMEOUT_S) -> int:
    """Ask a channel for a keyphrase and return the version of the retriever that answered.

    Raises quorum_client.QuorumError without an answer.
    """
    with Client(url, timeout_s=timeout_s, retries=False, key=client_key()) as client:
        return client.recommend(PROBE_TEXT, 1, channel=channel).version


def gives_sign(spec: Deployment, client: Client, channel: str) -> bool:
    """Whether a channel responds to a question that no LLM is asked, if only that its gate is full.

    An answer in which a step refuses the ticket is none: it would refuse every caller's.
    """
    try:
        return _judge_tickets(_ask_with(client, spec, channel, 0.0))[0]
    except Overloaded:
        return True
    # gRPC raises ValueError for a client that was closed.
    except (QuorumError, ValueError):
        return False


def probe_channel(spec: Deployment, url: str, channel: str, timeout_s: float = 20.0) -> int:
    """Ask a channel for the first attribute and return the version of the weights that answered.

    Members that take more than two seconds abstain. Raises quorum_client.QuorumError without an answer, or
    for one of another deployment.
    """
    return _ask_patiently(spec, url, channel, timeout_s).weights_version


def served_version(spec: Deployment, url: str, channel: str, timeout_s: float = PROBE_TIMEOUT_S) -> int:
    """The version of the weights that decides on a channel; no LLM is asked.

    Raises quorum_client.QuorumError without an answer.
    """
    return _ask(spec, url, channel, timeout_s, 0.0).weights_version


def probe_decision(spec: Deployment, url: str, channel: str, timeout_s: float = 20.0) -> int:
    """Probe a channel as :func:`probe_channel`, and refuse an answer that is no decision.

    A vote that cannot decide answers as if every member had failed. Members may all have failed: where the
    other channels say so too, the answer is no fault of these weights, and may be rolled back to. Nor is a
    value that was decided, but withheld as too few members answered.

    Raises:
        quorum_client.ServerError: No value although a member answered, or errors only.
    """
    extraction = _ask_patiently(spec, url, channel, timeout_s)
    if fault := _fault(extraction):
        others = (name for name in CHANNELS if name != channel)
        if any(_fault(_ask_patiently(spec, url, name, timeout_s)) != fault for name in others):
            message = f"{channel!r} at {url}, version {extraction.weights_version}, decides nothing: {fault}"
            raise ServerError(message, status="INTERNAL", request_id=extraction.request_id)
    return extraction.weights_version


def fault_of(spec: Deployment, url: str, channel: str, timeout_s: float = 20.0) -> str:
    """Why a channel decides nothing: no member works, or no value comes of their votes; "" if it decides.

    Members get two seconds, then, where none works, most of the timeout: an LLM that was loaded just now is
    slow at first. A full gate is no fault, an error is one.
    """
    fault = ""
    for members_timeout_s in (_PATIENCE_S, 0.8 * timeout_s):
        try:
            extraction = _ask_patiently(spec, url, channel, timeout_s, members_timeout_s)
            fault = _idle(extraction) or _fault(extraction)
        except Overloaded:
            return ""
        except QuorumError as error:
            fault = str(error)
        if not fault:
            return ""
    return fault


def _idle(extraction: Extraction) -> str:
    """Which statuses the members have where none of them works; "" if one does."""
    for answer in extraction.answers:
        if not any(vote.status in (*_WORKING, Status.OVERLOADED) for vote in answer.votes):
            return f"no member works: {', '.join(f'{v.member} {v.status.name}' for v in answer.votes)}"
    return ""


def _fault(extraction: Extraction) -> str:
    """Why an answer is no decision; empty if it is one."""
    for answer in extraction.answers:
        if all(vote.status is Status.ERROR for vote in answer.votes):
            return "every vote is an error; see the server's log"
        withheld = answer.status is DecisionStatus.NO_QUORUM
        answered = any(vote.status is Status.ANSWERED for vote in answer.votes)
        if answer.value is None and answered and not withheld:
            return "members answered, and no value was chosen"
    return ""


def _ask_patiently(
    spec: Deployment, url: str, channel: str, timeout_s: float, members_timeout_s: float = _PATIENCE_S
) -> Extraction:
    """Ask until the gate has room; members that take longer than their timeout abstain."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return _ask(spec, url, channel, timeout_s, members_timeout_s)
        except Overloaded:
            # A full gate says nothing about the channel behind it.
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_S)


def _ask(spec: Deployment, url: str, channel: str, timeout_s: float, members_timeout_s: float) -> Extraction:
    with Client(url, timeout_s=timeout_s, retries=False, key=client_key()) as client:
        return _ask_with(client, spec, channel, members_timeout_s)


def _ask_with(client: Client, spec: Deployment, channel: str, members_timeout_s: float) -> Extraction:
    attribute = next(iter(spec.attributes), "brand")
    return client.extract(PROBE_TEXT, [attribute], channel=channel, members_timeout_s=members_timeout_s)


def _judge_tickets(extraction: Extraction) -> tuple[bool, str]:
    """Whether every step takes the tickets of this gate, and which do not: they have another secret."""
    refusing = [v.member for v in extraction.answers[0].votes if v.status is Status.REFUSED]
    reason = f"{', '.join(refusing)} refuse the gate's tickets; the server must be restarted"
    return not refusing, reason if refusing else ""


def _judge(extraction: Extraction, min_members: int) -> tuple[bool, str]:
    votes = extraction.answers[0].votes
    abstained = ", ".join(f"{v.member} {v.status.name}" for v in votes if v.status not in _WORKING)
    ready = sum(vote.status in _WORKING for vote in votes) >= min_members
    return ready, f"abstained: {abstained}" if abstained else ""
