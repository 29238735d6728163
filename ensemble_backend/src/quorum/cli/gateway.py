# SPDX-License-Identifier: Apache-2.0
"""``quorum gateway`` and ``quorum gateway keys add | list | remove``: let callers with keys in."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

import quorum
from quorum.bulk.spent import money
from quorum.cli.console import DEPLOY, DeployOption, JsonOption, new_table, note, out, print_json
from quorum.gateway.keys import ROLES, Role

app = typer.Typer(help="Let callers with keys in, over gRPC and HTTP; also a process of its own.")
keys = typer.Typer(help="Add, list and remove the callers of the gateway.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Name of the caller: a-z, 0-9, '_', '.', '-'.")]


def gateway(
    context: typer.Context,
    deploy: DeployOption = DEPLOY,
    target: Annotated[
        str | None,
        typer.Option(help="host:port of tritonserver. Default: the local server, else that of deploy.yaml."),
    ] = None,
) -> None:
    """Run the gateway of deploy.yaml in the foreground, until Ctrl-C or SIGTERM.

    `quorum up` runs it, too, where deploy.yaml has a section `gateway`. This command runs it by itself, on
    another machine or in another container, next to a `quorum up --no-gateway`.

    Callers with a key can ask the channels and read health and metadata, and no more. Their roles and quotas
    are in a file that `quorum gateway keys` writes; it and the certificates are read again when they change.

    Example: `quorum gateway --target 10.0.0.7:8001`
    """
    if context.invoked_subcommand is None:
        quorum.serve_gateway(quorum.load_deployment(deploy), target, report=note)


def add(
    name: NameArgument,
    role: Annotated[
        list[str] | None,
        typer.Option(help=f"What it may do: {', '.join(ROLES)}; repeat it. Default: extract and recommend."),
    ] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Default: no limit.")] = None,
    requests_per_day: Annotated[int | None, typer.Option(min=1, help="By UTC. Default: no limit.")] = None,
    cost_per_day: Annotated[
        float | None, typer.Option(help="Money per day, in the currency of the prices. Default: no limit.")
    ] = None,
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Add a caller, and print its key once: only the key's hash is kept.

    A gateway that runs knows the caller within a second.

    Example: `quorum gateway keys add shop --requests-per-minute 600 --cost-per-day 5`
    """
    roles: list[Role] = [_role(text) for text in role] if role else ["extract", "recommend"]
    new = quorum.add_key(
        quorum.load_deployment(deploy),
        name,
        roles,
        requests_per_minute=requests_per_minute,
        requests_per_day=requests_per_day,
        cost_per_day=cost_per_day,
    )
    if new.unpriced:
        note(
            f"{', '.join(new.unpriced)}: no price in deploy.yaml, so what answers cost is not known, and "
            "--cost-per-day limits nothing"
        )
    if json:
        print_json(new)
        return
    out.print(Text(new.key), soft_wrap=True)
    note(f"the key of {new.name}, shown only now; callers send `authorization: Bearer KEY`")


def list_(deploy: DeployOption = DEPLOY, json: JsonOption = False) -> None:
    """List the callers, their roles, and what they have used of their quotas.

    Example: `quorum gateway keys list`
    """
    deployment = quorum.load_deployment(deploy)
    callers = quorum.list_keys(deployment)
    if json:
        print_json(callers)
        return
    is_priced = None not in deployment.prices.values()
    table = new_table("caller", "may", "this minute", "today (UTC)", "cost today", "since")
    for c in callers:
        minute = _used(c.minute_requests, c.requests_per_minute)
        cost = f"{money(c.day_cost, '')} of {money(c.cost_per_day or 0, deployment.currency)}"
        cost = (cost if is_priced else "unknown") if c.cost_per_day else "-"
        may, since = ", ".join(c.roles), (c.created or "-")[:10]
        table.add_row(Text(c.name), may, minute, _used(c.day_requests, c.requests_per_day), cost, since)
    out.print(table)


def remove(name: NameArgument, deploy: DeployOption = DEPLOY) -> None:
    """Remove a caller; a gateway that runs refuses its key within a second.

    Example: `quorum gateway keys remove shop`
    """
    quorum.remove_key(quorum.load_deployment(deploy), name)
    note(f"removed {name}")


def _role(name: str) -> Role:
    for role in ROLES:
        if role == name:
            return role
    raise typer.BadParameter(f"unknown role {name!r}; use {', '.join(ROLES)}")


def _used(requests: int, most: int | None) -> str:
    return "-" if most is None else f"{requests} of {most}"
