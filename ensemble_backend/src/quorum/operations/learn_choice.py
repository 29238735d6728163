# SPDX-License-Identifier: Apache-2.0
"""Turn the options of ``quorum learn`` into methods and settings of learning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorum.decision.answer_kinds import AnswerKinds, form_of, kind_in
from quorum.decision.forms import Form
from quorum.deployment.schema import Deployment
from quorum.evaluation.runs import SCORE_METHODS
from quorum.learning.by_kind import auto_method, of_form
from quorum.learning.learn import NA_BIAS_METHODS, LearnError, choose_method
from quorum.votes import VotesTable
from quorum.votes.statistic import Statistic


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnOptions:
    """Options of :func:`learn`.

    Attributes:
        method: "auto", "majority", "iwmv", "em" or "loglinear".
        gold_labels: Use only this many gold labels, drawn with ``seed``; None: all.
        seed: Draws the gold labels.
        update: Weights learned so far, with their state in a file of their folder: add the votes to theirs.
        forgetting: With ``update``, what an earlier vote counts now, above 0 and at most 1.
        scores: Whether votes may weigh more the surer their members are; False: as if no vote had a score.
        evidence: Whether the products' texts may count with ``loglinear``; False: votes alone decide.
        na_bias: For majority and em: added to the weight of "n/a", in mean weights of a member; -1 makes it
            one vote weaker.
        judge: Whether to judge the weights by attribute on labels that did not teach them.
        leave_out_tuned: Leave out cells that a member of the deployment was tuned on; its votes there are
            better than elsewhere.
        lazy: Whether to learn when asking may stop before all members are asked; None: where the deployment
            has a section ``lazy``.
    """

    method: str = "auto"
    gold_labels: int | None = None
    seed: int = 0
    update: str | Path | None = None
    forgetting: float = 1.0
    scores: bool = True
    evidence: bool = True
    na_bias: float = 0.0
    judge: bool = True
    leave_out_tuned: bool = False
    lazy: bool | None = None


def choice(
    votes: VotesTable | Statistic,
    kinds: AnswerKinds,
    options: LearnOptions,
    catalogue: Mapping[str, Any],
    methods: Mapping[Form, str] | None = None,
) -> dict[str, Any]:
    """Method and settings, as arguments of the learning functions.

    Args:
        votes: A table, or the statistic of an exploded one.
        kinds: Kinds of the attributes.
        options: Of the command.
        catalogue: As of :func:`catalogue_of`.
        methods: Form of an answer -> its method, where it is known.

    Raises:
        LearnError: A bias for "n/a" with a method that learns it.
    """
    if options.scores and options.evidence and not options.na_bias:
        return {"method": options.method}
    counts = catalogue.get("value_counts") or {}
    groups = votes.group_names if isinstance(votes, VotesTable) else votes.groups
    used: dict[Form, str] = {}
    for form in {form_of(kind_in(kinds, name)) for _, name in groups} - {"text"}:
        found = (methods or {}).get(form, options.method)
        if found == "auto" and isinstance(votes, VotesTable):
            found = auto_method(votes, kinds, form, counts)
        elif found == "auto" and isinstance(votes, Statistic):
            found = choose_method(of_form(votes, kinds, form), counts if form == "one" else {})
        used[form] = found
    settings: dict[str, Any] = {}
    if not options.scores and set(used.values()) & set(SCORE_METHODS):
        settings["scores"] = False
    if not options.evidence and used.get("one") == "loglinear":
        settings["evidence"] = False
    if options.na_bias:
        of_values = used.get("one", options.method)
        if of_values not in (*NA_BIAS_METHODS, "auto"):
            raise LearnError(
                f"{of_values}: a bias for n/a can be set for {' and '.join(NA_BIAS_METHODS)}; loglinear "
                "learns it from gold: leave --na-bias out, or name one of these with --method"
            )
        settings["na_bias"] = options.na_bias
    return {"method": options.method, "settings": settings or None}


def catalogue_of(deployment: Deployment | None) -> dict[str, Any]:
    """Hash and value counts of the catalogue, as arguments of the learning functions."""
    catalogue = deployment.catalogue() if deployment else None
    return {"catalogue": catalogue.hashes, "value_counts": catalogue.value_counts()} if catalogue else {}
