# SPDX-License-Identifier: Apache-2.0
"""Decide a cell by the form of its answer: one value, a set of spans or values, or a written text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from quorum.decision.cell import ANSWERED, Ballot, Parameters, decide_one
from quorum.decision.consensus import decide_text
from quorum.decision.evidence import TextEvidence
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.sets import Read, chance_of, decide_set, things_of
from quorum_contract import DecisionStatus

Form = Literal["one", "spans", "values", "text"]
"""How votes combine: one value wins; each span, or each value, is voted on; the most similar text wins."""
SET_FORMS: tuple[Form, ...] = ("spans", "values")
"""Forms of answers that name any number of things."""
FORMS: tuple[Form, ...] = ("one", *SET_FORMS, "text")


def decide(
    rule: QuorumRule,
    parameters: Parameters,
    ballots: Sequence[Ballot],
    scores: Sequence[float | None] = (),
    evidence: TextEvidence | None = None,
    form: Form = "one",
    text: str = "",
    read: Read = things_of,
) -> tuple[str, float, DecisionStatus]:
    """Decide one cell, and withhold the answer without a quorum.

    Args:
        rule: Of the deployment.
        parameters: Of the cell's attribute.
        ballots: Per member: (value, status).
        scores: As in :func:`quorum.decision.cell.decide_one`.
        evidence: As there; counts only for the form "one".
        form: Of the attribute's answer.
        text: The product's text, which spans are parts of.
        read: Reads what an answer of spans, or of several values, names.

    Returns:
        Value, confidence and status; ``("", 0.0, ...)`` for every status but ``DECIDED``.
    """
    if form == "one":
        value, confidence = decide_one(parameters, ballots, scores, evidence)
    else:
        own = parameters.at(scores) if scores else parameters
        if form == "text":
            value, confidence = decide_text(own.weights, ballots)
        else:
            cell = partial(decide_one, own)
            value, confidence = decide_set(cell, ballots, text, are_spans=form == "spans", read=read)
            confidence = chance_of(confidence, own.chance)
    if not value:
        return "", 0.0, DecisionStatus.NO_ANSWER
    if rule.is_plain or rule.is_met(parameters, [status == ANSWERED for _, status in ballots]):
        return value, confidence, DecisionStatus.DECIDED
    return "", 0.0, DecisionStatus.NO_QUORUM
