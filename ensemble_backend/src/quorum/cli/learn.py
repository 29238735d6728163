# SPDX-License-Identifier: Apache-2.0
"""``quorum learn``: from recorded votes to weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quorum import weights as weights_file
from quorum.cli.console import (
    DEPLOY,
    DeployOption,
    JsonOption,
    friendly,
    note,
    print_json,
    spec_of,
)
from quorum.fit.learn import learn as learn_weights
from quorum.fit.votes import read_votes
from quorum.repository.store import write_atomic
from quorum.spec.model import Deployment
from quorum.weights import Weights


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(learn)


@friendly
def learn(
    votes: Annotated[
        Path, typer.Argument(help="A votes table (JSONL), as `quorum extract --votes` writes it.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the weights go.")] = Path("weights.json"),
    method: Annotated[str, typer.Option(help="auto, majority, iwmv, em or loglinear.")] = "auto",
    gold_labels: Annotated[
        int | None, typer.Option(help="Use only this many gold labels, drawn with --seed; 0 uses none.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the gold labels.")] = 0,
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Learn how much each member's vote should count.

    Without gold labels the members' agreement teaches (`em`); with 50 or more, the labels do (`loglinear`).

    Example: `quorum learn votes.jsonl --out weights.json && quorum publish weights.json`
    """
    spec = spec_of(deploy) if deploy.exists() or deploy != DEPLOY else None
    weights = learn_for(spec, votes, method, gold_labels, seed)
    write_atomic(out, weights_file.dumps(weights))
    if json:
        print_json({"out": str(out), "method": weights.method, "content_hash": weights.content_hash})
        return
    shown = ", ".join(
        f"{name} {value:.2f}" for name, value in zip(weights.members, weights.default.weights, strict=True)
    )
    note(f"{weights.method}: {shown}\nwrote {out}; next: `quorum publish {out}`")


def learn_for(
    spec: Deployment | None, votes: Path, method: str, gold_labels: int | None, seed: int
) -> Weights:
    """Learn weights that fit a deployment; without one, weights that fit the table's own members."""
    table = read_votes(votes)
    if spec is None:
        return learn_weights(table, method=method, gold_labels=gold_labels, seed=seed)
    return learn_weights(
        table.of_members(spec.member_names),
        method=method,
        gold_labels=gold_labels,
        seed=seed,
        catalogue_hash=spec.catalogue().hash,
        value_counts=spec.catalogue().value_counts(),
    )
