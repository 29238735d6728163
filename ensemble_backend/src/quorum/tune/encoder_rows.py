# SPDX-License-Identifier: Apache-2.0
"""Turn checked rows into inputs and targets of an encoder, by the kind of its head."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.decision.catalogue_change import OUTSIDE
from quorum.decision.spans import TextSpan, laid_out, load_pairs, locate
from quorum.runtimes.encoder_folder import OUTSIDE_TAG, SCHEMA_VERSION, EncoderFile, HeadKind
from quorum.runtimes.encoder_input import Encoded, EncoderInput
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tune.data import Problems, TrainingData, TrainingDataError, TrainingRow
from quorum_contract import NOT_APPLICABLE
from quorum_contract.fields import one_line

IGNORED = -100
"""Target of a token that has none."""
NO_VALUE = (0, 0)
"""Target of "n/a": the first token."""
_HEADS: dict[str, HeadKind] = {"label": "label", "spans": "spans", "value": "value"}


class Target(NamedTuple):
    """One input and its target.

    ``target`` is, for the head ``label``, (1,) the place of the label; for ``spans``, (t,) the tag of each
    token or :data:`IGNORED`; for ``value``, (2,) first and last token, :data:`NO_VALUE` for "n/a".
    """

    encoded: Encoded
    target: npt.NDArray[np.int64]


def head_of(data: TrainingData, catalogue: Catalogue, max_tokens: int, *, with_category: bool) -> EncoderFile:
    """Describe the encoder that answers the tasks of the data.

    Raises:
        TrainingDataError: Kinds that an encoder does not answer, or several that one encoder does not.
    """
    attributes = [catalogue.get(task) for task in data.tasks]
    kinds = {attribute.kind for attribute in attributes}
    for attribute in attributes:
        if attribute.kind == "text" or attribute.many:
            what = "many values" if attribute.many else "kind 'text'"
            raise TrainingDataError(
                f"{attribute.name!r} has {what}, which encoders do not answer; tune a causal LLM by --base"
            )
    if len(kinds) > 1 or (len(attributes) > 1 and kinds != {"value"}):
        raise TrainingDataError(
            f"{', '.join(data.tasks[:5])}: one encoder answers one attribute of kind 'label' or 'spans', or "
            "any number of kind 'value'; tune one for each, or a causal LLM for all"
        )
    first = attributes[0]
    hashes = catalogue.hashes
    known = {a.name: hashes.get(a.name, hashes[OUTSIDE]) for a in attributes}
    labels: tuple[str, ...] = ()
    if first.kind == "label":
        labels = (*first.values, *([NOT_APPLICABLE] if first.allow_na else []))
    elif first.kind == "spans":
        labels = (OUTSIDE_TAG, *(f"{mark}-{kind}" for kind in first.values for mark in "BI"))
    return EncoderFile(
        schema_version=SCHEMA_VERSION,
        head=_HEADS[first.kind],
        attributes=data.tasks,
        labels=labels,
        fields=first.fields,
        max_tokens=max_tokens,
        catalogue=known,
        with_category=with_category and first.kind == "value",
    )


def targets_of(
    path: Path, rows: Sequence[TrainingRow], head: EncoderFile, inputs: EncoderInput, catalogue: Catalogue
) -> list[Target | None]:
    """Targets of the rows, None for those that the head cannot learn.

    The head ``value`` points at a place in the text, so a value that is not literally in it, as the catalogue
    or one of its synonyms spells it, is left out; so is one behind the longest input.

    Raises:
        TrainingDataError: Spans that begin or end within a word, which tags of words cannot express.
    """
    problems = Problems(path, "let spans begin and end with words, or tune a causal LLM")
    found: list[Target | None] = []
    for row in rows:
        encoded = inputs.encode(row.text, row.category, row.attribute)
        if head.head == "label":
            target = np.array([head.labels.index(row.answers[0])], np.int64)
            found.append(Target(encoded, target))
        elif head.head == "spans":
            tags = tags_of(head.labels, encoded, row)
            if isinstance(tags, str):
                problems.add(row.row, tags)
                continue
            found.append(Target(encoded, tags))
        else:
            place = place_of(encoded, row.answers, catalogue.get(row.attribute))
            found.append(None if place is None else Target(encoded, np.array(place, np.int64)))
    problems.refuse()
    return found


def tags_of(labels: Sequence[str], encoded: Encoded, row: TrainingRow) -> npt.NDArray[np.int64] | str:
    """(t,) the tag of each token, or why the row has none."""
    spans = laid_out(row.text, locate(row.text, load_pairs(row.answers[0])) or [])
    places = {label: place for place, label in enumerate(labels)}
    tags = np.full(len(encoded.ids), IGNORED, np.int64)
    starts = {start for _, start, _ in encoded.places.tolist()}
    ends = {end for _, _, end in encoded.places.tolist()}
    text = one_line(row.text)
    for span in spans:
        if span.start not in starts or span.end not in ends:
            return f"the span {text[span.start : span.end]!r:.80} begins or ends within a word"
    for token, start, _ in encoded.places.tolist():
        if token < 0:
            continue
        over = next((span for span in spans if span.start <= start < span.end), None)
        tags[token] = places[_tag_name(over, start)]
    return tags


def _tag_name(span: TextSpan | None, start: int) -> str:
    if span is None:
        return OUTSIDE_TAG
    return f"{'B' if span.start == start else 'I'}-{span.type}"


def place_of(encoded: Encoded, answers: Sequence[str], attribute: Attribute) -> tuple[int, int] | None:
    """First and last token of the first acceptable answer that the text has; None: it has none."""
    if answers[0] == NOT_APPLICABLE:
        return NO_VALUE
    for answer in answers:
        for spelling in (answer, *(s for s, value in attribute.synonyms.items() if value == answer)):
            spans = locate(encoded.text, [(spelling, "")])
            if spans and (place := _tokens_of(encoded, spans[0])):
                return place
    return None


def _tokens_of(encoded: Encoded, span: TextSpan) -> tuple[int, int] | None:
    """The tokens that cover a span; None where the input was cut before its end."""
    tokens, starts, ends = encoded.places.T
    covered = tokens[(starts < span.end) & (ends > span.start)]
    if not len(covered) or ends[-1] < span.end:
        return None
    return int(covered[0]), int(covered[-1])
