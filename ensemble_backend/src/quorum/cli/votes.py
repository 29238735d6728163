# SPDX-License-Identifier: Apache-2.0
"""``quorum votes info | merge | drop | rename | normalise``: work on recorded votes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

import quorum
from quorum.cli.console import (
    DEPLOY,
    CommandError,
    DeployOption,
    JsonOption,
    ProgressBar,
    counted,
    new_table,
    note,
    out,
    print_json,
)
from quorum.cli.signals import terminated_as_interrupted

app = typer.Typer(help="Describe, merge and change recorded votes.", no_args_is_help=True)

VotesArgument = Annotated[Path, typer.Argument(help="A votes table (JSONL, Parquet or Arrow).")]
OutOption = Annotated[
    Path,
    typer.Option("--out", "-o", help="JSONL, Parquet or Arrow to write; it appears when it is complete."),
]


def info(votes: VotesArgument, json: JsonOption = False) -> None:
    """Count cells, products, labels and duplicates, and show what each member answered.

    Example: `quorum votes info votes.parquet`
    """
    with ProgressBar("read") as bar:
        found = quorum.votes_info(votes, progress=bar)
    if json:
        print_json(found)
        return
    members = new_table("member", "answered", "n/a", "with score")
    for m in found.members:
        members.add_row(Text(m.member), *map(_share, (m.answered, m.not_applicable, m.scored)))
    attributes = new_table("attribute", "cells")
    for name, cells in found.attributes.items():
        attributes.add_row(Text(name), str(cells))
    out.print(members)
    out.print(attributes)
    size = f"{counted(found.cells, 'cell')} of {counted(found.products, 'product')}"
    note(f"{size}, {found.labels} with gold")
    if found.duplicates:
        pairs = ", ".join(f"{earlier} and {later}" for earlier, later in found.first_duplicates)
        note(
            f"{counted(found.duplicates, 'duplicate')}, first on {found.unit}s {pairs}; "
            f"keep one of each: `quorum votes merge {votes} --prefer first --out FILE`"
        )


def merge(
    votes: Annotated[list[Path], typer.Argument(help="Votes tables, of any members and cells; or one.")],
    target: OutOption,
    prefer: Annotated[
        str | None,
        typer.Option(
            help="Where tables, or rows of a single one, differ on a cell: first or last. Default: refuse."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Merge votes tables: other products, other members, or both.

    A cell that is in several tables gets the votes of all; a member that none has a vote of abstains. Of a
    single table, one row of each cell stays: learning refuses a table with an id that stands twice.

    Example: `quorum votes merge monday.jsonl tuesday.jsonl --out week.parquet`

    Example: `quorum votes merge monday.jsonl --prefer first --out once.jsonl`
    """
    with terminated_as_interrupted(), ProgressBar("merge") as bar:
        report = quorum.merge_votes(votes, target, prefer=_preferred(prefer), progress=bar)
    if json:
        print_json(report)
        return
    if report.conflicts:
        note(f"{counted(report.conflicts, 'difference')}, in which the {prefer} table decided")
    if report.duplicates:
        note(f"{counted(report.duplicates, 'duplicate')}, of which the {prefer} row stayed")
    for member, cells in report.without.items():
        note(f"{member}: no vote on {counted(cells, 'cell')}, it abstains there")
    _wrote(report)


def drop(
    votes: VotesArgument,
    members: Annotated[list[str], typer.Argument(help="Members to leave out.")],
    target: OutOption,
    json: JsonOption = False,
) -> None:
    """Leave members out of a votes table.

    Example: `quorum votes drop votes.jsonl old-llm --out rest.jsonl`
    """
    with terminated_as_interrupted(), ProgressBar("drop") as bar:
        report = quorum.drop_members(votes, members, target, progress=bar)
    print_json(report) if json else _wrote(report)


def rename(
    votes: VotesArgument,
    names: Annotated[list[str], typer.Argument(help="OLD=NEW for each member to rename.")],
    target: OutOption,
    json: JsonOption = False,
) -> None:
    """Rename members of a votes table.

    Example: `quorum votes rename votes.jsonl llama=llama-3.1 --out renamed.jsonl`
    """
    pairs = {}
    for text in names:
        old, sign, new = text.partition("=")
        if not (old and sign and new) or old in pairs:
            raise CommandError(f"{text!r}: write OLD=NEW, each member once")
        pairs[old] = new
    with terminated_as_interrupted(), ProgressBar("rename") as bar:
        report = quorum.rename_members(votes, pairs, target, progress=bar)
    print_json(report) if json else _wrote(report)


def normalise(
    votes: VotesArgument, target: OutOption, deploy: DeployOption = DEPLOY, json: JsonOption = False
) -> None:
    """Spell votes and gold as the catalogue in deploy.yaml does: "Red" becomes "red", "N/A" becomes "n/a".

    A vote that is no value of a closed attribute becomes an abstention, as it would in serving.

    Example: `quorum votes normalise foreign.parquet --deploy deploy.yaml --out votes.parquet`
    """
    spec = quorum.load_deployment(deploy)
    with terminated_as_interrupted(), ProgressBar("normalise") as bar:
        report = quorum.normalise_votes(votes, spec, target, progress=bar)
    if json:
        print_json(report)
        return
    changed = report.respelled + report.to_not_applicable + report.outside
    note(
        f"{counted(changed, 'vote')} changed: {report.respelled} spelled otherwise, "
        f"{report.to_not_applicable} to n/a, {report.outside} that are no value of their attribute to "
        f"abstentions; gold of {counted(report.gold, 'cell')}"
    )
    for attribute, before, after, count in report.examples:
        note(f"  {attribute}: {before!r} -> {'abstained' if after is None else repr(after)} ({count})")
    _wrote(report)


def _preferred(text: str | None) -> Literal["first", "last"] | None:
    choices: dict[str | None, Literal["first", "last"] | None] = {
        None: None,
        "first": "first",
        "last": "last",
    }
    if text in choices:
        return choices[text]
    raise CommandError(f"--prefer {text!r}: write first or last")


def _wrote(report: quorum.VotesWritten) -> None:
    note(f"wrote {counted(report.cells, 'cell')} of {', '.join(report.members)} to {report.out}")


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1%}"
