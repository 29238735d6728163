# SPDX-License-Identifier: Apache-2.0
"""Learn weights from a file of votes, at once or day by day, and find members that changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quorum.decision import weights as weights_file
from quorum.decision.answer_kinds import AnswerKinds, form_of, has_one_value, kind_in, recorded_kinds
from quorum.decision.catalogue_change import is_stale, named
from quorum.decision.trial import check_decisions
from quorum.decision.weights import Weights
from quorum.deployment.schema import Deployment
from quorum.evaluation.drift import Drift
from quorum.evaluation.drift import drift as compare_day
from quorum.evaluation.learned import LearnedResult, judge_learned
from quorum.evaluation.tuned_rows import TunedRows
from quorum.files import check_replaceable, locked, replacing
from quorum.learning.by_kind import learn as learn_table
from quorum.learning.by_kind import learn_parts, methods_by_form, present_kinds
from quorum.learning.learn import LearnError
from quorum.learning.online import (
    OnlineError,
    State,
    begin,
    dump_state,
    is_added,
    is_learned_from,
    load_state,
    relearn,
    state_path,
    update,
    without_attributes,
)
from quorum.operations.drift import texts_in
from quorum.operations.early import NOT_BY_STREAM, NOT_BY_UPDATE, is_lazy, with_learned_stopping
from quorum.operations.evaluate import kinds_of, kinds_unknown, live_weights, pooled
from quorum.operations.learn_choice import LearnOptions, catalogue_of, choice
from quorum.operations.learn_remarks import (
    first_cells_remarks,
    kind_remarks,
    learned_remarks,
    votes_remarks,
    without_votes,
)
from quorum.operations.tuned_rows import TunedRowsError, tuned_rows, tuned_rows_in_stream
from quorum.records import Record
from quorum.review.spellings import spelling_remarks
from quorum.votes import (
    VotesTable,
    check_wanted,
    is_large,
    read_members,
    read_statistic,
    read_votes,
)
from quorum.votes.exploded import exploded
from quorum.votes.lazy import lazy_remarks
from quorum.votes.outside import groups_as_one
from quorum.votes.readable import readable
from quorum.votes.statistic import Statistic

MOST_NA_BIAS = 10
"""Beyond it no vote for a value, or none for "n/a", would count."""


@dataclass(frozen=True, slots=True)
class LearnReport(Record):
    """Learned weights, and remarks on the votes, for people.

    Attributes:
        out: File of the weights; None where none was written.
        drift: With ``update``, the day's votes against those before.
        judged: The weights on labels that did not teach them, by attribute; None where there are none, or
            that takes long.
        tuned: What members were tuned on, of these votes; None where no member's folder says it.
    """

    weights: Weights
    out: Path | None = None
    drift: Drift | None = None
    remarks: tuple[str, ...] = ()
    judged: LearnedResult | None = None
    tuned: TunedRows | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: file, method and hash of the weights, drift and judgement where there are."""
        return {
            "out": str(self.out) if self.out else None,
            "method": self.weights.method,
            "content_hash": self.weights.content_hash,
            **({"drift": self.drift.to_json()} if self.drift else {}),
            **({"judged": self.judged.to_json()} if self.judged else {}),
            **({"tuned": self.tuned.to_json()} if self.tuned else {}),
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
        TunedRowsError: Cells that members were tuned on are to be left out, and cannot be.
        CardError: What a member was tuned on cannot be read.
        OnlineError: ``update`` has no state, or the day does not fit it.
        OSError: ``out`` cannot be written, or it or ``update`` is being changed by another process.
    """
    chosen, path = options or LearnOptions(), Path(votes)
    if not abs(chosen.na_bias) <= MOST_NA_BIAS:
        raise LearnError(
            f"--na-bias {chosen.na_bias:g}: a number from -{MOST_NA_BIAS} to {MOST_NA_BIAS} is needed, in "
            "mean weights of a member; usual is -1"
        )
    target = Path(out) if out is not None else None
    if target:
        _check_target(target, path, deployment)
    # Two updates at once would both go on from the same state, and one day be lost.
    changed = [Path(name) for name in (chosen.update, target) if name]
    with locked(*changed):
        report, state = _learned(path, deployment, chosen)
        if target is None:
            return report
        _write(target, report.weights, state)
    return replace(report, out=target)


def _learned(path: Path, deployment: Deployment | None, chosen: LearnOptions) -> Learned:
    if chosen.update:
        return _learn_day(path, deployment, chosen, Path(chosen.update))
    if chosen.gold_labels is None and is_large(path):
        return _learn_stream(path, deployment, chosen)
    return _learn_rows(path, deployment, chosen)


def _write(target: Path, weights: Weights, state: State | None) -> None:
    """Write weights and their state; where this breaks off, the state is the newer one, see `_learn_day`."""
    check_decisions(weights)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target, 0o644) as temporary:
        temporary.write_text(weights_file.dumps(weights), encoding="utf-8")
        if state:
            dump_state(state, state_path(target))
        else:
            # The state of other weights would let `update` go on from what these were not learned from.
            state_path(target).unlink(missing_ok=True)


def _check_target(target: Path, votes: Path, deployment: Deployment | None) -> None:
    """Refuse to write weights, or their state, over what they are learned from."""
    inputs = {votes.resolve(), deployment.path.resolve() if deployment else None}
    for written in (target, state_path(target)):
        if written.resolve() in inputs:
            raise LearnError(f"{written}: is an input of this command; name another file with --out")
        check_replaceable(written)


def _learn_rows(votes: Path, deployment: Deployment | None, options: LearnOptions) -> Learned:
    table = read_votes(votes)
    if deployment:
        table = table.of_members(deployment.member_names)
    table, tuned = tuned_rows(table, deployment, leave_out=options.leave_out_tuned)
    table = pooled(table, deployment)
    labels, seed, catalogue = options.gold_labels, options.seed, catalogue_of(deployment)
    kinds = present_kinds(table, kinds_of(deployment))
    statistic = exploded(table, kinds).statistic()
    sample = table if labels is None else table.sample_gold(labels, seed)
    chosen = choice(sample, kinds, options, catalogue)
    weights = learn_table(table, kinds=kinds, gold_labels=labels, seed=seed, **chosen, **catalogue)
    again = _again(table, weights, deployment, options)
    early: tuple[str, ...] = ()
    if is_lazy(deployment, options.lazy):
        weights, early = with_learned_stopping(sample, weights, again, kinds, deployment, seed)
    state = begin(table, kinds) if labels is None else None
    judged = _judged(table, weights, deployment, options, again) if options.judge else None
    spellings = spelling_remarks(table, votes, deployment.catalogue() if deployment else None)
    remarks = (*lazy_remarks(table.cells, votes), *votes_remarks(table, statistic, kinds), *spellings)
    remarks += (
        *kinds_unknown(deployment, table),
        *readable(table, kinds)[1],
        *without_votes(statistic, deployment, kinds),
        *kind_remarks(weights),
        *early,
    )
    used = statistic if sample is table else exploded(sample, kinds).statistic()
    remarks += learned_remarks(used, weights, options.scores, options.evidence)
    if judged is None:
        remarks += _not_judged(votes, statistic, options)
    return LearnReport(weights, remarks=remarks, judged=judged, tuned=tuned), state


def _again(
    table: VotesTable, weights: Weights, deployment: Deployment | None, options: LearnOptions
) -> Callable[[VotesTable], Weights]:
    """Learns weights in the same way from the table with less gold."""
    catalogue = catalogue_of(deployment)
    kinds, methods = present_kinds(table, kinds_of(deployment)), methods_by_form(weights)
    # Texts, which have no method of their own, are learned in the way that was asked for.
    chosen = choice(table, kinds, replace(options, method="auto"), catalogue, methods)
    chosen["method"] = options.method

    def again(seen: VotesTable) -> Weights:
        return learn_table(seen, kinds=kinds, methods=methods, **chosen, **catalogue)

    return again


def _judged(
    table: VotesTable,
    weights: Weights,
    deployment: Deployment | None,
    options: LearnOptions,
    again: Callable[[VotesTable], Weights],
) -> LearnedResult | None:
    """Judge weights on labels of their table that did not teach them; None: none are left, or too many."""
    labels, kinds = options.gold_labels, present_kinds(table, kinds_of(deployment))
    used = table.labelled if labels is None else table.sample_gold(labels, options.seed).labelled
    return judge_learned(table, weights, used, again, live_weights(deployment, table), kinds=kinds)


def _single_kinds(votes: Path, statistic: Statistic, deployment: Deployment | None) -> AnswerKinds:
    """The kinds of attributes in a stream; raises LearnError for answers that must be read row by row."""
    kinds = kinds_of(deployment)
    present = {name: kinds[name] for _, name in statistic.groups if name in kinds}
    others = [name for name, kind in present.items() if not has_one_value(kind)]
    if others:
        raise LearnError(
            f"{votes}: too large for a table, and {named(others)} have answers of spans, several values or "
            "texts, which are not learned in a stream: give votes on fewer products"
        )
    return present


def _kept_texts(table: VotesTable, kinds: AnswerKinds) -> tuple[str, ...]:
    """Say that a day's texts teach nothing."""
    texts = texts_in(table, kinds)
    if not texts:
        return ()
    remark = (
        f"{named(texts)}: a state holds no texts, so their weights stay; learn them from recorded votes, "
        "without --update"
    )
    return (remark,)


def _not_judged(votes: Path, statistic: Statistic, options: LearnOptions) -> tuple[str, ...]:
    """Name the command that judges by attribute, where there are labels and judging was asked for."""
    labelled = options.judge and statistic.hist.labelled().total > 0
    return (f"not judged by attribute here: `quorum evaluate {votes}` does",) if labelled else ()


def _learn_stream(votes: Path, deployment: Deployment | None, options: LearnOptions) -> Learned:
    """Learn from more votes than a table should hold; they leave no state and no hash."""
    members = deployment.member_names if deployment else None
    if members:
        check_wanted(read_members(votes), members)
    if options.leave_out_tuned:
        raise TunedRowsError(
            f"{votes}: too large for a table, so that no cell can be left out: give fewer votes"
        )
    statistic, catalogue = read_statistic(votes, members=members), catalogue_of(deployment)
    tuned = tuned_rows_in_stream(votes, statistic.members, deployment)
    if deployment and deployment.default:
        statistic = groups_as_one(statistic, deployment.attributes)
    kinds = _single_kinds(votes, statistic, deployment)
    weights = learn_parts(statistic, kinds, **choice(statistic, kinds, options, catalogue), **catalogue)
    streamed = f"{votes}: too large for a table, read in a stream; --update cannot go on from these weights"
    spellings = first_cells_remarks(votes, deployment)
    remarks = (streamed, *statistic.remarks(), *spellings, *without_votes(statistic, deployment))
    remarks += learned_remarks(statistic, weights, options.scores, options.evidence)
    remarks += _not_judged(votes, statistic, options)
    remarks += (NOT_BY_STREAM,) if is_lazy(deployment, options.lazy) else ()
    return LearnReport(weights, remarks=remarks, tuned=tuned), None


def _learn_day(votes: Path, deployment: Deployment | None, options: LearnOptions, before: Path) -> Learned:
    old, state = weights_file.load(before), load_state(state_path(before))
    table = read_votes(votes).of_members(old.members)
    table, tuned = tuned_rows(table, deployment, leave_out=options.leave_out_tuned)
    table = pooled(table, deployment)
    kinds = kinds_of(deployment) if deployment else recorded_kinds(old.settings)
    day = exploded(table, kinds)
    changed: Drift | None = None
    owned = is_learned_from(old, state)
    if not owned and is_added(state, table):
        remark = (
            f"{votes}: its cells are in {state_path(before)} already, as an earlier update ended before it "
            "wrote the weights; they count once, and the weights are learned from them now"
        )
        remarks: tuple[str, ...] = (remark,)
    else:
        state, remarks = _without_stale(state, old, deployment, kinds)
        if remarks and not owned:
            raise OnlineError(
                f"{before}: is not of its state {state_path(before)}, maybe as an update broke off, so that "
                "it cannot tell which votes are from before the change of the catalogue; update with the "
                "votes of that update once more, or begin a new state from recorded votes"
            )
        # Drift first: the day must not be part of what it is compared with.
        changed = compare_day(state, day, weights=old) if state.statistic.hist.total and len(day) else None
        state = update(state, table, options.forgetting, kinds)
    catalogue = catalogue_of(deployment) if deployment else {"catalogue": _by_attribute(old)}
    chosen = choice(state.statistic, kinds, options, catalogue)
    weights = relearn(state, **chosen, **catalogue, kinds=kinds, before=old)
    spellings = spelling_remarks(table, votes, deployment.catalogue() if deployment else None)
    remarks += (*spellings, *kinds_unknown(deployment, table, kinds), *readable(table, kinds)[1])
    remarks += (*_kept_texts(table, kinds), *lazy_remarks(table.cells, votes))
    remarks += (*without_votes(state.statistic, deployment, kinds), *kind_remarks(weights))
    remarks += learned_remarks(state.statistic, weights, options.scores, options.evidence)
    remarks += _not_judged(votes, table.statistic(), options)
    remarks += (NOT_BY_UPDATE,) if is_lazy(deployment, options.lazy) else ()
    return LearnReport(weights, drift=changed, remarks=remarks, tuned=tuned), state


def _without_stale(
    state: State, old: Weights, deployment: Deployment | None, kinds: AnswerKinds
) -> tuple[State, tuple[str, ...]]:
    """The state without votes on attributes that changed, or whose kind did, and remarks on these."""
    now = deployment.catalogue().hashes if deployment else None
    before, earlier = _by_attribute(old), recorded_kinds(old.settings)
    known = {attribute for _, attribute in state.statistic.groups}
    other = {n for n in known if form_of(kind_in(kinds, n)) != form_of(kind_in(earlier, n))}
    stale: set[str] = set()
    if now is not None and before is not None:
        stale = {name for name in known - other if is_stale(name, before, now)}
    remarks = []
    if stale:
        remarks.append(
            f"changed in the catalogue since, so that earlier votes do not count: {named(sorted(stale))}; "
            "enough new votes give weights of its own again"
        )
    if other:
        remarks.append(
            f"{named(sorted(other))}: earlier votes were counted as another kind of answer, so they do not "
            "count; to have them count, learn anew from all recorded votes with the deployment"
        )
    return (without_attributes(state, sorted(stale | other)) if remarks else state), tuple(remarks)


def _by_attribute(weights: Weights) -> Mapping[str, str] | None:
    """The hashes of the catalogue by attribute, where weights know them."""
    return weights.catalogue if isinstance(weights.catalogue, Mapping) else None
