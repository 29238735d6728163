# SPDX-License-Identifier: Apache-2.0
"""Serve a quorum deployment on its own tritonserver, made for the benchmark or given."""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import yaml

from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights
from quorum.deployment import load_deployment
from quorum.deployment.lazy import LazySpec
from quorum.deployment.retriever import RetrieverSpec
from quorum.deployment.schema import Deployment, MemberSpec
from quorum.repository.render import render
from quorum.rollout.channels import Rollout
from quorum.rollout.retriever import RetrieverKind
from quorum.rollout.weights import WeightsKind
from quorum.runtimes.options import read_options
from quorum.server.control import Control
from quorum.server.endpoint import Endpoint
from quorum.server.install import Install
from quorum.server.launch import has_aslr
from quorum.server.probe import probe_channel, probe_recommend
from quorum.server.supervise import wait_channels
from quorum.server.triton import ServerProcessError, TritonServer
from quorum.serving.admission import CAPACITY, admission_of
from quorum.serving.packing import Admitted, add_ticket, pack_question, take_ticket
from quorum_bench.targets import CallerSpec, StepTimes
from quorum_bench.targets.triton_caller import triton_caller
from quorum_bench.targets.triton_stats import TritonStatistics
from quorum_bench.workload import Product, Workload
from quorum_contract import CHANNELS, GATE, STABLE, VOTE

WAITED = "(slowest member)"
"""The step for the time that an ensemble waits for its members, scheduling included."""

START_S = 120.0
_PASS_NS = 3_600_000_000_000
_MAX_IN_FLIGHT = 1024


class NotAsAsked(ServerProcessError):
    """A server runs, but this machine refuses the memory layout asked for."""

    code = "SERVER_LAYOUT_REFUSED"


class QuorumTarget:
    """Serves members that answer from a votes table, or any other deployment file.

    Args:
        workload: The requests; the votes table is made from them.
        members: Names -> replay options such as ``latency_ms``.
        deploy: Serve this file instead; ``members`` is then ignored.
        name: In tables.
        aslr: Instead of the deployment's own ``server.aslr``.
        scores: Instead of the members' own option ``scores``.
        gate: Settings of the gate, instead of the deployment's own.
        base: Folder for the repository and everything else that it writes; default: the temporary folder.
        install: Another tritonserver than the one of this machine.
        retriever: Settings of the retriever, instead of the deployment's own.
        lazy: Settings of the lazy channels, likewise.
        more: Further members, before those of the deployment.
    """

    def __init__(
        self,
        workload: Workload,
        members: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        deploy: Path | None = None,
        name: str = "quorum",
        aslr: bool | None = None,
        scores: bool | None = None,
        gate: Mapping[str, int] | None = None,
        base: Path | None = None,
        install: Install | None = None,
        retriever: RetrieverSpec | None = None,
        lazy: LazySpec | None = None,
        more: Sequence[MemberSpec] = (),
    ) -> None:
        self.name = name
        self._workload = workload
        self._scratch = tempfile.TemporaryDirectory(prefix="quorum-bench-", dir=base)
        folder = Path(self._scratch.name)
        spec = load_deployment(deploy or _write(folder, workload, dict(members or {})))
        ports = {"grpc_port": 0, "http_port": 0, "metrics_port": 0}
        free = spec.server.model_copy(update=ports | ({} if aslr is None else {"aslr": aslr}))
        self._aslr = aslr
        limits = spec.gate.model_copy(update=dict(gate or {}))
        retriever = retriever or spec.retriever
        updates = {"server": free, "gate": limits, "retriever": retriever, "lazy": lazy or spec.lazy}
        self._spec = spec.model_copy(update={**updates, "members": [*more, *spec.members]})
        if scores is not None:
            scoring = [_scoring(member, scores) for member in spec.members]
            self._spec = self._spec.model_copy(update={"members": scoring})
        self.members: Sequence[str] = self._spec.member_names
        self._repository = folder / "model_repository"
        self._server = TritonServer(
            self._spec, repository=self._repository, log_path=folder / "server.log", install=install
        )
        self._statistics: TritonStatistics | None = None
        self._questions: dict[Workload, list[bytes]] = {}

    @property
    def url(self) -> str:
        """``host:port`` of its gRPC endpoint."""
        return self._server.endpoint.grpc_url

    @property
    def endpoint(self) -> Endpoint:
        """All its addresses."""
        return self._server.endpoint

    @property
    def deployment(self) -> Deployment:
        """What it serves."""
        return self._spec

    @property
    def catalogue(self) -> dict[str, str]:
        """Attribute -> hash of the catalogue that it serves."""
        return self._spec.catalogue().hashes

    @property
    def admin_key(self) -> str:
        """Key of its administration."""
        return self._server.endpoint.admin_key

    def start(self) -> None:
        """Render, start, wait for the channels.

        Raises:
            quorum.server.triton.ServerProcessError: It does not start.
            NotAsAsked: It has another memory layout.
        """
        self._render()
        self._server.start()
        self._ready()
        if self._aslr is not None and has_aslr(self._server.pid or 0) is not self._aslr:
            raise NotAsAsked(
                f"the server does not run with aslr: {str(self._aslr).lower()}; a seccomp profile, or how "
                "this process was started, decides otherwise"
            )
        endpoint = self._server.endpoint
        self._statistics = TritonStatistics(endpoint.grpc_url, endpoint.admin_key)

    def stop(self) -> None:
        """Stop the server and remove its files."""
        if self._statistics:
            self._statistics.close()
            self._statistics = None
        self._give_back()
        # No request is in flight, and an orderly stop takes two seconds.
        self._server.stop(drain_s=0)
        self._scratch.cleanup()

    def new_weights(self, weights: Sequence[float]) -> None:
        """Publish new weights and promote them.

        Raises:
            quorum.rollout.channels.RolloutError: They were refused.
        """
        parameters = Parameters(tuple(map(float, weights)))
        made = Weights("majority", tuple(self.members), parameters, catalogue=self.catalogue)
        self.promote(made)

    def promote(self, weights: Weights) -> None:
        """Publish weights and promote them.

        Raises:
            quorum.rollout.channels.RolloutError: They were refused.
        """
        with self.rollout() as rollout:
            rollout.promote(rollout.publish(weights).version)

    @contextmanager
    def rollout(self, retriever: bool = False) -> Iterator[Rollout]:
        """Yield the rollout of this server, to publish weights, or retrievers, and move channels."""
        spec, url = self._spec, self.url
        kind = RetrieverKind if retriever else WeightsKind

        def probe(channel: str) -> int:
            return probe_recommend(url, channel, START_S) if retriever else probe_channel(spec, url, channel)

        with Control(url, self.admin_key) as control:
            yield Rollout(spec, control, probe, self._repository, kind=kind)

    def caller(self, workload: Workload) -> CallerSpec:
        """Return a caller of the stable channel."""
        return self.channel_caller(workload, STABLE)

    def channel_caller(self, workload: Workload, channel: str) -> CallerSpec:
        """Return a caller of any channel."""
        return triton_caller(self.url, channel, workload)

    def member_caller(self, workload: Workload, member: str) -> CallerSpec:
        """Return a caller of one member alone, past gate and vote, with tickets as the gate issues them.

        The tickets come out of the server's own admission file, so the member does exactly the same work as
        inside the ensemble. Call it while the server is idle: only the gate is meant to claim slots.
        """
        return triton_caller(self.url, member, workload, questions=self.questions(workload))

    def questions(self, workload: Workload) -> Sequence[bytes]:
        """Return the gate's packed question for each product, valid for an hour."""
        if workload not in self._questions:
            self._questions[workload] = [self._admitted(p) for p in workload.products]
        return self._questions[workload]

    def pids(self) -> Sequence[int]:
        """The tritonserver; the Python models are its children."""
        return [] if self._server.pid is None else [self._server.pid]

    def steps(self) -> Mapping[str, StepTimes]:
        """Statistics by model: gate, members, vote, and the channel as a whole.

        Members that think answer after their ``execute`` has returned, and Triton's clock for them stops
        there. The ensemble's wait for them is therefore added as :data:`WAITED`: the channel less gate and
        vote.
        """
        times = dict(self._statistics.read()) if self._statistics else {}
        asked = [times[channel] for channel in CHANNELS if channel in times]
        if asked and GATE in times and VOTE in times:
            around = (
                times[GATE].queue_ns + times[GATE].compute_ns + times[VOTE].queue_ns + times[VOTE].compute_ns
            )
            whole = sum(t.queue_ns + t.compute_ns for t in asked)
            times[WAITED] = StepTimes(sum(t.count for t in asked), 0, max(0, whole - around))
        return times

    def __enter__(self) -> QuorumTarget:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _render(self) -> None:
        render(self._spec, self._repository)

    def _ready(self) -> None:
        wait_channels(self._server, START_S)

    def _admitted(self, product: Product) -> bytes:
        assert self._server.pid is not None
        admission = admission_of(self._server.pid)
        now = time.monotonic_ns()
        deadline = now + _PASS_NS
        body = pack_question(Admitted(product.text, product.category, product.attributes, deadline))
        ticket = admission.claim(CAPACITY, now, deadline, admission.seal(body))
        assert ticket is not None
        return add_ticket(ticket, body)

    def _give_back(self) -> None:
        if self._server.pid is not None and self._questions:
            admission = admission_of(self._server.pid)
            for question in itertools.chain(*self._questions.values()):
                admission.release(take_ticket(question).ticket)
        self._questions.clear()


def _scoring(member: MemberSpec, scores: bool) -> MemberSpec:
    """A member with the option ``scores``."""
    options = {**msgspec.to_builtins(member.options), "scores": scores}
    return member.model_copy(update={"options": read_options(member.runtime, options)})


def _write(folder: Path, workload: Workload, members: Mapping[str, Mapping[str, Any]]) -> Path:
    rows = workload.votes_table(list(members))
    votes = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "votes.jsonl").write_text(votes, encoding="utf-8")
    names = dict.fromkeys(name for product in workload.products for name in product.attributes)
    spec = {
        "members": [
            {"name": name, "runtime": "replay", "options": {"votes": "votes.jsonl", **options}}
            for name, options in members.items()
        ],
        "attributes": {name: {} for name in names},
        "gate": {"max_in_flight": _MAX_IN_FLIGHT},
    }
    path = folder / "deploy.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return path
