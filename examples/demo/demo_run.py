# SPDX-License-Identifier: Apache-2.0
"""Show the whole life of a deployment in a few minutes, on real parts and without a GPU: `quorum demo`."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from demo_report import write_report
from demo_table import (
    LAZY_ROW,
    Row,
    changes,
    compare_lazy,
    interval,
    show_attributes,
    show_changes,
    show_table,
    verdict,
    warning,
)
from demo_traffic import Traffic
from rich.table import Table

from quorum.bulk.ask import ask_all
from quorum.bulk.callbacks import Progress, ignore
from quorum.bulk.listings import Listing, ListingsError, gold_of, read_listings
from quorum.bulk.outputs.votes_tables import VotesSink
from quorum.decision import weights as weights_file
from quorum.decision.weights import Weights
from quorum.deployment.schema import Deployment
from quorum.files import write_atomic
from quorum.learning.learn import learn
from quorum.repository.render import render
from quorum.review.choose import choose
from quorum.rollout.channels import Rollout
from quorum.server.control import Control
from quorum.server.probe import probe_channel
from quorum.server.supervise import wait_channels
from quorum.server.triton import TritonServer
from quorum.votes import VotesTable, VotesWriter, read_votes
from quorum_client import Extraction
from quorum_contract import CANARY, LAZY, STABLE

Bar = Callable[[str], AbstractContextManager[Progress]]

_START_TIMEOUT_S = 120.0
_CONCURRENCY = 8
_TRAFFIC_CONCURRENCY = 4
_LATENCY_LISTINGS = 40
_GOLD_LABELS = 100
_PAUSE_S = 1.5


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What a run came to.

    Attributes:
        rows: Who answered, how well, at what cost.
        requests: Requests of the background stream.
        failed: Of these, without an answer.
        left: Processes and files that a server left behind.
        report: The HTML report.
        lazy: How the lazy channel's values compare with the full channel's, in words; "": it was not asked.
    """

    rows: list[Row]
    requests: int
    failed: int
    left: list[str]
    report: Path
    lazy: str = ""

    def tables(self) -> tuple[Table, ...]:
        """The rows for a terminal, as a whole and by attribute, and what each version changes."""
        return show_table(self.rows), show_attributes(self.rows), show_changes(self.rows)

    def warning(self) -> str:
        """The attributes on which a learned version is worse; "" if there is none."""
        return warning(self.rows)

    def verdict(self) -> str:
        """Each learned version against the best single LLM and against majority, and the lazy channel."""
        return "\n".join(filter(None, (verdict(self.rows), self.lazy)))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        rows = [row.as_json() for row in self.rows]
        changed = {name: judged.to_json() for name, judged in changes(self.rows).items()}
        counts = {"requests": self.requests, "failed": self.failed}
        return {"rows": rows, "changes": changed, "lazy": self.lazy, **counts}


@dataclass(slots=True)
class _Demo:
    """What one run knows."""

    spec: Deployment
    folder: Path
    learning: list[Listing]
    heldout: list[Listing]
    note: Callable[[str], None]
    bar: Bar
    rows: list[Row] = field(default_factory=list)
    marks: list[tuple[float, str]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    lazy: str = ""

    @property
    def attributes(self) -> list[str]:
        return list(self.spec.attributes)

    def say(self, text: str) -> None:
        self.note(f"{time.monotonic() - self.started:6.1f} s  {text}")

    def ask(
        self, url: str, channel: str, listings: Sequence[Listing], concurrency: int, what: str
    ) -> list[Extraction]:
        with self.bar(what) as progress:
            return ask_all(url, channel, listings, self.attributes, concurrency, progress)


def run(
    deployment: Deployment,
    listings: Path,
    report: Path,
    *,
    note: Callable[[str], None] = ignore,
    bar: Bar = lambda _: nullcontext(ignore),
) -> DemoReport:
    """Start Triton, let the LLMs vote, learn weights, redeploy them under load, and measure each step.

    Runs on ports of its own and a copy of the model repository; stops everything and leaves only the report.

    Args:
        deployment: The members to show.
        listings: JSONL with gold in every row.
        report: HTML report to write.
        note: Takes what happens, for people.
        bar: Opens a progress bar for a batch of requests, named for people.

    Raises:
        ListingsError: A row has no gold.
    """
    rows = read_listings(listings)
    if any(not row.gold for row in rows):
        raise ListingsError(f"{listings}: the demo compares with gold; every row needs `gold`")
    folder = Path(tempfile.mkdtemp(prefix="quorum-demo-"))
    half = len(rows) // 2
    demo = _Demo(_on_free_ports(deployment), folder, rows[:half], rows[half:], note, bar)
    try:
        traffic = _ensemble(demo)
        _singles(demo)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report.parent.mkdir(parents=True, exist_ok=True)
    write_report(report, demo.rows, traffic.samples, demo.marks, listings=len(demo.heldout), lazy=demo.lazy)
    demo.say(f"report: {report.resolve()}")
    return DemoReport(demo.rows, len(traffic.samples), traffic.failed, demo.left, report, demo.lazy)


def _ensemble(run: _Demo) -> Traffic:
    """Three versions of the weights on one server, each measured while the stable channel answers with it."""
    repository = run.folder / "model_repository"
    render(run.spec, repository)
    with (
        _server(run, run.spec, repository) as server,
        Control(server.endpoint.grpc_url, server.endpoint.admin_key) as control,
    ):
        url = server.endpoint.grpc_url
        run.say(f"Triton is up at {url}: {len(run.spec.members)} LLMs, both channels answer")
        rollout = Rollout(
            run.spec, control, lambda channel: probe_channel(run.spec, url, channel), repository
        )
        votes = _extract(run, url, STABLE, run.learning, "asking every LLM about the learning half")
        traffic = Traffic(url, STABLE, run.learning, run.attributes, _TRAFFIC_CONCURRENCY)
        _measure(run, url, "majority (version 1)")
        unlabelled = votes.with_gold(np.zeros(len(votes), dtype=np.bool_))
        em = _learn(run, unlabelled, "em")
        with traffic:
            _publish(run, rollout, traffic, em, "learned from agreement and scores, no gold labels")
            traffic.let_run(_PAUSE_S)
            _mark(run, traffic, "promote 2", lambda: rollout.promote(2))
            traffic.let_run(_PAUSE_S)
        run.say(f"version 2 went live under {len(traffic.samples)} requests, {traffic.failed} failed")
        _measure(run, url, "learned, no gold (version 2)")
        labelled = np.zeros(len(votes), dtype=np.bool_)
        labelled[[choice.index for choice in choose(unlabelled, _GOLD_LABELS)]] = True
        loglinear = _learn(run, votes.with_gold(labelled), "loglinear")
        with traffic:
            _publish(
                run,
                rollout,
                traffic,
                loglinear,
                f"learned with the {_GOLD_LABELS} gold labels that `quorum label` asks for",
            )
            _mark(run, traffic, "canary 3", lambda: rollout.canary(3))
            canary = _extract(run, url, CANARY, run.heldout[:50], "asking the canary", keep=False)
            run.say(f"canary: {canary.n_products} listings answered by version 3 while version 2 stays live")
            for label, act in (
                ("promote 3", lambda: rollout.promote(3)),
                ("rollback", rollout.rollback),
                ("promote 3", lambda: rollout.promote(3)),
            ):
                _mark(run, traffic, label, act)
                traffic.let_run(_PAUSE_S)
        versions = ", ".join(map(str, traffic.versions))
        run.say(
            f"redeploys under load: {len(traffic.samples)} requests, {traffic.failed} failed, "
            f"answered by versions {versions}"
        )
        full = _measure(run, url, f"learned, {_GOLD_LABELS} gold (version 3)")
        if run.spec.lazy:
            run.lazy = compare_lazy(full, _measure(run, url, LAZY_ROW, LAZY))
            run.say(run.lazy)
        run.say("stopping the server")
    return traffic


def _singles(run: _Demo) -> None:
    """Each LLM alone, on a server of its own: the fair comparison for latency."""
    ensembles, run.rows = run.rows, []
    for member in run.spec.members:
        spec = run.spec.model_copy(update={"members": [member]})
        repository = run.folder / f"alone-{member.name}"
        render(spec, repository)
        with _server(run, spec, repository) as server:
            _measure(run, server.endpoint.grpc_url, f"{member.name} alone")
    run.rows += ensembles


@contextmanager
def _server(run: _Demo, spec: Deployment, repository: Path) -> Iterator[TritonServer]:
    server = TritonServer(spec, repository=repository, log_path=run.folder / "server.log")
    try:
        run.say("starting Triton")
        server.start()
        wait_channels(server, _START_TIMEOUT_S)
        yield server
    finally:
        server.stop()
        run.left += server.leftovers()


def _extract(
    run: _Demo, url: str, channel: str, listings: Sequence[Listing], what: str, keep: bool = True
) -> VotesTable:
    path = run.folder / f"votes-{channel}-{len(list(run.folder.glob('votes-*')))}.jsonl"
    results = run.ask(url, channel, listings, _CONCURRENCY, what)
    with VotesWriter(path) as writer:
        sink = VotesSink(writer, run.spec.catalogue())
        for listing, result in zip(listings, results, strict=True):
            sink.write(listing, result)
    if keep:
        run.say(
            f"{len(listings)} listings x {len(run.attributes)} attributes by {len(run.spec.members)} LLMs"
        )
    return read_votes(path)


def _measure(run: _Demo, url: str, name: str, channel: str = STABLE) -> list[Extraction]:
    """One row of the table: the held-out half for accuracy, some of it one by one for latency."""
    results = run.ask(url, channel, run.heldout, _CONCURRENCY, name)
    one_by_one = run.ask(url, channel, run.heldout[:_LATENCY_LISTINGS], 1, f"{name}, one at a time")
    spent = [result.spent for result in results if result.spent]
    catalogue = run.spec.catalogue()
    right = {
        a: [
            result[a].value in gold_of(listing, a, catalogue)
            for listing, result in zip(run.heldout, results, strict=True)
        ]
        for a in run.attributes
    }
    run.rows.append(
        Row(
            name=name,
            accuracy=interval([right[a] for a in run.attributes]),
            right=[right[a] for a in run.attributes],
            by_attribute={a: sum(hits) / len(hits) for a, hits in right.items()},
            calls=sum(s.calls for s in spent) / len(results),
            tokens=sum((s.prompt_tokens or 0) + (s.answer_tokens or 0) for s in spent) / len(results),
            llm_ms=1e3 * sum(s.seconds or 0.0 for s in spent) / len(results),
            latencies_ms=[r.latency_s * 1e3 for r in one_by_one],
        )
    )
    shown = run.rows[-1].accuracy
    run.say(f"{name}: {shown.value:.1%} right on held-out listings")
    return results


def _learn(run: _Demo, votes: VotesTable, method: str) -> Weights:
    catalogue = run.spec.catalogue()
    weights = learn(
        votes,
        method=method,
        catalogue=catalogue.hashes,
        value_counts=catalogue.value_counts(),
    )
    write_atomic(run.folder / f"{method}.json", weights_file.dumps(weights))
    return weights


def _publish(run: _Demo, rollout: Rollout, traffic: Traffic, weights: Weights, how: str) -> None:
    change = _mark(run, traffic, "publish", lambda: rollout.publish(weights))
    run.say(f"published version {change.version}: {weights.method}, {how}; requests keep flowing")


T = TypeVar("T")


def _mark(run: _Demo, traffic: Traffic, label: str, act: Callable[[], T]) -> T:
    """Do something to the server and remember when, for the plot."""
    begin = traffic.now()
    result = act()
    run.marks.append((begin, label))
    run.say(f"{label}: {traffic.now() - begin:.2f} s")
    return result


def _on_free_ports(spec: Deployment) -> Deployment:
    server = spec.server.model_copy(update={"grpc_port": 0, "http": False, "metrics_port": 0})
    return spec.model_copy(update={"server": server})
