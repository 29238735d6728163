# SPDX-License-Identifier: Apache-2.0
"""Measure whether members know when they are right: the scores of their votes against gold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Floats
from quorum.decision.patterns import ABSTAIN
from quorum.evaluation.measures import Flags, ReliabilityBin, calibration_error, merged, reliability
from quorum.evaluation.stats import Estimate
from quorum.reports.figures import points_in_words
from quorum.votes.table import VotesTable, scores_or_none


@dataclass(frozen=True, slots=True)
class MemberScores:
    """Figures of the scores of one member, on the labelled cells that it answered with a score.

    Attributes:
        cells: Number of these cells.
        scored: Share of its votes, labelled or not, that have a score; None: it has no votes.
        auroc: Chance that of a right and a wrong vote of it the right one has the higher score, ties counting
            half; 0.5: the scores say nothing. None: it was never right, or never wrong.
        ece: Expected calibration error of its own probabilities, 15 bins of equal mass; None without cells.
        reliability: Bins of the reliability diagram of its own probabilities.
    """

    cells: int
    scored: float | None
    auroc: float | None
    ece: float | None
    reliability: Sequence[ReliabilityBin]

    def bins(self, number: int) -> list[ReliabilityBin]:
        """The reliability diagram in fewer bins."""
        return merged(self.reliability, number)


@dataclass(frozen=True, slots=True)
class ScoresResult:
    """What the scores of votes say, and what they bring.

    Attributes:
        members: Figures per member.
        gains: Method -> its accuracy minus its accuracy without scores, with a 95 % interval, bootstrapped
            over products.
    """

    members: Mapping[str, MemberScores]
    gains: Mapping[str, Estimate]


def member_scores(table: VotesTable) -> dict[str, MemberScores]:
    """Figures of each member's scores; empty if no vote of the table has a score."""
    if scores_or_none(table.scores) is None:
        return {}
    correct, known = table.correct(), ~np.isnan(table.scores)
    return {
        name: _figures(
            table.scores[:, j], correct[:, j], known[:, j], table.labelled, table.codes[:, j] != ABSTAIN
        )
        for j, name in enumerate(table.members)
    }


def auroc(scores: Floats, right: Flags) -> float:
    """Chance that a right one of (n,) votes has a higher score than a wrong one; nan without either kind.

    Source: the Mann-Whitney statistic; Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747.
    """
    _, place = np.unique(scores, return_inverse=True)
    hits, misses = (np.bincount(place, kind) for kind in (right, ~right))
    pairs = hits.sum() * misses.sum()
    below = np.cumsum(misses) - misses
    return float((hits * (below + 0.5 * misses)).sum() / pairs) if pairs else math.nan


def _figures(
    scores: npt.NDArray[np.float32], correct: Flags, known: Flags, labelled: Flags, answered: Flags
) -> MemberScores:
    rows = known & labelled
    own, right = scores[rows].astype(np.float64), correct[rows]
    probability = np.exp(own)
    return MemberScores(
        cells=int(rows.sum()),
        scored=float(known.sum() / answered.sum()) if answered.any() else None,
        auroc=_number(auroc(own, right)),
        ece=_number(calibration_error(probability, right)),
        reliability=reliability(probability, right),
    )


def _number(figure: float) -> float | None:
    return None if math.isnan(figure) else figure


def gains_in_words(gains: Mapping[str, Estimate]) -> str:
    """Say how much the scores bring to each method."""
    parts = [f"{name} {points_in_words(gain)}" for name, gain in gains.items()]
    sure = [name for name, gain in gains.items() if gain.low > 0.0]
    worse = [name for name, gain in gains.items() if gain.high < 0.0]
    if worse:
        end = f"they make {' and '.join(worse)} worse: learn without them (`quorum learn --no-scores`)"
    elif sure:
        end = f"they make {' and '.join(sure)} better"
    else:
        end = "no difference can be told"
    return f"what the scores of votes bring: {', '.join(parts)}; {end}"
