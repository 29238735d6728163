# SPDX-License-Identifier: Apache-2.0
"""A canned question to a channel: the only readiness that tells the truth.

Triton reports a model with a dead process as ready, and a server that is loading something as not ready.
A question goes through the gate, every member's process and the vote of the version that the channel is
pinned to. Told that its time is up already, no member asks its LLM: such a *sign of life* costs no LLM call
and waits for no LLM, however stuck.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from quorum.deployment.schema import Deployment
from quorum.server.health import ask_steps
from quorum_client import Client, Extraction, Overloaded, QuorumError, Status

PROBE_TIMEOUT_S = 5.0
_TEXT = "quorum probe: is anybody there?"
_RETRY_S = 0.25
_PATIENCE_S = 2.0
# Whoever says that is at work: recorded votes hold no answer to the canned question, a small LLM may ramble.
_WORKING = (Status.ANSWERED, Status.UNPARSABLE, Status.NOT_ASKED)


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a channel answered to a canned question.

    Attributes:
        channel: The ensemble that was asked.
        ready: Whether it can answer callers now.
        version: Version of the weights that answered; ``None`` when none did.
        latency_ms: Until the answer, or until it was given up.
        reason: Why it is not ready, or what to know beside; may be empty.
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
    """Whether a channel can answer; never takes longer than the timeout, and never raises for what it finds.

    Args:
        spec: The deployment.
        url: ``host:port`` of the gRPC endpoint.
        channel: Name of an ensemble.
        timeout_s: A channel that has not answered by then is not ready.
        full: Put a real question to the LLMs, and want at least one of them at work. Default: a sign of
            life, which asks no LLM.
    """
    start = time.monotonic()
    version, ready, reason = None, False, ""
    try:
        found = _ask(spec, url, channel, timeout_s, timeout_s * 0.8 if full else 0.0)
        version = found.weights_version
        ready, reason = _judge(found) if full else (True, "")
    except Overloaded:
        # The gate is alive, and so busy that nobody else gets in: ask the steps behind it directly.
        left = max(0.1, timeout_s - (time.monotonic() - start))
        silent = ask_steps(spec, url, [None], left)
        ready = not silent
        reason = "; ".join(f"{model}: {error}" for model, error in silent.items()) or "the gate is full"
    except QuorumError as error:
        reason = str(error)
    return Pulse(channel, ready, version, round((time.monotonic() - start) * 1e3, 1), reason)


def probe_channel(spec: Deployment, url: str, channel: str, timeout_s: float = 20.0) -> int:
    """Ask a channel one real question; members that take more than two seconds abstain, no matter.

    Args:
        spec: The deployment; its first attribute is asked for.
        url: ``host:port`` of the gRPC endpoint.
        channel: Name of an ensemble.
        timeout_s: How long to wait for the answer.

    Returns:
        The version of the weights that answered.

    Raises:
        quorum_client.QuorumError: No answer, or not one of this deployment.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return _ask(spec, url, channel, timeout_s, _PATIENCE_S).weights_version
        except Overloaded:
            # A full gate says nothing about the channel behind it.
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_S)


def _ask(spec: Deployment, url: str, channel: str, timeout_s: float, members_timeout_s: float) -> Extraction:
    attribute = next(iter(spec.attributes), "brand")
    with Client(url, timeout_s=timeout_s, retries=False) as client:
        return client.extract(_TEXT, [attribute], channel=channel, members_timeout_s=members_timeout_s)


def _judge(found: Extraction) -> tuple[bool, str]:
    votes = found.answers[0].votes
    abstained = ", ".join(f"{v.member} {v.status.name}" for v in votes if v.status not in _WORKING)
    ready = any(vote.status in _WORKING for vote in votes)
    return ready, f"abstained: {abstained}" if abstained else ""
