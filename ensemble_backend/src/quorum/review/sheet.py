# SPDX-License-Identifier: Apache-2.0
"""Write the sheet on which people label cells, read it back, and put its gold into the table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from quorum.decision.answer_kinds import AnswerKind, AnswerKinds, kind_in
from quorum.decision.cell import NOT_APPLICABLE
from quorum.review.choose import Choice, LabelError
from quorum.review.kinds import allowed_answers, split_gold
from quorum.safe_text import FORMULA_STARTS
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.score import as_probability
from quorum.votes import Cell, VotesTable, build_table

COLUMNS = ("product", "category", "title", "attribute", "answers", "gold", "reason")
ALLOWED_COLUMN = "allowed"
"""A further column, where a chosen cell has a label, spans or several values: what may be written."""
_FORMULA = (*FORMULA_STARTS, "'")
"""Starts that get an apostrophe in front, which is removed again: so an apostrophe of a text must get one."""
_NEEDED = {"product", "attribute", "gold"}


@dataclass(frozen=True, slots=True)
class GoldRow:
    """An answer from a sheet; ``row`` counts from the header, 1."""

    product: str
    attribute: str
    gold: tuple[str, ...]
    row: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """A cell with other gold already, which stays."""

    row: int
    product: str
    attribute: str
    kept: tuple[str, ...]
    given: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Labelling:
    """A table with gold from a sheet.

    Attributes:
        table: The same cells, with the new gold.
        added: Cells that had none.
        same: Cells that had this gold already.
        outside: Added cells whose gold no member named: check the spelling.
        conflicts: Cells with other gold, which was kept.
        unknown: Answers for cells that are not in the table.
    """

    table: VotesTable
    added: int
    same: int
    outside: int
    conflicts: list[Conflict]
    unknown: list[GoldRow]


def write_sheet(
    table: VotesTable, choices: Sequence[Choice], path: str | Path, catalogue: Catalogue | None = None
) -> None:
    """Write cells as CSV for people, with an empty column for the gold.

    In ``gold`` people write the right value, "n/a" if the text does not say, or several acceptable values,
    best first, separated by " | ". UTF-8 with a byte order mark, which spreadsheets need; texts that look
    like formulas get an apostrophe in front. For labels, spans and several values, a column says what may be
    written: spans are JSON, and of several values all that apply.
    """
    allowed = _allowed(table, choices, catalogue)
    columns = (*COLUMNS, ALLOWED_COLUMN) if any(allowed.values()) else COLUMNS
    with Path(path).open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for choice in choices:
            cell = table.cells[choice.index]
            named = members_by_answer(cell, table.members)
            answers = "; ".join(f"{value} ({', '.join(who)})" for value, who in named.items())
            texts = [cell.product, cell.category, cell.title, cell.attribute, answers, "", choice.reason]
            if len(columns) > len(COLUMNS):
                texts.append(allowed[cell.attribute])
            writer.writerow(["'" + text if text.startswith(_FORMULA) else text for text in texts])


def read_sheet(path: str | Path, kinds: AnswerKinds | None = None) -> list[GoldRow]:
    """Read a sheet that people filled in; rows without gold are left out.

    The header decides whether commas, semicolons or tabs separate columns. Only product, attribute and gold
    count. "N/A" is read as "n/a". ``kinds`` of the attributes say what " | " separates; None: values.

    Raises:
        LabelError: Unreadable, not UTF-8, a column missing or twice, a row with too few or too many fields, a
            cell without product or attribute, or a duplicate cell.
    """
    return read_filled(path, kinds)[0]


def read_filled(path: str | Path, kinds: AnswerKinds | None = None) -> tuple[list[GoldRow], int]:
    """As :func:`read_sheet`, and the number of rows without gold."""
    source = Path(path)
    try:
        text = source.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{source}: cannot be read ({error}); save it as CSV in UTF-8") from error
    lines = text.splitlines()
    header = lines[0] if lines else ""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), strict=True)
    try:
        rows = list(_gold_rows(reader, kinds or {}))
    except csv.Error as error:
        raise LabelError(f"{source}, line {reader.line_num}: {error}; is a quote missing?") from error
    except LabelError as error:
        raise LabelError(f"{source}, {error}") from error
    filled = [row for row in rows if row.gold]
    return filled, len(rows) - len(filled)


def apply_gold(table: VotesTable, rows: Sequence[GoldRow]) -> Labelling:
    """Add gold to a table; existing gold always stays."""
    index = {(cell.product, cell.attribute): i for i, cell in enumerate(table.cells)}
    cells = list(table.cells)
    added = same = outside = 0
    conflicts: list[Conflict] = []
    unknown: list[GoldRow] = []
    for row in rows:
        i = index.get((row.product, row.attribute))
        if i is None:
            unknown.append(row)
        elif not cells[i].gold:
            cells[i] = replace(cells[i], gold=row.gold)
            added += 1
            outside += not any(cells[i].is_right(value) for value in cells[i].values)
        elif cells[i].gold[0] == row.gold[0] and set(cells[i].gold) == set(row.gold):
            same += 1
        else:
            conflicts.append(Conflict(row.row, row.product, row.attribute, cells[i].gold, row.gold))
    return Labelling(build_table(table.members, cells), added, same, outside, conflicts, unknown)


def members_by_answer(cell: Cell, members: Sequence[str]) -> dict[str, list[str]]:
    """Value -> the members that named it, with their probabilities of it; the most frequent value first."""
    named: dict[str, list[str]] = {}
    scores = cell.scores or (None,) * len(members)
    for member, value, score in zip(members, cell.values, scores, strict=True):
        if value is not None:
            who = member if score is None else f"{member} {as_probability(score)}"
            named.setdefault(value, []).append(who)
    return dict(sorted(named.items(), key=lambda answer: -len(answer[1])))


def read_gold(field: str, kind: AnswerKind) -> tuple[str, ...]:
    """The acceptable answers in what a person wrote, the preferred one first; "N/A" is read as "n/a"."""
    return tuple(dict.fromkeys(map(_value, split_gold(field, kind))))


def _gold_rows(reader: Iterator[list[str]], kinds: AnswerKinds) -> Iterator[GoldRow]:
    header = [name.strip().lower() for name in next(reader, [])]
    if not header or not set(header) >= _NEEDED or len(set(header)) != len(header):
        raise LabelError(f"row 1: the columns are {header}; {sorted(_NEEDED)} are needed, each name once")
    seen: dict[tuple[str, str], int] = {}
    for number, fields in enumerate(reader, start=2):
        if not any(field.strip() for field in fields):
            continue
        if len(fields) != len(header):
            raise LabelError(
                f"row {number}: {len(fields)} fields for {len(header)} columns; was a quote lost?"
            )
        row = dict(zip(header, map(_as_text, fields), strict=True))
        product, attribute = row["product"], row["attribute"]
        if not product or not attribute:
            raise LabelError(f"row {number}: no product or no attribute; leave these columns as they were")
        first = seen.setdefault((product, attribute), number)
        if first != number:
            raise LabelError(
                f"row {number}: product {product!r}, attribute {attribute!r} stood in row {first}; keep one"
            )
        yield GoldRow(product, attribute, read_gold(row["gold"], kind_in(kinds, attribute)), number)


def _allowed(table: VotesTable, choices: Sequence[Choice], catalogue: Catalogue | None) -> dict[str, str]:
    """Attribute of a chosen cell -> what may be written."""
    names = {table.cells[choice.index].attribute for choice in choices}
    if catalogue is None:
        return dict.fromkeys(names, "")
    return {name: allowed_answers(catalogue.get(name)) for name in names}


def _as_text(field: str) -> str:
    return field[1:] if field[:1] == "'" and field[1:].startswith(_FORMULA) else field


def _value(text: str) -> str:
    return NOT_APPLICABLE if text.lower() == NOT_APPLICABLE else text
