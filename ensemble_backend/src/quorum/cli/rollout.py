# SPDX-License-Identifier: Apache-2.0
"""``quorum publish | promote | rollback | retire | history | diff``: weights on a live server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from quorum.cli.console import DEPLOY, DeployOption, JsonOption, friendly, note, out, print_json, spec_of
from quorum.cli.fleet import servers_of, store_of
from quorum.decision import weights as weights_file
from quorum.decision.weights import Weights
from quorum.deployment.schema import Deployment
from quorum.rollout.channels import Change, Rollout
from quorum.rollout.fleet import Fleet, SharedRepository
from quorum.rollout.history import History
from quorum.server.control import Control
from quorum.server.probe import probe_channel
from quorum.server.runfile import endpoint_of
from quorum_contract import STABLE

VersionArgument = Annotated[int, typer.Argument(help="A published version of the weights.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Check everything, change nothing.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (publish, promote, rollback, retire, history, diff):
        app.command()(command)


@contextmanager
def open_rollout(spec: Deployment, dry_run: bool) -> Iterator[Fleet]:
    """A rollout on the servers that serve ``spec``."""
    endpoint = endpoint_of(spec)
    with ExitStack() as controls:

        def rollout(repository: Path, addresses: list[str]) -> Rollout:
            servers = SharedRepository(
                {
                    url: (
                        controls.enter_context(Control(url, endpoint.admin_key)),
                        partial(probe_channel, spec, url),
                    )
                    for url in addresses
                }
            )
            return Rollout(spec, servers, servers.probe, repository, dry_run)

        yield Fleet({", ".join(urls): rollout(path, urls) for path, urls in servers_of(spec).items()})


@friendly
def publish(
    weights: Annotated[Path, typer.Argument(help="A weights.json, as `quorum learn` writes it.")],
    deploy: DeployOption = DEPLOY,
    force: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Publish even if worse on the held-out votes; says why."),
    ] = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Make weights a new version on the running server. No channel changes yet.

    With `rollout.heldout` in deploy.yaml (a votes table with gold), weights that answer worse there than the
    running ones, by more than `rollout.margin`, are refused.

    Example: `quorum publish weights.json`, then `quorum canary 2`, then `quorum promote 2`
    """
    loaded = weights_file.load(weights)
    with open_rollout(spec_of(deploy), dry_run) as rollout:
        change = rollout.publish(loaded, force)
    if change.comparison and not json:
        note(f"held-out votes: {change.comparison}")
    if change.retired and not json:
        unloaded = ", ".join(map(str, change.retired))
        note(f"unloaded to make room (rollout.keep_versions): {unloaded}")
    done = "these weights are already" if change.already else f"published {weights} as"
    tell(change, json, f"{done} version {change.version}; next: `quorum promote {change.version}`")


@friendly
def promote(
    version: VersionArgument,
    deploy: DeployOption = DEPLOY,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Let the stable channel answer with a version.

    Example: `quorum promote 3`
    """
    with open_rollout(spec_of(deploy), dry_run) as rollout:
        change = rollout.promote(version)
    tell(change, json, moved(STABLE, change))


@friendly
def rollback(deploy: DeployOption = DEPLOY, dry_run: DryRunOption = False, json: JsonOption = False) -> None:
    """Let the stable channel answer with the version before its last promotion.

    Example: `quorum rollback`
    """
    with open_rollout(spec_of(deploy), dry_run) as rollout:
        change = rollout.rollback()
    tell(change, json, moved(STABLE, change))


@friendly
def retire(
    version: VersionArgument,
    deploy: DeployOption = DEPLOY,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Unload a version that no channel answers with. Its file stays on disk.

    Example: `quorum retire 1`
    """
    with open_rollout(spec_of(deploy), dry_run) as rollout:
        change = rollout.retire(version)
    tell(change, json, f"version {version} is not loaded any more")


@friendly
def diff(
    old: Annotated[int, typer.Argument(help="A version on disk.")],
    new: Annotated[int, typer.Argument(help="Another version on disk.")],
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Show what two versions of the weights do differently, relative to each one's heaviest member.

    Example: `quorum diff 1 2`
    """
    store = store_of(spec_of(deploy))
    before, after = store.weights(old), store.weights(new)
    names = ["default", *sorted({*before.attributes, *after.attributes})]
    rows = {name: (_relative(before, name), _relative(after, name)) for name in names}
    if json:
        print_json(
            {
                "members": after.members,
                "weights": {name: {"old": o, "new": n} for name, (o, n) in rows.items()},
            }
        )
        return
    table = Table("attribute", *after.members, title=f"{old} ({before.method}) -> {new} ({after.method})")
    for name, (was, now) in rows.items():
        table.add_row(name, *(f"{a:.2f} -> {b:.2f}" for a, b in zip(was, now, strict=True)))
    out.print(table)


def _relative(weights: Weights, attribute: str) -> list[float]:
    values = weights.parameters(attribute).weights
    top = max(values) or 1.0
    return [value / top for value in values]


@friendly
def history(deploy: DeployOption = DEPLOY, json: JsonOption = False) -> None:
    """Show who changed what, and when.

    Example: `quorum history --json`
    """
    events = list(History(store_of(spec_of(deploy)).path).events())
    if json:
        print_json([asdict(event) for event in events])
        return
    table = Table("at (UTC)", "who", "action", "version", "before", "outcome", "reason")
    for e in events:
        table.add_row(
            e.at[:19], e.who, e.action, str(e.version), str(e.before or ""), e.outcome, e.reason or ""
        )
    out.print(table)


def moved(channel: str, change: Change) -> str:
    """What became of a channel, in words."""
    if change.already:
        return f"{channel} answered with version {change.version} already"
    return f"{channel} answers with version {change.version} (before: {change.before})"


def tell(change: Change, json: bool, text: str) -> None:
    """Say what a command did, or would do."""
    if json:
        print_json(asdict(change))
    else:
        note(f"would be done: {text}" if change.planned else text)
