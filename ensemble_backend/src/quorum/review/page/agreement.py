# SPDX-License-Identifier: Apache-2.0
"""Measure how far two people agree beyond chance: Cohen's kappa, chance taken within each attribute."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from quorum.review.page.decisions import Decisions, Key, answer_of
from quorum.review.page.journal import Entry

_Answer = frozenset[str]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two people agree.

    Attributes:
        first: One person; ``second``: the other.
        cells: Cells that both answered; those that one skipped or was unsure of are left out.
        agreed: Of these, cells with the same answer, as where people differ: all that is acceptable to each.
        kappa: (p_o - p_e) / (1 - p_e); None without such cells, or where chance alone agrees everywhere.
    """

    first: str
    second: str
    cells: int
    agreed: int
    kappa: float | None


def agreements(decisions: Decisions) -> list[Agreement]:
    """The agreement of each two people who have answered a cell both."""
    pairs = combinations(decisions.people(), 2)
    found = (agreement_of(a, decisions.of(a), b, decisions.of(b)) for a, b in pairs)
    return [pair for pair in found if pair.cells]


def agreement_of(first: str, mine: Mapping[Key, Entry], second: str, yours: Mapping[Key, Entry]) -> Agreement:
    """Compare two people's answers.

    Cohen's kappa (1960, doi:10.1177/001316446002000104) of answers, each with all its alternatives. What
    chance would agree on, p_e, is computed within each attribute, from how often each person gives each
    answer there, and weighted by its cells: over all attributes together different questions would count as
    different answers, and chance would look smaller than it is. For one attribute this is kappa as published.
    """
    pairs: defaultdict[str, list[tuple[_Answer, _Answer]]] = defaultdict(list)
    for key, entry in mine.items():
        other = yours.get(key)
        if other is not None and entry.verdict == other.verdict == "answer":
            pairs[key[1]].append((answer_of(entry), answer_of(other)))
    cells = sum(map(len, pairs.values()))
    agreed = sum(a == b for answers in pairs.values() for a, b in answers)
    if not cells:
        return Agreement(first, second, 0, 0, None)
    by_chance = sum(len(answers) * _chance(answers) for answers in pairs.values()) / cells
    kappa = None if by_chance > 1.0 - 1e-12 else (agreed / cells - by_chance) / (1.0 - by_chance)
    return Agreement(first, second, cells, agreed, kappa)


def _chance(answers: list[tuple[_Answer, _Answer]]) -> float:
    """Chance that two people agree who answer at random, each as often as they do."""
    mine, yours = (Counter(side) for side in zip(*answers, strict=True))
    return sum(count * yours[answer] for answer, count in mine.items()) / len(answers) ** 2
