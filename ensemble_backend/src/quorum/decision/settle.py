# SPDX-License-Identifier: Apache-2.0
"""Decide whether a cell's answer is settled before all members were asked, by the form of its answer."""

from __future__ import annotations

from collections.abc import Sequence

from quorum.decision import lazy
from quorum.decision.cell import ANSWERED, Ballot, Parameters
from quorum.decision.evidence import TextEvidence
from quorum.decision.forms import Form
from quorum.decision.quorum_rule import QuorumRule


def is_settled(
    rule: QuorumRule,
    parameters: Parameters,
    ballots: Sequence[Ballot | None],
    scores: Sequence[float | None] = (),
    evidence: TextEvidence | None = None,
    form: Form = "one",
    text: str = "",
) -> bool:
    """Whether no member still to be asked can change what :func:`quorum.decision.forms.decide` returns.

    Args:
        rule: As there.
        parameters: As there.
        ballots: Per member: (value, status), or None if it has not been asked yet.
        scores: As there; those of members not asked yet are not read.
        evidence: As there.
        form: As there.
        text: As there.
    """
    if None not in ballots:
        return True
    answered = [ballot is not None and ballot[1] == ANSWERED for ballot in ballots]
    if form != "one" or not (rule.is_plain or rule.is_met(parameters, answered)):
        return False
    return lazy.is_settled(parameters, ballots, scores, evidence)
