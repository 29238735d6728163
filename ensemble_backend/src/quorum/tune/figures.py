# SPDX-License-Identifier: Apache-2.0
"""Score answers against gold, by the kind of the attribute; figures in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from quorum.decision.rouge import rouge_l, rouge_n
from quorum.decision.sets import Thing, things_of
from quorum.decision.spans import SpansError
from quorum.tasks.attribute import Attribute
from quorum.tune.data import TrainingRow
from quorum_contract import NOT_APPLICABLE

Answers = Sequence[str | None]
"""One per row, as VALUES spells it; None: it could not be read."""


def figures(attribute: Attribute, rows: Sequence[TrainingRow], answers: Answers) -> dict[str, float]:
    """Score the answers to one attribute.

    Args:
        attribute: With its kind.
        rows: At least one.
        answers: As many.

    Returns:
        ``parse_share``: answers that could be read. Spans: ``f1``, micro, a span counts with its type and
        both borders; and the share of answers that are equal as a whole (``accuracy``). Many values: the
        same over values. Texts: ``rouge_1`` and ``rouge_l`` against the reference that is closest. Others:
        ``accuracy``, and for labels ``macro_f1`` over those that are gold or answered.
    """
    readable = sum(answer is not None for answer in answers) / len(answers)
    right = [_is_right(row, answer) for row, answer in zip(rows, answers, strict=True)]
    found = {"accuracy": sum(right) / len(right), "parse_share": readable}
    if attribute.kind == "label":
        return {"macro_f1": macro_f1([row.answers[0] for row in rows], answers), **found}
    if attribute.form in ("spans", "values"):
        return {"f1": set_f1(rows, answers), **found}
    if attribute.kind == "text":
        return {
            "rouge_l": _rouge(rouge_l, rows, answers),
            "rouge_1": _rouge(_rouge_1, rows, answers),
            **found,
        }
    return found


def main_figure(attribute: Attribute) -> str:
    """The name of the figure by which weights are chosen."""
    if attribute.many:
        return "f1"
    return {"label": "macro_f1", "spans": "f1", "text": "rouge_l"}.get(attribute.kind, "accuracy")


def macro_f1(gold: Sequence[str], answers: Answers) -> float:
    """Unweighted mean of F1 over all labels that are gold or answered."""
    labels = sorted({*gold, *(answer for answer in answers if answer is not None)})
    total = 0.0
    for label in labels:
        hits = sum(g == a == label for g, a in zip(gold, answers, strict=True))
        named = sum(g == label for g in gold) + sum(a == label for a in answers)
        total += 2 * hits / named
    return total / len(labels)


def set_f1(rows: Sequence[TrainingRow], answers: Answers) -> float:
    """Micro F1 over spans, each with type and both borders (strict), or over values."""
    hits = named = 0
    for row, answer in zip(rows, answers, strict=True):
        gold, found = _things(row.text, row.answers[0]), _things(row.text, answer)
        hits += len(gold & found)
        named += len(gold) + len(found)
    return 2 * hits / named if named else 1.0


def by_task(
    attributes: Mapping[str, Attribute], rows: Sequence[TrainingRow], answers: Answers
) -> dict[str, dict[str, float]]:
    """Figures of each attribute that rows ask for."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row.attribute, []).append(place)
    return {
        name: figures(attributes[name], [rows[i] for i in found], [answers[i] for i in found])
        for name, found in places.items()
    }


def pooled(scores: Mapping[str, Mapping[str, float]], rows: Sequence[TrainingRow]) -> dict[str, float]:
    """Means of figures that all tasks have, weighted by rows."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.attribute] = counts.get(row.attribute, 0) + 1
    shared: Any = set.intersection(*(set(found) for found in scores.values())) if scores else set()
    total = sum(counts[task] for task in scores)
    return {
        name: sum(found[name] * counts[task] for task, found in scores.items()) / total
        for name in sorted(shared)
    }


def _is_right(row: TrainingRow, answer: str | None) -> bool:
    if answer == NOT_APPLICABLE:
        return row.answers[0] == NOT_APPLICABLE
    return answer is not None and answer in row.answers


def _rouge(similarity: Callable[[str, str], float], rows: Sequence[TrainingRow], answers: Answers) -> float:
    pairs = zip(rows, answers, strict=True)
    return sum(max(similarity(answer or "", gold) for gold in row.answers) for row, answer in pairs) / len(
        rows
    )


def _rouge_1(candidate: str, reference: str) -> float:
    return rouge_n(candidate, reference, 1)


def _things(text: str, value: str | None) -> frozenset[Thing]:
    try:
        return frozenset() if value is None else frozenset(things_of(value, text))
    except SpansError:
        return frozenset()
