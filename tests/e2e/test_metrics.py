# SPDX-License-Identifier: Apache-2.0
"""Metrics of a real ``quorum up``: they equal what was asked, and nothing takes any away.

``QUORUM_LONG=1`` waits until an alert fires in a real Prometheus.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.days import in_one_day
from support.deployment import ATTRIBUTES, FREE_PORTS, title, write_deployment
from support.fault_server import MODEL, FaultServer, fault_server, free_port
from support.prometheus import Numbers, Prometheus, numbers, prometheus, scrape
from support.raw import bytes_tensor, grpc_request
from support.supervised import Supervised, supervised, until
from support.wire import Reply, grpc_reply
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

import quorum
from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights
from quorum.server.exposition import OPEN_METRICS
from quorum_contract import CHANNELS, LAZY_CHANNELS, NOT_APPLICABLE, Status

LONG = bool(os.environ.get("QUORUM_LONG"))
REPLAYED = ("alpha", "beta", "gamma")
MEMBERS = (*REPLAYED, "remote")
PRICE = {"per_call": 0.5, "per_1k_prompt_tokens": 1.0}
BACK_S = 60.0


@dataclass
class Asked:
    """A served deployment, and all that was answered so far, by channel."""

    served: Supervised
    port: int
    remote: FaultServer
    url: str
    replies: list[tuple[str, Reply]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    def ask(self, channel: str, products: Sequence[int], text: str = "") -> None:
        """Ask about products; a refusal is counted."""
        with grpc.insecure_channel(self.served.running.endpoint.grpc_url) as connection:
            stub = GRPCInferenceServiceStub(connection)
            for product in products:
                tensor = bytes_tensor([(text or title(product)).encode()])
                category = b"shoes" if product % 2 else b""
                request = grpc_request(channel, tensor, [a.encode() for a in ATTRIBUTES], category)
                try:
                    self.replies.append((channel, grpc_reply(stub.ModelInfer(request, timeout=30))))
                except grpc.RpcError:
                    self.refused[channel] += 1

    @property
    def page(self) -> Numbers:
        """The metrics now."""
        return numbers(scrape(self.port))

    def settled(self) -> Numbers:
        """The metrics, once every answer is counted."""

        def counted() -> Numbers | None:
            page = self.page
            total = sum(n for key, n in page.items() if key[0] == "quorum_requests_total")
            return page if total >= len(self.replies) + self.refused.total() else None

        found: Numbers = until(counted)
        return found


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    in_one_day()
    folder, port = tmp_path_factory.mktemp("metrics"), free_port()
    with fault_server() as (remote, url):
        options = {"base_url": url, "model": MODEL, "max_wait_s": 0.5}
        members: dict[str, Any] = {name: {} for name in REPLAYED}
        members["remote"] = {
            "runtime": "openai",
            "options": options,
            "timeout_s": 5.0,
            "price": PRICE,
            "budget": {"calls_per_day": 1000},
        }
        rows = [[*REPLAYED], ["remote"]]
        server = {**FREE_PORTS, "metrics": {"port": port}}
        write_deployment(folder, members, lazy={"rows": rows}, server=server)
        with supervised(folder) as served:
            yield Asked(served, port, remote, url.removesuffix("/v1"))


def check(asked: Asked) -> Numbers:
    """Compare the metrics with all that was answered; returns them."""
    page = asked.settled()
    requests, decisions, versions = Counter[Any](), Counter[Any](), Counter[Any]()
    votes, agreeing, confident = Counter[Any](), Counter[str](), Counter[str]()
    for channel, reply in asked.replies:
        requests[channel, "answered" if any(reply.values) else "undecided"] += 1
        versions[channel, str(reply.version)] += 1
        for at, (name, value) in enumerate(zip(ATTRIBUTES, reply.values, strict=True)):
            outcome = "not_applicable" if value == NOT_APPLICABLE else "value" if value else "no_answer"
            decisions[name, outcome] += 1
            confident[channel] += bool(value)
            for member in MEMBERS:
                vote, status = reply.votes[member][at]
                votes[member, Status(status).name] += 1
                agreeing[member] += status == Status.ANSWERED and vote == value
    for channel, count in asked.refused.items():
        requests[channel, "invalid"] += count

    def found(name: str) -> dict[tuple[str, ...], float]:
        return {key[1:]: number for key, number in page.items() if key[0] == name and number}

    assert found("quorum_requests_total") == requests
    assert found("quorum_answers_total") == versions
    assert found("quorum_decisions_total") == decisions
    assert found("quorum_votes_total") == votes
    assert found("quorum_votes_agreeing_total") == {(m,): n for m, n in agreeing.items() if n}
    assert found("quorum_confidence_count") == {(c,): n for c, n in confident.items() if n}
    admitted = Counter(channel for channel, _ in asked.replies)
    assert found("quorum_admitted_total") == {(c, "interactive"): n for c, n in admitted.items()}
    assert found("quorum_request_seconds_count") == {(c,): n for c, n in admitted.items()}
    return page


def test_metrics_equal_what_was_asked(asked: Asked) -> None:
    for channel in (*CHANNELS, *LAZY_CHANNELS):
        asked.ask(channel, range(12))
    asked.ask("quorum", [0, 1], text=" ")
    assert asked.refused == {"quorum": 2}
    page = check(asked)
    left_out = [
        all(status == Status.NOT_ASKED for _, status in reply.votes["remote"])
        for channel, reply in asked.replies
        if channel in LAZY_CHANNELS
    ]
    assert 0 < sum(left_out) < len(left_out)
    assert page["quorum_member_calls_spared_total", "remote"] == sum(left_out)
    calls = len(asked.replies) - sum(left_out)
    assert page["quorum_member_calls_total", "remote"] == calls
    # The budget also pays for the questions by which the start probed each channel.
    assert page["quorum_budget_calls", "remote", "day"] >= calls
    assert page["quorum_member_prompt_tokens_total", "remote"] == 100 * calls
    assert page["quorum_member_cost_total", "remote"] == pytest.approx(0.6 * calls, rel=1e-6)
    assert page["quorum_budget_calls_limit", "remote", "day"] == 1000
    assert page["quorum_in_flight",] <= 2
    assert page["quorum_server_up",] == 1


def test_a_publish_and_a_promotion_take_nothing_away(asked: Asked) -> None:
    catalogue = asked.served.spec.catalogue().hashes
    weights = Weights("loglinear", MEMBERS, Parameters((3.0, 1.0, 1.0, 1.0)), catalogue=catalogue)
    version = quorum.publish(asked.served.spec, weights).version
    quorum.promote(asked.served.spec, version)
    asked.ask("quorum", range(5))
    assert asked.replies[-1][1].version == version
    assert check(asked)["quorum_channel_version", "quorum"] == version


@pytest.mark.parametrize("step", ["quorum_vote", "quorum_gate"])
def test_a_killed_step_takes_nothing_away(asked: Asked, step: str) -> None:
    check(asked)
    before, pid = len(asked.served.incidents()), asked.served.running.pid
    asked.served.strike(step, signal.SIGKILL)
    incident = asked.served.wait_over(before, BACK_S)
    assert asked.served.running.pid == pid, incident
    asked.ask("quorum", range(5))
    assert check(asked)["quorum_incidents_total", "server"] == before + 1


def test_a_breaker_that_opens_is_seen(asked: Asked) -> None:
    place = "remote", asked.url
    assert asked.page["quorum_endpoint_breaker_state", *place, "closed"] == 1
    asked.remote.fault = "500"
    asked.ask("quorum", range(12))
    page = until(lambda: (p := asked.page)["quorum_endpoint_breaker_opened_total", *place] and p)
    states = [page["quorum_endpoint_breaker_state", *place, s] for s in ("closed", "open", "half-open")]
    assert sum(states) == 1
    assert states[0] == 0
    assert page["quorum_endpoint_requests_total", *place, "failed"] > 0
    check(asked)


def test_a_real_prometheus_scrapes_and_evaluates_the_rules(asked: Asked, tmp_path: Path) -> None:
    assert scrape(asked.port, OPEN_METRICS).endswith("# EOF\n")
    with prometheus(tmp_path, asked.port) as scraper:
        total = 'sum(quorum_requests_total{outcome!="invalid"})'
        until(lambda: scraper.query(total) == [({}, len(asked.replies))], BACK_S)
        (target,) = scraper.get("targets", state="active")["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")
        groups = until(lambda: _evaluated(scraper.get("rules")["groups"]), BACK_S)
        wrong = [rule["lastError"] for group in groups for rule in group["rules"] if rule["health"] == "err"]
        assert wrong == []
        # The endpoint fails since the test before; an alert waits a minute before it fires.
        asked.remote.fault, wanted = "500", {"firing"} if LONG else {"pending", "firing"}
        asked.ask("quorum", range(12))
        until(lambda: wanted & _states(scraper, "QuorumBreakerOpen"), 120)


def _states(scraper: Prometheus, alert: str) -> set[str]:
    alerts = scraper.get("alerts")["alerts"]
    return {one["state"] for one in alerts if one["labels"]["alertname"] == alert}


def _evaluated(groups: Any) -> Any:
    rules = [rule for group in groups for rule in group["rules"]]
    return groups if rules and all(rule["health"] != "unknown" for rule in rules) else None
