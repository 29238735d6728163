# SPDX-License-Identifier: Apache-2.0
"""``quorum apply``: make the running server what deploy.yaml says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

import quorum
from quorum.cli.console import DEPLOY, DeployOption, JsonOption, note, out, print_json


def apply(
    deploy: DeployOption = DEPLOY,
    weights: Annotated[
        Path | None,
        typer.Option(help="Weights for the members of deploy.yaml, where those change; see below."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, change nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Make the running server what deploy.yaml says, without a failed request.

    Members are added, removed and replaced, attributes and limits changed, while the server answers. Every
    request is answered by the members, the catalogue and the weights of before or by those of after, never by
    a mixture. What fails is undone; after a kill, the next `quorum apply` undoes or finishes it. What takes a
    restart (`server`, another repository) is refused. Run it instead of `quorum render`.

    Equal weights stay equal for other members. A member that joins learned weights has no say until weights
    are learned with its votes, so all answers stay as they are; one that leaves must have none, or name
    weights without it by --weights.

    Example: `quorum apply --dry-run`, then `quorum apply`

    Example: `quorum apply --weights weights.json`
    """
    spec = quorum.load_deployment(deploy)
    report = quorum.apply(spec, weights, dry_run=dry_run, note=note)
    if json:
        print_json(report)
        return
    for remark in report.remarks:
        note(remark)
    for url, plan in report.servers.items():
        if plan.is_empty:
            note(f"{url}: serves {deploy} already")
            continue
        out.print(Text(url, "bold"), soft_wrap=True)
        for line in plan.lines:
            out.print(Text.assemble("  ", (line.what, "bold"), f": {line.change}"), soft_wrap=True)
        if dry_run:
            out.print(Text(f"  loads: {', '.join(plan.loads) or 'nothing'}"), soft_wrap=True)
            out.print(Text(f"  unloads: {', '.join(plan.unloads) or 'nothing'}"), soft_wrap=True)
    if dry_run and not all(plan.is_empty for plan in report.servers.values()):
        note("nothing was changed; `quorum apply` does it")


def sync(
    repository: Annotated[Path, typer.Argument(help="The model repository to bring up to date.")],
    source: Annotated[
        Path | None,
        typer.Option("--from", help="The repository to take all from; default: the others of the fleet."),
    ] = None,
    deploy: DeployOption = DEPLOY,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, change nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Bring the repository of a new or stale server to the state of its fleet.

    Copies versions of the weights and of the retriever that it lacks, each checked by its hash, then takes
    over versions, pins and the canary's share. A server of `fleet` that reads the repository loads them and
    is verified; what fails is undone. Where no server answers, files are written for the next `quorum up`.

    Example: `quorum sync /mnt/gpu-8/model_repository`
    """
    plan = quorum.sync(quorum.load_deployment(deploy), repository, source, dry_run=dry_run)
    if json:
        print_json(plan)
        return
    if plan.is_empty:
        note(f"{repository} has the fleet's state already")
        return
    verb = "would be copied" if plan.planned else "copied"
    for versions, what in ((plan.weights, "the weights"), (plan.retriever, "the retriever")):
        if versions:
            note(f"versions of {what}, {verb}: {', '.join(map(str, versions))}")
    if plan.state:
        where = "loaded and verified by its server" if plan.is_served else "in its files"
        note(f"versions, pins and share of the fleet: {'to be ' if plan.planned else ''}{where}")
