# SPDX-License-Identifier: Apache-2.0
"""Evaluate members and methods, or given weights, on a file of labelled votes; optionally an HTML report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from quorum.bulk.callbacks import Note, ignore
from quorum.decision import weights as weights_file
from quorum.decision.answer_kinds import AnswerKinds, recorded_kinds
from quorum.decision.catalogue_change import named
from quorum.decision.weights import Weights, WeightsError
from quorum.deployment.schema import Deployment
from quorum.evaluation.canary import is_trained_on
from quorum.evaluation.curve import learning_curve
from quorum.evaluation.draws import USUAL_DRAWS
from quorum.evaluation.evaluate import DEFAULT_METHODS, Evaluation
from quorum.evaluation.evaluate import evaluate as evaluate_table
from quorum.evaluation.given import WeightsEvaluation
from quorum.evaluation.given import evaluate_weights as evaluate_weights_on
from quorum.evaluation.report import report_html
from quorum.evaluation.score import NothingToScoreError
from quorum.files import write_atomic
from quorum.operations.early import judge_early, rule_of
from quorum.operations.pages import page_path
from quorum.operations.scores import unlike_served
from quorum.operations.servers import store_of
from quorum.operations.tuned_rows import tuned_rows
from quorum.review.spellings import spelling_remarks
from quorum.votes import VotesTable, read_votes
from quorum.votes.exploded import look_like_spans
from quorum.votes.lazy import lazy_remarks
from quorum.votes.outside import as_one
from quorum.votes.readable import readable
from quorum.votes.schema import check_wanted
from quorum_contract import STABLE
from quorum_contract.errors import QuorumError

_CURVE = (25, 50, 100, 200, 400, 800)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """Options of :func:`evaluate`.

    Attributes:
        methods: Ways to learn.
        folds: Parts that the products are split into, at least 2.
        gold_labels: Learn from only this many labels per fold; None: all others.
        seed: Of folds, labels and intervals.
        draws: How often the ``gold_labels``, and the labels of the report's learning curve, are drawn; None:
            20 times with ``gold_labels``, else once.
        leave_out_tuned: Leave out cells that a member of the deployment was tuned on; its votes there are
            better than elsewhere.
        lazy: Whether to measure what asking members in rows saves, too.
    """

    methods: Sequence[str] = DEFAULT_METHODS
    folds: int = 5
    gold_labels: int | None = None
    seed: int = 0
    draws: int | None = None
    leave_out_tuned: bool = False
    lazy: bool = False


def evaluate(
    votes: str | Path,
    deployment: Deployment | None = None,
    options: EvaluateOptions | None = None,
    *,
    report: str | Path | None = None,
) -> Evaluation:
    """Compare members, majority and every way to learn, on labels that they did not see.

    Args:
        votes: A votes table (JSONL) with gold.
        deployment: Its catalogue has the number of values of an attribute; None: open value sets.
        options: None: the defaults.
        report: HTML file to write as well, with plots and a learning curve; None: none.

    Raises:
        VotesError: The table cannot be read; or, with ``lazy``, is of other members than the deployment.
        NothingToScoreError: It has no gold, or too little.
        TunedRowsError: Cells that members were tuned on are to be left out, and cannot be.
        CardError: What a member was tuned on cannot be read.
        ReportError: The report needs a library that is not installed.
        OSError: The report cannot be written there.
    """
    chosen, path = options or EvaluateOptions(), Path(votes)
    counts = deployment.catalogue().value_counts() if deployment else None
    draws = chosen.draws or (1 if chosen.gold_labels is None else USUAL_DRAWS)
    recorded = read_votes(path)
    if chosen.lazy and deployment:
        # Rows and quorum are of its members.
        check_wanted(recorded.members, deployment.member_names)
    table, tuned = tuned_rows(recorded, deployment, leave_out=chosen.leave_out_tuned)
    table = pooled(table, deployment)
    page = page_path(report)
    try:
        live = live_weights(deployment, table)
        result = evaluate_table(
            table, chosen.methods, chosen.folds, chosen.gold_labels, chosen.seed, draws=draws,
            value_counts=counts, others=live, kinds=kinds_of(deployment), encoders=encoders_of(deployment),
            prices=deployment.prices if deployment else None, rule=rule_of(deployment),
        )  # fmt: skip
    except NothingToScoreError as error:
        raise NothingToScoreError(f"{path}: {error}") from error
    spellings = spelling_remarks(table, path, deployment.catalogue() if deployment else None)
    remarks = (*spellings, *kinds_unknown(deployment, table))
    if result.costs is None and _is_priced(deployment) and not any(cell.usage for cell in table.cells):
        remarks += ("no cost: the votes have no usage; record them by `quorum extract`",)
    if lazy := lazy_remarks(table.cells, path):
        result = result.without_members()
    left_out = (tuned.remark,) if tuned and tuned.remark else ()
    result = replace(result, notes=(*lazy, *left_out, *result.notes, *remarks), tuned=tuned)
    if chosen.lazy:
        kinds, costs = kinds_of(deployment), result.costs.per_call if result.costs else None
        early = judge_early(table, deployment, kinds, costs, chosen.folds, chosen.seed)
        result = replace(result, early=early)
    if page:
        curve = learning_curve(
            table, _CURVE, folds=chosen.folds, seed=chosen.seed, draws=draws, value_counts=counts,
            kinds=kinds_of(deployment),
        )  # fmt: skip
        write_atomic(page, report_html(result, title=f"Evaluation of {path.name}", curve=curve))
    return result


def evaluate_weights(
    votes: str | Path,
    weights: Weights | str | Path,
    deployment: Deployment | None = None,
    *,
    seed: int = 0,
    leave_out_tuned: bool = False,
    note: Note = ignore,
) -> WeightsEvaluation:
    """Judge weights, or those of a file, on labelled votes; nothing is learned, no deployment is needed.

    Args:
        votes: A votes table with gold, of the members of the weights.
        weights: The weights.
        deployment: Its catalogue says which parameters of the weights still count, and its stable version is
            compared with too, by attribute, if it has the same members; None: the weights are compared with
            majority alone.
        seed: Of the intervals.
        leave_out_tuned: As in :class:`EvaluateOptions`.
        note: Takes remarks on cells that members were tuned on, on spellings of one answer, and on votes
            without scores or texts that the weights use.

    Raises:
        VotesError: The table cannot be read.
        WeightsError: The weights cannot be read, or are for other members.
        NothingToScoreError: The table has no gold.
    """
    path, name = Path(votes), "the weights" if isinstance(weights, Weights) else str(weights)
    loaded = weights if isinstance(weights, Weights) else weights_file.load(weights)
    if deployment:
        loaded = loaded.fitted(deployment.catalogue().hashes)
    table, tuned = tuned_rows(read_votes(path), deployment, leave_out=leave_out_tuned)
    table = pooled(table, deployment)
    others = live_weights(deployment, table)
    taught = [live for live, own in others.items() if is_trained_on(table, own)]
    same = [live for live, own in others.items() if own.content_hash == loaded.content_hash]
    others = {live: own for live, own in others.items() if live not in (*taught, *same)}
    try:
        kinds = kinds_of(deployment) if deployment else recorded_kinds(loaded.settings)
        encoders = encoders_of(deployment)
        result = evaluate_weights_on(table, loaded, others=others, seed=seed, kinds=kinds, encoders=encoders)
    except NothingToScoreError as error:
        raise NothingToScoreError(f"{path}: {error}") from error
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    remarks = (*spelling_remarks(table, path), *readable(table, kinds)[1])
    remarks = (*lazy_remarks(table.cells, path), *remarks)
    remarks = (*(tuned.lines if tuned else ()), *remarks)
    for remark in (*remarks, *unlike_served(table, loaded, name)):
        note(remark)
    for live in taught:
        note(f"{live} was learned from these very labels, so nothing is compared with it")
    return result


def _is_priced(deployment: Deployment | None) -> bool:
    return deployment is not None and any(member.price for member in deployment.members)


def kinds_of(deployment: Deployment | None) -> AnswerKinds:
    """The kinds of answer that a deployment's catalogue has; without a deployment, single values alone."""
    return deployment.catalogue().answer_kinds() if deployment else {}


def pooled(table: VotesTable, deployment: Deployment | None) -> VotesTable:
    """The table as weights are learned from it: all that a default question asks counts as one attribute."""
    return as_one(table, deployment.attributes) if deployment and deployment.default else table


def encoders_of(deployment: Deployment | None) -> set[str]:
    """The members of a deployment that are encoders."""
    return {m.name for m in deployment.members if m.runtime == "encoder"} if deployment else set()


def kinds_unknown(
    deployment: Deployment | None, table: VotesTable, kinds: AnswerKinds | None = None
) -> tuple[str, ...]:
    """Say which answers look like spans, which count as single values without a deployment."""
    found = [] if deployment else [name for name in look_like_spans(table) if name not in (kinds or {})]
    if not found:
        return ()
    remark = (
        f"{named(found)}: answers look like spans, but count as single values, right only as a whole: name "
        "the deployment whose catalogue says so (--deploy)"
    )
    return (remark,)


def live_weights(deployment: Deployment | None, table: VotesTable) -> dict[str, Weights]:
    """The weights that the stable channel of a deployment decides with, by a name for people.

    Empty where there is no deployment, it has no repository yet, its version cannot be read, or it has other
    members than the votes.
    """
    if deployment is None:
        return {}
    with suppress(QuorumError):
        store = store_of(deployment)
        if state := store.state_if_any():
            version = state.pins[STABLE]
            weights = store.weights(version).fitted(deployment.catalogue().hashes)
            if sorted(weights.members) == sorted(table.members):
                return {f"version {version}": weights}
    return {}
