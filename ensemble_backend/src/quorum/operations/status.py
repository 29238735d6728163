# SPDX-License-Identifier: Apache-2.0
"""Report channels, versions and members of a running deployment, or wait until every channel answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from quorum.decision.catalogue_change import UNCHANGED, CatalogueChange
from quorum.decision.kept import kept_attributes
from quorum.decision.weights import WeightsError
from quorum.deployment.schema import Deployment
from quorum.operations.budgets import BudgetStatus, budgets_of
from quorum.operations.scores import missing_scores
from quorum.operations.servers import servers_of, store_of
from quorum.records import Record, plain
from quorum.repository.history import utc
from quorum.repository.lazy_rows import rows_of_members
from quorum.repository.state import State
from quorum.repository.store import Store
from quorum.retrieval.manifest import ManifestError, read_retriever
from quorum.rollout.target import graph_difference
from quorum.runtimes.remote.note import RemoteState
from quorum.server.control import START_IT, Control, ControlError, ModelState
from quorum.server.gateway_settings import GatewayStatus, gateway_status
from quorum.server.incidents import SERVER, Incident, recent_incidents
from quorum.server.probe import take_pulse, take_recommend_pulse
from quorum.server.runfile import Attempt, endpoint_of, find_running, last_attempt
from quorum.server.triton import ServerProcessError
from quorum.server.workers import WorkerState, endpoints_of, workers_of
from quorum_contract import LAZY_OF, RECOMMEND_CHANNELS, RETRIEVER, VOTE
from quorum_contract.errors import QuorumError

_CONTROL_TIMEOUT_S, _POLL_S, _HOPE_S = 5.0, 0.5, 10.0
_SHOWN = 3
DOWN = "DOWN"
"""State of a member whose worker does not answer, though its model is loaded."""


@dataclass(frozen=True, slots=True)
class ChannelStatus(Record):
    """One channel, and whether it answers callers now.

    Attributes:
        pinned: Version that its configuration names; None where there is none.
        version: Version of the weights that answered.
        reason: Why it does not answer, or a remark; may be empty.
    """

    pinned: int | None
    answers: bool
    version: int | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class VersionStatus(Record):
    """One version of the weights, and Triton's state of it.

    Attributes:
        damaged: Why its file cannot be read; None where it can. A running server keeps it in memory.
        method: Learning method; None where the file is damaged, as all that follow.
        gold_labels: Number of labels that it was learned from.
        uses_scores: Whether it weighs votes by their scores.
        unscored: Members that it weighs by their scores, which the deployment does not give.
        catalogue: What the deployment's catalogue changed since it was learned.
        kept: Attributes that it decides as an earlier version did (``quorum publish --keep``).
    """

    state: str
    damaged: str | None = None
    method: str | None = None
    content_hash: str | None = None
    created: str | None = None
    gold_labels: int | None = None
    uses_scores: bool | None = None
    unscored: tuple[str, ...] = ()
    catalogue: CatalogueChange = UNCHANGED
    kept: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: state and damage, or state and provenance."""
        if self.damaged is not None:
            return {"state": self.state, "damaged": self.damaged}
        return {f.name: plain(getattr(self, f.name)) for f in fields(self) if f.name != "damaged"}


@dataclass(frozen=True, slots=True)
class RetrieverVersion(Record):
    """One version of the retriever, and Triton's state of it.

    Attributes:
        damaged: Why its ``retriever.json`` cannot be read; None where it can. Its other files are not looked
            at: `quorum validate` does that.
        keyphrases: How many there are; None where it is damaged, as all that follow.
        dims: Dimensions of its vectors.
    """

    state: str
    damaged: str | None = None
    keyphrases: int | None = None
    dims: int | None = None
    index: str | None = None
    content_hash: str | None = None
    created: str | None = None


@dataclass(frozen=True, slots=True)
class RetrieverStatus(Record):
    """What recommends keyphrases: its channels, versions, and the canary's share of the items."""

    canary_share: float
    channels: dict[str, ChannelStatus]
    versions: dict[int, RetrieverVersion]


def _all_answer(channels: Mapping[str, ChannelStatus], retriever: RetrieverStatus | None) -> bool:
    recommending = retriever.channels if retriever else {}
    return all(channel.answers for channel in (*channels.values(), *recommending.values()))


@dataclass(frozen=True, slots=True)
class ServerStatus(Record):
    """One server: the status of its channels, of its versions of the weights and of its members.

    Attributes:
        url: ``host:port`` of its gRPC endpoint.
        pid: The process of tritonserver, where it runs on this machine.
        up_pid: The process of `quorum up` that serves it, which a stop has to end; likewise.
        canary_share: Share of the products that clients route to the canary.
        differs: How deploy.yaml, its repository and what the server runs differ; "" where they do not, or
            where a channel does not answer.
        members: Triton's state of each member's model; :data:`DOWN` where its worker does not answer.
        incidents: What `quorum up` found and did about it lately, oldest first.
        adapters: Member -> attribute ("*": all others) -> folder of the adapter that answers it; only members
            with adapters.
        workers: By model, since when its worker answers or does not, and why; of this machine's server only.
        retriever: None where no version of it is published.
        endpoints: By member of runtime ``openai``, what it asks; of this machine's server only.
        budgets: By member with a budget, what was spent of it on this machine.
        rows: Lazy channel -> the members that it asks, row by row; empty without lazy channels.
        gateway: None where the server runs without one, or on another machine.
    """

    url: str
    pid: int | None
    up_pid: int | None
    canary_share: float
    channels: dict[str, ChannelStatus]
    versions: dict[int, VersionStatus]
    members: dict[str, ModelState]
    differs: str = ""
    incidents: list[Incident] = field(default_factory=list)
    workers: dict[str, WorkerState] = field(default_factory=dict)
    adapters: dict[str, dict[str, str]] = field(default_factory=dict)
    retriever: RetrieverStatus | None = None
    endpoints: dict[str, RemoteState] = field(default_factory=dict)
    budgets: dict[str, BudgetStatus] = field(default_factory=dict)
    rows: dict[str, list[list[str]]] = field(default_factory=dict)
    gateway: GatewayStatus | None = None

    @property
    def all_answer(self) -> bool:
        """Whether every channel answers."""
        return _all_answer(self.channels, self.retriever)


@dataclass(frozen=True, slots=True)
class FleetServer(Record):
    """One server of a fleet, and the model repository that it serves.

    Attributes:
        loaded: Versions of the weights that it has loaded, ascending.
        reason: Why ``loaded``, and the states of the retriever's versions, are unknown; else None.
        retriever: None where no version of it is published in the repository.
    """

    repository: Path
    channels: dict[str, ChannelStatus]
    loaded: list[int]
    reason: str | None = None
    retriever: RetrieverStatus | None = None

    @property
    def all_answer(self) -> bool:
        """Whether every channel answers."""
        return _all_answer(self.channels, self.retriever)


@dataclass(frozen=True, slots=True)
class FleetStatus(Record):
    """The servers of a fleet, by their addresses."""

    servers: dict[str, FleetServer]

    @property
    def all_answer(self) -> bool:
        """Whether every channel of every server answers."""
        return all(server.all_answer for server in self.servers.values())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"fleet": plain(self.servers)}


def status(deployment: Deployment, wait_s: float = 0.0) -> ServerStatus | FleetStatus:
    """Report the state of a deployment's server, or of each server of its fleet.

    Args:
        deployment: The deployment.
        wait_s: Maximum wait until every channel answers.

    Raises:
        ControlError: The server is unreachable.
        ServerProcessError: The last process that served this deployment has ended, so waiting is useless.
    """
    start, wall = time.monotonic(), time.time()
    seen_alive = False
    while True:
        is_last = time.monotonic() - start >= wait_s
        try:
            report = _fleet_status(deployment) if deployment.fleet else _server_status(deployment)
            if report.all_answer or is_last:
                return report
        except ControlError as error:
            if is_last:
                raise _explained(deployment, error) from error
        attempt = last_attempt(deployment)
        if attempt and not attempt.is_alive:
            # After an earlier end a new start may follow.
            just_now = seen_alive or attempt.at >= wall or time.monotonic() - start >= _HOPE_S
            if just_now and find_running(deployment) is None:
                raise ServerProcessError(f"not waiting any longer, the last {_end_of(deployment, attempt)}")
        seen_alive = seen_alive or bool(attempt and attempt.is_alive)
        time.sleep(_POLL_S)


def _explained(deployment: Deployment, error: ControlError) -> ControlError:
    """The error, with what `quorum up` is doing about it, or how that ended."""
    attempt = last_attempt(deployment)
    if attempt is None:
        return error
    if not attempt.is_alive:
        return ControlError(f"{error}; the last {_end_of(deployment, attempt)}")
    what, by = str(error).removesuffix(START_IT), f"`quorum up` (pid {attempt.pid})"
    going_on = [one for one in recent_incidents(deployment) if not one.is_over and one.kind == SERVER]
    if going_on:
        return ControlError(f"{what}; {by} is at it: {going_on[-1]}")
    if find_running(deployment) is None:
        return ControlError(f"{what}; {by} is starting or stopping it: wait with `quorum status --wait 120`")
    return error


def _end_of(deployment: Deployment, attempt: Attempt) -> str:
    """How a `quorum up` ended, and the last incidents before that."""
    ended = f"`quorum up` has ended: {attempt.failed or f'it was killed (pid {attempt.pid})'}"
    incidents = recent_incidents(deployment)[-_SHOWN:]
    return "\n".join([ended, *["last incidents:"] * bool(incidents), *(f"  {one}" for one in incidents)])


def _server_status(deployment: Deployment) -> ServerStatus:
    running, endpoint, attempt = find_running(deployment), endpoint_of(deployment), last_attempt(deployment)
    workers = workers_of(running.pid) if running else {}
    models = {(s.name, s.version): s for s in _index(deployment, endpoint.grpc_url)}
    store = store_of(deployment)
    state = store.state_if_any()
    versions, pins = (state.versions, state.pins) if state else ((), {})
    channels = _channels(deployment, endpoint.grpc_url, pins)
    ready = bool(state) and all(channel.answers for channel in channels.values())
    return ServerStatus(
        url=endpoint.callers_url,
        pid=running.pid if running else None,
        up_pid=attempt.pid if attempt and attempt.is_alive else None,
        canary_share=state.canary_share if state else 0.0,
        channels=channels,
        versions={v: _version_status(deployment, store, v, models.get((VOTE, str(v)))) for v in versions},
        members={
            member.name: _member_state(model, models.get((model, "1")), workers.get(model))
            for model, members in deployment.models().items()
            for member in members
        },
        differs=_difference(deployment, endpoint.grpc_url, store) if ready else "",
        incidents=recent_incidents(deployment),
        workers=workers,
        adapters=deployment.adapters(),
        retriever=_retriever(store, endpoint.grpc_url, state, models),
        endpoints=endpoints_of(running.pid) if running else {},
        budgets=budgets_of(deployment),
        rows=rows_of_members(deployment, pins, store.path) if pins else {},
        gateway=gateway_status(endpoint),
    )


def _retriever(
    store: Store, url: str, state: State | None, models: Mapping[tuple[str, str], ModelState]
) -> RetrieverStatus | None:
    served = state.retriever if state else None
    if served is None:
        return None
    pulses = [take_recommend_pulse(url, channel) for channel in RECOMMEND_CHANNELS]
    return RetrieverStatus(
        served.canary_share,
        {p.channel: ChannelStatus(served.pins[p.channel], p.ready, p.version, p.reason) for p in pulses},
        {v: _retriever_version(store, v, models.get((RETRIEVER, str(v)))) for v in served.versions},
    )


def _retriever_version(store: Store, version: int, model: ModelState | None) -> RetrieverVersion:
    state = model.state if model else "UNAVAILABLE"
    try:
        found = read_retriever(store.path / RETRIEVER / str(version))
    except ManifestError as error:
        return RetrieverVersion(state, damaged=str(error))
    return RetrieverVersion(
        state, None, found.keyphrases, found.dims, found.index, found.content_hash, found.created
    )


def _member_state(model: str, state: ModelState | None, worker: WorkerState | None) -> ModelState:
    """Triton's state of a member's model, unless its worker tells more."""
    if state is None:
        return ModelState(model, "", "UNAVAILABLE", "not loaded")
    if state.state != "READY" or worker is None or not worker.failures:
        return state
    if worker.ready:
        times = "once" if worker.failures == 1 else f"{worker.failures} times, the last time"
        return replace(state, reason=f"its worker was lost {times} at {utc(worker.failed_at)}: {worker.why}")
    starts = "is starting"
    if worker.next_start > time.time():
        starts = f"starts at {utc(worker.next_start)}"
    return replace(
        state,
        state=DOWN,
        reason=f"since {utc(worker.since)}: its worker {worker.why}; another {starts} "
        f"(restart {worker.failures})",
    )


def _difference(deployment: Deployment, url: str, store: Store) -> str:
    """How deployment, repository and server differ; an error's message where that cannot be said."""
    try:
        with Control(url, endpoint_of(deployment).admin_key, timeout_s=_CONTROL_TIMEOUT_S) as control:
            return graph_difference(control, deployment, store)
    except QuorumError as error:
        return str(error)


def _fleet_status(deployment: Deployment) -> FleetStatus:
    servers = {}
    for repository, addresses in servers_of(deployment).items():
        # A fleet may have repositories that are not mounted here, or not rendered yet.
        store = Store(repository)
        state = store.state_if_any()
        for url in addresses:
            servers[url] = _fleet_server(deployment, url, store, state)
    return FleetStatus(servers)


def _fleet_server(deployment: Deployment, url: str, store: Store, state: State | None) -> FleetServer:
    channels = _channels(deployment, url, state.pins if state else {})
    models, reason = {}, None
    try:
        models = {(s.name, s.version): s for s in _index(deployment, url)}
    except ControlError as error:
        reason = str(error)
    loaded = sorted(int(s.version) for s in models.values() if s.name == VOTE and s.state == "READY")
    return FleetServer(store.path, channels, loaded, reason, _retriever(store, url, state, models))


def _channels(deployment: Deployment, url: str, pins: Mapping[str, int]) -> dict[str, ChannelStatus]:
    pulses = {channel: take_pulse(deployment, url, channel) for channel in deployment.channels}
    pins = {**pins, **{lazy: pins[channel] for channel, lazy in LAZY_OF.items() if channel in pins}}
    return {c: ChannelStatus(pins.get(c), p.ready, p.version, p.reason) for c, p in pulses.items()}


def _version_status(
    deployment: Deployment, store: Store, version: int, model: ModelState | None
) -> VersionStatus:
    state = model.state if model else "UNAVAILABLE"
    try:
        weights = store.weights(version)
    except WeightsError as error:
        return VersionStatus(state, damaged=str(error))
    created, labels = weights.provenance.get("created"), weights.provenance.get("gold_labels")
    catalogue = deployment.catalogue()
    return VersionStatus(
        state,
        method=weights.method,
        content_hash=weights.content_hash,
        created=created,
        gold_labels=labels,
        uses_scores=weights.uses_scores,
        unscored=tuple(missing_scores(deployment, weights)),
        catalogue=weights.catalogue_change(catalogue.hashes, catalogue.answer_kinds()),
        kept=kept_attributes(weights),
    )


def _index(deployment: Deployment, url: str) -> list[ModelState]:
    with Control(url, endpoint_of(deployment).admin_key, timeout_s=_CONTROL_TIMEOUT_S) as control:
        return control.index()
