# SPDX-License-Identifier: Apache-2.0
"""Write reviewed cells for Label Studio (tasks) and Argilla (records)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from quorum.decision.answer_kinds import AnswerKind
from quorum.decision.spans import SpansError, load_pairs, load_values, locate
from quorum.files import write_atomic
from quorum.review.page.card import Shown
from quorum.review.page.journal import Entry
from quorum.tasks.attribute import Attribute
from quorum.votes import Cell
from quorum_contract import NOT_APPLICABLE
from quorum_contract.fields import one_line

ReviewFormat = Literal["label-studio", "argilla"]
LABEL_STUDIO_CONFIG = """<View>
  <Header value="$attribute: $question"/>
  <Labels name="spans" toName="text" value="$types"/>
  <Text name="text" value="$text"/>
  <TextArea name="answer" toName="text" editable="true" maxSubmissions="0"/>
</View>
"""
"""Labelling interface that fits the tasks: spans by their types, every other answer as a text."""


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A cell with all that was said of it.

    Attributes:
        cell: Votes; ``members``: whose.
        attribute: As the catalogue has it; ``kind``: of its answer.
        shown: The ensemble's answer.
        gold: What counts; empty: nothing yet.
        own: Person -> own decision.
    """

    cell: Cell
    members: tuple[str, ...]
    attribute: Attribute
    kind: AnswerKind
    shown: Shown
    gold: tuple[str, ...]
    own: Mapping[str, Entry]


def export(cells: Iterable[Reviewed], form: ReviewFormat, path: Path) -> int:
    """Write cells as one JSON list, for Label Studio with its labelling interface next to it (.xml).

    Returns:
        The number of cells.

    Raises:
        OSError: It cannot be written there.
    """
    found = [_FORMS[form](cell) for cell in cells]
    write_atomic(path, json.dumps(found, ensure_ascii=False, indent=1) + "\n")
    if form == "label-studio":
        write_atomic(path.with_suffix(".xml"), LABEL_STUDIO_CONFIG)
    return len(found)


def label_studio_task(reviewed: Reviewed) -> dict[str, Any]:
    """A task: the ensemble's answer and every member's as predictions, people's answers as annotations."""
    cell, shown = reviewed.cell, reviewed.shown
    predictions = [_prediction(reviewed, "quorum", shown.value, shown.confidence)] if shown.value else []
    predictions += [
        _prediction(reviewed, member, value, None)
        for member, value in zip(reviewed.members, cell.values, strict=True)
        if value is not None
    ]
    own = [(name, e.gold, e.note) for name, e in reviewed.own.items() if e.verdict == "answer"]
    annotations = [
        {"result": _result(reviewed, gold[0]), "ground_truth": set(gold) == set(reviewed.gold)}
        for _, gold, _ in own
    ]
    adjudicated = all(set(gold) != set(reviewed.gold) for _, gold, _ in own)
    if reviewed.gold and adjudicated:
        annotations.append({"result": _result(reviewed, reviewed.gold[0]), "ground_truth": True})
    return {
        "data": {
            "text": one_line(cell.title),
            "product": cell.product,
            "category": cell.category,
            "attribute": cell.attribute,
            "question": reviewed.attribute.question,
            "types": [{"value": name} for name in reviewed.attribute.values]
            if reviewed.kind == "spans"
            else [],
            "gold": list(reviewed.gold),
            "reviewers": [name for name, _, _ in own],
            "notes": [f"{name}: {note}" for name, _, note in own if note],
        },
        "predictions": predictions,
        "annotations": annotations,
    }


def argilla_record(reviewed: Reviewed) -> dict[str, Any]:
    """A record: what counts as its suggestion, else the ensemble's answer; people's answers as metadata.

    Responses of Argilla belong to users of its server, which are not known here.
    """
    cell, gold = reviewed.cell, reviewed.gold
    value, agent = (gold[0], "review") if gold else (reviewed.shown.value, "quorum")
    score = 1.0 if gold else reviewed.shown.confidence
    own = {f"reviewer_{name}": " | ".join(e.gold) or e.verdict for name, e in reviewed.own.items()}
    votes = {f"vote_{m}": v for m, v in zip(reviewed.members, cell.values, strict=True) if v is not None}
    return {
        "id": f"{cell.product}/{cell.attribute}",
        "fields": {"text": cell.title, "question": reviewed.attribute.question or cell.attribute},
        "metadata": {
            "product": cell.product,
            "category": cell.category,
            "attribute": cell.attribute,
            "confidence": reviewed.shown.confidence,
            **votes,
            **own,
        },
        "suggestions": {"answer": {"value": value, "score": score, "agent": agent}} if value else {},
        "responses": {},
        "vectors": {},
    }


def _prediction(reviewed: Reviewed, model: str, value: str, score: float | None) -> dict[str, Any]:
    found = {"model_version": model, "result": _result(reviewed, value)}
    return found if score is None else found | {"score": score}


def _result(reviewed: Reviewed, value: str) -> list[dict[str, Any]]:
    """An answer as Label Studio has it: regions of the text for spans, else texts."""
    if reviewed.kind == "spans":
        return [_region(reviewed.cell.title, *span) for span in _spans(reviewed.cell.title, value)]
    texts = [value]
    if reviewed.kind == "values" and value != NOT_APPLICABLE:
        with suppress(SpansError):
            texts = load_values(value)
    return [{"from_name": "answer", "to_name": "text", "type": "textarea", "value": {"text": texts}}]


def _spans(title: str, value: str) -> list[tuple[int, int, str]]:
    try:
        return [(span.start, span.end, span.type) for span in locate(title, load_pairs(value)) or []]
    except SpansError:
        return []


def _region(title: str, start: int, end: int, name: str) -> dict[str, Any]:
    """A span; Label Studio counts UTF-16 units, as browsers do."""
    text = one_line(title)
    low, high = (len(text[:at].encode("utf-16-le", "surrogatepass")) // 2 for at in (start, end))
    value = {"start": low, "end": high, "text": text[start:end], "labels": [name]}
    return {"from_name": "spans", "to_name": "text", "type": "labels", "value": value}


_FORMS: Mapping[ReviewFormat, Callable[[Reviewed], dict[str, Any]]] = {
    "label-studio": label_studio_task,
    "argilla": argilla_record,
}
FORMATS: tuple[ReviewFormat, ...] = tuple(_FORMS)
