# SPDX-License-Identifier: Apache-2.0
"""Serve the metrics of a server: what its steps counted, and what its supervisor, state and files say."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from http import HTTPStatus

from quorum.deployment.schema import Deployment
from quorum.repository.state import RepositoryError
from quorum.repository.store import Store
from quorum.runtimes.remote.breaker import State
from quorum.runtimes.remote.note import EndpointState, RemoteState, remote_states
from quorum.server.exposition import OPEN_METRICS, PLAIN, exposition
from quorum.server.http import Page, PageServer
from quorum.server.incidents import SERVER, WORKER
from quorum.server.triton import ServerProcessError, TritonServer
from quorum.serving import families as f
from quorum.serving.admission import Admission
from quorum.serving.budget import WINDOWS_S, read_windows
from quorum.serving.counters import Series, read_counters
from quorum.serving.shared_file import ADMISSION, shared_path
from quorum_contract import BULK, CHANNELS, INTERACTIVE, LAZY_OF

Sample = tuple[Series, float]
_PATH = "/metrics"


class MetricsServer(PageServer):
    """Serves ``/metrics`` of a server of this process; port 0 means a free one."""

    def __init__(self, server: TritonServer, host: str, port: int) -> None:
        self._server = server
        super().__init__(host, port, "quorum-metrics")

    def page(self, path: str, accept: str) -> Page:
        """The metrics, in the form that a scraper asks for."""
        if path != _PATH:
            return Page(HTTPStatus.NOT_FOUND, PLAIN, f"no {path}; ask {_PATH}\n".encode())
        wants_open = OPEN_METRICS.partition(";")[0] in accept
        body = exposition(dict(collect(self._server)), wants_open).encode()
        return Page(HTTPStatus.OK, OPEN_METRICS if wants_open else PLAIN, body)


def metrics_of(server: TritonServer) -> MetricsServer:
    """Serve the metrics of a server of this process during a ``with`` block, where ``server.metrics`` says.

    Raises:
        ServerProcessError: The port is taken, or deploy.yaml names none.
    """
    place = server.spec.server.metrics
    if place is None:
        raise ServerProcessError("server.metrics is not set; write `metrics: {port: 8003}` in deploy.yaml")
    try:
        return MetricsServer(server, place.host, place.port)
    except OSError as error:
        raise ServerProcessError(
            f"server.metrics.port {place.port} on {place.host}: {error.strerror}; choose another port in "
            "deploy.yaml, or 0 for a free one"
        ) from error


def collect(server: TritonServer) -> Iterator[Sample]:
    """Yield every series and its number."""
    spec = server.spec
    yield from _supervised(server)
    versions = set[str]()
    with suppress(RepositoryError):
        if state := Store(server.repository).state_if_any():
            versions = {str(version) for version in state.versions}
            for channel in CHANNELS:
                for name in (channel, *[LAZY_OF[channel]] * bool(spec.lazy)):
                    yield (f.CHANNEL_VERSION.name, (name,)), float(state.pins[channel])
            yield (f.CANARY_SHARE.name, ()), float(state.canary_share)
    scratch = server.scratch
    if scratch is not None:
        counted = read_counters(scratch.name)
        yield from ((series, number) for series, number in counted.items() if _shown(series, spec, versions))
        yield from _admitted(spec, scratch.name)
        for member, remote in remote_states(scratch).items():
            yield from _remote(member, remote)
    yield from _budgets(spec)


def _shown(series: Series, spec: Deployment, versions: set[str]) -> bool:
    """Whether a series is of a channel of the deployment, and of a version that is loaded."""
    name, labels = series
    if "channel" in f.FAMILIES[name].labels and labels[0] not in spec.channels:
        return False
    return name != f.ANSWERS.name or labels[1] in versions


def _supervised(server: TritonServer) -> Iterator[Sample]:
    life = server.life
    yield (f.SERVER_UP.name, ()), float(server.pid is not None)
    answering = life.answering()
    # While it starts for the first time, no channel is missing.
    for channel in CHANNELS if server.ready_after_s else ():
        yield (f.CHANNEL_UP.name, (channel,)), float(channel in answering)
    yield (f.RESTARTS.name, ()), float(max(0, life.starts - 1))
    for kind in (SERVER, WORKER):
        yield (f.INCIDENTS.name, (kind,)), float(life.incidents[kind])


def _admitted(spec: Deployment, name: str) -> Iterator[Sample]:
    path = shared_path(name, ADMISSION)
    # Opened by name it would be made, for a server that is just being replaced.
    if path.exists():
        with suppress(OSError):
            yield (f.IN_FLIGHT.name, ()), float(Admission(path).inside(time.monotonic_ns()))
    limits = {INTERACTIVE: spec.gate.max_in_flight, BULK: spec.gate.max_bulk_in_flight}
    for priority, limit in limits.items():
        yield (f.IN_FLIGHT_LIMIT.name, (priority,)), float(limit)


def _remote(member: str, remote: RemoteState) -> Iterator[Sample]:
    yield (f.REMOTE_QUESTIONS.name, (member,)), float(remote.questions)
    yield (f.REMOTE_REPEATED.name, (member,)), float(remote.repeated)
    yield (f.REMOTE_WAITING.name, (member,)), float(remote.waiting)
    for endpoint in remote.endpoints:
        yield from _endpoint(member, endpoint)


def _endpoint(member: str, endpoint: EndpointState) -> Iterator[Sample]:
    place = member, endpoint.url
    for state in State:
        yield (f.BREAKER.name, (*place, state.value)), float(endpoint.state == state.value)
    yield (f.BREAKER_OPENED.name, place), float(endpoint.opened)
    ended = {
        "answered": endpoint.answered, "limited": endpoint.limited, "failed": endpoint.failed
    }  # fmt: skip
    others = endpoint.requests - endpoint.in_flight - sum(ended.values())
    for outcome, count in {**ended, "not_waited": max(0, others)}.items():
        yield (f.ENDPOINT_REQUESTS.name, (*place, outcome)), float(count)
    tokens = {
        "prompt": endpoint.prompt_tokens,
        "cached": endpoint.cached_tokens,
        "answer": endpoint.answer_tokens,
    }
    for kind, count in tokens.items():
        yield (f.ENDPOINT_TOKENS.name, (*place, kind)), float(count)
    yield (f.ENDPOINT_IN_FLIGHT.name, place), float(endpoint.in_flight)
    yield (f.ENDPOINT_LIMIT.name, place), float(endpoint.concurrency)
    yield (f.ENDPOINT_HELD.name, place), endpoint.held_s


def _budgets(spec: Deployment) -> Iterable[Sample]:
    for member in spec.members:
        if (budget := member.budget) is None:
            continue
        calls = budget.calls_per_minute, budget.calls_per_day
        costs = budget.per_minute, budget.per_day
        spent = read_windows(spec.root, member.name)
        for window, one, most_calls, most_cost in zip(WINDOWS_S, spent, calls, costs, strict=True):
            place = member.name, window
            yield (f.BUDGET_CALLS.name, place), float(one.calls)
            yield (f.BUDGET_COST.name, place), one.cost
            if most_calls is not None:
                yield (f.BUDGET_CALLS_LIMIT.name, place), float(most_calls)
            if most_cost is not None:
                yield (f.BUDGET_COST_LIMIT.name, place), most_cost
