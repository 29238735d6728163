# SPDX-License-Identifier: Apache-2.0
"""Score spans, and several values: the F1 of an answer with the gold one, 1 where both name nothing.

Measures are the micro-F1 over things, of which type and both borders must be right where these are spans, and
the share of answers that are right as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from quorum.decision.f1 import f1_of_sets, set_counts
from quorum.decision.sets import Thing, things_remembered
from quorum.decision.spans import SpansError
from quorum.evaluation.kinds.base import KindScores, Measure, Pairs, f1_of, ratio_of
from quorum.votes.exploded import accepted_sets
from quorum.votes.schema import Cell


def _things(value: str, text: str) -> frozenset[Thing] | None:
    """What an answer names; None if it cannot be read."""
    try:
        return frozenset(things_remembered(value, text))
    except SpansError:
        return None


def _score(cell: Cell, value: str) -> float:
    things = _things(value, cell.title)
    return 0.0 if things is None else f1_of_sets(things, accepted_sets(cell))


def _agreement(value: str, cast: Sequence[str], text: str) -> float:
    own = _things(value, text)
    others = [_things(vote, text) for vote in cast]
    shares = [f1_of_sets(own, [other]) for other in others if own is not None and other is not None]
    return sum(shares) / len(cast)


def _measures(pairs: Pairs) -> dict[str, Measure]:
    return {
        "f1": f1_of([_counts(*pair) for pair in pairs]),
        "exact": ratio_of([_exact(*pair) for pair in pairs]),
    }


def _exact(cell: Cell, answer: str | None) -> tuple[float, float]:
    return float(answer is not None and _score(cell, answer) >= 1.0), float(bool(accepted_sets(cell)))


def _counts(cell: Cell, answer: str | None) -> tuple[float, float, float]:
    """Shared, named and wanted things; nothing where the gold cannot be read, as for a cell without gold."""
    accepted = accepted_sets(cell)
    if not accepted:
        return 0.0, 0.0, 0.0
    things: frozenset[Thing] = frozenset()
    if answer is not None:
        things = _things(answer, cell.title) or things
    return set_counts(things, accepted)


SPANS = KindScores("f1", "F1 of spans", _score, _agreement, _measures)
VALUES = replace(SPANS, unit="F1 of sets")
