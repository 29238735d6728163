# SPDX-License-Identifier: Apache-2.0
"""Turn checked rows into inputs and targets of an encoder, by the kind of its head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from quorum.decision.answer_kinds import AnswerKind
from quorum.decision.catalogue_change import OUTSIDE
from quorum.runtimes.encoder_folder import SCHEMA_VERSION, EncoderFile
from quorum.runtimes.encoder_input import EncoderInput
from quorum.runtimes.heads import CODECS, HeadKind
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tune.data import Problems, TrainingData, TrainingDataError, TrainingRow
from quorum.tune.heads import TUNINGS, Target

HEADS: Mapping[AnswerKind, HeadKind | None] = MappingProxyType(
    {"value": "value", "label": "label", "spans": "spans", "values": None, "text": None}
)
"""The head that answers a kind; None: encoders do not."""


def head_of(data: TrainingData, catalogue: Catalogue, max_tokens: int, *, with_category: bool) -> EncoderFile:
    """Describe the encoder that answers the tasks of the data.

    Raises:
        TrainingDataError: Kinds that an encoder does not answer, or several that one encoder does not.
    """
    attributes = [catalogue.get(task) for task in data.tasks]
    heads = dict.fromkeys(_head_for(attribute) for attribute in attributes)
    head, *others = heads
    if others or (len(attributes) > 1 and not CODECS[head].asks):
        raise TrainingDataError(
            f"{', '.join(data.tasks[:5])}: one encoder answers one attribute of kind 'label' or 'spans', or "
            "any number of kind 'value'; tune one for each, or a causal LLM for all"
        )
    first = attributes[0]
    hashes = catalogue.hashes
    known = {a.name: hashes.get(a.name, hashes[OUTSIDE]) for a in attributes}
    return EncoderFile(
        schema_version=SCHEMA_VERSION,
        head=head,
        attributes=data.tasks,
        labels=TUNINGS[head].labels(first),
        fields=first.fields,
        max_tokens=max_tokens,
        catalogue=known,
        with_category=with_category and CODECS[head].asks,
    )


def _head_for(attribute: Attribute) -> HeadKind:
    """The head that answers an attribute; raises TrainingDataError if none does."""
    head = HEADS[attribute.answer_kind]
    if head is None:
        what = "many values" if attribute.many else f"kind {attribute.kind!r}"
        raise TrainingDataError(
            f"{attribute.name!r} has {what}, which encoders do not answer; tune a causal LLM by --base"
        )
    return head


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
    tuning = TUNINGS[head.head]
    found: list[Target | None] = []
    for row in rows:
        encoded = inputs.encode(row.text, row.category, row.attribute)
        target = tuning.target(head.labels, encoded, row, catalogue.get(row.attribute))
        if isinstance(target, str):
            problems.add(row.row, target)
            continue
        found.append(None if target is None else Target(encoded, target))
    problems.refuse()
    return found
