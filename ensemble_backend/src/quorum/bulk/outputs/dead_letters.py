# SPDX-License-Identifier: Apache-2.0
"""Write the rows that could not be read, with the reason, as JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from quorum.bulk.inputs.records import BadRow
from quorum.bulk.outputs.outcome import Outcome
from quorum.votes.join import join_lines


class DeadLetters:
    """One object per row: ``row`` (from 1, of the whole input), ``place``, ``reason`` and ``raw``, its text.

    A part without such rows is left out.
    """

    def write(self, path: Path, outcomes: Sequence[Outcome], bad: Sequence[BadRow]) -> bool:
        """As :meth:`PartFormat.write`."""
        # A lone surrogate is escaped, which JSON can hold.
        with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
            for row in bad:
                line = {"row": row.index + 1, "place": row.place, "reason": row.reason, "raw": row.raw}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        return bool(bad)

    def join(self, parts: Sequence[Path], path: Path) -> None:
        """As :meth:`PartFormat.join`."""
        join_lines(parts, path)
