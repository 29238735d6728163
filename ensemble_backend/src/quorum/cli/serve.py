# SPDX-License-Identifier: Apache-2.0
"""``quorum up | status | clean``: run the server, report its state, remove what killed ones left."""

from __future__ import annotations

import sys
from contextlib import ExitStack, nullcontext, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

import quorum
from quorum.bulk.spent import money
from quorum.cli.console import (
    DEPLOY,
    CommandError,
    DeployOption,
    JsonOption,
    adapters_text,
    counted,
    err,
    log_notes,
    new_table,
    note,
    note_finding,
    out,
    print_json,
)
from quorum.cli.describe import refuse_misfits
from quorum.cli.rollout import describe_missing
from quorum.cli.signals import interrupt_once
from quorum_contract import CANARY, RECOMMEND_CANARY, STABLE

if TYPE_CHECKING:
    from quorum.operations.status import ChannelStatus, FleetServer
    from quorum.server.json_log import JsonLog
    from quorum.server.triton import TritonServer

_SHOWN = 3


class LogFormat(StrEnum):
    """How `quorum up` writes its log."""

    TEXT = "text"
    JSON = "json"


def up(
    deploy: DeployOption = DEPLOY,
    start_timeout: Annotated[float, typer.Option(help="Seconds until every channel must answer.")] = 120.0,
    host: Annotated[
        str | None,
        typer.Option(envvar="QUORUM_HOST", help="Listen at this address instead of `server.host`."),
    ] = None,
    trusted_network: Annotated[
        bool,
        typer.Option(
            "--trusted-network",
            envvar="QUORUM_TRUSTED_NETWORK",
            help="All who can reach the address are trusted, as `server.trusted_network`.",
        ),
    ] = False,
    preflight: Annotated[
        bool, typer.Option(help="Check that this machine can serve it before the start.")
    ] = True,
    probe_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65_535, help="Also answer HTTP /live and /ready/CHANNEL here; 0: a free port."
        ),
    ] = None,
    silence: Annotated[
        float, typer.Option(min=1.0, help="Restart the server when no channel answers for so many seconds.")
    ] = 5.0,
    gateway: Annotated[
        bool, typer.Option(help="Open the gateway of deploy.yaml; --no-gateway: it runs elsewhere.")
    ] = True,
    log_format: Annotated[
        LogFormat | None,
        typer.Option(help="`json`: all lines, also of Triton and steps, as JSON; by default `server.log`."),
    ] = None,
) -> None:
    """Serve the deployment in the foreground, until Ctrl-C or SIGTERM; requests in flight are answered first.

    Once it serves it goes on: a step whose process dies is reloaded, a server that dies or falls silent is
    restarted at the same addresses, and `quorum status` shows each incident. A gateway that dies is opened
    again, as a line on standard error says. With `--probe-port` an
    orchestrator can call `/ready/quorum` (a probe of every step that asks no LLM; see `quorum probe`) and
    `/live`. With `server.metrics` in deploy.yaml, Prometheus finds metrics of votes, members and endpoints at
    `/metrics` of that port. With `--log-format json` standard error has a line of JSON for each line of
    supervisor, steps, Triton and gateway.

    By default only this machine can ask. A section `gateway` in deploy.yaml opens a gateway for callers with
    keys (`quorum gateway --help`). Without it, with QUORUM_INFERENCE_KEY set, one for callers with that key
    listens at `server.host`, and Triton itself stays on 127.0.0.1. See SECURITY.md.

    Other commands (`ask`, `publish`, ...) find the server by a file in `.quorum/`, which holds the admin key.
    Set QUORUM_ADMIN_KEY to choose that key yourself. Triton takes it on its command line, where other users
    of the machine can read it: on a shared host run in a container.

    Example: `quorum up &`, then `quorum status`
    """
    from quorum.server.launch import NO_EFFECT, has_aslr, raise_open_files

    raise_open_files()
    log = _json_log() if log_format == LogFormat.JSON else None
    spec = quorum.load_deployment(deploy)
    if log_format is not None:
        spec = spec.model_copy(update={"server": spec.server.model_copy(update={"log": log_format.value})})
    elif spec.server.log == "json":
        log = _json_log()
    spec = _listening(spec, host, trusted_network)
    if not gateway:
        spec = spec.model_copy(update={"gateway": None})
    if taken := [key for key, port in spec.server.ports.items() if port and port == probe_port]:
        raise CommandError(f"--probe-port {probe_port} is server.{taken[0]} of {deploy}; choose another")
    if preflight:
        refuse_misfits(spec)
    interrupted = interrupt_once()
    with ExitStack() as running:
        if log is not None:
            running.enter_context(log.following(spec))
        with nullcontext() if log else err.status(f"starting Triton with {len(spec.members)} members"):
            server = running.enter_context(
                quorum.serve(
                    spec,
                    start_timeout_s=start_timeout,
                    report=note,
                    on_started=lambda server: _serve_pages(running, server, probe_port),
                )
            )
        if not spec.server.aslr and server.pid is not None and has_aslr(server.pid):
            note(NO_EFFECT)
        _note_addresses(deploy, server)
        with suppress(KeyboardInterrupt):
            quorum.keep_serving(
                server,
                note_finding,
                silence_s=silence,
                start_timeout_s=start_timeout,
                interrupted=interrupted,
            )
        note("refusing new requests, answering what is in flight, then stopping")


def _note_addresses(deploy: Path, server: TritonServer) -> None:
    """Say where callers may ask."""
    place = server.endpoint
    with_key = " with a key" if place.gateway else ""
    note(f"serving {deploy} at {place.callers_url} (gRPC{with_key}), log in {server.log_path}; Ctrl-C stops")
    if place.gateway_http:
        note(
            f"gateway: http{'s' if server.spec.gateway and server.spec.gateway.tls else ''}://{place.gateway_http}"
        )
    if server.spec.gateway:
        note(f"without a key, for this machine or a trusted network: {place.grpc_url} (gRPC)")


def _json_log() -> JsonLog:
    """Write lines of JSON to standard error, from now on also all notes."""
    from quorum.server.json_log import JsonLog

    def write(line: str) -> None:
        sys.stderr.write(line)
        sys.stderr.flush()

    log = JsonLog(write)
    log_notes(log.note)
    return log


def _listening(spec: quorum.Deployment, host: str | None, trusted_network: bool) -> quorum.Deployment:
    """The deployment with the address of the command line; says so where few connections fit."""
    from quorum.server.launch import FEW_OPEN_FILES, most_open_files

    if (files := most_open_files()) < FEW_OPEN_FILES:
        note(
            f"only {files} files may be open, and each connection takes one; "
            "raise the hard limit (`ulimit -Hn`)"
        )
    changes = ({"host": host} if host else {}) | ({"trusted_network": True} if trusted_network else {})
    return spec.model_copy(update={"server": spec.server.model_copy(update=changes)})


def _serve_pages(running: ExitStack, server: TritonServer, port: int | None) -> None:
    """Serve metrics and probes from the start: a server that still loads its LLMs is live and not ready."""
    if (place := server.spec.server.metrics) is not None:
        page = running.enter_context(quorum.metrics_of(server))
        note(f"metrics: http://{place.host}:{page.port}/metrics")
    if port is None:
        return
    probes = running.enter_context(quorum.probes_of(server, port))
    note(f"probes: http://{server.spec.server.host}:{probes.port}/ready/{STABLE} and /live")


def status(
    wait: Annotated[float, typer.Option(help="Wait so many seconds for every channel.", min=0)] = 0.0,
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Show channels, versions, members, their budgets and last incidents of the running server.

    Exit code 1 if a channel does not answer. `--json` has all recent incidents.

    With a `fleet` in deploy.yaml: what each of its servers runs.

    Example: `quorum up & quorum status --wait 120`
    """
    with err.status("asking every channel"):
        deployment = quorum.load_deployment(deploy)
        report = quorum.status(deployment, wait)
    print_json(report) if json else _show(report, deployment.currency)
    if not report.all_answer:
        raise typer.Exit(1)


def clean(json: JsonOption = False) -> None:
    """Remove what killed servers of this user left: processes, shared memory, scratch files.

    Servers that run are left alone. `quorum up` does the same before it starts one.

    Example: `quorum clean`
    """
    removed = quorum.clean()
    if json:
        print_json(removed)
        return
    for pid in removed.processes:
        out.print(f"ended process {pid}")
    for file in removed.files:
        out.print(f"removed {file}")
    if not removed.processes and not removed.files:
        note("nothing was left by a dead server")


def _show(report: quorum.ServerStatus | quorum.FleetStatus, currency: str) -> None:
    if isinstance(report, quorum.FleetStatus):
        _show_fleet(report)
        return
    up_pid = f"\nquorum up pid {report.up_pid}" if report.up_pid else ""
    title = f"{report.url}\ntritonserver pid {report.pid or 'unknown'}{up_pid}"
    channels = new_table("channel", "answers", "version", title=title)
    for name, c in report.channels.items():
        answers = Text("yes", "green") if c.answers else Text.assemble(("no ", "red"), c.reason)
        channels.add_row(name, answers, str(c.version))
    versions = new_table("weights", "state", "method", "gold labels", "learned", "hash")
    for number, v in report.versions.items():
        if v.damaged is not None:
            versions.add_row(str(number), v.state, Text("damaged on disk", "red"), "", "", "")
            note(f"version {number} is damaged on disk: {v.damaged}")
            continue
        short = (v.content_hash or "").removeprefix("sha256:")[:8]
        method = f"{v.method}, by scores" if v.uses_scores else v.method
        learned = (v.created or "-")[:16].replace("T", " ")
        versions.add_row(str(number), v.state, method, str(v.gold_labels), learned, short)
    members = new_table("member", "state", *["adapters"] * bool(report.adapters), "reason")
    for name, m in report.members.items():
        adapters = [Text(adapters_text(report.adapters.get(name, {})))] * bool(report.adapters)
        state = Text(m.state, "" if m.state == "READY" else "bold red")
        members.add_row(name, state, *adapters, Text(m.reason))
    more = (*_budgets(report, currency), *_retriever_tables(report.retriever))
    for table in (channels, versions, members, *more):
        out.print(table)
    _show_endpoints(report)
    if gateway := report.gateway:
        state = Text("takes connections") if gateway.is_open else Text("takes no connections", "bold red")
        listens = ", ".join(filter(None, (gateway.grpc, gateway.http and f"{gateway.http} (HTTP)")))
        out.print(Text.assemble(f"gateway {listens}: ", state), soft_wrap=True)
    _note(report)


def _show_endpoints(report: quorum.ServerStatus) -> None:
    """Print a block for each endpoint that remote members ask: how it answers, and what went wrong last."""
    for member, remote in report.endpoints.items():
        counts = f"{counted(remote.questions, 'question')}, {remote.waiting} in line for an endpoint"
        repeated = counted(remote.repeated, "request")
        out.print(Text(f"{member}: {counts}; {repeated} repeated"), soft_wrap=True)
        for e in remote.endpoints:
            state = Text(e.breaker, "" if e.state == "closed" else "bold red")
            times = "-" if e.p50_s is None or e.p95_s is None else f"{e.p50_s:.2f}, {e.p95_s:.2f} s"
            lost = ((e.failed, "failed"), (e.limited, "were too many"))
            others = "".join(f", {number} {what}" for number, what in lost if number)
            answers = e.form + (", with scores" if e.scores else "")
            lines = [
                f"answered {e.answered} of {e.requests}{others}; p50, p95: {times}",
                f"{e.in_flight} of {e.concurrency} at once; answers: {answers}",
                f"wants to be left alone for {e.held_s:.0f} s" if e.held_s else "",
                f"last problem: {e.problem}" if e.problem else "",
            ]
            out.print(Text.assemble(f"endpoint {e.url} of {member}: breaker ", state), soft_wrap=True)
            for line in filter(None, lines):
                out.print(Text(f"  {line}"), soft_wrap=True)


def _budgets(report: quorum.ServerStatus, currency: str) -> list[Table]:
    """What members with a budget have spent of it."""
    table = new_table("budget of", "this minute", "today (UTC)")
    for name, b in report.budgets.items():
        minute = _spent_of(b.minute_calls, b.calls_per_minute, b.minute_cost, b.per_minute, currency)
        today = _spent_of(b.day_calls, b.calls_per_day, b.day_cost, b.per_day, currency)
        table.add_row(name, minute, today)
    return [table] if report.budgets else []


def _spent_of(calls: int, most: int | None, cost: float | None, limit: float | None, currency: str) -> str:
    counted = f"{calls} calls" if most is None else f"{calls} of {most} calls"
    if cost is None:
        return counted
    paid = money(cost, currency) if limit is None else f"{money(cost, '')} of {money(limit, currency)}"
    return f"{counted}, {paid}"


def _retriever_tables(report: quorum.RetrieverStatus | None) -> list[Table]:
    """The channels that recommend keyphrases, and the versions of the retriever."""
    if report is None:
        return []
    channels = new_table("recommends", "answers", "version")
    for name, c in report.channels.items():
        answers = Text("yes", "green") if c.answers else Text.assemble(("no ", "red"), c.reason)
        channels.add_row(name, answers, str(c.version))
    versions = new_table("retriever", "state", "keyphrases", "index", "made", "hash")
    for number, v in report.versions.items():
        if v.damaged is not None:
            versions.add_row(str(number), v.state, Text("damaged on disk", "red"), "", "", "")
            note(f"version {number} of the retriever is damaged on disk: {v.damaged}")
            continue
        made = (v.created or "-")[:16].replace("T", " ")
        short = (v.content_hash or "").removeprefix("sha256:")[:12]
        versions.add_row(str(number), v.state, str(v.keyphrases), f"{v.index}, {v.dims}", made, short)
    return [channels, versions]


def _note(report: quorum.ServerStatus) -> None:
    """Print remarks on versions, on deploy.yaml and on the canary."""
    for lazy, rows in report.rows.items():
        note(f"{lazy} asks {'; then '.join(', '.join(row) for row in rows)}")
    pinned = {channel.pinned for channel in report.channels.values()}
    for number, v in report.versions.items():
        if v.kept:
            note(f"version {number} keeps an earlier version's weights for {', '.join(v.kept)}")
        if v.unscored and number in pinned:
            note(describe_missing(number, v.unscored))
        if v.catalogue and number in pinned:
            note(f"version {number}: {v.catalogue}")
    if report.differs:
        note(Text(report.differs, "bold red"))
    for incident in report.incidents[-_SHOWN:]:
        note(Text(str(incident), "" if incident.is_over else "bold red"))
    if report.canary_share:
        note(f"{100 * report.canary_share:.4g} % of the products are routed to {CANARY}")
    if report.retriever and report.retriever.canary_share:
        note(f"{100 * report.retriever.canary_share:.4g} % of the items are routed to {RECOMMEND_CANARY}")


def _show_fleet(report: quorum.FleetStatus) -> None:
    """Print a block for each server, which no narrow terminal cuts."""
    for url, server in report.servers.items():
        out.print(Text(url, "bold"), soft_wrap=True)
        loaded = ", ".join(map(str, server.loaded)) or server.reason or "none"
        lines = {name: _cell(channel) for name, channel in _fleet_channels(server).items()}
        lines |= {"loaded": Text(loaded), "repository": Text(str(server.repository))}
        for name, text in lines.items():
            out.print(Text.assemble(f"  {name}: ", text), soft_wrap=True)


def _fleet_channels(server: FleetServer) -> dict[str, ChannelStatus]:
    return server.channels | (server.retriever.channels if server.retriever else {})


def _cell(channel: ChannelStatus) -> Text:
    if not channel.answers:
        return Text.assemble(("no ", "red"), channel.reason)
    if channel.version == channel.pinned:
        return Text(str(channel.version), "green")
    return Text(f"{channel.version}, pinned to {channel.pinned}", "red")
