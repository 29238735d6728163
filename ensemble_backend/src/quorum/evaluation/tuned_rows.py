# SPDX-License-Identifier: Apache-2.0
"""Count the cells that members were tuned on: their votes there are better than elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from quorum.records import Record


@dataclass(frozen=True, slots=True)
class TunedRows(Record):
    """Cells that members were tuned on, by the hashes in their folders.

    Attributes:
        members: Member -> such cells; without members that have none.
        cells: Number of the cells that these are of.
        labelled: Whether these are the cells with gold; False: none has gold, and all are meant.
        left_out: Cells of the table that any member was tuned on and that were left out, as asked for.
        first: Number of the first cells of a large file that were looked at; None: all.
    """

    members: Mapping[str, int]
    cells: int
    labelled: bool
    left_out: int = 0
    first: int | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line for each member whose weight and figures are too high; none where its cells are left out."""
        if self.left_out:
            return ()
        what = ("labelled " if self.labelled else "") + "cells"
        of = f"the first {self.first:,} {what}" if self.first else f"these {self.cells} {what}"
        advice = "use votes on rows that it has not seen" + (
            "" if self.first else ", or leave those out by --leave-out-tuned"
        )
        return tuple(
            f"{name} was tuned on {count} of {of}, so its weight and figures here are too high: {advice}"
            for name, count in self.members.items()
        )

    @property
    def lines(self) -> tuple[str, ...]:
        """The warnings, or what was left out."""
        return (self.remark,) if self.remark else self.warnings

    @property
    def remark(self) -> str:
        """What was left out; "" for nothing."""
        if not self.left_out:
            return ""
        names = ", ".join(f"{name} {count}" for name, count in self.members.items())
        what = "labelled cells" if self.labelled else "cells"
        return f"left out: {self.left_out} cells that members were tuned on (of {self.cells} {what}: {names})"
