# SPDX-License-Identifier: Apache-2.0
"""Say what the page shows of a cell: text with the values marked, candidates, votes and guidelines."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from quorum.decision.answer_kinds import AnswerKind, form_of, kind_in, parameters_for
from quorum.decision.cell import ANSWERED, Ballot, share_out
from quorum.decision.evidence import Evidence
from quorum.decision.spans import SpansError, load_pairs, load_values, locate, places_of
from quorum.decision.weights import Weights
from quorum.review.kinds import allowed_answers
from quorum.review.page.journal import Entry
from quorum.review.sheet import members_by_answer
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.score import as_probability
from quorum.votes import Cell
from quorum_contract import NOT_APPLICABLE

_WORD = re.compile(r"\S+")
_MOST_LISTED = 400
"""Values and synonyms of an attribute that the guidelines list."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The ensemble's answer to a cell, and the confidence in it."""

    value: str
    confidence: float


class Cards:
    """Makes the card of a cell; JSON values throughout.

    Attributes:
        members: Members, in the order of the values of a cell.
        weights: What decides; equal weights where none were given.
    """

    def __init__(self, members: Sequence[str], weights: Weights, catalogue: Catalogue | None) -> None:
        self.members, self.weights = tuple(members), weights
        self._catalogue = catalogue
        self._kinds = catalogue.answer_kinds() if catalogue else {}
        self._evidence = Evidence(weights.evidence) if weights.evidence else None

    @property
    def calibrated(self) -> bool:
        """Whether a confidence is a probability of being right, not a share of the weights."""
        return self.weights.confidence == "calibrated"

    def kind(self, cell: Cell) -> AnswerKind:
        """The kind of answer of a cell."""
        return kind_in(self._kinds, cell.attribute)

    def attribute(self, cell: Cell) -> Attribute:
        """The attribute of a cell, open where there is no catalogue."""
        return self._catalogue.get(cell.attribute) if self._catalogue else Attribute(cell.attribute)

    def card(self, cell: Cell, shown: Shown, reason: str, others: Mapping[str, Entry]) -> dict[str, Any]:
        """All that the page shows of a cell.

        Args:
            cell: The cell.
            shown: The ensemble's answer.
            reason: Why it is in the queue.
            others: People's own decisions on it, when it is adjudicated; else empty, so that nobody is led.
        """
        kind = self.kind(cell)
        candidates = self._candidates(cell, shown, kind, others)
        marks = _marks(cell.title, [c["value"] for c in candidates], kind)
        return {
            "product": cell.product,
            "category": cell.category,
            "attribute": cell.attribute,
            "kind": kind,
            "reason": reason,
            "text": marks,
            "answer": shown.value,
            "confidence": shown.confidence,
            "calibrated": self.calibrated,
            "candidates": candidates,
            "silent": [m for m, v in zip(self.members, cell.values, strict=True) if v is None],
            "people": [
                {"name": name, "verdict": e.verdict, "gold": list(e.gold), "note": e.note}
                for name, e in others.items()
            ],
            "guide": self._guide(cell),
        }

    def answers(self, cell: Cell, shown: Shown, others: Mapping[str, Entry]) -> set[str]:
        """What can be chosen on the card of a cell; arguments as of :meth:`card`."""
        found = {c["value"] for c in self._candidates(cell, shown, self.kind(cell), others)}
        return found | {NOT_APPLICABLE} if self.attribute(cell).allow_na else found

    def _guide(self, cell: Cell) -> dict[str, Any]:
        """What the catalogue says of the attribute."""
        attribute = self.attribute(cell)
        synonyms = list(attribute.synonyms.items())
        return {
            "question": attribute.question,
            "instructions": attribute.instructions,
            "values": list(attribute.values[:_MOST_LISTED]),
            "synonyms": [f"{spelling} = {value}" for spelling, value in synonyms[:_MOST_LISTED]],
            "closed": attribute.is_closed,
            "allow_na": bool(attribute.allow_na),
            "allowed": allowed_answers(attribute),
        }

    def _candidates(
        self, cell: Cell, shown: Shown, kind: AnswerKind, others: Mapping[str, Entry]
    ) -> list[dict[str, Any]]:
        """Every answer that a member, or a person, gave: the ensemble's first, then by share."""
        shares, weighs = self._shares(cell, kind)
        votes = self._votes(cell, weighs)
        named = dict.fromkeys([shown.value, *members_by_answer(cell, self.members)])
        ranked = sorted(named, key=lambda value: (value != shown.value, -shares.get(value, 0.0)))
        ranked += [value for entry in others.values() for value in entry.gold]
        return [
            {
                "value": value,
                "parts": _parts(value, kind),
                "share": shares.get(value),
                "votes": votes.get(value, []),
                "people": [name for name, e in others.items() if value in e.gold],
            }
            for value in dict.fromkeys(ranked)
            if value
        ]

    def _shares(self, cell: Cell, kind: AnswerKind) -> tuple[dict[str, float], tuple[float, ...]]:
        """Candidate -> probability, or share of the weights; and what each member's vote weighs."""
        parameters = parameters_for(self.weights, cell.attribute, cell.category, kind).at(
            cell.scores or [None] * len(self.members)
        )
        if form_of(kind) != "one":
            return {}, parameters.weights
        ballots: list[Ballot] = [("", ANSWERED + 1) if v is None else (v, ANSWERED) for v in cell.values]
        evidence = self._evidence.of(cell.title) if self._evidence and cell.title else None
        found = share_out(parameters, ballots, (), evidence)
        return {value: share for value, share in found.items() if value is not None}, parameters.weights

    def _votes(self, cell: Cell, weighs: Sequence[float]) -> dict[str, list[dict[str, Any]]]:
        """Value -> the members that named it, each with weight and score."""
        found: dict[str, list[dict[str, Any]]] = {}
        scores = cell.scores or (None,) * len(self.members)
        for member, value, score, weight in zip(self.members, cell.values, scores, weighs, strict=True):
            if value is not None:
                sure = None if score is None else as_probability(score)
                found.setdefault(value, []).append({"member": member, "weight": weight, "score": sure})
        return found


def _parts(value: str, kind: AnswerKind) -> list[dict[str, str]]:
    """What an answer names, for people: one text, several values, or spans with their types."""
    try:
        if kind == "spans" and value != NOT_APPLICABLE:
            return [{"text": words, "type": name} for words, name in load_pairs(value)]
        if kind == "values" and value != NOT_APPLICABLE:
            return [{"text": part} for part in load_values(value)]
    except SpansError:
        # A vote that is no answer of the kind is shown as it is.
        pass
    return [{"text": value}]


def _marks(text: str, values: Sequence[str], kind: AnswerKind) -> list[dict[str, Any]]:
    """The text in pieces; each with the numbers, from 1, of the candidates that name it."""
    starts = [found.start() for found in _WORD.finditer(text)]
    lengths = [len(found.group()) for found in _WORD.finditer(text)]
    named: list[set[int]] = [set() for _ in range(len(text) + 1)]
    cuts = {0, len(text)}
    for number, value in enumerate(values, 1):
        for low, high in _places(text, value, kind):
            start, end = _in_raw(low, starts, lengths), _in_raw(high - 1, starts, lengths) + 1
            cuts |= {start, end}
            for at in range(start, end):
                named[at].add(number)
    edges = sorted(cuts)
    pairs = pairwise(edges)
    return [{"text": text[low:high], "by": sorted(named[low])} for low, high in pairs if low < high]


def _places(text: str, value: str, kind: AnswerKind) -> list[tuple[int, int]]:
    """Where an answer's words stand in the text with single spaces; nowhere for a written text."""
    if kind == "text" or value == NOT_APPLICABLE or not text:
        return []
    if kind == "spans":
        try:
            spans = locate(text, load_pairs(value)) or []
        except SpansError:
            return []
        return [(span.start, span.end) for span in spans]
    places = []
    for part in _parts(value, kind):
        size = len(" ".join(part["text"].split()))
        places += [(at, at + size) for at in places_of(text, part["text"])]
    return places


def _in_raw(at: int, starts: Sequence[int], lengths: Sequence[int]) -> int:
    """Place in a text of a place in the same text with single spaces between words."""
    for start, length in zip(starts, lengths, strict=True):
        if at < length:
            return start + at
        if at == length:
            return start + length
        at -= length + 1
    return starts[-1] + lengths[-1] if starts else 0
