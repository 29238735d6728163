# SPDX-License-Identifier: Apache-2.0
"""Decide made-up votes with weights before they serve: a probe cannot while every member abstains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from quorum.decision.cell import ANSWERED, NOT_APPLICABLE, Ballot, Parameters, decide_one
from quorum.decision.evidence import Evidence, TextEvidence
from quorum.decision.weights import Weights, WeightsError

_ABSTAINED: Ballot = ("", ANSWERED + 1)
_TEXT = "soft cotton shirt, red and blue"
_VALUES = ("cotton", "soft cotton", "red", NOT_APPLICABLE)
"""One is part of another, two stand in the text one after the other."""
_UNSURE, _SURE = -1e9, 0.0
_ROUNDING = 1e-9


def check_decisions(weights: Weights) -> None:
    """Refuse weights with a rule that does not decide made-up votes, without asking any member.

    Each rule decides single votes, votes of all members for one value, and splits; with and without scores,
    where it weighs them, and a text, where it counts. Each must give a value that a member named and a finite
    confidence in [0, 1], which without calibration is 1 where all votes are for one value.

    Raises:
        WeightsError: The first rule that does not, the votes, and what it gave.
    """
    evidence = Evidence(weights.evidence).of(_TEXT) if weights.evidence else None
    named = [("default", weights.default)]
    named += [(f"attributes[{name!r}]", rule) for name, rule in weights.attributes.items()]
    named += [(f"groups[{key!r}]", rule) for key, rule in weights.groups.items()]
    # Many attributes may have the same rule.
    for rule, where in {rule: where for where, rule in reversed(named)}.items():
        if fault := fault_of(rule, evidence):
            raise WeightsError(f"{where} decides no votes right: {fault}; learn the weights again")


def fault_of(rule: Parameters, evidence: TextEvidence | None = None) -> str:
    """Why a rule does not decide made-up votes, see :func:`check_decisions`; "" if it does."""
    members = len(rule.weights)
    texts = (None, evidence) if evidence is not None and rule.text else (None,)
    for ballots in _made_up(members):
        values = {value for value, status in ballots if status == ANSWERED}
        for scores in _scores(members) if rule.scores else ((),):
            for text in texts:
                try:
                    value, confidence = decide_one(rule, ballots, scores, text)
                # Whatever a rule provokes here, it would in a server.
                except Exception as error:
                    return f"the votes {_said(ballots)} fail with {error!r}"
                # A comparison with nan is false.
                is_sound = value in values and 0.0 <= confidence <= 1.0
                if not rule.calibrated and len(values) == 1:
                    is_sound = is_sound and confidence >= 1.0 - _ROUNDING
                if not is_sound:
                    return f"of the votes {_said(ballots)} it makes {value!r} with confidence {confidence:g}"
    return ""


def _said(ballots: Sequence[Ballot]) -> list[str | None]:
    return [value if status == ANSWERED else None for value, status in ballots]


def _made_up(members: int) -> Iterator[list[Ballot]]:
    for value in (_VALUES[0], NOT_APPLICABLE):
        yield [(value, ANSWERED)] * members
        for only in range(members):
            yield [(value, ANSWERED) if member == only else _ABSTAINED for member in range(members)]
    for first in range(len(_VALUES)):
        yield [(_VALUES[(first + member) % len(_VALUES)], ANSWERED) for member in range(members)]
    yield [(_VALUES[2], ANSWERED), *[(_VALUES[0], ANSWERED)] * (members - 1)]
    yield [(f"value {member}", ANSWERED) for member in range(members)]


def _scores(members: int) -> Sequence[Sequence[float | None]]:
    mixed = [None, _UNSURE, _SURE]
    return (), [_SURE] * members, [_UNSURE] * members, [mixed[member % 3] for member in range(members)]
