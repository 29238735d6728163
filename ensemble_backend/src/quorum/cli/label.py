# SPDX-License-Identifier: Apache-2.0
"""``quorum label``: collect gold for the most informative cells, by a sheet or in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

import quorum
from quorum.cli.console import (
    DEPLOY,
    CommandError,
    DeployOption,
    JsonOption,
    counted,
    new_table,
    note,
    out,
    print_json,
)
from quorum.cli.options import load_if_any
from quorum.review.choose import LabelError
from quorum.review.kinds import SEPARATOR, split_gold
from quorum.review.sheet import members_by_answer
from quorum_contract import NOT_APPLICABLE

if TYPE_CHECKING:
    from quorum.decision.answer_kinds import AnswerKind
    from quorum.review.need import AttributeNeed
    from quorum.votes import Cell

_SHOWN = 5
_SHOWN_NEEDS = 15
_HELP = (
    "A number takes an answer, other text is your own answer (=7 for a 7 that is no number of the list), "
    "- means that the text does not say (n/a), Enter skips, q ends. Answers are saved at once."
)


def label(
    votes: Annotated[Path, typer.Argument(help="A votes table (JSONL or Parquet).")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Cells to choose.")] = 50,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The sheet (default: label.csv), or with --apply and --ask the table with gold, a new file "
            "(default: VOTES-gold). Without it both are written into the working folder.",
        ),
    ] = None,
    apply: Annotated[
        Path | None, typer.Option("--apply", help="A sheet that was filled in: put its gold into the table.")
    ] = None,
    ask: Annotated[bool, typer.Option("--ask", help="Ask here instead of writing a sheet.")] = False,
    weights: Annotated[
        Path | None, typer.Option(help="Members that these give no weight cannot disagree.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws the cells.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Choose the cells whose gold teaches most, and take the gold in.

    Existing gold always stays, and so does VOTES, unless --out names it: the table with gold is a new file.
    New gold is normalised like votes by the catalogue in deploy.yaml, if any.

    Example: `quorum label votes.jsonl -n 20 --ask`, or for a spreadsheet: `quorum label votes.jsonl -n 50`,
    fill in label.csv, `quorum label votes.jsonl --apply label.csv`
    """
    if apply and ask:
        raise CommandError(
            "--apply and --ask: one of the two; the one takes a sheet in, the other needs none"
        )
    spec = load_if_any(deploy)
    catalogue = spec.catalogue() if spec else None
    if apply:
        gold = quorum.apply_sheet(votes, apply, out, catalogue=catalogue, force=force)
        _show(gold, votes, str(apply), json)
        if not gold.labelling.added and not gold.labelling.same:
            raise typer.Exit(1)
    elif ask:
        session = quorum.LabelSession(
            votes, out, count, weights=weights, seed=seed, catalogue=catalogue, force=force
        )
        _ask_all(session)
        _show(session.report(), votes, "", json)
    else:
        sheet = quorum.choose_sheet(
            votes, out, count, weights=weights, seed=seed, catalogue=catalogue, force=force
        )
        if json:
            print_json(sheet)
        else:
            for remark in sheet.remarks:
                note(remark)
            _show_needs(sheet.needs)
            note(
                f"wrote {counted(sheet.cells, 'cell')} to {sheet.out}; fill in the column gold (empty: "
                f"skipped), next: `quorum label {votes} --apply {sheet.out}`"
            )


def _ask_all(session: quorum.LabelSession) -> None:
    for remark in session.remarks:
        note(remark)
    note(_HELP)
    with suppress(typer.Abort):
        for number, choice in enumerate(session.choices, 1):
            place = f"{number}/{len(session.choices)}"
            cell, kind, allowed = session.cell(choice), session.kind(choice), session.allowed(choice)
            while answer := _ask(cell, session.members, place, choice.reason, kind, allowed):
                try:
                    session.answer(choice, answer)
                    break
                except LabelError as error:
                    note(str(error))
            if answer is None:
                break


def _ask(
    cell: Cell, members: Sequence[str], place: str, reason: str, kind: AnswerKind, allowed: str
) -> tuple[str, ...] | None:
    """Ask for the acceptable values of a cell; empty to skip, ``None`` to end."""
    named = members_by_answer(cell, members)
    note("")
    note(Text.assemble((f"{place}  ", "dim"), (cell.category and f"{cell.category}: "), cell.title))
    note(Text.assemble(("What is the right ", ""), (cell.attribute, "bold"), ("?  ", ""), (reason, "dim")))
    for number, (value, who) in enumerate(named.items(), 1):
        note(Text.assemble(f"  {number}  ", (value, "bold"), (f"  {', '.join(who)}", "dim")))
    if allowed:
        note(Text(f"  {allowed}", "dim"))
    typed = str(typer.prompt("gold", default="", show_default=False, err=True)).strip()
    return None if typed.lower() == "q" else _read(typed, list(named), kind)


def _read(typed: str, candidates: Sequence[str], kind: AnswerKind) -> tuple[str, ...]:
    """Parse the input: numbers of candidates, ``-``, ``=text`` or text."""
    values: list[str] = []
    for part in split_gold(typed, kind):
        if part.isdecimal() and 1 <= int(part) <= len(candidates):
            values.append(candidates[int(part) - 1])
        elif part == "-" or part.lower() == NOT_APPLICABLE:
            values.append(NOT_APPLICABLE)
        else:
            values.append(part.removeprefix("=").strip())
    return tuple(dict.fromkeys(value for value in values if value))


def _show(report: quorum.GoldReport, votes: Path, sheet: str, json: bool) -> None:
    if json:
        print_json(report)
        return
    result = report.labelling
    for c in result.conflicts[:_SHOWN]:
        given, kept = SEPARATOR.join(c.given), SEPARATOR.join(c.kept)
        place = f"{sheet}, row {c.row}: {c.product}, {c.attribute}"
        note(f"{place}: {given} is not taken, its gold is {kept} already")
    _note_more(result.conflicts)
    for row in result.unknown[:_SHOWN]:
        note(f"{sheet}, row {row.row}: {row.product}, {row.attribute}: no such cell in the table")
    _note_more(result.unknown)
    for row_in_words in report.refused[:_SHOWN]:
        note(row_in_words)
    _note_more(report.refused)
    if report.refused:
        left = "1 row is" if len(report.refused) == 1 else f"{len(report.refused)} rows are"
        note(f"{left} left out for such values: correct them, apply the sheet again")
    if result.conflicts or result.unknown:
        conflicts, cells = counted(len(result.conflicts), "conflict"), counted(len(result.unknown), "cell")
        note(f"{conflicts}, {cells} that the table has not; gold as it was stays")
    if result.outside:
        note(f"values that no member named, among the new labels: {result.outside}; is their spelling right?")
    if result.same:
        note(f"{counted(result.same, 'row')} had this gold in the table already")
    if report.empty:
        note(f"{counted(report.empty, 'row')} of {sheet} without gold: left unlabelled")
    _show_needs(report.needs)
    if report.out is None:
        note(f"no label added: {votes} is as it was, and nothing was written")
        return
    kept = "" if report.out == votes else f" ({votes} is as it was)"
    note(
        f"{counted(result.added, 'label')} added, {report.labels} in all; wrote {report.out}{kept}; "
        f"next: `quorum learn {report.out}`"
    )


def _note_more(rows: Sequence[object]) -> None:
    if len(rows) > _SHOWN:
        note(f"and {len(rows) - _SHOWN} more")


def _show_needs(needs: Sequence[AttributeNeed]) -> None:
    """Print which attributes lack labels, those that lack most first."""
    lacking = [need for need in needs if need.more]
    if not lacking:
        note("every attribute has the labels that its weights need")
        return
    table = new_table("attribute", "cells", "disputed", "labels", "of these disputed", "needs about")
    for need in lacking[:_SHOWN_NEEDS]:
        disputed = f"{need.disputed / need.cells:.0%}"
        counts = (str(need.cells), disputed, str(need.labels), str(need.disputed_labels))
        table.add_row(Text(need.attribute), *counts, f"{need.more} more")
    out.print(table)
    if len(lacking) > _SHOWN_NEEDS:
        note(f"and {len(lacking) - _SHOWN_NEEDS} attributes more that lack labels")
    note(
        "needs: labels of disputed cells; with so many, a member that is right in 3 of 4 cells where it "
        "differs from majority is distinguished from majority"
    )
