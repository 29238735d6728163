# SPDX-License-Identifier: Apache-2.0
"""Hold a votes table as cells (product x attribute) and arrays: votes of every member, and gold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.decision.cell import NOT_APPLICABLE
from quorum.decision.histogram import Floats, right_members
from quorum.decision.parts import find_part
from quorum.decision.patterns import ABSTAIN, NA, Codes
from quorum.votes.schema import Cell, VotesError, check_members, check_wanted
from quorum.votes.statistic import Statistic, count
from quorum.votes.text_rows import text_features

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class CodedVotes:
    """Votes without their texts; the arrays are those of a :class:`VotesTable`.

    Attributes:
        product_names: Distinct products in order of first appearance.
        parts: As in a table; may be -1 throughout where there is no gold.
        scores: As in a table; None if there is none.
        text: (l, m, 16) what the texts of the labelled cells say, see :mod:`quorum.votes.text_rows`; None:
            these have no text, or it was not read.
    """

    members: tuple[str, ...]
    codes: Codes
    right: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int32]
    group_names: tuple[tuple[str, str], ...]
    products: npt.NDArray[np.signedinteger[Any]]
    product_names: Sequence[str]
    parts: Codes
    scores: Scores | None = None
    text: Floats | None = None

    def statistic(self) -> Statistic:
        """The histogram of agreement patterns that all learning needs."""
        return count(
            self.members, self.group_names, self.codes, self.groups, self.right, self.parts,
            len(self.product_names), self.scores, self.text,
        )  # fmt: skip


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
        scores: (n, m) float32 log-probability of each vote by its member, nats; nan where none is known.
    """

    members: tuple[str, ...]
    cells: tuple[Cell, ...]
    codes: npt.NDArray[np.int8]
    right: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int32]
    group_names: tuple[tuple[str, str], ...]
    products: npt.NDArray[np.int32]
    parts: npt.NDArray[np.int8]
    scores: Scores

    def __len__(self) -> int:
        """Number of cells."""
        return len(self.cells)

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """(n,) whether the cell has gold."""
        return self.right >= 0

    @property
    def gold_outside(self) -> int:
        """Number of labelled cells whose gold no member named, so that no vote is right."""
        return int((self.right == 0).sum())

    @property
    def n_products(self) -> int:
        """Number of distinct products."""
        return int(self.products.max(initial=-1)) + 1

    def correct(self) -> npt.NDArray[np.bool_]:
        """(n, m) whether each member is right; False where there is no gold."""
        return right_members(self.right, len(self.members))

    def take(self, rows: npt.NDArray[np.integer[Any]] | Sequence[int]) -> VotesTable:
        """A table of the given rows."""
        return build_table(self.members, [self.cells[int(i)] for i in rows])

    def of_members(self, members: Sequence[str]) -> VotesTable:
        """The same table with its columns in the order of ``members``; raises VotesError for others."""
        check_wanted(self.members, members)
        return self.only(members)

    def only(self, members: Sequence[str]) -> VotesTable:
        """The same table with the votes of some of its members, in their order."""
        places = [self.members.index(name) for name in members]
        return build_table(members, [cell.of_members(places) for cell in self.cells])

    def with_gold(self, keep: npt.NDArray[np.bool_]) -> VotesTable:
        """The same cells, with gold only where ``keep`` is true."""
        pairs = zip(self.cells, keep, strict=True)
        cells = tuple(cell if kept or not cell.gold else replace(cell, gold=()) for cell, kept in pairs)
        return replace(self, cells=cells, right=np.where(keep, self.right, np.int64(-1)))

    def sample_gold(self, labels: int, seed: int) -> VotesTable:
        """The same cells, with gold of ``labels`` random ones only; raises VotesError if there are fewer."""
        rows = np.flatnonzero(self.labelled)
        if not 0 <= labels <= len(rows):
            raise VotesError(f"{labels} gold labels wanted, the table has {len(rows)}: label more")
        keep = np.zeros(len(self), np.bool_)
        keep[np.random.default_rng(seed).choice(rows, labels, replace=False)] = True
        return self.with_gold(keep)

    def coded(self) -> CodedVotes:
        """The votes without their texts."""
        names = list(dict.fromkeys(cell.product for cell in self.cells))
        arrays = (self.codes, self.right, self.groups, self.group_names, self.products, names, self.parts)
        labelled = [self.cells[i] for i in np.flatnonzero(self.labelled).tolist()]
        text = text_features([cell.title for cell in labelled], (cell.values for cell in labelled))
        return CodedVotes(self.members, *arrays, scores_or_none(self.scores), text)

    def statistic(self) -> Statistic:
        """The histogram of agreement patterns that all learning needs."""
        return self.coded().statistic()

    def without_scores(self) -> VotesTable:
        """The same cells as if no vote had a score."""
        return build_table(self.members, [replace(cell, scores=()) for cell in self.cells])

    def data_hash(self) -> str:
        """``sha256:`` over products, attributes, votes, scores and gold in their order, not over titles."""
        digest = hashlib.sha256(json.dumps(self.members).encode())
        for cell in self.cells:
            row = [cell.product, cell.category, cell.attribute, cell.values, cell.gold]
            digest.update(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        if scores_or_none(self.scores) is not None:
            digest.update(self.scores.astype("<f4").tobytes())
        return "sha256:" + digest.hexdigest()


def build_table(members: Sequence[str], cells: Sequence[Cell]) -> VotesTable:
    """Encode checked cells as arrays; raises VotesError for members that :func:`check_members` refuses."""
    check_members(members)
    codes = np.empty((len(cells), len(members)), np.int8)
    right = np.empty(len(cells), np.int64)
    parts = np.full(len(cells), ABSTAIN, np.int8)
    products: dict[str, int] = {}
    product = np.empty(len(cells), np.int32)
    names = sorted({(cell.category, cell.attribute) for cell in cells})
    index = {name: i for i, name in enumerate(names)}
    groups = np.empty(len(cells), np.int32)
    scores = np.full(codes.shape, np.nan, np.float32)
    for i, cell in enumerate(cells):
        codes[i] = _encode(cell.values)
        if cell.scores:
            # Numpy reads None as nan.
            scores[i] = cell.scores
        if (part := find_part([v if v != NOT_APPLICABLE else None for v in cell.values])) >= 0:
            parts[i] = codes[i, part]
        right[i] = sum(cell.is_right(v) << j for j, v in enumerate(cell.values)) if cell.gold else -1
        groups[i] = index[cell.category, cell.attribute]
        product[i] = products.setdefault(cell.product, len(products))
    scores[codes == ABSTAIN] = np.nan
    return VotesTable(
        tuple(members), tuple(cells), codes, right, groups, tuple(names), product, parts, scores
    )


def scores_or_none(scores: Scores) -> Scores | None:
    """The scores, None if all are nan."""
    return None if np.isnan(scores).all() else scores


def _encode(values: Sequence[str | None]) -> list[int]:
    ids: dict[str | None, int] = {None: ABSTAIN, NOT_APPLICABLE: NA}
    return [ids.setdefault(value, len(ids) - 1) for value in values]
