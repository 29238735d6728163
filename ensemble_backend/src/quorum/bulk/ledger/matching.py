# SPDX-License-Identifier: Apache-2.0
"""Hold the rows of a part against their outcomes before its outputs are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from quorum.bulk.inputs.records import BadRow
from quorum.bulk.inputs.scan import Part
from quorum.bulk.ledger.entry import Entry
from quorum.bulk.ledger.errors import LedgerError
from quorum.bulk.listings import Listing
from quorum.bulk.outputs.outcome import Outcome


def matched(
    part: Part, entries: Mapping[int, Entry], listings: Iterable[tuple[int, Listing | BadRow]]
) -> tuple[list[Outcome], list[BadRow]]:
    """The listings of a part with their outcomes, and its bad rows; raises LedgerError if they do not fit."""
    outcomes: list[Outcome] = []
    bad: list[BadRow] = []
    for wanted, (row, found) in enumerate(listings, part.first):
        if row != wanted:
            raise LedgerError(f"part {part.number}: row {wanted + 1} of the input is missing; it has changed")
        if not isinstance(found, Listing):
            bad.append(found)
            continue
        entry = entries.get(row)
        if entry is None:
            raise LedgerError(f"{found.place or found.product}: no outcome yet; its part cannot be written")
        if entry.product != found.product:
            raise LedgerError(
                f"{found.place}: the journal has {entry.product!r} as row {row + 1}, the input "
                f"{found.product!r}; the input has changed, so begin the job anew"
            )
        outcomes.append(Outcome(found, entry.result))
    if len(outcomes) + len(bad) != part.rows:
        raise LedgerError(
            f"part {part.number}: {len(outcomes) + len(bad)} rows, {part.rows} when the job was begun; the "
            "input has changed"
        )
    return outcomes, bad
