# SPDX-License-Identifier: Apache-2.0
"""Count the LLM calls that a cheap member saves: answering its surest cells alone, or voting first.

A plain cascade (Viola and Jones, "Rapid object detection using a boosted cascade", CVPR 2001; for LLMs Chen
et al., "FrugalGPT", arXiv 2305.05176) may answer otherwise than the vote. The lazy vote never does: it stops
asking when no vote that is still out can change the decision (:mod:`quorum.decision.lazy`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.decision.cell import ANSWERED, Ballot, decide_one
from quorum.decision.evidence import Evidence
from quorum.decision.lazy import is_settled, order
from quorum.decision.weights import Weights
from quorum.votes import VotesTable

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
SHARES = tuple(round(0.1 * step, 1) for step in range(11))
_NOT_ASKED: Ballot = ("", ANSWERED + 1)


def surest(confidence: Floats, share: float) -> Flags:
    """(n,) which cells belong to the ``share`` of all with the highest (n,) confidence."""
    chosen = np.zeros(len(confidence), np.bool_)
    chosen[np.argsort(-confidence, kind="stable")[: round(share * len(confidence))]] = True
    return chosen


def cascaded(alone: Flags, cheap: Flags, dear: Flags) -> Flags:
    """(n,) whether cells are right: by the cheap member where it answers alone, else by the others."""
    return np.where(alone, cheap, dear)


def threshold(confidence: Floats, cheap: Flags, dear: Flags, *, cautious: bool = False) -> float:
    """The confidence from which the cheap member may answer alone.

    Args:
        confidence: (n,) of the cheap member.
        cheap: (n,) whether it is right.
        dear: (n,) whether the others are.
        cautious: The threshold with most right cells; else the lowest with no fewer than the others have.

    Returns:
        The threshold; infinite where every one loses cells.
    """
    ranked = np.argsort(-confidence, kind="stable")
    gained = np.cumsum(cheap[ranked].astype(int) - dear[ranked].astype(int))
    sorted_confidence = confidence[ranked]
    # Cells of equal confidence are answered alike.
    last = np.append(sorted_confidence[:-1] > sorted_confidence[1:], True)
    wanted = max(0, int(gained[last].max())) if cautious else 0
    places = np.flatnonzero((gained >= wanted) & last)
    return float(sorted_confidence[places[-1]]) if len(places) else float("inf")


def alone_held_out(
    confidence: Floats,
    cheap: Flags,
    dear: Flags,
    fold: npt.NDArray[np.int64],
    *,
    cautious: bool = False,
) -> Flags:
    """(n,) which cells the cheap member answers alone, each fold by the threshold of the others."""
    alone = np.zeros(len(confidence), np.bool_)
    for part in range(int(fold.max()) + 1):
        test = fold == part
        bar = threshold(confidence[~test], cheap[~test], dear[~test], cautious=cautious)
        alone[test] = confidence[test] >= bar
    return alone


class Lazy(NamedTuple):
    """What a vote costs that asks members in turn.

    Attributes:
        asked: (n, m) which members were asked.
        same: Cells decided as by all votes.
    """

    asked: Flags
    same: int


def lazy(table: VotesTable, weights: Weights, costs: Sequence[float]) -> Lazy:
    """Ask the members of each cell by weight per cost until the decision is final.

    Args:
        table: All votes, members as in the weights.
        weights: Decide.
        costs: Of a call, one per member.
    """
    asked = np.zeros((len(table), len(table.members)), np.bool_)
    evidence = Evidence(weights.evidence) if weights.evidence else None
    same = 0
    for row, cell in enumerate(table.cells):
        parameters = weights.parameters(cell.attribute, cell.category)
        text = evidence.of(cell.title) if evidence else None
        ballots = [_NOT_ASKED if value is None else (value, ANSWERED) for value in cell.values]
        scores = [None if np.isnan(s) else float(s) for s in table.scores[row]] if parameters.scores else []
        known: list[Ballot | None] = [None] * len(ballots)
        for j in order(parameters.weights, costs):
            known[j], asked[row, j] = ballots[j], True
            if is_settled(parameters, known, scores, text):
                break
        heard = [ballot or _NOT_ASKED for ballot in known]
        whole, _ = decide_one(parameters, ballots, scores, text)
        part, _ = decide_one(parameters, heard, scores, text)
        same += whole == part
    return Lazy(asked, same)
