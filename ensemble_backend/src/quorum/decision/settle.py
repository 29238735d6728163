# SPDX-License-Identifier: Apache-2.0
"""Decide whether a cell's answer is settled before all members were asked, by the form of its answer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from quorum.decision import lazy
from quorum.decision.cell import ANSWERED, NOT_APPLICABLE, Ballot, Parameters, decide_one
from quorum.decision.evidence import TextEvidence
from quorum.decision.forms import SET_FORMS, Form
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.sets import NAMED, Read, Thing, cells_of, readable_things, things_of
from quorum.decision.spans import TextSpan, overlap_of
from quorum.decision.stopping import EarlyStop

_NO_VOTE: Ballot = ("", ANSWERED + 1)
_GAP = 1e-9
"""Confidences that are closer than this may come out in either order."""


def is_settled(
    rule: QuorumRule,
    parameters: Parameters,
    ballots: Sequence[Ballot | None],
    scores: Sequence[float | None] = (),
    evidence: TextEvidence | None = None,
    form: Form = "one",
    text: str = "",
    read: Read = things_of,
    early: EarlyStop | None = None,
) -> bool:
    """Whether no member still to be asked can change what :func:`quorum.decision.forms.decide` returns.

    Value and status of the decision by the votes at hand, all other members counting as abstentions, are then
    those of all members; the confidence may still change. A written text is settled only where its quorum
    cannot be met any more.

    Args:
        rule: As there.
        parameters: As there.
        ballots: Per member: (value, status), or None if it has not been asked yet.
        scores: As there; those of members not asked yet are not read.
        evidence: As there.
        form: As there.
        text: As there.
        read: As there.
        early: When to stop although a member can change the answer; None: never. For the form "one".
    """
    if None not in ballots:
        return True
    answers = [ballot[0] if ballot and ballot[1] == ANSWERED else None for ballot in ballots]
    things = [readable_things(value, text, read) if form in SET_FORMS else () for value in answers]
    if all(value is None or found is None for value, found in zip(answers, things, strict=True)):
        return False
    if not (rule.is_plain or rule.is_met(parameters, [value is not None for value in answers])):
        pairs = zip(ballots, answers, strict=True)
        # Withheld in any case, if no member that has not been asked can bring the quorum.
        return not rule.is_met(parameters, [ballot is None or value is not None for ballot, value in pairs])
    if form == "one":
        found = lazy.standing(parameters, ballots, scores, evidence)
        if found is None or found.is_final or early is None:
            return found is not None and found.is_final
        at_hand = [ballot or _NO_VOTE for ballot in ballots]
        return early.allows(found, decide_one(parameters, at_hand, scores, evidence)[1], ballots)
    return form != "text" and _is_set_settled(parameters, ballots, scores, things, form == "spans", text)


def _is_set_settled(
    parameters: Parameters,
    ballots: Sequence[Ballot | None],
    scores: Sequence[float | None],
    things: Sequence[tuple[Thing, ...] | None],
    are_spans: bool,
    text: str,
) -> bool:
    """Whether every thing that was named is settled, and nothing else can get into the answer."""
    # A cell of one thing has two candidates, of which none is part of the other.
    own = msgspec.structs.replace(parameters, part_bias=0.0)
    is_open = [ballot is None for ballot in ballots]
    named: list[Thing] = []
    # What no member has named is a cell too, in which all that were asked vote "n/a".
    for thing in (None, *(cells := cells_of(things))):
        votes = _votes(things, thing, is_open)
        found = lazy.standing(own, votes, scores, named=(NAMED,))
        if found is None or not found.is_final or (thing is None and found.leader == NAMED):
            return False
        if thing is not None and found.leader == NAMED:
            named.append(thing)
    if not are_spans:
        return True
    if not cells:
        # "n/a" becomes "[]" as soon as a member names anything.
        said = {
            ballot[0] for ballot, found in zip(ballots, things, strict=True) if ballot and found is not None
        }
        return said != {NOT_APPLICABLE}
    spans = sorted(thing for thing in named if isinstance(thing, TextSpan))
    return overlap_of(spans) is None or _is_order_settled(own, scores, things, spans, is_open)


def _is_order_settled(
    parameters: Parameters,
    scores: Sequence[float | None],
    things: Sequence[tuple[Thing, ...] | None],
    spans: Sequence[TextSpan],
    is_open: Sequence[bool],
) -> bool:
    """Whether no remaining vote can change which span is surer: of those that overlap the surest stays."""
    given = parameters.at(scores or [None] * len(is_open)).weights
    highest = parameters.highest()
    weighed = parameters.weighing(
        high if to_ask else weight for weight, high, to_ask in zip(given, highest, is_open, strict=True)
    )
    ranges = []
    for span in spans:
        votes = _votes(things, span, is_open)
        cells = ([vote or (rest, ANSWERED) for vote in votes] for rest in (NOT_APPLICABLE, NAMED))
        low, high = (decide_one(weighed, cell)[1] for cell in cells)
        ranges.append((low, high))
    ranges.sort()
    return all(below[1] + _GAP < above[0] for below, above in pairwise(ranges))


def _votes(
    things: Sequence[tuple[Thing, ...] | None], thing: Thing | None, is_open: Sequence[bool]
) -> list[Ballot | None]:
    """Ballots of the cell of one thing; None as a thing: of one that no member has named."""
    return [
        None
        if to_ask
        else _NO_VOTE
        if found is None
        else (NAMED if thing is not None and thing in found else NOT_APPLICABLE, ANSWERED)
        for found, to_ask in zip(things, is_open, strict=True)
    ]
