# SPDX-License-Identifier: Apache-2.0
"""``quorum up | status``: the server."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from quorum.cli.console import (
    DEPLOY,
    DeployOption,
    JsonOption,
    err,
    friendly,
    note,
    out,
    print_json,
    spec_of,
)
from quorum.cli.describe import refuse_misfits
from quorum.cli.fleet import channel_status, fleet_status, fleet_table, store_of
from quorum.cli.signals import interrupt_once
from quorum.decision.weights import WeightsError
from quorum.deployment.schema import Deployment
from quorum.repository.store import Store
from quorum.server.become import NO_EFFECT, has_aslr
from quorum.server.control import Control, ControlError, ModelState
from quorum.server.http import ProbeServer
from quorum.server.probe import take_pulse
from quorum.server.runfile import endpoint_of, find_running, last_attempt
from quorum.server.supervise import serve
from quorum.server.triton import ServerProcessError, TritonServer
from quorum.server.watch import Watch
from quorum_contract import CANARY, CHANNELS, STABLE, VOTE

_POLL_S = 0.5
_PULSE_S = 2.0
_HOPE_S = 10.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(up)
    app.command()(status)


@friendly
def up(
    deploy: DeployOption = DEPLOY,
    start_timeout: Annotated[float, typer.Option(help="Seconds until every channel must answer.")] = 120.0,
    host: Annotated[
        str | None,
        typer.Option(envvar="QUORUM_HOST", help="Listen at this address, whatever `server.host` says."),
    ] = None,
    preflight: Annotated[
        bool, typer.Option(help="Hold GPU members against this machine before the start.")
    ] = True,
    probe_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65_535, help="Also answer HTTP /live and /ready/CHANNEL here; 0: a free port."
        ),
    ] = None,
) -> None:
    """Serve the deployment in the foreground, until Ctrl-C or SIGTERM; requests in flight are answered first.

    A model whose process dies is given a new one. With `--probe-port` an orchestrator can ask `/ready/quorum`
    (a sign of life of every step, which asks no LLM; see `quorum probe`) and `/live`.

    Other commands (`ask`, `publish`, ...) find the server by a note in `.quorum/`, which holds the admin key.
    Set QUORUM_ADMIN_KEY to choose that key yourself. Triton takes it on its command line, where other users
    of the machine can read it: on a shared host run in a container.

    Example: `quorum up &`, then `quorum status`
    """
    spec = spec_of(deploy)
    if host:
        spec = spec.model_copy(update={"server": spec.server.model_copy(update={"host": host})})
    if preflight:
        refuse_misfits(spec)
    interrupt_once()
    with ExitStack() as running:
        with err.status(f"starting Triton with {len(spec.members)} members"):
            server = running.enter_context(
                serve(
                    spec,
                    start_timeout_s=start_timeout,
                    on_ready=lambda channel, version: note(
                        f"channel {channel} answers with weights version {version}"
                    ),
                    on_recovered=lambda was: note(f"{was.action} {was.version} was interrupted; taken back"),
                    on_quarantined=lambda found: note(str(found)),
                    on_started=lambda server: _answer_probes(running, server, probe_port),
                )
            )
        if not spec.server.aslr and server.pid is not None and has_aslr(server.pid):
            note(NO_EFFECT)
        note(f"serving {deploy} at {server.endpoint.grpc_url} (gRPC), log in {server.log_path}; Ctrl-C stops")
        with suppress(KeyboardInterrupt):
            _watch(server)
        note("refusing new requests, answering what is in flight, then stopping")


def _answer_probes(running: ExitStack, server: TritonServer, port: int | None) -> None:
    """From the first moment: a server that still loads its LLMs is live and not ready."""
    if port is None:
        return
    spec, endpoint = server.spec, server.endpoint
    try:
        probes = ProbeServer(
            endpoint.host,
            port,
            CHANNELS,
            lambda channel: take_pulse(spec, endpoint.grpc_url, channel, _PULSE_S),
            lambda: server.pid is not None,
        )
    except OSError as error:
        raise ServerProcessError(
            f"--probe-port {port} on {endpoint.host}: {error.strerror}; choose another port"
        ) from error
    running.enter_context(probes)
    note(f"probes: http://{endpoint.host}:{probes.port}/ready/{STABLE} and /live")


def _watch(server: TritonServer) -> None:
    watch = Watch(server, note)
    while server.pid is not None:
        time.sleep(_POLL_S)
        watch.look()
    raise ServerProcessError(f"tritonserver stopped by itself; its last words:\n{server.log_tail()}")


@friendly
def status(
    wait: Annotated[float, typer.Option(help="Wait so many seconds for every channel.", min=0)] = 0.0,
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Show channels, versions and members of the running server. Exit code 1 if a channel does not answer.

    With a `fleet` in deploy.yaml: what each of its servers runs.

    Example: `quorum up & quorum status --wait 120`
    """
    spec = spec_of(deploy)
    with err.status("asking every channel"):
        report = _status_within(spec, wait)
    if json:
        print_json(report)
    else:
        _show(report)
    if not _all_answer(report):
        raise typer.Exit(1)


def _status_within(spec: Deployment, seconds: float) -> dict[str, Any]:
    """The status once every channel answers, or as it is when the time is up.

    Raises:
        ServerProcessError: Whoever began to serve this deployment has ended, so waiting on is in vain.
    """
    begun, wall = time.monotonic(), time.time()
    seen_alive = False
    while True:
        is_last = time.monotonic() - begun >= seconds
        try:
            report = _status(spec)
            if _all_answer(report) or is_last:
                return report
        except ControlError:
            if is_last:
                raise
        attempt = last_attempt(spec)
        if attempt and not attempt.is_alive:
            # An end that lies behind may be followed by a new beginning.
            just_now = seen_alive or attempt.at >= wall or time.monotonic() - begun >= _HOPE_S
            if just_now and find_running(spec) is None:
                why = attempt.failed or f"it was killed (pid {attempt.pid})"
                raise ServerProcessError(f"not waiting any longer, the last `quorum up` has ended: {why}")
        seen_alive = seen_alive or bool(attempt and attempt.is_alive)
        time.sleep(_POLL_S)


def _all_answer(report: dict[str, Any]) -> bool:
    servers = report["fleet"].values() if "fleet" in report else [report]
    return all(channel["answers"] for server in servers for channel in server["channels"].values())


def _status(spec: Deployment) -> dict[str, Any]:
    if spec.fleet:
        return {"fleet": fleet_status(spec)}
    running, endpoint = find_running(spec), endpoint_of(spec)
    store = store_of(spec)
    pins = store.pins()
    with Control(endpoint.grpc_url, endpoint.admin_key, timeout_s=5) as control:
        states = {(s.name, s.version): s for s in control.index()}
    return {
        "url": endpoint.grpc_url,
        "pid": running.pid if running else None,
        "canary_share": store.canary_share(),
        "channels": {
            channel: channel_status(spec, endpoint.grpc_url, channel, pins.get(channel))
            for channel in CHANNELS
        },
        "versions": {str(v): _version(store, v, states.get((VOTE, str(v)))) for v in store.versions_listed()},
        "members": {
            member.name: asdict(
                states.get((model, "1")) or ModelState(model, "", "UNAVAILABLE", "not loaded")
            )
            for model, members in spec.models().items()
            for member in members
        },
    }


def _version(store: Store, version: int, state: ModelState | None) -> dict[str, Any]:
    found: dict[str, Any] = {"state": state.state if state else "UNAVAILABLE"}
    try:
        weights = store.weights(version)
    except WeightsError as error:
        # A server serves on from memory; whoever asks how it stands should learn of both.
        return found | {"damaged": str(error)}
    return found | {
        "method": weights.method,
        "content_hash": weights.content_hash,
        "created": weights.provenance.get("created"),
        "gold_labels": weights.provenance.get("gold_labels"),
    }


def _show(report: dict[str, Any]) -> None:
    if "fleet" in report:
        out.print(fleet_table(report["fleet"]))
        return
    channels = Table(
        "channel", "answers", "version", title=f"{report['url']}  pid {report['pid'] or 'unknown'}"
    )
    for name, c in report["channels"].items():
        channels.add_row(
            name,
            Text("yes", "green") if c["answers"] else Text.assemble(("no ", "red"), c["reason"]),
            str(c["version"]),
        )
    versions = Table("weights", "state", "method", "gold labels", "learned", "hash")
    for name, v in report["versions"].items():
        if "damaged" in v:
            versions.add_row(name, v["state"], Text("damaged on disk", "red"), "", "", "")
            note(f"version {name} is damaged on disk: {v['damaged']}")
            continue
        short = v["content_hash"].removeprefix("sha256:")[:12]
        versions.add_row(name, v["state"], v["method"], str(v["gold_labels"]), v["created"] or "-", short)
    members = Table("member", "state", "reason")
    for name, m in report["members"].items():
        members.add_row(name, m["state"], Text(m["reason"]))
    for table in (channels, versions, members):
        out.print(table)
    if report["canary_share"]:
        note(f"{100 * report['canary_share']:.4g} % of the products are routed to {CANARY}")
