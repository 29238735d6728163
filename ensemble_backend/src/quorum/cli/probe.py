# SPDX-License-Identifier: Apache-2.0
"""``quorum probe``: probe a channel's readiness, once or as an HTTP server."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Annotated

import typer

import quorum
from quorum.cli.console import DEPLOY, DeployOption, JsonOption, note, print_json
from quorum.cli.signals import interrupt_once
from quorum_contract import STABLE

_POLL_S = 0.5


def probe(
    channel: Annotated[str, typer.Option(help="quorum, quorum_canary, or a lazy one.")] = STABLE,
    url: Annotated[
        str | None, typer.Option(help="host:port of gRPC; default: the local server, else deploy.yaml.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.05, help="Seconds; later is not ready.")] = 2.0,
    full: Annotated[
        bool,
        typer.Option("--full", help="Ask the LLMs a real question; as many must work as a quorum needs."),
    ] = False,
    http: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65_535,
            metavar="PORT",
            help="Serve /live and /ready/CHANNEL until stopped; 0: a free port.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address for --http.")] = "127.0.0.1",
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Print in one line whether a channel can answer: exit code 0 if so, else 1.

    A canned question passes every step of a request but asks no LLM, so it costs nothing and a stuck LLM
    does not delay it. It stays ready while versions load, when Triton's own readiness is off. It takes at
    most `--timeout`, plus half a second for the command itself; over HTTP (`--http`, or `quorum up
    --probe-port`) it takes milliseconds.

    Example, in a Kubernetes pod: `exec: {command: [quorum, probe, --timeout, "2"]}`
    """
    spec = quorum.load_deployment(deploy)
    if http is None:
        pulse = quorum.probe(spec, channel, url=url, timeout_s=timeout, full=full)
        print_json(pulse) if json else note(str(pulse))
        if not pulse.ready:
            raise typer.Exit(1)
        return
    server = quorum.probe_server(spec, host, http, url=url, timeout_s=timeout, full=full)
    interrupted = interrupt_once()
    with server, suppress(KeyboardInterrupt):
        note(f"answering http://{host}:{server.port}/live and /ready/CHANNEL; Ctrl-C stops")
        while not interrupted():
            # A signal that another thread handles does not end an unlimited wait.
            time.sleep(_POLL_S)
