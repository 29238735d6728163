# SPDX-License-Identifier: Apache-2.0
"""The last step without its server: which votes and scores it decides by and hands on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from quorum.decision.answer_kinds import AnswerKinds
from quorum.decision.cell import Parameters
from quorum.decision.evidence import Evidence
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.weights import Weights, equal_weights
from quorum.serving.cells import Cells
from quorum.serving.packing import Admitted, add_ticket, pack_question, pack_votes
from quorum_contract import DecisionStatus, Price, Spent, Status
from quorum_contract.tensors import ANSWERED
from quorum_contract.usage import CALLED, FREE

pytestmark = pytest.mark.usefixtures("serving")

MEMBERS = ["a", "b"]
OUTPUTS = [tensor.name for tensor in ANSWERED]
Votes = list[tuple[str, int, float | None]]


class Admission:
    def __init__(self, valid: bool, cancelled: bool) -> None:
        self.is_valid = lambda *_: valid
        self.seal = lambda body: 0
        self.is_cancelled = lambda ticket: cancelled

    def release(self, ticket: int) -> None:
        pass

    def mark_answered(self) -> None:
        pass

    def claimed(self, ticket: int) -> None:
        pass


def answer(
    given: dict[str, Votes],
    valid: bool = True,
    evidence: Evidence | None = None,
    rule: QuorumRule = QuorumRule(),  # noqa: B008  (it is frozen)
    kinds: AnswerKinds | None = None,
    na_bias: float = 0.0,
    spent: dict[str, Spent] | None = None,
    prices: dict[str, Price | None] | None = None,
    cancelled: bool = False,
) -> dict[str, list[Any]]:
    """Answer a question of two attributes by the step; tensor -> its values."""
    from quorum.serving.vote import TritonPythonModel

    step = TritonPythonModel()
    step._members, step._inputs = MEMBERS, [f"{name}_VOTES" for name in MEMBERS]
    step._names = np.array([name.encode() for name in MEMBERS], object)
    step._direct, step._version, step._damage = False, 7, None
    step._admission = Admission(valid, cancelled)
    step._prices = [(prices or {}).get(name) for name in MEMBERS]
    step._quorum = rule
    weights = Weights("loglinear", tuple(MEMBERS), Parameters((1.0, 2.0), na_bias))
    step._cells = Cells(weights, evidence, kinds or {})
    step._counts = Mock()
    question = add_ticket(1, pack_question(Admitted("red shoe", "", ("colour", "size"), 0)))
    took = spent or {}
    packed = {"QUESTION": question} | {
        f"{name}_VOTES": pack_votes(votes, took.get(name, Spent(1, 100, 10, 0, 0.5)))
        for name, votes in given.items()
    }
    inputs = [
        SimpleNamespace(name=lambda name=name: name, as_numpy=lambda data=data: np.frombuffer(data, np.uint8))
        for name, data in packed.items()
    ]
    request = SimpleNamespace(inputs=lambda: inputs, requested_output_names=lambda: OUTPUTS)
    (response,) = step.execute([request])
    arrays = {tensor.name: tensor.array for tensor in response.output_tensors}
    for tensor in ANSWERED:
        assert list(arrays[tensor.name].shape) == tensor.sizes(attributes=2, members=2), tensor.name
    assert arrays["MEMBER_SCORES"].dtype == np.float32
    return {name: array.tolist() for name, array in arrays.items()}


def test_every_vote_stands_at_its_member_and_attribute() -> None:
    found = answer({"a": [("red", 0, -0.5), ("42", 0, None)], "b": [("blue", 0, -0.25), ("", 4, None)]})
    assert found["MEMBER_VALUES"] == [[b"red", b"42"], [b"blue", b""]]
    assert found["MEMBER_STATUS"] == [[0, 0], [0, 4]]
    assert str(found["MEMBER_SCORES"]) == "[[-0.5, nan], [-0.25, nan]]"
    assert found["VALUES"] == [b"blue", b"42"]


def test_a_member_of_another_number_of_votes_abstains_alone() -> None:
    found = answer({"a": [("red", 0, -0.5)], "b": [("blue", 0, -0.25), ("43", 0, -1.0)]})
    assert found["MEMBER_STATUS"] == [[int(Status.ERROR)] * 2, [0, 0]]
    assert str(found["MEMBER_SCORES"]) == "[[nan, nan], [-0.25, -1.0]]"
    assert found["VALUES"] == [b"blue", b"43"]


def test_votes_around_the_gate_leave_no_score() -> None:
    votes: Votes = [("red", 0, -0.5)] * 2
    found = answer({"a": votes, "b": votes}, valid=False)
    assert found["MEMBER_STATUS"] == [[int(Status.REFUSED)] * 2] * 2
    assert str(found["MEMBER_SCORES"]) == "[[nan, nan], [nan, nan]]"
    assert found["VALUES"] == [b"", b""]


def test_members_that_were_called_before_a_request_was_cancelled_are_paid() -> None:
    votes: Votes = [("red", 0, None)] * 2
    price = Price(per_call=0.5)
    prices: dict[str, Price | None] = {"a": price, "b": price}
    given = {"a": votes, "b": votes}
    took = {"a": Spent(), "b": CALLED}
    found = answer(given, valid=False, cancelled=True, prices=prices, spent=took)
    assert found["COST"] == [0.5]


def test_the_text_of_the_question_weighs_values() -> None:
    votes: dict[str, Votes] = {"a": [("shoe", 0, None)] * 2, "b": [("boot", 0, None), ("shoes", 0, None)]}
    evidence = Evidence({"any_case": (1.0, 0.5, 2.0)})
    assert answer(votes)["VALUES"] == [b"boot", b"shoes"]
    assert answer(votes, evidence=evidence)["VALUES"] == [b"shoe", b"shoe"]
    alone: dict[str, Votes] = {"a": [("", 4, None), ("boot", 0, None)], "b": [("boot", 0, None)] * 2}
    assert answer(alone, evidence=evidence)["VALUES"] == [b"boot", b"boot"]


@pytest.mark.parametrize("rule", [QuorumRule(2), QuorumRule(1, 0.7)])
def test_each_attribute_has_its_own_quorum(rule: QuorumRule) -> None:
    given: dict[str, Votes] = {
        "a": [("red", 0, None), ("n/a", 0, None)],
        "b": [("", int(Status.TIMEOUT), None), ("42", 0, None)],
    }
    found = answer(given, rule=rule)
    assert found["VALUES"] == [b"", b"42"]
    assert found["DECISION_STATUS"] == [DecisionStatus.NO_QUORUM, DecisionStatus.DECIDED]
    assert found["CONFIDENCE"][0] == 0.0 < found["CONFIDENCE"][1]
    assert found["MEMBER_VALUES"] == [[b"red", b"n/a"], [b"", b"42"]]
    assert found["MEMBER_STATUS"] == [[0, 0], [int(Status.TIMEOUT), 0]]
    assert answer(given)["DECISION_STATUS"] == [DecisionStatus.DECIDED] * 2


@pytest.mark.parametrize("valid", [False, True])
def test_without_an_answer_there_is_none_to_withhold(valid: bool) -> None:
    status, value = (Status.ERROR, "") if valid else (Status.ANSWERED, "red")
    votes: Votes = [(value, int(status), None)] * 2
    found = answer({"a": votes, "b": votes}, valid, rule=QuorumRule(2, 0.5))
    assert found["DECISION_STATUS"] == [DecisionStatus.NO_ANSWER] * 2
    assert found["VALUES"] == [b"", b""]


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("error", [RecursionError("too deep"), MemoryError("too large")])
def test_whatever_a_damaged_version_raises_a_starting_server_loads_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, answered: bool
) -> None:
    from quorum.serving import vote

    monkeypatch.setattr(vote, "own_admission", lambda: SimpleNamespace(has_answered=answered))
    settings = {"members": MEMBERS, "allow_direct": False, "min_members": 1, "min_weight": 0.0}
    monkeypatch.setattr(vote.tensors, "settings_of", lambda args: settings)
    monkeypatch.setattr(vote.Catalogue, "load", Mock(side_effect=error))
    monkeypatch.setattr(vote.weights_file, "load", lambda path: equal_weights(MEMBERS))
    step = vote.TritonPythonModel()
    arguments = {"model_version": "7", "model_repository": str(tmp_path)}
    if answered:
        with pytest.raises(type(error)):
            step.initialize(arguments)
    else:
        step.initialize(arguments)
        assert str(step._damage) == f"weights version 7 is damaged: {error}"


def test_spans_without_parameters_of_their_own_are_not_decided_by_those_of_values() -> None:
    """One of two members names a span: its share is one half, and a bias against "n/a" has no say."""
    span = '[["red","color"]]'
    given: dict[str, Votes] = {
        "a": [(span, 0, None), ("42", 0, None)],
        "b": [("[]", 0, None), ("n/a", 0, None)],
    }
    found = answer(given, kinds={"colour": "spans"}, na_bias=-5.4)
    assert found["CONFIDENCE"][0] == 0.5
    assert found["VALUES"][1] == b"42"
    both = answer(given | {"b": [(span, 0, None)] * 2}, kinds={"colour": "spans"}, na_bias=5.4)
    assert (both["VALUES"][0], both["CONFIDENCE"][0]) == (span.encode(), 1.0)


BOTH: dict[str, Votes] = {name: [("red", 0, None), ("42", 0, None)] for name in MEMBERS}


def test_an_answer_says_what_it_cost() -> None:
    prices: dict[str, Price | None] = {"a": Price(0.25, 1.0, 10.0), "b": Price(per_second=3.0)}
    found = answer(BOTH, prices=prices)
    assert found["COST"] == pytest.approx([0.25 + 0.1 + 0.1 + 1.5])
    assert found["MEMBER_USAGE"][0] == pytest.approx([1, 100, 10, 0, 0.5, 0.45])
    assert found["MEMBER_USAGE"][1] == pytest.approx([1, 100, 10, 0, 0.5, 1.5])


def test_without_a_price_the_cost_is_not_known_but_the_usage_is() -> None:
    found = answer(BOTH, prices={"a": Price(per_call=1.0)})
    assert str(found["COST"]) == "[nan]"
    assert found["MEMBER_USAGE"][0][5] == 1.0
    assert str(found["MEMBER_USAGE"][1]) == "[1.0, 100.0, 10.0, 0.0, 0.5, nan]"


def test_who_was_not_called_needs_no_price() -> None:
    found = answer(BOTH, spent={"b": Spent()}, prices={"a": FREE})
    assert found["COST"] == [0.0]
    assert found["MEMBER_USAGE"][1] == [0.0] * 6


def test_an_unknown_figure_matters_only_where_it_has_a_price() -> None:
    by_call: dict[str, Price | None] = dict.fromkeys(MEMBERS, Price(per_call=1.0))
    by_token: dict[str, Price | None] = dict.fromkeys(MEMBERS, Price(per_1k_answer_tokens=1.0))
    assert answer(BOTH, spent={"b": CALLED}, prices=by_call)["COST"] == [2.0]
    assert str(answer(BOTH, spent={"b": CALLED}, prices=by_token)["COST"]) == "[nan]"


def test_around_the_gate_nothing_was_called() -> None:
    assert answer(BOTH, valid=False)["COST"] == [0.0]
