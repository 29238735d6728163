# SPDX-License-Identifier: Apache-2.0
"""Label a votes table in files: write a sheet, apply a filled-in sheet, or save answers one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quorum.decision.answer_kinds import AnswerKind, kind_in
from quorum.decision.weights import Weights
from quorum.records import Record, plain
from quorum.review.choose import Choice, LabelError, choose
from quorum.review.gold import load_weights, refuse_existing, spelled_row
from quorum.review.kinds import allowed_answers
from quorum.review.need import AttributeNeed, label_needs
from quorum.review.sheet import GoldRow, Labelling, apply_gold, read_filled, write_sheet
from quorum.review.spellings import spelling_remarks
from quorum.tasks.catalogue import Catalogue
from quorum.votes import Cell, VotesTable, check_target, is_columnar, read_votes, write_votes

SHEET = Path("label.csv")
_REPORTED = ("added", "same", "outside", "conflicts", "unknown")


@dataclass(frozen=True, slots=True)
class SheetReport(Record):
    """A sheet for people to fill in.

    Attributes:
        out: Its file.
        cells: The number of its cells.
        needs: Labels that the attributes have and need, before the sheet is filled in.
        remarks: On the votes, for people.
    """

    out: Path
    cells: int
    needs: tuple[AttributeNeed, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GoldReport(Record):
    """A table with gold.

    Attributes:
        out: Its file; None where nothing was added, so that none was written.
        labels: The number of its labelled cells.
        labelling: The added and rejected labels.
        needs: Labels that the attributes have now, and need.
        refused: Rows with gold outside a closed value set, which are left out, in words.
        empty: Rows of the sheet without gold.
    """

    out: Path | None
    labels: int
    labelling: Labelling
    needs: tuple[AttributeNeed, ...] = ()
    refused: tuple[str, ...] = ()
    empty: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        values: dict[str, Any] = {"out": self.out, "gold_labels": self.labels}
        values |= {name: getattr(self.labelling, name) for name in _REPORTED}
        values |= {"refused": self.refused, "empty": self.empty, "needs": self.needs}
        return {name: plain(value) for name, value in values.items()}


def choose_sheet(
    votes: str | Path,
    out: str | Path | None = None,
    count: int = 50,
    *,
    weights: str | Path | None = None,
    seed: int = 0,
    catalogue: Catalogue | None = None,
    force: bool = False,
) -> SheetReport:
    """Choose the most informative cells and write them as a sheet for people to fill in.

    Args:
        votes: A votes table (JSONL, Parquet or Arrow).
        out: The sheet; None: ``label.csv``.
        count: Cells to choose, at least 1.
        weights: Members with zero weight cannot disagree.
        seed: Of the draw.
        catalogue: Says which spellings are one answer, for a remark, and which of the weights' parameters
            still count; None: case and punctuation do not count, and all parameters do.
        force: Replace a sheet that exists.

    Raises:
        LabelError: The sheet exists, or every cell has gold.
        VotesError: The votes cannot be read.
    """
    source, target = Path(votes), Path(out) if out is not None else SHEET
    if target.resolve() == source.resolve():
        raise LabelError(f"--out {target}: that is the votes table; name another file for the sheet")
    refuse_existing(target, source, force)
    table = read_votes(source)
    loaded = load_weights(weights, catalogue)
    choices = _choose(table, source, count, loaded, seed)
    write_sheet(table, choices, target, catalogue)
    needs = tuple(label_needs(table, loaded))
    return SheetReport(target, len(choices), needs, spelling_remarks(table, source, catalogue))


def apply_sheet(
    votes: str | Path,
    sheet: str | Path,
    out: str | Path | None = None,
    *,
    catalogue: Catalogue | None = None,
    force: bool = False,
) -> GoldReport:
    """Add the gold of a filled-in sheet to the table; existing gold always stays.

    Rows with gold that is no answer by the catalogue are left out and named, as values outside a closed set
    and spans that the text does not have: by such gold no answer of the deployment could be right. Where no
    row adds gold, nothing is written.

    Args:
        votes: A votes table (JSONL, Parquet or Arrow).
        sheet: A sheet of :func:`choose_sheet`.
        out: The table with gold; None: ``VOTES-gold`` in the working folder, in the format of the votes.
        catalogue: Normalises the gold like votes, and has the value sets; None: gold is taken as it is.
        force: Replace a file that exists.

    Raises:
        LabelError: The sheet cannot be used, none of its rows has gold, or ``out`` exists.
        VotesError: The votes cannot be read, or ``out`` has the ending of no format.
    """
    table, target = _open_table(votes, out, force)
    filled, empty = read_filled(sheet, catalogue.answer_kinds() if catalogue else None)
    if not filled:
        raise LabelError(
            f"{sheet}: no row has anything in its column `gold`, so nothing was applied or written; fill it "
            "in, save it as CSV, and apply it again"
        )
    rows: list[GoldRow] = []
    refused: list[str] = []
    texts = {(cell.product, cell.attribute): cell.title for cell in table.cells}
    for row in filled:
        try:
            rows.append(spelled_row(row, catalogue, texts.get((row.product, row.attribute), "")))
        except LabelError as error:
            refused.append(f"{sheet}, row {row.row}: {error}")
    result = apply_gold(table, rows)
    if result.added:
        write_votes(result.table, target)
    report = _gold_report(target if result.added else None, result)
    return replace(report, refused=tuple(refused), empty=empty)


class LabelSession:
    """Takes gold for chosen cells one by one and saves each at once.

    The arguments choose cells as in :func:`choose_sheet` and name the table with gold as in
    :func:`apply_sheet`.

    Attributes:
        choices: The cells, best first.
        remarks: On the votes, for people.

    Raises:
        LabelError: ``out`` exists, or every cell has gold.
        VotesError: The votes cannot be read, or ``out`` has the ending of no format.
    """

    def __init__(
        self,
        votes: str | Path,
        out: str | Path | None = None,
        count: int = 50,
        *,
        weights: str | Path | None = None,
        seed: int = 0,
        catalogue: Catalogue | None = None,
        force: bool = False,
    ) -> None:
        self._table, self._target = _open_table(votes, out, force)
        self._catalogue = catalogue
        self._rows: list[GoldRow] = []
        self._weights = load_weights(weights, catalogue)
        self.choices = _choose(self._table, Path(votes), count, self._weights, seed)
        self.remarks = spelling_remarks(self._table, votes, catalogue)

    @property
    def members(self) -> tuple[str, ...]:
        """Members, in the order of the values of a cell."""
        return self._table.members

    def cell(self, choice: Choice) -> Cell:
        """The cell to label."""
        return self._table.cells[choice.index]

    def kind(self, choice: Choice) -> AnswerKind:
        """The kind of answer of a cell."""
        kinds = self._catalogue.answer_kinds() if self._catalogue else {}
        return kind_in(kinds, self.cell(choice).attribute)

    def allowed(self, choice: Choice) -> str:
        """What may be answered, for people; "" where anything may."""
        if self._catalogue is None:
            return ""
        return allowed_answers(self._catalogue.get(self.cell(choice).attribute))

    def answer(self, choice: Choice, values: Sequence[str]) -> None:
        """Add the acceptable values of a cell, best first, and save the table.

        Raises:
            LabelError: A value that is none of the attribute's, which has a closed value set, or no text.
        """
        cell = self.cell(choice)
        number = self.choices.index(choice) + 1
        row = GoldRow(cell.product, cell.attribute, tuple(values), number)
        self._rows.append(spelled_row(row, self._catalogue, cell.title))
        write_votes(apply_gold(self._table, self._rows).table, self._target)

    def report(self) -> GoldReport:
        """The gold so far; raises LabelError without any."""
        if not self._rows:
            raise LabelError(f"nothing was answered; {self._target} is as it was")
        result = apply_gold(self._table, self._rows)
        return _gold_report(self._target, result, self._weights)


def _gold_report(target: Path | None, result: Labelling, weights: Weights | None = None) -> GoldReport:
    needs = tuple(label_needs(result.table, weights))
    return GoldReport(target, int(result.table.labelled.sum()), result, needs)


def _choose(table: VotesTable, source: Path, count: int, weights: Weights | None, seed: int) -> list[Choice]:
    choices = choose(table, count, weights=weights, seed=seed)
    if not choices:
        raise LabelError(f"{source}: every cell with a vote has gold; nothing is left to label")
    return choices


def _open_table(votes: str | Path, out: str | Path | None, force: bool) -> tuple[VotesTable, Path]:
    """The table, and the file for it with gold, which can be written."""
    source = Path(votes)
    suffix = source.suffix if is_columnar(source) else ".jsonl"
    target = Path(out if out is not None else f"{source.stem}-gold{suffix}")
    refuse_existing(target, source, force)
    check_target(target)
    return read_votes(source), target
