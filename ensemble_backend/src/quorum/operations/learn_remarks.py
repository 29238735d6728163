# SPDX-License-Identifier: Apache-2.0
"""Say in sentences what learning did with the votes, their scores and the products' texts."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path

from quorum.decision.answer_kinds import AnswerKinds, form_of, has_one_value, recorded_kinds
from quorum.decision.catalogue_change import named
from quorum.decision.kept import TEXTS
from quorum.decision.patterns import ABSTAIN
from quorum.decision.scores import NO_SCORE
from quorum.decision.weights import Weights
from quorum.deployment.schema import Deployment
from quorum.evaluation.runs import SCORE_METHODS
from quorum.learning.by_kind import PARTS, methods_by_form, of_form
from quorum.learning.set_choice import SetChoice, recorded_choices
from quorum.learning.text import GOLD_FOR_TEXT
from quorum.operations.scores import weighed_by_scores
from quorum.review.spellings import spelling_remarks
from quorum.votes import VotesTable, read_rows
from quorum.votes.lazy import lazy_remarks
from quorum.votes.statistic import Statistic

_SAMPLED = 1 << 14
"""Cells of votes read in a stream whose spellings are compared."""


def learned_remarks(
    statistic: Statistic, weights: Weights, scores: bool = True, evidence: bool = True
) -> tuple[str, ...]:
    """Say whether agreement is trusted, which attributes differ, and what scores and texts are worth.

    ``scores`` and ``evidence`` tell whether these were asked for.
    """
    doubt, values = weights.settings.get("doubt"), of_form(statistic, recorded_kinds(weights.settings), "one")
    remarks = [*([doubt] if doubt else []), *attribute_remarks(weights)]
    remarks += _score_remarks(statistic, weights, scores)
    return (*remarks, *(_text_remarks(values, weights) if evidence and values.hist.total else ()))


def first_cells_remarks(votes: Path, deployment: Deployment | None) -> tuple[str, ...]:
    """Name two spellings of one answer, and votes of a lazy channel, in the first cells of a large file."""
    sample = [row.cell for row in islice(read_rows(votes), _SAMPLED)]
    catalogue = deployment.catalogue() if deployment else None
    where = f"{votes}, first {_SAMPLED:,} cells"
    return (*lazy_remarks(sample, votes), *spelling_remarks(sample, where, catalogue))


def without_votes(
    statistic: Statistic, deployment: Deployment | None, present: Collection[str] = ()
) -> tuple[str, ...]:
    """Say which attributes of the catalogue have no votes, so that nothing is learned for them alone.

    ``present`` are further attributes with votes, such as those of texts.
    """
    voted = {attribute for _, attribute in statistic.groups} | set(present)
    without = [name for name in (deployment.attributes if deployment else ()) if name not in voted]
    return (f"no votes on {named(without)}: the weights of all attributes decide",) if without else ()


def votes_remarks(table: VotesTable, statistic: Statistic, kinds: AnswerKinds) -> tuple[str, ...]:
    """Describe limits of the votes on single values; of things that were named, "n/a" and gold mean less.

    ``statistic`` is that of the exploded table.
    """
    if all(map(has_one_value, kinds.values())):
        return statistic.remarks()
    values = of_form(statistic, kinds, "one")
    answered = (table.codes != ABSTAIN).any(axis=0).tolist()
    voted = [name for name, any_vote in zip(table.members, answered, strict=True) if any_vote]
    return values.remarks(voted) if values.hist.total else ()


def kind_remarks(weights: Weights) -> Iterator[str]:
    """Say what taught the weights of sets of things, and of texts."""
    for form, part in weights.settings.get(PARTS, {}).items():
        if form == "one":
            continue
        names = [name for name, kind in recorded_kinds(weights.settings).items() if form_of(kind) == form]
        how = "labels" if part["method"] == "loglinear" else f"no labels ({part['method']})"
        yield f"{named(sorted(names))}: each thing named counts by weights learned from {how}"
    for name, choice in recorded_choices(weights.settings).items():
        if remark := _choice_remark(choice):
            yield f"{name}: {remark}"
    for name, found in weights.settings.get(TEXTS, {}).items():
        source = (
            f"{found['references']} cells with references" if found["references"] else "how alike texts are"
        )
        yield f"{name}: the most similar text wins, by weights learned from {source}"


def _choice_remark(choice: SetChoice) -> str:
    """How answers of several things are decided, where it is not by learned weights; "" if it is."""
    by = (
        f"{100 * choice.gain:+.1f} points of F1 to {choice.member}, standard error "
        f"{100 * choice.error:.1f}, cross-validated"
    )
    if choice.weights == "alone":
        return f"{choice.member} decides alone, others where it abstains; votes are not surely better ({by})"
    return f"equal weights decide, learned ones are not better ({by})" if choice.weights == "equal" else ""


def attribute_remarks(weights: Weights) -> Iterator[str]:
    """Say which attributes have equal weights, or weights of their own."""
    chosen: dict[str, list[str]] = {}
    for name, found in weights.settings.get("attributes", {}).items():
        chosen.setdefault(found["weights"], []).append(name)
    if equal := chosen.get("equal"):
        yield f"{named(equal)}: equal weights, as too few labels say otherwise"
    if own := chosen.get("own"):
        yield f"{named(own)}: weights of {'its' if len(own) == 1 else 'their'} own"


def _score_remarks(statistic: Statistic, weights: Weights, asked: bool) -> tuple[str, ...]:
    """Say how many votes have a score, and whose scores count."""
    hist = statistic.scored
    if hist is None or hist.levels is None:
        return ()
    answered = hist.codes != ABSTAIN
    total = float(hist.counts @ answered.sum(axis=1))
    known = float(hist.counts @ (answered & (hist.levels != NO_SCORE)).sum(axis=1))
    share = f"{known:.0f} of {total:.0f} votes have a score"
    scored = dict(zip(statistic.members, (answered & (hist.levels != NO_SCORE)).any(axis=0), strict=True))
    if sure := [name for name in weighed_by_scores(weights) if scored.get(name)]:
        surer = f"a vote weighs more the surer its member is of it: {', '.join(sure)}"
        return share, f"{surer}; without a score it keeps its member's weight"
    methods = set(methods_by_form(weights).values())
    if not methods & set(SCORE_METHODS):
        return (f"{share}; {' and '.join(sorted(methods)) or weights.method} does not use them",)
    if not asked:
        return (f"{share}; they are left out, as asked for",)
    return (f"{share}; those of no member say enough, so no vote weighs more for its score",)


def _text_remarks(statistic: Statistic, weights: Weights) -> Iterator[str]:
    """Say whether texts count, and why not."""
    if methods_by_form(weights).get("one") != "loglinear":
        return
    labels = round(statistic.hist.labelled().total)
    if weights.evidence:
        yield f"values also count by the products' texts, learned from {labels} labels"
    elif statistic.text is None:
        yield "votes alone decide: no text (`title`) of the labelled votes is known"
    elif labels < GOLD_FOR_TEXT:
        yield f"votes alone decide: the products' texts count from {GOLD_FOR_TEXT} labels on"
    else:
        yield "votes alone decide: the products' texts say too little about which value is right"
