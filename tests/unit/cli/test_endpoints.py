# SPDX-License-Identifier: Apache-2.0
"""What `quorum status` says of the endpoints that remote members ask."""

from __future__ import annotations

import pytest

import quorum
from quorum.cli.serve import _show_endpoints
from quorum.runtimes.remote.note import EndpointState, RemoteState

WELL = EndpointState(
    "https://a.example.com", "closed", 0.0, in_flight=2, concurrency=9, requests=70, answered=70,
    form="prompt alone (schemas are ignored)", scores=True, p50_s=0.25, p95_s=1.5,
)  # fmt: skip
DOWN = EndpointState(
    "https://b.example.com", "open", 1_790_000_000.0, opened=2, problem="HTTP 500: no [bold]luck[/]",
    held_s=12.4, concurrency=1, requests=9, answered=3, limited=2, failed=4, form="JSON schema",
)  # fmt: skip


def test_breaker_concurrency_form_and_waits_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    remote = RemoteState("gpt", 1, (WELL, DOWN), questions=78, repeated=1, waiting=3)
    _show_endpoints(quorum.ServerStatus("", None, None, 0.0, {}, {}, {}, endpoints={"gpt": remote}))
    assert capsys.readouterr().out.splitlines() == [
        "gpt: 78 questions, 3 in line for an endpoint; 1 request repeated",
        "endpoint https://a.example.com of gpt: breaker closed",
        "  answered 70 of 70; p50, p95: 0.25, 1.50 s",
        "  2 of 9 at once; answers: prompt alone (schemas are ignored), with scores",
        "endpoint https://b.example.com of gpt: breaker open since 2026-09-21 14:13:20 UTC",
        "  answered 3 of 9, 4 failed, 2 were too many; p50, p95: -",
        "  0 of 1 at once; answers: JSON schema",
        "  wants to be left alone for 12 s",
        "  last problem: HTTP 500: no [bold]luck[/]",
    ]
