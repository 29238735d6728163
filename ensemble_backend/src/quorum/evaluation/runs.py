# SPDX-License-Identifier: Apache-2.0
"""Choose which methods, with which settings, are evaluated on votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quorum.decision.answer_kinds import SET_KINDS, AnswerKinds, has_one_value, kind_in
from quorum.decision.patterns import ABSTAIN
from quorum.evaluation.answers import is_single
from quorum.evaluation.heldout import closed_attributes
from quorum.learning.em import MIN_MEMBERS
from quorum.learning.learn import NA_BIAS_METHODS, USUAL_NA_BIAS
from quorum.votes.table import VotesTable

CONFUSION = "dawid_skene"
SCORE_METHODS = ("em", "loglinear")
"""Methods that use the scores of votes."""
WITHOUT_SCORES, WITHOUT_EVIDENCE = "_without_scores", "_without_evidence"


def possible(
    table: VotesTable, methods: Sequence[str], counts: Mapping[str, int], labels: int, kinds: AnswerKinds
) -> tuple[list[str], list[str]]:
    """The methods that can be evaluated, and notes on why the others cannot."""
    # Agreement teaches single values alone, so a member that answers only others does not count.
    single = is_single(table, kinds)
    answered = (table.codes[single if single.any() else slice(None)] != ABSTAIN).any(axis=0)
    where = " single values" if single.any() and not single.all() else ""
    active = [name for name, any_vote in zip(table.members, answered, strict=True) if any_vote]
    kept, notes = list(dict.fromkeys(methods)), []
    dropped = [name for name in kept if name in ("em", CONFUSION)] if len(active) < MIN_MEMBERS else []
    if dropped:
        notes.append(
            f"{' and '.join(dropped)} left out: learning without gold needs {MIN_MEMBERS} members that "
            f"answer{where}, here {len(active)} did ({', '.join(active) or 'none'})"
        )
    if "em" in kept and "em" not in dropped and are_sets(table, kinds):
        dropped.append("em")
        notes.append("em left out: agreement teaches nothing about sets, so it would be majority")
    if "loglinear" in kept and not labels:
        dropped.append("loglinear")
        notes.append("loglinear left out: a fold has no gold label to learn from; ask for more labels")
    if CONFUSION in kept and CONFUSION not in dropped and not closed_attributes(table, counts):
        dropped.append(CONFUSION)
        notes.append(
            f"{CONFUSION} left out: no attribute in the votes has a closed value set; name the deployment "
            "whose catalogue has (--deploy)"
        )
    return [name for name in kept if name not in dropped], notes


def of_single(counts: Mapping[str, int], kinds: AnswerKinds) -> dict[str, int]:
    """Numbers of answers of the attributes with single values."""
    return {name: number for name, number in counts.items() if has_one_value(kind_in(kinds, name))}


def are_sets(table: VotesTable, kinds: AnswerKinds) -> bool:
    """Whether all answers are spans, or several values."""
    return all(kind_in(kinds, name) in SET_KINDS for _, name in table.group_names)


def runs(
    methods: Sequence[str],
    settings: Mapping[str, Mapping[str, Any]],
    scored: bool,
    with_text: bool,
    with_na: bool,
    has_single: bool = True,
) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Name of a run -> method and settings: each method, and those without scores, texts or a bias."""
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for name in dict.fromkeys(["majority", *(method for method in methods if method != CONFUSION)]):
        found[name] = (name, settings.get(name, {}))
        if name == "loglinear":
            if has_single:
                found["loglinear_without_na_bias"] = (name, {**settings.get(name, {}), "na_bias": False})
            if with_text and settings.get(name, {}).get("evidence", True):
                found[name + WITHOUT_EVIDENCE] = (name, {**settings.get(name, {}), "evidence": False})
        if with_na and name in NA_BIAS_METHODS and not settings.get(name, {}).get("na_bias"):
            found[f"{name}_with_na_bias"] = (name, {**settings.get(name, {}), "na_bias": USUAL_NA_BIAS})
        if scored and name in SCORE_METHODS and settings.get(name, {}).get("scores", True):
            found[name + WITHOUT_SCORES] = (name, {**settings.get(name, {}), "scores": False})
    return found
