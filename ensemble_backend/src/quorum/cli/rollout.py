# SPDX-License-Identifier: Apache-2.0
"""``quorum publish | canary | promote | rollback | history``: new weights on a running server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from quorum import weights as weights_file
from quorum.cli.console import DEPLOY, DeployOption, JsonOption, friendly, note, out, print_json, spec_of
from quorum.contract import CANARY, STABLE
from quorum.rollout.channels import Change, Rollout
from quorum.rollout.history import History
from quorum.server.control import Control
from quorum.server.probe import probe_channel
from quorum.server.runfile import endpoint_of, find_running
from quorum.spec.model import Deployment

VersionArgument = Annotated[int, typer.Argument(help="A published version of the weights.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (publish, canary, promote, rollback, history):
        app.command()(command)


@contextmanager
def open_rollout(spec: Deployment) -> Iterator[Rollout]:
    """A rollout on the server that serves ``spec``."""
    running, endpoint = find_running(spec), endpoint_of(spec)
    with Control(endpoint.grpc_url, endpoint.admin_key) as control:
        yield Rollout(
            spec,
            control,
            lambda channel: probe_channel(spec, endpoint.grpc_url, channel),
            running.repository if running else None,
        )


@friendly
def publish(
    weights: Annotated[Path, typer.Argument(help="A weights.json, as `quorum learn` writes it.")],
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Make weights a new version on the running server. No channel changes yet.

    Example: `quorum publish weights.json`, then `quorum canary 2`, then `quorum promote 2`
    """
    loaded = weights_file.load(weights)
    with open_rollout(spec_of(deploy)) as rollout:
        change = rollout.publish(loaded)
    _tell(
        change,
        json,
        f"published {weights} as version {change.version}; next: `quorum promote {change.version}`",
    )


@friendly
def canary(version: VersionArgument, deploy: DeployOption = DEPLOY, json: JsonOption = False) -> None:
    """Let the canary channel answer with a version.

    Example: `quorum canary 3`, then `quorum ask --channel quorum_canary ...`
    """
    with open_rollout(spec_of(deploy)) as rollout:
        change = rollout.canary(version)
    _tell(change, json, _moved(CANARY, change))


@friendly
def promote(version: VersionArgument, deploy: DeployOption = DEPLOY, json: JsonOption = False) -> None:
    """Let the stable channel answer with a version.

    Example: `quorum promote 3`
    """
    with open_rollout(spec_of(deploy)) as rollout:
        change = rollout.promote(version)
    _tell(change, json, _moved(STABLE, change))


@friendly
def rollback(deploy: DeployOption = DEPLOY, json: JsonOption = False) -> None:
    """Let the stable channel answer with the version before its last promotion.

    Example: `quorum rollback`
    """
    with open_rollout(spec_of(deploy)) as rollout:
        change = rollout.rollback()
    _tell(change, json, _moved(STABLE, change))


@friendly
def history(deploy: DeployOption = DEPLOY, json: JsonOption = False) -> None:
    """Show who changed what, and when.

    Example: `quorum history --json`
    """
    spec = spec_of(deploy)
    running = find_running(spec)
    events = list(History(running.repository if running else spec.repository_path).events())
    if json:
        print_json([asdict(event) for event in events])
        return
    table = Table("at (UTC)", "who", "action", "version", "before", "outcome")
    for e in events:
        table.add_row(e.at, e.who, e.action, str(e.version), str(e.before or ""), e.outcome)
    out.print(table)


def _moved(channel: str, change: Change) -> str:
    if change.already:
        return f"{channel} answered with version {change.version} already"
    return f"{channel} answers with version {change.version} (before: {change.before})"


def _tell(change: Change, json: bool, text: str) -> None:
    if json:
        print_json(asdict(change))
    else:
        note(text)
