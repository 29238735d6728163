# SPDX-License-Identifier: Apache-2.0
"""Find the cells of a votes table that members of a deployment were tuned on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quorum.deployment.schema import Deployment, MemberSpec
from quorum.evaluation.tuned_rows import TunedRows
from quorum.tune.tuned_on import question_hash, read_tuned_on
from quorum.votes import Cell, VotesTable, read_rows
from quorum_contract.errors import QuorumError

_SAMPLED = 1 << 14
"""Cells of votes read in a stream that are looked at."""


class TunedRowsError(QuorumError, ValueError):
    """The rows that members were tuned on cannot be left out; the message says why and what to do."""

    code = "TUNED_ROWS_NOT_LEFT_OUT"


def tuned_rows(
    table: VotesTable, deployment: Deployment | None, *, leave_out: bool = False
) -> tuple[VotesTable, TunedRows | None]:
    """Find what members were tuned on, by the hashes that ``quorum tune`` leaves in their folders.

    Args:
        table: Votes with titles.
        deployment: Its members name their folders.
        leave_out: Leave out the cells that any member of the table was tuned on.

    Returns:
        The table, without these cells if asked for; and what was found, None where no folder says anything.

    Raises:
        CardError: A folder's hashes cannot be read.
        TunedRowsError: Cells are to be left out, and there is no deployment, or no cell would be left.
    """
    if leave_out and deployment is None:
        raise TunedRowsError(
            "--leave-out-tuned: a deployment names the folders that say what members were tuned on; name it "
            "by --deploy"
        )
    by_member = _seen(table.cells, table.members, deployment)
    if not by_member:
        return table, None
    labelled = bool(table.labelled.any())
    counted = table.labelled if labelled else np.ones(len(table), np.bool_)
    found = TunedRows(_counts(by_member, counted), int(counted.sum()), labelled)
    out = np.logical_or.reduce(list(by_member.values()))
    if not leave_out or not out.any():
        return table, found
    if out.all():
        raise TunedRowsError(
            "--leave-out-tuned: members were tuned on every cell of these votes; record votes on other rows"
        )
    left = TunedRows(found.members, found.cells, labelled, left_out=int(out.sum()))
    return table.take(np.flatnonzero(~out)), left


def tuned_rows_in_stream(
    votes: Path, members: Sequence[str], deployment: Deployment | None
) -> TunedRows | None:
    """As :func:`tuned_rows`, of the first cells of a large file, none of which is left out."""
    cells = (
        [row.cell for row in islice(read_rows(votes), _SAMPLED)] if _with_hashes(members, deployment) else []
    )
    by_member = _seen(cells, members, deployment)
    if not by_member:
        return None
    gold = np.array([bool(cell.gold) for cell in cells])
    labelled = bool(gold.any())
    counted = gold if labelled else np.ones(len(cells), np.bool_)
    return TunedRows(_counts(by_member, counted), int(counted.sum()), labelled, first=len(cells))


def _counts(by_member: dict[str, npt.NDArray[np.bool_]], counted: npt.NDArray[np.bool_]) -> dict[str, int]:
    counts = {name: int((seen & counted).sum()) for name, seen in by_member.items()}
    return {name: count for name, count in counts.items() if count}


def _seen(
    cells: Sequence[Cell], members: Iterable[str], deployment: Deployment | None
) -> dict[str, npt.NDArray[np.bool_]]:
    """Member whose folders have hashes -> (n,) whether it was tuned on each cell."""
    known = _with_hashes(members, deployment)
    if not known:
        return {}
    questions = [(cell.attribute, question_hash(cell.attribute, cell.title)) for cell in cells]
    attributes = {attribute for attribute, _ in questions}
    found = {}
    for name, own in known.items():
        hashes = {attribute: own.of(attribute) for attribute in attributes}
        seen = [question in hashes[attribute] for attribute, question in questions]
        found[name] = np.array(seen, np.bool_)
    return found


class _Hashes:
    """What the model that answers an attribute of one member was tuned on."""

    def __init__(self, member: MemberSpec, root: Path) -> None:
        self._options = member.options
        folders = {name for name in (member.options.llm, *member.options.adapters_used) if name}
        self._by_folder = {name: read_tuned_on(root / name) for name in sorted(folders)}

    def __bool__(self) -> bool:
        return any(self._by_folder.values())

    def of(self, attribute: str) -> frozenset[str]:
        """Of the LLM or encoder, and of the adapter that answers this attribute."""
        options = self._options
        adapter = options.adapter_by_attribute.get(attribute, options.usual_adapter)
        none: frozenset[str] = frozenset()
        return self._by_folder.get(options.llm, none) | self._by_folder.get(adapter or "", none)


def _with_hashes(members: Iterable[str], deployment: Deployment | None) -> dict[str, _Hashes]:
    if deployment is None:
        return {}
    names = {*members}
    found = {m.name: _Hashes(m, deployment.root) for m in deployment.members if m.name in names}
    return {name: own for name, own in found.items() if own}
