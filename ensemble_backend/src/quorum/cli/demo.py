# SPDX-License-Identifier: Apache-2.0
"""``quorum demo``: the whole life of a deployment in a few minutes, on real parts and without a GPU."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
import typer
from rich.text import Text

from quorum.cli.console import (
    DEPLOY,
    CommandError,
    DeployOption,
    JsonOption,
    err,
    friendly,
    note,
    print_json,
    spec_of,
)
from quorum.cli.demo_table import Row, interval, print_table, verdict
from quorum.cli.listings import Listing, VotesSink, gold_of, read_listings
from quorum.cli.signals import interrupt_once
from quorum.cli.traffic import Traffic, run_batch
from quorum.decision import weights as weights_file
from quorum.decision.weights import Weights
from quorum.deployment.schema import Deployment
from quorum.learning.learn import learn
from quorum.repository.render import render
from quorum.repository.store import write_atomic
from quorum.review.label import choose
from quorum.rollout.channels import Rollout
from quorum.server.control import Control
from quorum.server.probe import probe_channel
from quorum.server.runfile import STATE_FOLDER
from quorum.server.supervise import wait_channels
from quorum.server.triton import TritonServer
from quorum.votes.table import VotesTable, read_votes
from quorum_contract import CANARY, STABLE

_LISTINGS = Path("examples/demo/listings.jsonl")
_START_TIMEOUT_S = 120.0
_CONCURRENCY = 8
_TRAFFIC_CONCURRENCY = 4
_LATENCY_LISTINGS = 40
_GOLD_LABELS = 100
_PAUSE_S = 1.5


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


@dataclass(slots=True)
class _Demo:
    """What one run knows."""

    spec: Deployment
    folder: Path
    learning: list[Listing]
    heldout: list[Listing]
    rows: list[Row] = field(default_factory=list)
    marks: list[tuple[float, str]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @property
    def attributes(self) -> list[str]:
        return list(self.spec.attributes)

    def say(self, text: str) -> None:
        note(Text.assemble((f"{time.monotonic() - self.started:6.1f} s", "green"), f"  {text}"))


@friendly
def demo(
    deploy: DeployOption = DEPLOY,
    listings: Annotated[Path, typer.Option(help="Listings with gold, JSONL.")] = _LISTINGS,
    report: Annotated[Path, typer.Option(help="HTML report to write.")] = Path(STATE_FOLDER)
    / "demo"
    / "report.html",
    json: JsonOption = False,
) -> None:
    """Start Triton, let the LLMs vote, learn weights, redeploy them under load, and show what it brought.

    Runs on ports of its own and a copy of the model repository; stops everything and leaves only the report.

    Example: `quorum demo`
    """
    interrupt_once()
    spec = _on_free_ports(spec_of(deploy))
    rows = read_listings(listings)
    if any(not row.gold for row in rows):
        raise CommandError(f"{listings}: the demo compares with gold; every row needs `gold`")
    folder = Path(tempfile.mkdtemp(prefix="quorum-demo-"))
    half = len(rows) // 2
    run = _Demo(spec, folder, rows[:half], rows[half:])
    try:
        traffic = _ensemble(run)
        _singles(run)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not json:
        print_table(run.rows)
        note(verdict(run.rows))
    report.parent.mkdir(parents=True, exist_ok=True)
    # matplotlib takes a while to import; no other command wants it.
    from quorum.cli.demo_report import write_report

    write_report(report, run.rows, traffic.samples, run.marks, listings=len(run.heldout))
    failed = traffic.failed
    run.say(f"report: {report.resolve()}")
    if json:
        print_json(
            {"rows": [row.as_json() for row in run.rows], "requests": len(traffic.samples), "failed": failed}
        )
    if failed or run.left:
        behind = run.left or "nothing"
        raise CommandError(f"{failed} requests failed during the redeploys; left behind: {behind}")
    run.say("all servers stopped, nothing left behind")


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
        _measure(run, url, "majority (version 1)", len(run.spec.members))
        unlabelled = votes.with_gold(np.zeros(len(votes), dtype=np.bool_))
        em = _learn(run, unlabelled, "em")
        with traffic:
            _publish(run, rollout, traffic, em, "learned from agreement alone, no gold labels")
            traffic.let_run(_PAUSE_S)
            _mark(run, traffic, "promote 2", lambda: rollout.promote(2))
            traffic.let_run(_PAUSE_S)
        run.say(f"version 2 went live under {len(traffic.samples)} requests, {traffic.failed} failed")
        _measure(run, url, "learned, no gold (version 2)", len(run.spec.members))
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
        _measure(run, url, f"learned, {_GOLD_LABELS} gold (version 3)", len(run.spec.members))
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
            _measure(run, server.endpoint.grpc_url, f"{member.name} alone", 1)
    run.rows += ensembles


@contextmanager
def _server(run: _Demo, spec: Deployment, repository: Path) -> Iterator[TritonServer]:
    server = TritonServer(spec, repository=repository, log_path=run.folder / "server.log")
    try:
        with err.status("starting Triton"):
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
    results = run_batch(url, channel, listings, run.attributes, _CONCURRENCY, what)
    with path.open("w", encoding="utf-8") as file:
        sink = VotesSink(file, run.spec.catalogue())
        for listing, result in zip(listings, results, strict=True):
            sink.write(listing, result)
    if keep:
        run.say(
            f"{len(listings)} listings x {len(run.attributes)} attributes by {len(run.spec.members)} LLMs"
        )
    return read_votes(path)


def _measure(run: _Demo, url: str, name: str, calls: int) -> None:
    """One row of the table: the held-out half for accuracy, some of it one by one for latency."""
    results = run_batch(url, STABLE, run.heldout, run.attributes, _CONCURRENCY, name)
    one_by_one = run_batch(
        url, STABLE, run.heldout[:_LATENCY_LISTINGS], run.attributes, 1, f"{name}, one at a time"
    )
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
            calls=calls * len(run.heldout),
            latencies_ms=[r.latency_s * 1e3 for r in one_by_one],
        )
    )
    shown = run.rows[-1].accuracy
    run.say(f"{name}: {shown.value:.1%} right on held-out listings")


def _learn(run: _Demo, votes: VotesTable, method: str) -> Weights:
    catalogue = run.spec.catalogue()
    weights = learn(
        votes,
        method=method,
        catalogue_hash=catalogue.hash,
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
    server = spec.server.model_copy(update={"grpc_port": 0, "http_port": 0, "metrics_port": 0})
    return spec.model_copy(update={"server": server})
