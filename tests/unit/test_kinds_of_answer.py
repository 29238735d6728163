# SPDX-License-Identifier: Apache-2.0
"""Every kind of answer is known to each room that must know it, and an answer passes through all of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, get_args

import pytest

from quorum.decision.answer_kinds import FORM_OF, SET_KINDS, AnswerKind, form_of
from quorum.decision.cell import ANSWERED, Parameters
from quorum.decision.forms import FORMS, Form, decide
from quorum.decision.quorum_rule import QuorumRule
from quorum.evaluation import kinds as evaluated
from quorum.evaluation.answers import agreement_of, answer_score
from quorum.evaluation.task_scores import score_answers
from quorum.review import kinds as reviewed
from quorum.runtimes.heads import CODECS, HeadKind
from quorum.tasks import kinds as asked
from quorum.tasks.attribute import Attribute, Kind
from quorum.tune.encoder_rows import HEADS
from quorum.tune.heads import TUNINGS
from quorum.votes import Cell, build_table
from quorum.votes.exploded import exploded, written_texts
from quorum.votes.readable import FORMATS, readable

KINDS: tuple[AnswerKind, ...] = get_args(AnswerKind)
TEXT = "Red hat of felt"
ANSWERS: dict[AnswerKind, tuple[dict[str, Any], Any]] = {
    "value": ({"kind": "value"}, "red"),
    "label": ({"kind": "label", "values": ("hat", "shoe")}, "hat"),
    "spans": ({"kind": "spans", "values": ("color",)}, [["Red", "color"]]),
    "values": ({"kind": "value", "many": True}, ["felt", "red"]),
    "text": ({"kind": "text"}, "A red hat."),
}


@pytest.mark.parametrize(
    ("registry", "names"),
    [
        pytest.param({"values", *get_args(Kind)}, KINDS, id="tasks: of attributes"),
        pytest.param(asked.KINDS, KINDS, id="tasks"),
        pytest.param(FORM_OF, KINDS, id="decision"),
        pytest.param(evaluated.KINDS, KINDS, id="evaluation"),
        pytest.param(reviewed.KINDS, KINDS, id="review"),
        pytest.param(HEADS, KINDS, id="tune"),
        pytest.param(ANSWERS, KINDS, id="this test"),
        pytest.param(FORMATS, SET_KINDS, id="votes: of sets"),
        pytest.param(FORMS, get_args(Form), id="decision: forms"),
        pytest.param(CODECS, get_args(HeadKind), id="runtimes: heads"),
        pytest.param(TUNINGS, get_args(HeadKind), id="tune: heads"),
    ],
)
def test_no_room_forgets_a_kind(registry: Collection[str], names: Collection[str]) -> None:
    assert set(registry) == set(names)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_passes_through_every_room(kind: AnswerKind) -> None:
    fields, raw = ANSWERS[kind]
    attribute = Attribute("answer", **fields)
    assert attribute.answer_kind == kind
    own = asked.kind_of(attribute)
    value = own.read(attribute, raw, TEXT)
    assert value
    assert own.raw(value) == raw
    gold = raw if isinstance(raw, list) else [raw]
    assert own.gold_problem(attribute, gold, TEXT) == ""
    assert own.gold(attribute, gold, TEXT) == [value]
    assert reviewed.split_gold(value, kind) == [value]
    assert reviewed.spelled_gold(attribute, value, TEXT) == value
    ballots = [(value, ANSWERED), ("", 1)]
    decided, _, _ = decide(QuorumRule(), Parameters((1.0, 1.0)), ballots, form=form_of(kind), text=TEXT)
    assert decided == value
    cell = Cell("p", "", TEXT, "answer", (value, None), (value,))
    assert answer_score(cell, value, kind) == agreement_of(value, cell.values, kind, TEXT) == 1.0
    figures = score_answers(kind, [cell], [value])
    assert next(iter(figures)) == evaluated.KINDS[kind].headline
    assert set(figures.values()) == {1.0}
    table, kinds = build_table(("a", "b"), [cell]), {"answer": kind}
    assert readable(table, kinds) == (table, ())
    learned = {c.values[0] for c in exploded(table, kinds).cells} | set(written_texts(table, kinds))
    assert learned == {{"one": value, "text": "answer"}.get(form_of(kind), "named")}
