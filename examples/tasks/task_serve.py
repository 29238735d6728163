# SPDX-License-Identifier: Apache-2.0
"""Serve the tasks' deployment: ask all kinds of questions, learn weights, redeploy them under load."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from demo_traffic import Sample, Traffic
from task_tune import VALUES

from quorum.bulk.ask import ask_all
from quorum.bulk.callbacks import Progress
from quorum.bulk.listings import Listing, read_listings
from quorum.bulk.outputs.votes_tables import VotesSink
from quorum.decision.weights import Weights
from quorum.deployment.schema import Deployment
from quorum.learning.by_kind import learn
from quorum.repository.render import render
from quorum.rollout.channels import Rollout
from quorum.server.control import Control
from quorum.server.probe import probe_channel
from quorum.server.supervise import wait_channels
from quorum.server.triton import TritonServer
from quorum.votes import VotesTable, VotesWriter, read_votes
from quorum_client import AsyncClient, Extraction, QuorumError
from quorum_contract import STABLE

_START_TIMEOUT_S = 180.0
_CONCURRENCY = 8
_TRAFFIC_CONCURRENCY = 8
_PAUSE_S = 3.0
_LATENCY_ROWS = 3
_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Task:
    """One task: the file of its rows, the attributes that are asked together, and its kind of answer."""

    file: str
    attributes: tuple[str, ...]
    kind: str
    fields: tuple[str, ...] = ()

    def rows(self, folder: Path, split: str) -> list[Listing]:
        """The rows of a split."""
        return read_listings(folder / "data" / f"{self.file}-{split}.jsonl", fields=self.fields)


TASKS: Mapping[str, Task] = {
    "attributes": Task("attributes", tuple(VALUES.split(",")), "value"),
    "entities": Task("entities", ("entities",), "spans"),
    "relevance": Task("relevance", ("relevance",), "label", ("query", "title")),
    "description": Task("descriptions", ("description",), "text", ("title", "known")),
}
ALL = "all members"
"""Key of the latencies of the whole ensemble."""
TASK_OF: Mapping[str, str] = {name: task for task, own in TASKS.items() for name in own.attributes}
"""Attribute -> task."""


class Asked(NamedTuple):
    """A question and its answer."""

    listing: Listing
    answer: Extraction


@dataclass(slots=True)
class Served:
    """What the server did.

    Attributes:
        members: All members.
        test: Votes on test rows, with gold.
        answers: (task, product) -> the answers of the server with learned weights.
        weights: Those.
        latencies_ms: Who -> task -> milliseconds of each request, asked one at a time.
        samples: Requests during the redeploys.
        marks: When something was done to the server, and what; same clock as the samples.
        versions: Versions of the weights that answered these requests.
        left: Processes and files that a server left behind.
    """

    members: tuple[str, ...]
    test: VotesTable
    answers: Mapping[tuple[str, str], Extraction]
    weights: Weights
    latencies_ms: dict[str, dict[str, list[float]]]
    samples: Sequence[Sample]
    marks: Sequence[tuple[float, str]]
    versions: Sequence[int]
    left: list[str]

    @property
    def failed(self) -> int:
        """Requests during the redeploys that got no answer."""
        return sum(sample.version is None for sample in self.samples)


class MixedTraffic(Traffic):
    """The demo's stream of requests, with questions of all tasks in turn."""

    def __init__(self, url: str, asks: Sequence[tuple[Listing, tuple[str, ...]]]) -> None:
        super().__init__(url, STABLE, [], [], _TRAFFIC_CONCURRENCY)
        self._asks = itertools.cycle(asks)

    async def _loop(self, client: AsyncClient) -> None:
        while not self._stop.is_set():
            (listing, attributes), at = next(self._asks), self.now()
            try:
                result = await client.extract(
                    listing.text, attributes, category=listing.category, timeout_s=_TIMEOUT_S
                )
                sample = Sample(at, (self.now() - at) * 1e3, result.weights_version)
            except QuorumError as error:
                sample = Sample(at, (self.now() - at) * 1e3, None, str(error))
            self.samples.append(sample)


@dataclass(slots=True)
class _Run:
    spec: Deployment
    folder: Path
    note: Callable[[str], None]
    bar: Callable[[str], AbstractContextManager[Progress]]
    left: list[str] = field(default_factory=list)
    latencies_ms: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    marks: list[tuple[float, str]] = field(default_factory=list)


def serve(
    deployment: Deployment,
    folder: Path,
    note: Callable[[str], None],
    bar: Callable[[str], AbstractContextManager[Progress]],
) -> Served:
    """Start Triton with all members, and go from votes to learned weights that answer.

    Args:
        deployment: With free ports.
        folder: Holds ``data/``; repository, votes and logs are written there.
        note: Takes what happens, for people.
        bar: Opens a progress bar.
    """
    run = _Run(deployment, folder, note, bar)
    repository = folder / "model_repository"
    render(deployment, repository)
    members = tuple(member.name for member in deployment.members)
    with (
        _server(run, deployment, repository) as server,
        Control(server.endpoint.grpc_url, server.endpoint.admin_key) as control,
    ):
        url = server.endpoint.grpc_url
        note(f"Triton is up at {url} with {len(members)} members")
        votes, _ = _ask(run, url, "learn")
        weights = _learn(deployment, votes)
        note(f"learned weights from {len(votes)} cells with gold: {weights.method}")
        traffic = _redeploy(run, url, control, repository, weights)
        test, asked = _ask(run, url, "test")
        run.latencies_ms[ALL] = _one_by_one(run, url, TASKS)
    _alone(run)
    answers = {(task, one.listing.product): one.answer for task, own in asked.items() for one in own}
    return Served(
        members, test, answers, weights, run.latencies_ms,
        traffic.samples, run.marks, traffic.versions, run.left,
    )  # fmt: skip


def _learn(deployment: Deployment, votes: VotesTable) -> Weights:
    catalogue = deployment.catalogue()
    return learn(
        votes,
        kinds=catalogue.answer_kinds(),
        catalogue=catalogue.hashes,
        value_counts=catalogue.value_counts(),
    )


def _redeploy(run: _Run, url: str, control: Control, repository: Path, weights: Weights) -> MixedTraffic:
    """Publish and promote the weights, roll them back and promote them again, while questions keep coming."""
    rows = [[(row, task.attributes) for row in task.rows(run.folder, "learn")] for task in TASKS.values()]
    traffic = MixedTraffic(url, list(itertools.chain.from_iterable(zip(*rows, strict=False))))
    rollout = Rollout(run.spec, control, lambda channel: probe_channel(run.spec, url, channel), repository)
    with traffic:
        traffic.let_run(_PAUSE_S)
        version = _mark(run, traffic, "publish", lambda: rollout.publish(weights)).version
        for label, act in (
            (f"promote {version}", lambda: rollout.promote(version)),
            ("rollback", rollout.rollback),
            (f"promote {version}", lambda: rollout.promote(version)),
        ):
            _mark(run, traffic, label, act)
            traffic.let_run(_PAUSE_S)
    run.note(
        f"redeployed under load: {len(traffic.samples)} requests of all kinds, {traffic.failed} failed,"
        f" answered by versions {', '.join(map(str, traffic.versions))}"
    )
    return traffic


T = TypeVar("T")


def _mark(run: _Run, traffic: Traffic, label: str, act: Callable[[], T]) -> T:
    begin = traffic.now()
    result = act()
    run.marks.append((begin, label))
    return result


def _alone(run: _Run) -> None:
    """Latency of each LLM on a server of its own, and of the encoders, which answer different tasks."""
    encoders = [member for member in run.spec.members if member.runtime == "encoder"]
    groups = [encoders, *([member] for member in run.spec.members if member.runtime != "encoder")]
    for members in groups:
        spec = run.spec.model_copy(update={"members": members})
        repository = run.folder / f"alone-{members[0].name}"
        render(spec, repository)
        with _server(run, spec, repository) as server:
            for member in members:
                own = {
                    n: t for n, t in TASKS.items() if member.runtime != "encoder" or member.name.endswith(n)
                }
                run.latencies_ms[member.name] = _one_by_one(run, server.endpoint.grpc_url, own)


def _one_by_one(run: _Run, url: str, tasks: Mapping[str, Task]) -> dict[str, list[float]]:
    found = {}
    for name, task in tasks.items():
        rows = task.rows(run.folder, "test")[: _LATENCY_ROWS + 1]
        with run.bar(f"latency: {name}") as progress:
            answers = ask_all(url, STABLE, rows, task.attributes, 1, progress)
        # The first request of a kind compiles its grammar.
        found[name] = [answer.latency_s * 1e3 for answer in answers[1:]]
    return found


def _ask(run: _Run, url: str, split: str) -> tuple[VotesTable, dict[str, list[Asked]]]:
    """Ask about all rows of a split, and record every vote with gold."""
    path, asked, start = run.folder / f"votes-{split}.jsonl", dict[str, list[Asked]](), time.monotonic()
    with VotesWriter(path) as writer:
        sink = VotesSink(writer, run.spec.catalogue())
        for name, task in TASKS.items():
            rows = task.rows(run.folder, split)
            with run.bar(f"{split} rows, {name}") as progress:
                answers = ask_all(url, STABLE, rows, task.attributes, _CONCURRENCY, progress)
            asked[name] = [Asked(*pair) for pair in zip(rows, answers, strict=True)]
            for row, answer in asked[name]:
                sink.write(row, answer)
    total = sum(map(len, asked.values()))
    run.note(f"{split} rows: {total} questions of {len(TASKS)} kinds in {time.monotonic() - start:.0f} s")
    return read_votes(path), asked


@contextmanager
def _server(run: _Run, spec: Deployment, repository: Path) -> Iterator[TritonServer]:
    server = TritonServer(spec, repository=repository, log_path=run.folder / f"{repository.name}.log")
    try:
        server.start()
        wait_channels(server, _START_TIMEOUT_S)
        yield server
    finally:
        server.stop()
        run.left += server.leftovers()
