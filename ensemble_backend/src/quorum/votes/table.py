# SPDX-License-Identifier: Apache-2.0
"""The votes table: what every member answered on every cell (product x attribute), with gold where known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.decision.cell import NOT_APPLICABLE
from quorum.decision.histogram import histogram
from quorum.decision.parts import find_part
from quorum.decision.patterns import ABSTAIN, MAX_MEMBERS, NA
from quorum.votes.statistic import Statistic
from quorum_contract.errors import QuorumError


class VotesError(QuorumError, ValueError):
    """A votes table cannot be used; the message names the file, the line and the mend."""

    code = "VOTES_INVALID"


@dataclass(frozen=True, slots=True)
class Cell:
    """One product x attribute: the votes and, if labelled, the acceptable answers.

    Attributes:
        product: Identifier of the product; its cells stay together in resampling and cross-validation.
        category: May be empty.
        title: The product's text; may be empty.
        attribute: Attribute name.
        values: One per member; None: the member abstained.
        gold: Acceptable answers, the preferred one first; empty: no gold.
    """

    product: str
    category: str
    title: str
    attribute: str
    values: tuple[str | None, ...]
    gold: tuple[str, ...] = ()

    def is_right(self, value: str | None) -> bool:
        """Whether an answer is acceptable; "n/a" only if it is the preferred gold answer."""
        if value == NOT_APPLICABLE:
            return self.gold[:1] == (NOT_APPLICABLE,)
        return value is not None and value in self.gold


@dataclass(frozen=True, slots=True)
class VotesTable:
    """A checked votes table; the arrays are derived from the cells by :func:`build_table`.

    Attributes:
        members: Member names, the order of all columns.
        cells: The rows.
        codes: (n, m) int8, candidate ids within the cell: -1 abstained, 0 "n/a", 1 and up values.
        right: (n,) int64 bit mask of the members that are right; -1 where there is no gold.
        groups: (n,) int32 index into ``group_names``.
        group_names: Distinct (category, attribute), sorted.
        products: (n,) int32 product of each row, numbered in order of first appearance.
        parts: (n,) int8 code of the value that is part of others, -1 where none is.
    """

    members: tuple[str, ...]
    cells: tuple[Cell, ...]
    codes: npt.NDArray[np.int8]
    right: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int32]
    group_names: tuple[tuple[str, str], ...]
    products: npt.NDArray[np.int32]
    parts: npt.NDArray[np.int8]

    def __len__(self) -> int:
        """Number of cells."""
        return len(self.cells)

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """(n,) whether the cell has gold."""
        return self.right >= 0

    @property
    def gold_outside(self) -> int:
        """Labelled cells whose gold no member named: no vote can be right there."""
        return int((self.right == 0).sum())

    @property
    def n_products(self) -> int:
        """Number of distinct products."""
        return int(self.products.max(initial=-1)) + 1

    def correct(self) -> npt.NDArray[np.bool_]:
        """(n, m) whether each member is right; False where there is no gold."""
        bits = np.arange(len(self.members), dtype=np.int64)
        return ((np.maximum(self.right, 0)[:, None] >> bits) & 1).astype(np.bool_)

    def take(self, rows: npt.NDArray[np.integer[Any]] | Sequence[int]) -> VotesTable:
        """A table of the given rows."""
        return build_table(self.members, [self.cells[int(i)] for i in rows])

    def of_members(self, members: Sequence[str]) -> VotesTable:
        """The same table with its columns in the order of ``members``.

        Raises:
            VotesError: The table has votes of other members.
        """
        if sorted(members) != sorted(self.members):
            raise VotesError(
                f"these are votes of {', '.join(self.members)}, wanted are votes of {', '.join(members)}; "
                "record them with `quorum extract FILE --votes`"
            )
        places = [self.members.index(name) for name in members]
        return build_table(
            members, [replace(cell, values=tuple(cell.values[i] for i in places)) for cell in self.cells]
        )

    def with_gold(self, keep: npt.NDArray[np.bool_]) -> VotesTable:
        """The same cells, with the gold forgotten except where ``keep`` is true."""
        pairs = zip(self.cells, keep, strict=True)
        cells = tuple(cell if kept or not cell.gold else replace(cell, gold=()) for cell, kept in pairs)
        return replace(self, cells=cells, right=np.where(keep, self.right, np.int64(-1)))

    def sample_gold(self, labels: int, seed: int) -> VotesTable:
        """The same cells with the gold of ``labels`` random ones only.

        Raises:
            VotesError: Fewer labelled cells than that.
        """
        rows = np.flatnonzero(self.labelled)
        if not 0 <= labels <= len(rows):
            raise VotesError(f"{labels} gold labels wanted, the table has {len(rows)}: label more")
        keep = np.zeros(len(self), np.bool_)
        keep[np.random.default_rng(seed).choice(rows, labels, replace=False)] = True
        return self.with_gold(keep)

    def statistic(self) -> Statistic:
        """The histogram of agreement patterns that all learning needs."""
        hist = histogram(self.codes, self.groups, self.right)
        gold = None
        if len(self.members) < MAX_MEMBERS:
            codes = np.column_stack([self.codes, self.parts])[self.labelled]
            gold = histogram(codes, self.groups[self.labelled], self.right[self.labelled])
        return Statistic(self.members, self.group_names, hist, self.n_products, gold)

    def data_hash(self) -> str:
        """``sha256:`` over products, attributes, votes and gold in their order; titles do not count."""
        digest = hashlib.sha256(json.dumps(self.members).encode())
        for cell in self.cells:
            row = [cell.product, cell.category, cell.attribute, cell.values, cell.gold]
            digest.update(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        return "sha256:" + digest.hexdigest()


def read_votes(path: str | Path) -> VotesTable:
    """Read a votes table from JSON lines.

    A line is ``{"product", "category", "title", "attribute", "votes": {member: value or null}, "gold": []}``;
    category and title may be left out, gold may be left out, null or empty.

    Raises:
        VotesError: Unreadable, or a line that is not JSON, lacks something, has a value of the wrong type,
            other members than the first line, or a (product, attribute) that stood on an earlier line.
    """
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise VotesError(
            f"{source}: is no text in UTF-8 ({error.reason} at byte {error.start}); a votes table is a file "
            "of JSON lines here, only `quorum learn` reads Parquet too"
        ) from error
    except OSError as error:
        raise VotesError(f"{source}: cannot be read: {error}") from error
    return parse_votes(text.split("\n"), str(source))


def parse_votes(lines: Iterable[str], source: str = "votes") -> VotesTable:
    """Read a votes table from lines of JSON; raises like :func:`read_votes`, ``source`` names the place."""
    members: tuple[str, ...] = ()
    cells: list[Cell] = []
    seen: dict[tuple[str, str], int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_refuse_constant)
        except ValueError as error:
            raise VotesError(f"{source}, line {number}: {_not_json(error)}") from error
        try:
            votes = _votes(row)
            members = members or tuple(votes)
            cell = _cell(row, votes, members)
        except VotesError as error:
            raise VotesError(f"{source}, line {number}: {error}") from error
        first = seen.setdefault((cell.product, cell.attribute), number)
        if first != number:
            raise VotesError(
                f"{source}, line {number}: product {cell.product!r}, attribute {cell.attribute!r} stood on "
                f"line {first} already; keep one of the two"
            )
        cells.append(cell)
    if not cells:
        raise VotesError(f"{source}: no votes; a line per product and attribute is needed")
    return build_table(members, cells)


def write_votes(table: VotesTable, path: str | Path) -> None:
    """Write a table so that :func:`read_votes` gives it back."""
    with Path(path).open("w", encoding="utf-8") as file:
        file.writelines(_lines(table))


def build_table(members: Sequence[str], cells: Sequence[Cell]) -> VotesTable:
    """Encode checked cells as arrays.

    Raises:
        VotesError: No member, a name twice, or more members than a pattern can hold.
    """
    if not members or len(set(members)) != len(members) or len(members) > MAX_MEMBERS:
        raise VotesError(f"members must be 1 to {MAX_MEMBERS} distinct names, not {list(members)}")
    codes = np.empty((len(cells), len(members)), np.int8)
    right = np.empty(len(cells), np.int64)
    parts = np.full(len(cells), ABSTAIN, np.int8)
    products: dict[str, int] = {}
    product = np.empty(len(cells), np.int32)
    names = sorted({(cell.category, cell.attribute) for cell in cells})
    index = {name: i for i, name in enumerate(names)}
    groups = np.empty(len(cells), np.int32)
    for i, cell in enumerate(cells):
        codes[i] = _encode(cell.values)
        if (part := find_part([v if v != NOT_APPLICABLE else None for v in cell.values])) >= 0:
            parts[i] = codes[i, part]
        right[i] = sum(cell.is_right(v) << j for j, v in enumerate(cell.values)) if cell.gold else -1
        groups[i] = index[cell.category, cell.attribute]
        product[i] = products.setdefault(cell.product, len(products))
    return VotesTable(tuple(members), tuple(cells), codes, right, groups, tuple(names), product, parts)


def _encode(values: Sequence[str | None]) -> list[int]:
    ids: dict[str | None, int] = {None: ABSTAIN, NOT_APPLICABLE: NA}
    return [ids.setdefault(value, len(ids) - 1) for value in values]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value; write null where a member gave no vote")


def _not_json(error: ValueError) -> str:
    cut = isinstance(error, json.JSONDecodeError)
    return f"not JSON ({error}); is it cut off?" if cut else f"not JSON: {error}"


def _votes(row: object) -> Mapping[str, object]:
    if not isinstance(row, dict):
        raise VotesError(f"a JSON object is needed, not {type(row).__name__}")
    votes = row.get("votes")
    if not isinstance(votes, dict) or not votes:
        raise VotesError("`votes` must be an object of member: value (null for an abstention)")
    return votes


def _cell(row: Mapping[str, Any], votes: Mapping[str, object], members: tuple[str, ...]) -> Cell:
    unknown, missing = sorted(votes.keys() - set(members)), sorted(set(members) - votes.keys())
    if unknown or missing:
        raise VotesError(
            f"members differ from the first line: unknown {unknown}, missing {missing}; every line needs "
            "every member, null where it gave no vote"
        )
    values = tuple(_value(votes[name], f"votes[{name!r}]") for name in members)
    gold = row.get("gold") or []
    if not isinstance(gold, list):
        raise VotesError(f"`gold` must be a list of acceptable values, not {gold!r}")
    accepted = tuple(_value(value, "gold") for value in gold)
    if None in accepted:
        raise VotesError("`gold` holds null; leave gold out where there is none")
    return Cell(
        product=_text(row, "product"),
        category=_text(row, "category", optional=True),
        title=_text(row, "title", optional=True),
        attribute=_text(row, "attribute"),
        values=values,
        gold=tuple(value for value in accepted if value is not None),
    )


def _value(value: object, where: str) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise VotesError(f"{where} is {value!r}; a non-empty text is needed, or null for an abstention")


def _text(row: Mapping[str, Any], key: str, optional: bool = False) -> str:
    value = row.get(key)
    if value is None and optional:
        return ""
    if not isinstance(value, str) or not (value or optional):
        raise VotesError(f"`{key}` is {value!r}; a{'' if optional else ' non-empty'} text is needed")
    return value


def _lines(table: VotesTable) -> Iterator[str]:
    for cell in table.cells:
        row = {
            "product": cell.product,
            "category": cell.category,
            "title": cell.title,
            "attribute": cell.attribute,
            "gold": list(cell.gold),
            "votes": dict(zip(table.members, cell.values, strict=True)),
        }
        yield json.dumps(row, ensure_ascii=False) + "\n"
