# SPDX-License-Identifier: Apache-2.0
"""Learn weights from votes on attributes of any kind: single values, sets of things, written texts.

Single values, spans and several values are learned apart from each other, as "n/a" and a candidate mean
something else in each, and by the same methods; texts by :mod:`quorum.learning.texts`. All end in one file of
weights: its default is that of single values, if there are any.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any

import msgspec
import numpy as np

from quorum.decision.answer_kinds import (
    SETTING,
    AnswerKinds,
    form_of,
    has_one_value,
    is_stated,
    kind_in,
    recorded_kinds,
)
from quorum.decision.cell import Parameters
from quorum.decision.forms import SET_FORMS, Form
from quorum.decision.kept import TEXTS, converted
from quorum.decision.weights import Weights, attribute_of
from quorum.learning.learn import GOLD_FOR_LOGLINEAR, METHODS, choose_method, learn_statistic
from quorum.learning.learn import learn as learn_values
from quorum.learning.set_choice import Relearn, chosen, recorded_choices, set_choices
from quorum.learning.texts import TextWeights, equal_texts, learn_texts
from quorum.votes.exploded import exploded, written_texts
from quorum.votes.readable import readable
from quorum.votes.statistic import Statistic
from quorum.votes.table import VotesTable, build_table

CONSENSUS = "consensus"
"""Method of weights that are for written texts alone."""
PARTS = "parts"
"""Setting: what was learned, by form, where there are sets of things."""
_FORMS: tuple[Form, ...] = ("one", *SET_FORMS)
_STRENGTH = ("loglinear", "em", "iwmv", "majority")
_ANSWERS_OF_A_THING = 2


def learn(
    table: VotesTable,
    method: str = "auto",
    *,
    kinds: AnswerKinds | None = None,
    gold_labels: int | None = None,
    seed: int = 0,
    catalogue: Mapping[str, str] | None = None,
    value_counts: Mapping[str, int] | None = None,
    created: datetime | None = None,
    settings: Mapping[str, Any] | None = None,
    methods: Mapping[Form, str] | None = None,
    statistic: Statistic | None = None,
) -> Weights:
    """Learn weights from a votes table, as :func:`quorum.learning.learn.learn` does for single values.

    Args:
        table: The votes.
        method: As there; a part of the votes that does not allow it, such as one without gold, gets "auto".
            Texts count alike with "majority", by references with "auto" and "loglinear", else by agreement.
        kinds: Kinds of the attributes; None, or none of them in the table: all are single values.
        gold_labels: Number of random labelled cells, of any kind, whose gold is used; None: all of them.
        seed: Seed of that choice.
        catalogue: As there.
        value_counts: As there.
        created: As there.
        settings: As there; a bias for "n/a" is for single values alone.
        methods: Form of an answer -> its method, where it is another than ``method``.
        statistic: Of the exploded table with the gold that is used, where it is known; None: it is counted.

    Raises:
        LearnError, VotesError: As there.
    """
    known, own = present_kinds(table, kinds or {}), methods or {}
    common: dict[str, Any] = {"catalogue": catalogue, "value_counts": value_counts, "created": created}
    if not known:
        method = own.get("one", method)
        return learn_values(table, method, gold_labels=gold_labels, seed=seed, settings=settings, **common)
    if gold_labels is not None:
        table = table.sample_gold(gold_labels, seed)
    provenance = {
        "rows": len(table),
        "products": table.n_products,
        "gold_labels": int(table.labelled.sum()),
        "data_hash": table.data_hash(),
        "seed": seed if gold_labels is not None else None,
    }
    table, _ = readable(table, known)
    of_texts = own.get("text", method)
    texts = {
        name: equal_texts(len(table.members))
        if of_texts == "majority"
        else learn_texts(cells, with_references=of_texts in ("auto", "loglinear"))
        for name, cells in written_texts(table, known).items()
    }
    weights = learn_parts(
        statistic or exploded(table, known).statistic(), known, method, texts=texts, settings=settings,
        provenance=provenance, methods=own, labels=labelled_by_form(table, known), **common,
    )  # fmt: skip
    taught = _by_gold(weights, known)
    return chosen(weights, set_choices(table, taught, _without_gold_of(table, taught, settings)))


def _without_gold_of(table: VotesTable, kinds: AnswerKinds, settings: Mapping[str, Any] | None) -> Relearn:
    """Learns weights of sets from a table without the gold of some products."""

    @cache
    def things() -> VotesTable:
        return exploded(
            table.take([i for i, cell in enumerate(table.cells) if cell.attribute in kinds]), kinds
        )

    def relearn(products: frozenset[str]) -> Weights:
        seen = np.array([cell.product not in products for cell in things().cells], np.bool_)
        part = things().with_gold(things().labelled & seen)
        return learn_parts(part.statistic(), kinds, "loglinear", settings=settings)

    return relearn


def learn_parts(
    statistic: Statistic,
    kinds: AnswerKinds,
    method: str = "auto",
    *,
    texts: Mapping[str, TextWeights] | None = None,
    catalogue: Mapping[str, str] | None = None,
    value_counts: Mapping[str, int] | None = None,
    created: datetime | None = None,
    settings: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    methods: Mapping[Form, str] | None = None,
    labels: Mapping[Form, float] | None = None,
) -> Weights:
    """Learn weights from the histogram of an exploded table; see :func:`learn`.

    Args:
        statistic: Of :func:`quorum.votes.exploded.exploded`.
        kinds: Kinds of the attributes.
        method: As in :func:`learn`.
        texts: Weights of the attributes of texts.
        catalogue: As there.
        value_counts: As there.
        created: As there.
        settings: As there.
        provenance: Where the votes come from.
        methods: As there.
        labels: Form -> labelled answers, of which one of several things is one; None: each thing counts.
    """
    common: dict[str, Any] = {"catalogue": catalogue, "created": created, "provenance": provenance}
    learned: dict[str, Weights] = {}
    for form in _FORMS:
        part = of_form(statistic, kinds, form)
        if part.hist.total:
            counts = _counts(part, value_counts or {}, form)
            asked = (methods or {}).get(form, method)
            chosen = _allowed(part, asked, counts, form, (labels or {}).get(form))
            own = _fitting(chosen, settings or {}, form)
            # Of single values "auto" also records why agreement is not trusted.
            used = asked if asked == "auto" and form == "one" else chosen
            learned[form] = learn_statistic(part, used, value_counts=counts, settings=own, **common)
    written = dict(texts or {})
    if not learned and not written:
        # No votes at all: as for single values.
        return learn_statistic(statistic, method, value_counts=value_counts, settings=settings, **common)
    base = next(iter(learned.values())) if learned else _of_texts(statistic.members, written, **common)
    return _joined(base, learned, written, statistic, kinds)


def with_earlier(weights: Weights, before: Weights, kinds: AnswerKinds) -> Weights:
    """New weights with what a state does not hold, of earlier ones: weights of texts and choices for sets."""
    earlier = recorded_kinds(before.settings)
    same = {name for name, kind in kinds.items() if earlier.get(name) == kind}
    texts = sorted(name for name in same if kinds[name] == "text" and name in before.attributes)
    attributes = {**weights.attributes}
    attributes |= {name: _as_text(before.attributes[name], weights) for name in texts}
    settings = {**weights.settings, SETTING: dict(sorted(kinds.items()))}
    if found := {name: how for name, how in before.settings.get(TEXTS, {}).items() if name in same}:
        settings[TEXTS] = found
    taught = _by_gold(weights, kinds).keys() & same
    choices = {name: found for name, found in recorded_choices(before.settings).items() if name in taught}
    return chosen(replace(weights, attributes=attributes, settings=settings), choices)


def is_taught_by_gold(weights: Weights) -> bool:
    """Whether gold decided the weights of any attribute."""
    texts = weights.settings.get(TEXTS, {}).values()
    return weights.method == "loglinear" or any(found["references"] for found in texts)


def present_kinds(table: VotesTable, kinds: AnswerKinds) -> AnswerKinds:
    """The kinds of the attributes of a table, other than "value"."""
    names = {attribute for _, attribute in table.group_names}
    return {name: kind for name, kind in kinds.items() if name in names and kind != "value"}


def of_form(statistic: Statistic, kinds: AnswerKinds, form: str) -> Statistic:
    """The cells whose attributes have this form."""
    kept = [form_of(kind_in(kinds, name)) == form for _, name in statistic.groups]
    return statistic.of_groups(np.array(kept, np.bool_))


def _counts(part: Statistic, counts: Mapping[str, int], form: str) -> Mapping[str, int]:
    if form == "one":
        return counts
    return {name: _ANSWERS_OF_A_THING for _, name in part.groups}


def _allowed(
    part: Statistic, method: str, counts: Mapping[str, int], form: str, labels: float | None = None
) -> str:
    """The method of a part: the one asked for, but what its labels allow where it has none.

    Agreement teaches nothing about sets: things that no member named have no cell, so that ``em`` would take
    a member that names little for the worst, and equal weights are better (docs/adr/0082). "auto" counts
    labelled answers, not the things in them.
    """
    is_possible = method != "loglinear" or part.hist.labelled().total
    if method != "auto" and is_possible:
        chosen = method
    elif form != "one" and labels is not None and labels < GOLD_FOR_LOGLINEAR:
        return "majority"
    else:
        chosen = choose_method(part, counts)
    return "majority" if chosen == "em" and form != "one" else chosen


def auto_method(table: VotesTable, kinds: AnswerKinds, form: Form, counts: Mapping[str, int]) -> str:
    """What "auto" learns by from a table, for attributes of a form; texts as with "loglinear"."""
    if form == "text":
        return "loglinear"
    part = of_form(exploded(table, kinds).statistic(), kinds, form)
    labels = labelled_by_form(table, kinds).get(form, 0)
    return _allowed(part, "auto", _counts(part, counts, form), form, labels)


def labelled_by_form(table: VotesTable, kinds: AnswerKinds) -> dict[Form, float]:
    """Form -> number of the labelled answers of that form."""
    found: dict[Form, float] = {}
    for cell in readable(table, kinds)[0].cells:
        if cell.gold:
            form = form_of(kind_in(kinds, cell.attribute))
            found[form] = found.get(form, 0) + 1
    return found


def methods_by_form(weights: Weights) -> dict[Form, str]:
    """Form of an answer -> the method that its weights were learned by; texts are left out."""
    parts = weights.settings.get(PARTS, {})
    found: dict[Form, str] = {form: parts[form]["method"] for form in _FORMS if form in parts}
    if weights.method != CONSENSUS and not found:
        found["one"] = weights.method
    return found


def _by_gold(weights: Weights, kinds: AnswerKinds) -> AnswerKinds:
    """The kinds of those attributes of sets whose weights were learned from gold."""
    methods = methods_by_form(weights)
    taught = {form for form, method in methods.items() if form != "one" and method == "loglinear"}
    return {name: kind for name, kind in kinds.items() if form_of(kind) in taught}


def _fitting(method: str, settings: Mapping[str, Any], form: str) -> Mapping[str, Any] | None:
    """The settings that a method has; one that no method has is left in, so that it is refused."""
    if method not in METHODS:
        return settings
    known = {name: set(inspect.signature(call).parameters) for name, call in METHODS.items()}
    every = set().union(*known.values())
    dropped = {"na_bias"} if form != "one" else set()
    return {k: v for k, v in settings.items() if k not in dropped and (k in known[method] or k not in every)}


def _of_texts(
    members: tuple[str, ...],
    texts: Mapping[str, TextWeights],
    catalogue: Mapping[str, str] | None,
    created: datetime | None,
    provenance: Mapping[str, Any] | None,
) -> Weights:
    """Weights for texts alone: the default is that of the only attribute, else equal weights."""
    plain = learn_statistic(
        build_table(members, []).statistic(),
        "majority",
        catalogue=catalogue,
        created=created,
        provenance=provenance,
    )
    default = next(iter(texts.values())).parameters if len(texts) == 1 else plain.default
    return replace(plain, method=CONSENSUS, default=default)


def _joined(
    base: Weights,
    learned: Mapping[str, Weights],
    texts: Mapping[str, TextWeights],
    statistic: Statistic,
    kinds: AnswerKinds,
) -> Weights:
    """One file of weights: the parameters of sets and texts stand under their attributes' names."""
    attributes, groups, settings = dict(base.attributes), dict(base.groups), dict(base.settings)
    if "one" in learned and len(learned) > 1:
        settings[PARTS] = {"one": {"method": learned["one"].method}}
    for form, part in learned.items():
        names = {name for _, name in statistic.groups if form_of(kind_in(kinds, name)) == form}
        if form != "one":
            attributes |= {name: converted(part.parameters(name), base.default, {}) for name in sorted(names)}
            groups |= {key: converted(own, base.default, {}) for key, own in part.groups.items()}
            own = {} if part is base else part.settings
            settings.setdefault(PARTS, {})[form] = {"method": part.method, **own}
            if chosen := own.get("attributes"):
                settings["attributes"] = {**settings.get("attributes", {}), **chosen}
    for name, found in texts.items():
        attributes[name] = _as_text(found.parameters, base)
        settings.setdefault(TEXTS, {})[name] = {
            "references": found.references,
            "similarity": list(found.similarity),
        }
    if base.evidence:
        labels = {name for name, kind in kinds.items() if has_one_value(kind) and not is_stated(kind)}
        attributes |= {name: _without_text(base.parameters(name)) for name in sorted(labels)}
        groups = {key: _without_text(p) if attribute_of(key) in labels else p for key, p in groups.items()}
    settings[SETTING] = dict(sorted(kinds.items()))
    methods = {part.method for part in learned.values()}
    method = next((name for name in _STRENGTH if name in methods), base.method)
    return replace(base, method=method, attributes=attributes, groups=groups, settings=settings)


def _as_text(parameters: Parameters, base: Weights) -> Parameters:
    """Parameters of texts, which have no candidate "none of these": its score says only what others have."""
    none = 0.0 if base.confidence == "calibrated" else None
    return msgspec.structs.replace(parameters, none_bias=none)


def _without_text(parameters: Parameters) -> Parameters:
    return msgspec.structs.replace(parameters, text=False)
