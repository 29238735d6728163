# SPDX-License-Identifier: Apache-2.0
"""Summarise a votes table of any size: cells, labels, what each member answered, and duplicates."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quorum.decision.patterns import ABSTAIN, NA
from quorum.votes.duplicates import DuplicateCheck, digest
from quorum.votes.read import count_rows, read_coded, read_members
from quorum.votes.rewrite import Progress
from quorum.votes.schema import VotesError

_BATCH_ROWS = 1 << 14
_SHOWN = 3


@dataclass(slots=True)
class Summary:
    """Counts over a votes table.

    Attributes:
        members: Member names.
        cells: Number of its cells.
        products: Number of distinct products.
        attributes: Attribute -> cells.
        labels: Cells with gold.
        answered: Per member, cells that it answered, "n/a" included.
        not_applicable: Per member, cells that it answered with "n/a".
        scored: Per member, votes with a score.
        duplicates: Rows of a (product, attribute) that an earlier row has.
        first_duplicates: Numbers (earlier, later) of the first of these.
    """

    members: tuple[str, ...]
    cells: int = 0
    products: int = 0
    attributes: Counter[str] = field(default_factory=Counter)
    labels: int = 0
    answered: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    not_applicable: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    scored: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    duplicates: int = 0
    first_duplicates: list[tuple[int, int]] = field(default_factory=list)


def summarise(path: Path, progress: Progress) -> Summary:
    """Read a table in batches; raises VotesError as :func:`quorum.votes.read_votes`, but for duplicates."""
    members = read_members(path)
    found = Summary(members)
    found.answered, found.not_applicable, found.scored = (np.zeros(len(members), np.int64) for _ in range(3))
    total = count_rows(path)
    progress(0, total)
    products: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)
    numbers: list[npt.NDArray[np.int64]] = []
    with DuplicateCheck() as seen:
        for rows, votes in read_coded(path, members, _BATCH_ROWS):
            seen.add(votes, found.cells)
            numbers.append(np.asarray(rows, np.int64))
            found.cells += len(rows)
            found.answered += (votes.codes != ABSTAIN).sum(axis=0)
            found.not_applicable += (votes.codes == NA).sum(axis=0)
            found.labels += int((votes.right >= 0).sum())
            if votes.scores is not None:
                found.scored += (~np.isnan(votes.scores)).sum(axis=0)
            sizes = np.bincount(votes.groups, minlength=len(votes.group_names)).tolist()
            for (_, attribute), size in zip(votes.group_names, sizes, strict=True):
                found.attributes[attribute] += size
            digests = [digest(name, b"product") for name in votes.product_names]
            products = np.union1d(products, np.array(digests, np.uint64))
            progress(found.cells, max(total, found.cells))
        if not found.cells:
            raise VotesError(f"{path}: no votes; a line or row per product and attribute is needed")
        found.products = len(products)
        _count_duplicates(found, seen, np.concatenate(numbers))
    return found


def _count_duplicates(found: Summary, seen: DuplicateCheck, numbers: npt.NDArray[np.int64]) -> None:
    first: list[tuple[int, int]] = []
    for earlier, later in seen.repeats():
        found.duplicates += 1
        first = sorted([*first, (later, earlier)])[:_SHOWN]
    found.first_duplicates = [(int(numbers[earlier]), int(numbers[later])) for later, earlier in first]
