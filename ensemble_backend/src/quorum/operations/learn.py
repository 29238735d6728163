# SPDX-License-Identifier: Apache-2.0
"""Learn weights from a file of votes, at once or day by day, and find members that changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quorum.decision import weights as weights_file
from quorum.decision.patterns import ABSTAIN
from quorum.decision.scores import NO_SCORE
from quorum.decision.weights import Weights
from quorum.deployment.schema import Deployment
from quorum.evaluation.drift import Drift
from quorum.evaluation.drift import drift as compare_day
from quorum.evaluation.evaluate import SCORE_METHODS
from quorum.files import write_atomic
from quorum.learning.learn import LearnError, choose_method, learn_statistic
from quorum.learning.learn import learn as learn_table
from quorum.learning.online import State, begin, dump_state, load_state, relearn, state_path, update
from quorum.learning.text import GOLD_FOR_TEXT
from quorum.operations.scores import weighed_by_scores
from quorum.records import Record
from quorum.votes import check_wanted, is_large, read_members, read_statistic, read_votes
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
    """

    method: str = "auto"
    gold_labels: int | None = None
    seed: int = 0
    update: str | Path | None = None
    forgetting: float = 1.0
    scores: bool = True
    evidence: bool = True


@dataclass(frozen=True, slots=True)
class LearnReport(Record):
    """Learned weights, and remarks on the votes, for people.

    Attributes:
        out: File of the weights; None where none was written.
        drift: With ``update``, the day's votes against those before.
    """

    weights: Weights
    out: Path | None = None
    drift: Drift | None = None
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: file, method and hash of the weights, and the drift where there is one."""
        return {
            "out": str(self.out) if self.out else None,
            "method": self.weights.method,
            "content_hash": self.weights.content_hash,
            **({"drift": self.drift.to_json()} if self.drift else {}),
        }


# The state to go on from by ``update``; None where the votes leave none.
Learned = tuple[LearnReport, State | None]


def learn(
    votes: str | Path,
    deployment: Deployment | None = None,
    options: LearnOptions | None = None,
    *,
    out: str | Path | None = None,
) -> LearnReport:
    """Learn how much each member's vote counts.

    Without gold labels it learns from the members' agreement (``em``), with 50 or more from the labels
    (``loglinear``). The statistic of the votes is written next to ``out``, so that ``update`` can add a day.

    Args:
        votes: A votes table: JSONL, Parquet or Arrow; large files of columns are read in a stream.
        deployment: Its members and catalogue; None: the members of the table, and open value sets.
        options: None: the defaults.
        out: File to write the weights to; None: none.

    Raises:
        VotesError: The table cannot be read.
        LearnError: The votes do not allow that method, or the options do not go together.
        OnlineError: ``update`` has no state, or the day does not fit it.
    """
    chosen, path = options or LearnOptions(), Path(votes)
    target = Path(out) if out is not None else None
    if target:
        _check_target(target, path, deployment)
    if chosen.update:
        report, state = _learn_day(path, deployment, chosen, Path(chosen.update))
    elif chosen.gold_labels is None and is_large(path):
        report, state = _learn_stream(path, deployment, chosen)
    else:
        report, state = _learn_rows(path, deployment, chosen)
    if target is None:
        return report
    write_atomic(target, weights_file.dumps(report.weights))
    if state:
        dump_state(state, state_path(target))
    else:
        # The state of other weights would let `update` go on from what these were not learned from.
        state_path(target).unlink(missing_ok=True)
    return replace(report, out=target)


def drift(weights: str | Path, votes: str | Path, *, alarm: float = 0.01) -> Drift:
    """Name members that do not vote as they did: swapped, broken, or asked other things.

    Args:
        weights: Weights with their state in a file of their folder.
        votes: A day's votes, in any format, that the weights have not seen.
        alarm: How often a day without a change may have a finding, at most.

    Raises:
        WeightsError, VotesError: The weights, or the votes, cannot be read.
        DriftError: The votes cannot be compared.
    """
    loaded = weights_file.load(Path(weights))
    table = read_votes(votes).of_members(loaded.members)
    return compare_day(load_state(state_path(weights)), table, weights=loaded, alarm=alarm)


def _check_target(target: Path, votes: Path, deployment: Deployment | None) -> None:
    """Refuse to write weights, or their state, over what they are learned from."""
    inputs = {votes.resolve(), deployment.path.resolve() if deployment else None}
    for written in (target, state_path(target)):
        if written.resolve() in inputs:
            raise LearnError(f"{written}: is an input of this command; name another file with --out")


def _learn_rows(votes: Path, deployment: Deployment | None, options: LearnOptions) -> Learned:
    table = read_votes(votes)
    if deployment:
        table = table.of_members(deployment.member_names)
    labels, seed = options.gold_labels, options.seed
    statistic = table.statistic()
    used = statistic if labels is None else table.sample_gold(labels, seed).statistic()
    choice = _choice(used, options)
    weights = learn_table(table, gold_labels=labels, seed=seed, **choice, **_catalogue(deployment))
    state = begin(table) if labels is None else None
    remarks = (*statistic.remarks(), *_remarks(used, weights, options))
    return LearnReport(weights, remarks=remarks), state


def _learn_stream(votes: Path, deployment: Deployment | None, options: LearnOptions) -> Learned:
    """Learn from more votes than a table should hold; they leave no state and no hash."""
    members = deployment.member_names if deployment else None
    if members:
        check_wanted(read_members(votes), members)
    statistic = read_statistic(votes, members=members)
    weights = learn_statistic(statistic, **_choice(statistic, options), **_catalogue(deployment))
    streamed = f"{votes}: too large for a table, read in a stream; --update cannot go on from these weights"
    remarks = (streamed, *statistic.remarks(), *_remarks(statistic, weights, options))
    return LearnReport(weights, remarks=remarks), None


def _learn_day(votes: Path, deployment: Deployment | None, options: LearnOptions, before: Path) -> Learned:
    old, state = weights_file.load(before), load_state(state_path(before))
    table = read_votes(votes).of_members(old.members)
    # Drift first: the day must not be part of what it is compared with.
    changed = compare_day(state, table, weights=old)
    state = update(state, table, options.forgetting)
    catalogue = _catalogue(deployment) if deployment else {"catalogue_hash": old.catalogue_hash}
    weights = relearn(state, **_choice(state.statistic, options), **catalogue)
    remarks = _remarks(state.statistic, weights, options)
    return LearnReport(weights, drift=changed, remarks=remarks), state


def _choice(statistic: Statistic, options: LearnOptions) -> dict[str, Any]:
    """Method and settings, as arguments of the learning functions."""
    method = choose_method(statistic) if options.method == "auto" else options.method
    settings = {"scores": False} if not options.scores and method in SCORE_METHODS else {}
    if not options.evidence and method == "loglinear":
        settings["evidence"] = False
    return {"method": method, "settings": settings}


def _remarks(statistic: Statistic, weights: Weights, options: LearnOptions) -> tuple[str, ...]:
    """Say what the scores of votes and the texts of products are worth."""
    return (*_score_remarks(statistic, weights, options), *_text_remarks(statistic, weights, options))


def _text_remarks(statistic: Statistic, weights: Weights, options: LearnOptions) -> Iterator[str]:
    """Say whether texts count, and why not."""
    if weights.method != "loglinear" or not options.evidence:
        return
    labels = weights.provenance["gold_labels"]
    if weights.evidence:
        yield f"values also count by the products' texts, learned from {labels} labels"
    elif statistic.text is None:
        yield "votes alone decide: no text (`title`) of the labelled votes is known"
    elif labels < GOLD_FOR_TEXT:
        yield f"votes alone decide: the products' texts count from {GOLD_FOR_TEXT} labels on"
    else:
        yield "votes alone decide: the products' texts say too little about which value is right"


def _score_remarks(statistic: Statistic, weights: Weights, options: LearnOptions) -> tuple[str, ...]:
    """Say how many votes have a score, and whose scores count."""
    hist = statistic.scored
    if hist is None or hist.levels is None:
        return ()
    answered = hist.codes != ABSTAIN
    total = float(hist.counts @ answered.sum(axis=1))
    known = float(hist.counts @ (answered & (hist.levels != NO_SCORE)).sum(axis=1))
    share = f"{known:.0f} of {total:.0f} votes have a score"
    if sure := weighed_by_scores(weights):
        named = f"a vote weighs more the surer its member is of it: {', '.join(sure)}"
        return share, f"{named}; without a score it keeps its member's weight"
    if weights.method not in SCORE_METHODS:
        return (f"{share}; {weights.method} does not use them",)
    if not options.scores:
        return (f"{share}; they are left out, as asked for",)
    return (f"{share}; those of no member say enough, so no vote weighs more for its score",)


def _catalogue(deployment: Deployment | None) -> dict[str, Any]:
    """Hash and value counts of the catalogue, as arguments of the learning functions."""
    catalogue = deployment.catalogue() if deployment else None
    return {"catalogue_hash": catalogue.hash, "value_counts": catalogue.value_counts()} if catalogue else {}
