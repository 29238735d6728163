# SPDX-License-Identifier: Apache-2.0
"""Figures of a member's answers against gold, by the kind of the attribute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from quorum.decision.rouge import rouge_l, rouge_n
from quorum.decision.sets import Thing, things_of
from quorum.decision.spans import SpansError
from quorum.tasks.attribute import Attribute

PARSE_SHARE = "parse_share"


class Judged(NamedTuple):
    """An answer and its gold, both as VALUES spells them.

    Attributes:
        text: Of the product.
        gold: Acceptable answers, at least one.
        answer: None: the member abstained, as with a text that could not be parsed.
    """

    text: str
    gold: tuple[str, ...]
    answer: str | None


def main_figure(attribute: Attribute) -> str:
    """The figure that is the score of an attribute."""
    if attribute.form in ("spans", "values"):
        return "f1"
    if attribute.kind == "text":
        return "rouge_l"
    return "macro_f1" if attribute.kind == "label" else "accuracy"


def figures_of(attribute: Attribute, judged: Sequence[Judged]) -> dict[str, float]:
    """Figures in [0, 1]; an abstention counts as wrong.

    ``parse_share``; for spans and several values ``precision``, ``recall`` and ``f1`` over all of them; for
    texts ``rouge_1`` and ``rouge_l``, against the reference that is closest; for other kinds ``accuracy``, and
    for labels ``macro_f1`` over those that occur.

    Args:
        attribute: With its kind.
        judged: At least one.
    """
    parsed = sum(one.answer is not None for one in judged) / len(judged)
    if attribute.form in ("spans", "values"):
        return {PARSE_SHARE: parsed, **_of_things(judged)}
    if attribute.kind == "text":
        found = [(one.answer or "", one.gold) for one in judged]
        first = sum(max(rouge_n(answer, gold, 1) for gold in golds) for answer, golds in found)
        longest = sum(max(rouge_l(answer, gold) for gold in golds) for answer, golds in found)
        return {PARSE_SHARE: parsed, "rouge_1": first / len(judged), "rouge_l": longest / len(judged)}
    right = sum(one.answer in one.gold for one in judged)
    figures = {PARSE_SHARE: parsed, "accuracy": right / len(judged)}
    return figures | ({"macro_f1": macro_f1(judged)} if attribute.kind == "label" else {})


def macro_f1(judged: Sequence[Judged]) -> float:
    """Mean F1 over the labels that occur in gold or answers; of several gold labels the one answered counts."""
    pairs = [(one.answer if one.answer in one.gold else one.gold[0], one.answer) for one in judged]
    labels = sorted({label for pair in pairs for label in pair if label is not None})
    total = 0.0
    for label in labels:
        both = sum(gold == answer == label for gold, answer in pairs)
        either = sum((gold == label) + (answer == label) for gold, answer in pairs)
        total += 2 * both / either
    return total / len(labels)


def _of_things(judged: Sequence[Judged]) -> Mapping[str, float]:
    shared = named = wanted = 0
    for one in judged:
        gold, answer = _things(one.gold[0], one.text), _things(one.answer, one.text)
        shared, named, wanted = shared + len(gold & answer), named + len(answer), wanted + len(gold)
    return {
        "precision": shared / named if named else 0.0,
        "recall": shared / wanted if wanted else 0.0,
        "f1": 2 * shared / (named + wanted) if named + wanted else 1.0,
    }


def _things(answer: str | None, text: str) -> frozenset[Thing]:
    try:
        return frozenset(things_of(answer, text)) if answer is not None else frozenset()
    except SpansError:
        return frozenset()
