# SPDX-License-Identifier: Apache-2.0
"""``quorum learn | drift``: from recorded votes to weights, day after day."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from quorum.cli.console import (
    DEPLOY,
    CommandError,
    DeployOption,
    JsonOption,
    friendly,
    note,
    out,
    print_json,
    spec_of,
)
from quorum.decision import weights as weights_file
from quorum.decision.weights import Weights
from quorum.deployment.schema import Deployment
from quorum.evaluation.drift import Drift
from quorum.evaluation.drift import drift as find_drift
from quorum.learning.learn import learn as learn_weights
from quorum.learning.learn import learn_statistic
from quorum.learning.online import State, begin, dump_state, load_state, relearn, state_path, update
from quorum.repository.store import write_atomic
from quorum.votes.table import VotesTable, read_votes

VotesArgument = Annotated[
    Path, typer.Argument(help="A votes table (JSONL), as `quorum extract --votes` writes it, or Parquet.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(learn)
    app.command()(drift)


@friendly
def learn(
    votes: VotesArgument,
    target: Annotated[Path, typer.Option("--out", "-o", help="Where the weights go.")] = Path("weights.json"),
    method: Annotated[str, typer.Option(help="auto, majority, iwmv, em or loglinear.")] = "auto",
    gold_labels: Annotated[
        int | None, typer.Option(help="Use only this many gold labels, drawn with --seed; 0 uses none.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the gold labels.")] = 0,
    before: Annotated[
        Path | None, typer.Option("--update", help="Weights learned so far: add these votes to theirs.")
    ] = None,
    forgetting: Annotated[
        float, typer.Option(help="With --update: what earlier votes count now, above 0 and at most 1.")
    ] = 1.0,
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Learn how much each member's vote should count.

    Without gold labels the members' agreement teaches (`em`); with 50 or more, the labels do (`loglinear`).
    What was learned from is kept beside the weights (`weights.state.json`), so that `--update` can add a day.

    Example: `quorum learn votes.jsonl --out weights.json && quorum publish weights.json`

    Example: `quorum learn tuesday.jsonl --update weights.json --forgetting 0.98`
    """
    spec = spec_of(deploy) if deploy.exists() or deploy != DEPLOY else None
    found: Drift | None = None
    state: State | None = None
    remarks: tuple[str, ...] = ()
    if votes.suffix == ".parquet":
        if before or gold_labels is not None:
            raise CommandError("--update and --gold-labels work on JSONL tables; give one, or leave them out")
        weights, remarks = _learn_columns(spec, votes, method)
    elif before:
        weights, found, state = _learn_day(spec, votes, method, before, forgetting)
    else:
        table = table_for(spec, votes)
        remarks = table.statistic().remarks()
        weights = learn_from(spec, table, method, gold_labels, seed)
        state = begin(table) if gold_labels is None else None
    write_atomic(target, weights_file.dumps(weights))
    if state:
        dump_state(state, state_path(target))
    if json:
        data = {"out": str(target), "method": weights.method, "content_hash": weights.content_hash}
        print_json(data | ({"drift": found.to_json()} if found else {}))
        return
    if found:
        note(found.verdict)
    for remark in remarks:
        note(remark)
    pairs = zip(weights.members, weights.default.weights, strict=True)
    note(f"{weights.method}: {', '.join(f'{name} {value:.2f}' for name, value in pairs)}")
    note(f"wrote {target}; next: `quorum publish {target}`")


@friendly
def drift(
    weights: Annotated[Path, typer.Argument(help="Weights with their state beside them.")],
    votes: Annotated[Path, typer.Argument(help="A day's votes (JSONL) that the weights have not seen.")],
    alarm: Annotated[
        float, typer.Option(help="How often a day without change may raise one, at most.")
    ] = 0.01,
    json: JsonOption = False,
) -> None:
    """Name members that do not vote as they did: swapped, broken, or asked other things. Exit code 1 if any.

    Example: `quorum drift weights.json tuesday.jsonl`
    """
    loaded = weights_file.load(weights)
    table = read_votes(votes).of_members(loaded.members)
    found = find_drift(load_state(state_path(weights)), table, weights=loaded, alarm=alarm)
    if json:
        print_json(found.to_json())
    else:
        shown = Table("member", "against the others", "before", "abstained", "before")
        for m in found.members:
            shown.add_row(
                m.member,
                f"{m.disagreement:.1%}",
                f"{m.expected:.1%} ({m.low:.1%} - {m.high:.1%})",
                f"{m.abstained:.1%}",
                f"{m.abstained_before:.1%}",
            )
        out.print(shown)
        note(found.verdict)
    if found.findings:
        raise typer.Exit(1)


def table_for(spec: Deployment | None, votes: Path) -> VotesTable:
    """A votes table with its members in the order of the deployment, if there is one."""
    table = read_votes(votes)
    return table.of_members(spec.member_names) if spec else table


def learn_from(
    spec: Deployment | None, table: VotesTable, method: str, gold_labels: int | None = None, seed: int = 0
) -> Weights:
    """Learn weights that fit a deployment; without one, weights that fit the table's own members."""
    catalogue = spec.catalogue() if spec else None
    return learn_weights(
        table,
        method=method,
        gold_labels=gold_labels,
        seed=seed,
        catalogue_hash=catalogue.hash if catalogue else None,
        value_counts=catalogue.value_counts() if catalogue else None,
    )


def _learn_columns(spec: Deployment | None, votes: Path, method: str) -> tuple[Weights, tuple[str, ...]]:
    try:
        from quorum.votes.columns import StreamError, member_columns
        from quorum.votes.stream import read_statistic
    except ImportError as error:
        raise CommandError(f"{votes}: {error}") from error
    try:
        unknown = sorted(set(member_columns(votes)) - set(spec.member_names)) if spec else []
        if spec and unknown:
            raise CommandError(
                f"{votes}: columns {unknown} are no members of the deployment "
                f"({', '.join(spec.member_names)}); leave them out of the file, or add the members"
            )
        statistic = read_statistic(votes, members=spec.member_names if spec else None)
    except StreamError as error:
        raise CommandError(str(error)) from error
    catalogue = spec.catalogue() if spec else None
    weights = learn_statistic(
        statistic,
        method,
        catalogue_hash=catalogue.hash if catalogue else None,
        value_counts=catalogue.value_counts() if catalogue else None,
    )
    return weights, statistic.remarks()


def _learn_day(
    spec: Deployment | None, votes: Path, method: str, before: Path, forgetting: float
) -> tuple[Weights, Drift, State]:
    old, state = weights_file.load(before), load_state(state_path(before))
    table = read_votes(votes).of_members(old.members)
    # Drift first: the day must not be part of what it is compared with.
    found = find_drift(state, table, weights=old)
    state = update(state, table, forgetting)
    catalogue = spec.catalogue() if spec else None
    weights = relearn(
        state,
        method,
        catalogue_hash=catalogue.hash if catalogue else old.catalogue_hash,
        value_counts=catalogue.value_counts() if catalogue else None,
    )
    return weights, found, state
