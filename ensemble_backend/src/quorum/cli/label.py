# SPDX-License-Identifier: Apache-2.0
"""``quorum label``: gold for the cells that teach most, by a sheet or by questions in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from quorum.cli.console import (
    DEPLOY,
    CommandError,
    DeployOption,
    JsonOption,
    friendly,
    note,
    print_json,
    spec_of,
)
from quorum.decision import weights as weights_file
from quorum.review.label import (
    SEPARATOR,
    Choice,
    GoldRow,
    Labelling,
    apply_gold,
    choose,
    read_sheet,
    write_sheet,
)
from quorum.tasks.catalogue import Catalogue
from quorum.votes.table import Cell, VotesTable, read_votes, write_votes
from quorum_contract import NOT_APPLICABLE

_SHOWN = 5
_HELP = (
    "A number takes an answer, other text is one of your own (=7 for a 7 that is no number of the list), "
    "- says that the text does not say (n/a), Enter skips, q ends. What you answered is saved at once."
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(label)


@friendly
def label(
    votes: Annotated[Path, typer.Argument(help="A votes table (JSONL).")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Cells to choose.")] = 50,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The sheet (default: label.csv), or the table with gold (VOTES-gold.jsonl)."
        ),
    ] = None,
    apply: Annotated[
        Path | None, typer.Option("--apply", help="A sheet that was filled in: put its gold into the table.")
    ] = None,
    ask: Annotated[bool, typer.Option("--ask", help="Ask here instead of writing a sheet.")] = False,
    weights: Annotated[
        Path | None, typer.Option(help="Members that these give no weight cannot disagree.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the cells.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Choose the cells whose gold teaches most, and take the gold in.

    Gold that is there already always stays. New gold is spelled as the catalogue in deploy.yaml, if there is
    one, spells votes.

    Example: `quorum label votes.jsonl -n 20 --ask`, or for a spreadsheet: `quorum label votes.jsonl -n 50`,
    fill in label.csv, `quorum label votes.jsonl --apply label.csv`
    """
    if apply and ask:
        raise CommandError(
            "--apply and --ask: one of the two; the one takes a sheet in, the other needs none"
        )
    as_table = bool(apply) or ask
    target = out or (votes.with_name(f"{votes.stem}-gold.jsonl") if as_table else Path("label.csv"))
    _check_target(target, votes, force, as_table)
    catalogue = spec_of(deploy).catalogue() if deploy.exists() or deploy != DEPLOY else None
    table = read_votes(votes)
    if apply:
        result = apply_gold(table, [_spelled(row, catalogue) for row in read_sheet(apply)])
        _save(result.table, target)
        _tell(result, str(apply), target, json)
        return
    choices = choose(table, count, weights=weights_file.load(weights) if weights else None, seed=seed)
    if not choices:
        raise CommandError(f"{votes}: every cell that anybody answered has gold; nothing is left to label")
    if ask:
        _ask_all(table, choices, catalogue, target, json)
        return
    write_sheet(table, choices, target)
    if json:
        print_json({"out": str(target), "cells": len(choices)})
    else:
        note(
            f"wrote {len(choices)} cells to {target}; fill in the column gold (empty: skipped), "
            f"next: `quorum label {votes} --apply {target}`"
        )


def _check_target(target: Path, votes: Path, force: bool, as_table: bool) -> None:
    """Answers of people are never written over by accident.

    Raises:
        CommandError: The target exists, or is the votes table itself where a sheet is to be written.
    """
    if target.resolve() == votes.resolve():
        if not as_table:
            raise CommandError(f"--out {target}: that is the votes table; name another file for the sheet")
    elif target.exists() and not force:
        raise CommandError(
            f"{target} exists and may hold answers; name another with --out, go on from it as VOTES, "
            "or replace it with --force"
        )


def _spelled(row: GoldRow, catalogue: Catalogue | None) -> GoldRow:
    """Gold in the spelling of votes; a value outside a closed set stays as it is."""
    if catalogue is None:
        return row
    attribute = catalogue.get(row.attribute)
    return replace(row, gold=tuple(dict.fromkeys(attribute.normalise(value) or value for value in row.gold)))


def _save(table: VotesTable, target: Path) -> None:
    """The old table or the new one, whatever happens in between."""
    passing = target.with_name(f".{target.name}.new")
    write_votes(table, passing)
    passing.replace(target)


def _ask_all(
    table: VotesTable, choices: Sequence[Choice], catalogue: Catalogue | None, target: Path, json: bool
) -> None:
    result = apply_gold(table, [])
    rows: list[GoldRow] = []
    note(_HELP)
    for number, choice in enumerate(choices, 1):
        cell = table.cells[choice.index]
        try:
            answer = _ask(cell, table.members, f"{number}/{len(choices)}", choice.reason)
        except typer.Abort:
            break
        if answer is None:
            break
        if answer:
            rows.append(_spelled(GoldRow(cell.product, cell.attribute, answer, number), catalogue))
            result = apply_gold(table, rows)
            _save(result.table, target)
    if not rows:
        raise CommandError(f"nothing was answered; {target} is as it was")
    _tell(result, "", target, json)


def _ask(cell: Cell, members: Sequence[str], place: str, reason: str) -> tuple[str, ...] | None:
    """Acceptable values, none of them for a skip, or ``None`` to end."""
    named: dict[str, list[str]] = {}
    for member, value in zip(members, cell.values, strict=True):
        if value is not None:
            named.setdefault(value, []).append(member)
    candidates = sorted(named, key=lambda value: -len(named[value]))
    note("")
    note(Text.assemble((f"{place}  ", "dim"), (cell.category and f"{cell.category}: "), cell.title))
    note(Text.assemble(("What is the right ", ""), (cell.attribute, "bold"), ("?  ", ""), (reason, "dim")))
    for number, value in enumerate(candidates, 1):
        note(Text.assemble(f"  {number}  ", (value, "bold"), (f"  {', '.join(named[value])}", "dim")))
    said = str(typer.prompt("gold", default="", show_default=False, err=True)).strip()
    return None if said.lower() == "q" else _read(said, candidates)


def _read(said: str, candidates: Sequence[str]) -> tuple[str, ...]:
    """What was typed, as values: numbers of candidates, ``-``, ``=text`` or text."""
    values: list[str] = []
    for part in (part.strip() for part in said.split(SEPARATOR)):
        if part.isdecimal() and 1 <= int(part) <= len(candidates):
            values.append(candidates[int(part) - 1])
        elif part == "-" or part.lower() == NOT_APPLICABLE:
            values.append(NOT_APPLICABLE)
        else:
            values.append(part.removeprefix("=").strip())
    return tuple(dict.fromkeys(value for value in values if value))


def _tell(result: Labelling, sheet: str, target: Path, json: bool) -> None:
    labels = int(result.table.labelled.sum())
    if json:
        print_json(
            {
                "out": str(target),
                "gold_labels": labels,
                "added": result.added,
                "same": result.same,
                "outside": result.outside,
                "conflicts": [asdict(conflict) for conflict in result.conflicts],
                "unknown": [asdict(row) for row in result.unknown],
            }
        )
        return
    for c in result.conflicts[:_SHOWN]:
        note(
            f"{sheet}, row {c.row}: {c.product}, {c.attribute}: {SEPARATOR.join(c.given)} is not taken, "
            f"its gold is {SEPARATOR.join(c.kept)} already"
        )
    for row in result.unknown[:_SHOWN]:
        note(f"{sheet}, row {row.row}: {row.product}, {row.attribute}: no such cell in the table")
    if result.conflicts or result.unknown:
        note(f"{len(result.conflicts)} conflicts, {len(result.unknown)} unknown cells; gold as it was stays")
    if result.outside:
        note(f"{result.outside} of the new labels are values that no member named; is their spelling right?")
    note(f"{result.added} labels added, {labels} in all; wrote {target}; next: `quorum learn {target}`")
