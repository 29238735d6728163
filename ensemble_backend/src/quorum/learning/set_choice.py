# SPDX-License-Identifier: Apache-2.0
"""Choose how answers that name several things are decided: by learned or equal weights, or by one member.

Weights are learned to decide each thing rightly. The best answer has more: a thing belongs into it from about
half of the reachable F1 on, not from a half on (Lipton et al., arXiv:1402.1892), and of spans that exclude
each other one is often right where none has most of the votes. So "not named" gets a lower bias, by which the
F1 over all things is highest. Where votes do not surely beat the best member, that one decides alone.

Everything is chosen by answers to products whose gold did not teach the weights that gave them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from quorum.decision.answer_kinds import SET_KINDS, AnswerKinds, kind_in
from quorum.decision.arrays import Floats
from quorum.decision.cell import NOT_APPLICABLE, Parameters, decide_one
from quorum.decision.f1 import f1, set_counts
from quorum.decision.kept import SET_CHOICE, converted
from quorum.decision.sets import (
    DecideVotes,
    Thing,
    as_ballots,
    decide_things,
    explode,
    things_remembered,
)
from quorum.decision.spans import SpansError
from quorum.decision.weights import Weights, attribute_of
from quorum.learning.set_confidence import fit_chance
from quorum.votes.exploded import accepted_sets
from quorum.votes.schema import Cell
from quorum.votes.table import VotesTable

GOLD_FOR_CHOICE = 50
MOST_CELLS = 2_000
FOLDS = 5
SHIFTS = tuple(step / 4 for step in range(13))
LEAST_GAIN = 0.01
"""Of rules whose F1 is the highest, less this, the one with the most whole answers right is taken."""
ERRORS = 1.0
"""Standard errors that votes must be better than the best member, to decide in its place."""

How = Literal["learned", "equal", "alone"]
Relearn = Callable[[frozenset[str]], Weights]
"""Learns weights without the gold of some products."""


class SetChoice(msgspec.Struct, frozen=True):
    """How answers of one attribute are decided, and how that compares.

    Attributes:
        weights: The learned ones, equal ones, or those by which ``member`` decides alone, others where it
            abstains.
        shift: What the bias for "not named" is lower.
        member: The best single member, by F1 over all things.
        gain: F1 of votes less that of the member, on products that did not teach the weights, but by which
            rule and member were chosen: somewhat flattering. ``error`` is its standard error over products.
        chance: See :class:`quorum.decision.cell.Parameters`.
    """

    weights: How
    shift: float
    member: str
    gain: float
    error: float
    chance: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class _Answers:
    """Answers of one rule to the labelled cells of an attribute.

    Attributes:
        counts: (n, 3) shared, named and wanted things.
        confidence: (n,) in [0, 1]; nan where all members abstained.
        right: (n,) whether the whole answer is right.
    """

    counts: Floats
    confidence: Floats
    right: npt.NDArray[np.bool_]

    @property
    def f1(self) -> float:
        return f1(*self.counts.sum(axis=0).tolist(), empty=0.0)


def set_choices(
    table: VotesTable, kinds: AnswerKinds, relearn: Relearn, seed: int = 0
) -> dict[str, SetChoice]:
    """Choose for each attribute of sets that has :data:`GOLD_FOR_CHOICE` labelled answers.

    Args:
        table: Votes, with the gold to learn from.
        kinds: Of the attributes to choose for.
        relearn: Learns weights as they are to be used.
        seed: Draws the folds, and :data:`MOST_CELLS` labelled cells of more.
    """
    cells: dict[str, list[Cell]] = {}
    for cell in table.cells:
        if kind_in(kinds, cell.attribute) in SET_KINDS and accepted_sets(cell):
            cells.setdefault(cell.attribute, []).append(cell)
    rng, enough = np.random.default_rng(seed), {}
    for name, own in sorted(cells.items()):
        rows = rng.permutation(len(own))[:MOST_CELLS].tolist()
        if len(rows) >= GOLD_FOR_CHOICE:
            enough[name] = [own[row] for row in rows]
    if not enough:
        return {}
    names = list(dict.fromkeys(cell.product for own in enough.values() for cell in own))
    folds = [frozenset(names[part::FOLDS]) for part in range(min(FOLDS, len(names)))]
    parts = [(products, relearn(products)) for products in folds]
    return {
        name: _choice([(weights, [c for c in own if c.product in held]) for held, weights in parts], kinds)
        for name, own in enough.items()
    }


def chosen(weights: Weights, choices: Mapping[str, SetChoice]) -> Weights:
    """The weights by which attributes are decided as they were chosen to be."""
    if not choices:
        return weights
    members = weights.members
    attributes = {
        name: ruled(own, choices[name], members) if name in choices else own
        for name, own in weights.attributes.items()
    }
    groups = {}
    for key, own in weights.groups.items():
        choice = choices.get(attribute_of(key))
        if choice is None or choice.weights == "learned":
            groups[key] = own if choice is None else ruled(own, choice, members)
    # As they are read again: JSON has lists, no tuples.
    recorded = {name: msgspec.json.decode(msgspec.json.encode(own)) for name, own in sorted(choices.items())}
    settings = {**weights.settings, SET_CHOICE: recorded}
    return replace(weights, attributes=attributes, groups=groups, settings=settings)


def recorded_choices(settings: Mapping[str, Any]) -> dict[str, SetChoice]:
    """The choices that settings of weights record; what cannot be read is left out."""
    stated, found = settings.get(SET_CHOICE), {}
    for name, entry in (stated if isinstance(stated, Mapping) else {}).items():
        try:
            found[str(name)] = msgspec.convert(entry, SetChoice)
        except msgspec.ValidationError:
            continue
    return found


def ruled(learned: Parameters, choice: SetChoice, members: Sequence[str]) -> Parameters:
    """Parameters that decide as it was chosen, with the confidence of the learned ones."""
    if choice.weights == "alone":
        own = _alone(learned, members.index(choice.member))
    else:
        own = learned if choice.weights == "learned" else _equal(learned)
    bias = round(own.na_bias - choice.shift, 6)
    return msgspec.structs.replace(own, na_bias=bias, chance=choice.chance if own.calibrated else ())


def _equal(learned: Parameters) -> Parameters:
    return converted(Parameters((1.0,) * len(learned.weights), text=learned.text), learned, {})


def _alone(learned: Parameters, member: int) -> Parameters:
    """Weights by which a member just outvotes all others: whether these agree still says how sure it is."""
    others = sum(learned.weights) - learned.weights[member]
    weight = round(max(learned.weights[member], 1.05 * others, others + 0.1), 6)
    weights = tuple(weight if j == member else own for j, own in enumerate(learned.weights))
    return msgspec.structs.replace(learned, weights=weights, na_bias=0.0, scores=())


def _choice(parts: Sequence[tuple[Weights, Sequence[Cell]]], kinds: AnswerKinds) -> SetChoice:
    """Choose by the cells of one attribute, in parts with weights that did not see their gold."""
    cells = [cell for _, own in parts for cell in own]
    members = parts[0][0].members
    alone = [_of_member(cells, member) for member in range(len(members))]
    best = int(np.argmax([answers.f1 for answers in alone]))
    ready = [(weights, [_Ready(cell, kinds) for cell in own]) for weights, own in parts]

    def answers_by(weights: How, shift: float = 0.0) -> tuple[SetChoice, _Answers]:
        choice = SetChoice(weights, shift, members[best], 0.0, 0.0)
        return choice, _joined([_decided(weights, own, choice) for weights, own in ready])

    ways: tuple[How, ...] = ("learned", "equal") if len(members) > 1 else ("learned",)
    rules = [answers_by(weights, shift) for weights in ways for shift in SHIFTS]
    highest = max(answers.f1 for _, answers in rules)
    as_good = [rule for rule in rules if rule[1].f1 >= highest - LEAST_GAIN]
    choice, answers = max(as_good, key=lambda rule: rule[1].right.sum())
    gain, error = _difference(answers.counts, alone[best].counts, [cell.product for cell in cells])
    if len(members) > 1 and gain < ERRORS * error:
        choice, answers = answers_by("alone")
    known = ~np.isnan(answers.confidence)
    line = fit_chance(answers.confidence[known], answers.right[known])
    return msgspec.structs.replace(choice, gain=round(gain, 4), error=round(error, 4), chance=line)


class _Ready:
    """A labelled cell, read once: what members named, and what is right."""

    def __init__(self, cell: Cell, kinds: AnswerKinds) -> None:
        self.cell, self.accepted = cell, accepted_sets(cell)
        self.things = explode(cell.values, cell.title)
        self.are_spans = kind_in(kinds, cell.attribute) == "spans"
        self.nothing = None
        if not self.things:
            read = [_things(value, cell.title) for value in cell.values]
            if any(things is not None for things in read):
                self.nothing = tuple(None if things is None else NOT_APPLICABLE for things in read)

    def decided(self, decide: DecideVotes) -> tuple[tuple[Thing, ...], float]:
        if self.things:
            return decide_things(decide, self.things, self.cell.title, self.are_spans)
        return (), (decide(self.nothing)[1] if self.nothing else np.nan)


def _things(value: str | None, text: str) -> tuple[Thing, ...] | None:
    try:
        return None if value is None else things_remembered(value, text)
    except SpansError:
        return None


def _of_member(cells: Sequence[Cell], member: int) -> _Answers:
    kept = [_things(cell.values[member], cell.title) or () for cell in cells]
    return _answers(kept, [np.nan] * len(cells), [accepted_sets(cell) for cell in cells])


def _decided(weights: Weights, cells: Sequence[_Ready], choice: SetChoice) -> _Answers:
    """Answers by weights, as chosen."""
    found = []
    for ready in cells:
        parameters = weights.parameters(ready.cell.attribute, ready.cell.category)
        if choice.weights != "learned":
            parameters = weights.parameters(ready.cell.attribute)
        found.append(ready.decided(_decider(ruled(parameters, choice, weights.members), ready.cell.scores)))
    kept, confidence = zip(*found, strict=True) if found else ((), ())
    return _answers(kept, confidence, [ready.accepted for ready in cells])


@lru_cache(maxsize=1 << 8)
def _decider(parameters: Parameters, scores: tuple[float | None, ...]) -> DecideVotes:
    """Decides the cell of one thing; cells of one pattern are decided once."""
    own = parameters.at(scores)
    return lru_cache(maxsize=1 << 12)(lambda votes: decide_one(own, as_ballots(votes)))


def _answers(
    kept: Sequence[tuple[Thing, ...]],
    confidence: Sequence[float],
    accepted: Sequence[Sequence[frozenset[Thing]]],
) -> _Answers:
    pairs = [(frozenset(things), golds) for things, golds in zip(kept, accepted, strict=True)]
    counts = np.array([set_counts(*pair) for pair in pairs], np.float64).reshape(len(pairs), 3)
    right = np.array([things in golds for things, golds in pairs], np.bool_)
    return _Answers(counts, np.array(confidence, np.float64), right)


def _joined(parts: Sequence[_Answers]) -> _Answers:
    columns = zip(*((part.counts, part.confidence, part.right) for part in parts), strict=True)
    return _Answers(*(np.concatenate(column) for column in columns))


def _difference(counts: Floats, others: Floats, products: Sequence[str]) -> tuple[float, float]:
    """Difference of two F1 over the same cells, and its standard error over products (delta method)."""
    influence = np.zeros(len(counts))
    figures = []
    for sign, own in ((1.0, counts), (-1.0, others)):
        shared, named, wanted = own.sum(axis=0).tolist()
        figure = f1(shared, named, wanted, empty=0.0)
        figures.append(figure)
        influence += sign * (2.0 * own[:, 0] - figure * (own[:, 1] + own[:, 2])) / max(named + wanted, 1.0)
    _, index = np.unique(np.array(products), return_inverse=True)
    return figures[0] - figures[1], float(np.sqrt((np.bincount(index, influence) ** 2).sum()))
