# SPDX-License-Identifier: Apache-2.0
"""The step between two rows: what is settled stays what all members would have decided."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from quorum.decision.cell import Parameters
from quorum.decision.evidence import Evidence
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.scores import LEVELS
from quorum.decision.stopping import Stopping, recorded_stopping, with_stopping
from quorum.decision.weights import Weights
from quorum.serving.cells import Cells
from quorum.serving.open_question import Open, pack_open, unpack_open
from quorum.serving.packing import (
    Admitted,
    PackedVote,
    add_ticket,
    pack_left_out,
    pack_question,
    pack_votes,
)
from quorum_contract import OPEN, QUESTION, VOTES, Status
from quorum_contract.tensors import ANSWERED

pytestmark = pytest.mark.usefixtures("serving")

DECIDED = [tensor.name for tensor in ANSWERED]
NOT_ASKED: PackedVote = ("", int(Status.NOT_ASKED), None)
FAILED: PackedVote = ("", int(Status.TIMEOUT), None)
TEXT = "soft cotton shirt, red and blue"
VALUES = ("cotton", "soft cotton", "red", "blue")


class Step:
    """The vote's own step, asked as Triton asks it."""

    def __init__(
        self,
        cells: Cells,
        rule: QuorumRule = QuorumRule(),  # noqa: B008  (it is frozen)
        whole: bool = False,
    ) -> None:
        from quorum.serving.vote import TritonPythonModel

        members = cells.weights.members
        self.released: list[int] = []
        self.step = step = TritonPythonModel()
        step._members, step._inputs = list(members), [f"{name}_{VOTES}" for name in members]
        step._names = np.array([name.encode() for name in members], object)
        step._direct, step._version, step._damage = False, 7, None
        step._admission = SimpleNamespace(
            is_valid=lambda ticket, *_: ticket == 1,
            seal=lambda body: 0,
            release=self.released.append,
            mark_answered=lambda: None,
            claimed=lambda ticket: None,
            is_cancelled=lambda ticket: False,
        )
        step._quorum, step._cells, step._prices = rule, cells, [None] * len(members)
        step._whole, step._counts = whole, Mock()

    def call(
        self, given: Mapping[str, bytes], outputs: Sequence[str], attributes: int = 1, ticket: int = 1
    ) -> dict[str, Any]:
        names = tuple(f"attribute {at}" for at in range(attributes))
        question = add_ticket(ticket, pack_question(Admitted(TEXT, "", names, 10**18)))
        packed = {QUESTION: question, **given}
        inputs = [
            SimpleNamespace(
                name=lambda name=name: name, as_numpy=lambda data=data: np.frombuffer(data, np.uint8)
            )
            for name, data in packed.items()
        ]
        request = SimpleNamespace(inputs=lambda: inputs, requested_output_names=lambda: outputs)
        (response,) = self.step.execute([request])
        return {tensor.name: tensor.array for tensor in response.output_tensors}

    def settle(self, given: Mapping[str, bytes], attributes: int = 1, **how: Any) -> Open:
        found = self.call(given, ["OPEN_2"], attributes, **how)
        assert list(found) == ["OPEN_2"]
        return unpack_open(found["OPEN_2"].tobytes(), attributes)

    def still_open(self, given: Mapping[str, bytes], attributes: int = 1, **how: Any) -> tuple[int, ...]:
        return self.settle(given, attributes, **how).positions

    def decide(self, votes: Sequence[PackedVote]) -> tuple[bytes, int]:
        found = self.call(packed(dict(zip(self.step._members, votes, strict=True))), DECIDED)
        return found["VALUES"][0], int(found["DECISION_STATUS"][0])

    def ask_in_rows(self, votes: Sequence[PackedVote], rows: Sequence[Sequence[int]]) -> list[PackedVote]:
        """What each member is asked, in rows: its vote, or that it was not asked."""
        members = self.step._members
        given: dict[str, bytes] = {}
        found = [NOT_ASKED] * len(votes)
        positions: tuple[int, ...] = (0,)
        for row in rows:
            if given:
                before = {OPEN: pack_open(positions, 10**18, 0, 2)}
                positions = self.still_open(given | before)
            for at in row:
                found[at] = votes[at] if positions else NOT_ASKED
                given |= packed({members[at]: found[at]})
        return found


def packed(votes: Mapping[str, PackedVote]) -> dict[str, bytes]:
    return {f"{name}_{VOTES}": pack_votes([vote]) for name, vote in votes.items()}


def patterns(members: int) -> Iterator[list[str | None]]:
    """Every pattern of agreement: a member abstains, names "n/a", an earlier member's value, or a new one."""
    if not members:
        yield []
        return
    for pattern in patterns(members - 1):
        named = sorted({value for value in pattern if value not in (None, "n/a")}, key=str)
        fresh = VALUES[len(named)]
        for value in (None, "n/a", *named, fresh):
            yield [*pattern, value]


def weights_of(members: int, rng: random.Random, kind: str) -> Weights:
    def draw() -> Parameters:
        return Parameters(
            tuple(rng.choice((0.0, 0.5, 1.0, 1.0, rng.uniform(0, 3))) for _ in range(members)),
            na_bias=rng.choice((0.0, rng.uniform(-2, 2))),
            none_bias=rng.choice((None, rng.uniform(-1, 1))),
            part_bias=rng.choice((0.0, rng.uniform(-1.5, 1.5))) if kind == "text" else 0.0,
            scores=tuple(tuple(rng.uniform(-1, 1) for _ in range(LEVELS)) for _ in range(members))
            if kind == "scores"
            else (),
        )

    features = {"any_case": (0.5, 0.5, 0.3), "position": (0.4, 0.3, -0.1), "is_part": (0.2, 0.4, 0.2)}
    confidence = "agreement"
    default = draw()
    if default.none_bias is not None:
        confidence = "calibrated"
    evidence = features if kind == "text" else {}
    names = tuple("abcd"[:members])
    return Weights("loglinear", names, default, evidence=evidence, confidence=confidence)


def rows_of(order: Sequence[int], first: int) -> list[list[int]]:
    return [list(order[:first]), *([at] for at in order[first:])]


@pytest.mark.parametrize("kind", ["plain", "scores", "text", "quorum"])
@pytest.mark.parametrize("members", [1, 2, 3, 4])
def test_every_pattern_is_decided_as_if_all_members_had_been_asked(members: int, kind: str) -> None:
    rng = random.Random(members)
    spared = 0
    for _ in range(6):
        weights = weights_of(members, rng, kind)
        rule = (
            QuorumRule(rng.randint(1, members), rng.choice((0.0, 0.6))) if kind == "quorum" else QuorumRule()
        )
        step = Step(Cells(weights, Evidence(weights.evidence) if weights.evidence else None, {}), rule)
        order = rng.sample(range(members), members)
        rows = rows_of(order, rng.randint(1, max(1, members - 1)))
        for pattern in patterns(members):
            scores = [math.log(rng.uniform(0.01, 1)) if kind == "scores" else None for _ in pattern]
            votes = [
                FAILED if value is None else (value, 0, score)
                for value, score in zip(pattern, scores, strict=True)
            ]
            asked = step.ask_in_rows(votes, rows)
            assert step.decide(asked) == step.decide(votes), (weights.default, rule, rows, pattern, scores)
            spared += sum(vote == NOT_ASKED for vote in asked)
    assert spared > 0 or members < 3


def test_a_settled_attribute_is_not_opened_again_and_no_ticket_is_released() -> None:
    weights = Weights("majority", ("a", "b", "c"), Parameters((1.0, 1.0, 1.0)))
    step = Step(Cells(weights, None, {}))
    agreed, split = [("red", 0, None), ("red", 0, None)], [("red", 0, None), ("blue", 0, None)]
    votes = {"a_VOTES": pack_votes([agreed[0], split[0]]), "b_VOTES": pack_votes([agreed[1], split[1]])}
    assert step.still_open(votes, attributes=2) == (1,)
    assert step.still_open(votes | {OPEN: pack_open([0], 10**18, 0, 3)}, attributes=2) == ()
    assert step.released == []
    step.call(votes | {"c_VOTES": pack_votes([NOT_ASKED, NOT_ASKED])}, DECIDED, attributes=2)
    assert step.released == [1]


@pytest.mark.parametrize("whole", [False, True])
def test_the_next_row_is_told_whether_it_is_asked_whole_questions(whole: bool) -> None:
    weights = Weights("majority", ("a", "b", "c"), Parameters((1.0, 1.0, 1.0)))
    step = Step(Cells(weights, None, {}), whole=whole)
    votes = {"a_VOTES": pack_votes([("red", 0, None)] * 2)}
    votes |= {"b_VOTES": pack_votes([("red", 0, None), ("blue", 0, None)])}
    found = step.settle(votes, attributes=2)
    assert (found.positions, found.whole) == ((1,), whole)


def test_without_a_valid_ticket_or_weights_nothing_more_is_asked() -> None:
    from quorum.decision.weights import WeightsError

    step = Step(Cells(Weights("majority", ("a", "b"), Parameters((1.0, 1.0))), None, {}))
    votes = packed({"b": ("red", 0, None)})
    assert step.still_open(votes) == (0,)
    assert step.still_open(votes, ticket=2) == ()
    step.step._damage = WeightsError("damaged")
    assert step.still_open(votes) == ()


@pytest.mark.parametrize(
    "malformed", [{"a_VOTES": b"\xc1"}, {OPEN: b"\xc1"}, {OPEN: pack_open([3], 1, 1, 1)}]
)
def test_what_cannot_be_read_leaves_everything_open(malformed: dict[str, bytes]) -> None:
    step = Step(Cells(Weights("majority", ("a", "b"), Parameters((9.0, 1.0))), None, {}))
    sure = {"a_VOTES": pack_votes([("red", 0, None)] * 2)}
    assert step.still_open(sure, attributes=2) == ()
    assert step.still_open(sure | malformed, attributes=2) == (0, 1)


def test_votes_of_another_number_are_abstentions_as_in_the_vote() -> None:
    step = Step(Cells(Weights("majority", ("a", "b"), Parameters((9.0, 1.0))), None, {}))
    assert step.still_open({"a_VOTES": pack_votes([("red", 0, None)])}, attributes=2) == (0, 1)


def test_a_written_text_is_asked_of_all() -> None:
    weights = Weights("majority", ("a", "b", "c"), Parameters((9.0, 1.0, 1.0)))
    votes = {f"{name}_VOTES": pack_votes([("red shoe", 0, None)]) for name in "ab"}
    assert Step(Cells(weights, None, {})).still_open(votes) == ()
    assert Step(Cells(weights, None, {"attribute 0": "text"})).still_open(votes) == (0,)


def learned(members: int = 3) -> Weights:
    """Equal weights by which one vote is nearly never overruled, as far as a flip risk of 2 % is allowed."""
    lines = {"1": (-1.0, 0.5)}
    stopping = Stopping((-4.0, 0.0, 0.0, 0.0), ((0.02, 0.05),), lines, ("attribute 0",), 100, 100)
    weights = Weights("majority", tuple("abc"[:members]), Parameters((1.0,) * members))
    return with_stopping(weights, stopping)


@pytest.mark.parametrize(("risk", "is_open"), [(0.0, True), (0.01, True), (0.02, False)])
def test_asking_stops_early_only_at_a_flip_risk_that_was_learned(risk: float, is_open: bool) -> None:
    step = Step(Cells(learned(), None, {}, risk))
    one = {"a_VOTES": pack_votes([("red", 0, None)] * 2)}
    assert step.still_open(one, attributes=2) == ((0, 1) if is_open else (1,))


def test_confidence_of_some_votes_is_put_on_the_scale_of_all_where_members_were_asked_in_rows() -> None:
    step = Step(Cells(learned(), None, {}))
    votes = packed({"a": ("red", 0, None), "b": NOT_ASKED, "c": NOT_ASKED})
    last, left_out = {OPEN: pack_open([], 1, 1, 1)}, {f"{name}_VOTES": pack_left_out(1) for name in "bc"}
    plain, in_rows = (
        step.call(given, DECIDED)["CONFIDENCE"][0] for given in (votes, votes | left_out | last)
    )
    stopping = recorded_stopping(learned().settings)
    assert stopping is not None
    assert in_rows == pytest.approx(stopping.confidence(1, float(plain)))
    assert in_rows < plain
    # Asked, they had nothing to answer from: an encoder that was not tuned for the attribute.
    assert step.call(votes | last, DECIDED)["CONFIDENCE"][0] == plain


def test_members_that_were_asked_count_whatever_they_answer() -> None:
    cells, question = Cells(learned(), None, {}), Admitted(TEXT, "", ("attribute 0",) * 2, 10**18)
    votes = [("red", 0, None)] * 2 + [NOT_ASKED] * 4
    plain = next(cells.decide(QuorumRule(), question, votes))[1]
    some, everyone = (found[1] for found in cells.decide(QuorumRule(), question, votes, asked=(1, 3)))
    assert everyone == plain
    assert some < plain


def test_all_patterns_are_tried() -> None:
    # Partitions of the members that name values, "n/a" and abstentions kept apart.
    assert [sum(1 for _ in patterns(members)) for members in range(5)] == [1, 3, 10, 37, 151]
