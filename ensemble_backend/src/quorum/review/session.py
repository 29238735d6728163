# SPDX-License-Identifier: Apache-2.0
"""Label a votes table in files: write a sheet, apply a filled-in sheet, or save answers one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quorum.decision import weights as weights_file
from quorum.records import Record, plain
from quorum.review.choose import Choice, LabelError, choose
from quorum.review.sheet import GoldRow, Labelling, apply_gold, read_sheet, write_sheet
from quorum.tasks.catalogue import Catalogue
from quorum.votes import Cell, VotesTable, check_target, is_columnar, read_votes, write_votes

SHEET = Path("label.csv")
_REPORTED = ("added", "same", "outside", "conflicts", "unknown")


@dataclass(frozen=True, slots=True)
class SheetReport(Record):
    """A sheet for people to fill in: its file and the number of its cells."""

    out: Path
    cells: int


@dataclass(frozen=True, slots=True)
class GoldReport(Record):
    """The file of a table with gold, its labelled cells, and the added and rejected labels."""

    out: Path
    labels: int
    labelling: Labelling

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = {"out": self.out, "gold_labels": self.labels}
        values |= {name: getattr(self.labelling, name) for name in _REPORTED}
        return {name: plain(value) for name, value in values.items()}


def choose_sheet(
    votes: str | Path,
    out: str | Path | None = None,
    count: int = 50,
    *,
    weights: str | Path | None = None,
    seed: int = 0,
    force: bool = False,
) -> SheetReport:
    """Choose the most informative cells and write them as a sheet for people to fill in.

    Args:
        votes: A votes table (JSONL, Parquet or Arrow).
        out: The sheet; None: ``label.csv``.
        count: Cells to choose, at least 1.
        weights: Members with zero weight cannot disagree.
        seed: Of the draw.
        force: Replace a sheet that exists.

    Raises:
        LabelError: The sheet exists, or every cell has gold.
        VotesError: The votes cannot be read.
    """
    source, target = Path(votes), Path(out) if out is not None else SHEET
    if target.resolve() == source.resolve():
        raise LabelError(f"--out {target}: that is the votes table; name another file for the sheet")
    _refuse_existing(target, source, force)
    table = read_votes(source)
    choices = _choose(table, source, count, weights, seed)
    write_sheet(table, choices, target)
    return SheetReport(target, len(choices))


def apply_sheet(
    votes: str | Path,
    sheet: str | Path,
    out: str | Path | None = None,
    *,
    catalogue: Catalogue | None = None,
    force: bool = False,
) -> GoldReport:
    """Add the gold of a filled-in sheet to the table; existing gold always stays.

    Args:
        votes: A votes table (JSONL, Parquet or Arrow).
        sheet: A sheet of :func:`choose_sheet`.
        out: The table with gold; None: ``VOTES-gold``, in the format of the votes.
        catalogue: Normalises the gold like votes; None: no normalisation.
        force: Replace a file that exists.

    Raises:
        LabelError: The sheet cannot be used, or ``out`` exists.
        VotesError: The votes cannot be read, or ``out`` has the ending of no format.
    """
    table, target = _open_table(votes, out, force)
    result = apply_gold(table, [_spelled(row, catalogue) for row in read_sheet(sheet)])
    write_votes(result.table, target)
    return GoldReport(target, int(result.table.labelled.sum()), result)


class LabelSession:
    """Takes gold for chosen cells one by one and saves each at once.

    The arguments choose cells as in :func:`choose_sheet` and name the table with gold as in
    :func:`apply_sheet`.

    Attributes:
        choices: The cells, best first.

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
        self.choices = _choose(self._table, Path(votes), count, weights, seed)

    @property
    def members(self) -> tuple[str, ...]:
        """Members, in the order of the values of a cell."""
        return self._table.members

    def cell(self, choice: Choice) -> Cell:
        """The cell to label."""
        return self._table.cells[choice.index]

    def answer(self, choice: Choice, values: Sequence[str]) -> None:
        """Add the acceptable values of a cell, best first, and save the table."""
        cell = self.cell(choice)
        number = self.choices.index(choice) + 1
        row = GoldRow(cell.product, cell.attribute, tuple(values), number)
        self._rows.append(_spelled(row, self._catalogue))
        write_votes(apply_gold(self._table, self._rows).table, self._target)

    def report(self) -> GoldReport:
        """The gold so far; raises LabelError without any."""
        if not self._rows:
            raise LabelError(f"nothing was answered; {self._target} is as it was")
        result = apply_gold(self._table, self._rows)
        return GoldReport(self._target, int(result.table.labelled.sum()), result)


def _choose(
    table: VotesTable, source: Path, count: int, weights: str | Path | None, seed: int
) -> list[Choice]:
    loaded = weights_file.load(Path(weights)) if weights is not None else None
    choices = choose(table, count, weights=loaded, seed=seed)
    if not choices:
        raise LabelError(f"{source}: every cell with a vote has gold; nothing is left to label")
    return choices


def _open_table(votes: str | Path, out: str | Path | None, force: bool) -> tuple[VotesTable, Path]:
    """The table, and the file for it with gold, which can be written."""
    source = Path(votes)
    suffix = source.suffix if is_columnar(source) else ".jsonl"
    target = Path(out) if out is not None else source.with_name(f"{source.stem}-gold{suffix}")
    _refuse_existing(target, source, force)
    check_target(target)
    return read_votes(source), target


def _refuse_existing(target: Path, votes: Path, force: bool) -> None:
    """Raise LabelError for an existing target other than the table, which may hold people's answers."""
    if target.resolve() != votes.resolve() and target.exists() and not force:
        raise LabelError(
            f"{target} exists and may hold answers; name another with --out, go on from it as VOTES, "
            "or replace it with --force"
        )


def _spelled(row: GoldRow, catalogue: Catalogue | None) -> GoldRow:
    if catalogue is None:
        return row
    return replace(row, gold=tuple(dict.fromkeys(catalogue.spelled(row.attribute, row.gold))))
