# SPDX-License-Identifier: Apache-2.0
"""Choose how few votes keep a span, or one of several values, in an answer: by the F1 of whole answers.

Weights are learned to decide each thing rightly. The best answer has more: a thing belongs into it from about
half of the reachable F1 on, not from a half on (Lipton et al., arXiv:1402.1892), and of spans that exclude
each other one is often right where none has most of the votes. So "not named" gets a lower bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from quorum.decision.answer_kinds import SET_KINDS, AnswerKinds, kind_in
from quorum.decision.cell import ANSWERED, Parameters, decide_one
from quorum.decision.f1 import f1
from quorum.decision.kept import SET_BIAS
from quorum.decision.sets import NAMED, Thing, explode, without_overlaps
from quorum.decision.weights import Weights, attribute_of
from quorum.votes.exploded import accepted_sets
from quorum.votes.schema import Cell
from quorum.votes.table import VotesTable

GOLD_FOR_BIAS = 50
MOST_CELLS = 2_000
SHIFTS = tuple(step / 4 for step in range(13))
LEAST_GAIN = 0.002
"""Mean F1 that a shift must gain on none; of shifts as good as the best, less this, the lowest is taken."""


def f1_of_sets(answer: frozenset[Thing], accepted: Sequence[frozenset[Thing]]) -> float:
    """The highest F1 of an answer with one of the acceptable ones, 1 for two empty ones; 0 without any."""
    fits = (f1(len(answer & gold), len(answer), len(gold), empty=1.0) for gold in accepted)
    return max(fits, default=0.0)


def set_biases(table: VotesTable, weights: Weights, kinds: AnswerKinds, seed: int = 0) -> dict[str, float]:
    """What the bias for "not named" should be lower, by attribute; without those where 0 is best.

    Args:
        table: Votes, with the gold to learn from.
        weights: Learned from them.
        kinds: Kinds of the attributes.
        seed: Draws :data:`MOST_CELLS` labelled cells of more.
    """
    cells: dict[str, list[Cell]] = {}
    for cell in table.cells:
        if cell.gold and kind_in(kinds, cell.attribute) in SET_KINDS:
            cells.setdefault(cell.attribute, []).append(cell)
    found = {}
    for name, own in sorted(cells.items()):
        if len(own) >= GOLD_FOR_BIAS:
            rows = np.random.default_rng(seed).permutation(len(own))[:MOST_CELLS]
            found[name] = _best(weights, [own[row] for row in rows.tolist()], kind_in(kinds, name) == "spans")
    return {name: shift for name, shift in found.items() if shift}


def shifted(weights: Weights, shifts: Mapping[str, float]) -> Weights:
    """The weights with lower biases for "not named" of these attributes."""
    if not shifts:
        return weights
    attributes = {name: _lower(p, shifts.get(name, 0.0)) for name, p in weights.attributes.items()}
    groups = {key: _lower(p, shifts.get(attribute_of(key), 0.0)) for key, p in weights.groups.items()}
    settings = {**weights.settings, SET_BIAS: dict(sorted(shifts.items()))}
    return replace(weights, attributes=attributes, groups=groups, settings=settings)


def recorded_shifts(settings: Mapping[str, Any]) -> dict[str, float]:
    """The shifts that settings of weights record."""
    stated = settings.get(SET_BIAS)
    return {str(k): float(v) for k, v in stated.items()} if isinstance(stated, Mapping) else {}


def _lower(parameters: Parameters, shift: float) -> Parameters:
    if not shift:
        return parameters
    return msgspec.structs.replace(parameters, na_bias=round(parameters.na_bias - shift, 6))


def _best(weights: Weights, cells: Sequence[Cell], are_spans: bool) -> float:
    ready = [(cell, explode(cell.values, cell.title), accepted_sets(cell)) for cell in cells]
    values = []
    for shift in SHIFTS:
        decide = _decider(weights, shift)
        scores = []
        for cell, things, accepted in ready:
            sure: dict[Thing, float] = {}
            for thing, votes in things.items():
                value, confidence = decide(cell.attribute, cell.category, votes, cell.scores)
                if value == NAMED:
                    sure[thing] = confidence
            kept = without_overlaps(sure, cell.title) if are_spans else tuple(sure)
            scores.append(f1_of_sets(frozenset(kept), accepted))
        values.append(float(np.mean(scores)))
    if max(values) < values[0] + LEAST_GAIN:
        return 0.0
    return next(s for s, value in zip(SHIFTS, values, strict=True) if value >= max(values) - LEAST_GAIN)


def _decider(weights: Weights, shift: float) -> Any:
    """Decides the cell of one thing; cells of one pattern are decided once."""

    @lru_cache(maxsize=1 << 16)
    def decide(
        attribute: str, category: str, votes: tuple[str | None, ...], scores: tuple[float | None, ...]
    ) -> tuple[str, float]:
        parameters = _lower(weights.parameters(attribute, category), shift).at(scores)
        return decide_one(parameters, [("", 1) if vote is None else (vote, ANSWERED) for vote in votes])

    return decide
