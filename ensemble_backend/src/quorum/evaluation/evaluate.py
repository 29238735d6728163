# SPDX-License-Identifier: Apache-2.0
"""Evaluate members and methods by cross-validation in which the cells of a product stay together."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.decision.answer_kinds import AnswerKinds, form_of, has_one_value, is_stated, kind_in
from quorum.decision.arrays import Floats
from quorum.decision.cell import NOT_APPLICABLE
from quorum.decision.patterns import NA
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.weights import Weights
from quorum.evaluation.alikeness import Alikeness, alikeness
from quorum.evaluation.answers import RIGHT, answer_scores, is_single, unit_of
from quorum.evaluation.by_attribute import headline
from quorum.evaluation.canary import is_trained_on
from quorum.evaluation.costs import Prices, asking_costs, member_costs
from quorum.evaluation.draws import (
    GOLD_FREE,
    Draws,
    Spread,
    estimates,
    in_words,
    right_cells,
    spread,
    training_draws,
)
from quorum.evaluation.early import EarlyEvaluation
from quorum.evaluation.heldout import HeldOut, assign_folds, confusion, held_out
from quorum.evaluation.member_scores import ScoresResult, gains_in_words, member_scores
from quorum.evaluation.method_result import MethodResult, results
from quorum.evaluation.pareto import CostTable, compare_costs
from quorum.evaluation.runs import CONFUSION, WITHOUT_SCORES, of_single, possible, runs
from quorum.evaluation.score import NothingToScoreError
from quorum.evaluation.stats import Estimate
from quorum.evaluation.tasks import TaskResult, best_member, of_some_attributes, task_results
from quorum.evaluation.tuned_rows import TunedRows
from quorum.learning.by_kind import auto_method, learn, of_form, present_kinds
from quorum.learning.learn import doubt
from quorum.learning.text import GOLD_FOR_TEXT
from quorum.records import Record
from quorum.reports.figures import points_in_words
from quorum.votes.exploded import exploded, written_texts
from quorum.votes.readable import readable
from quorum.votes.table import VotesTable, scores_or_none

DEFAULT_METHODS = ("majority", "iwmv", "em", "loglinear", CONFUSION)
ABOUT_SCORES = (
    "right, of spans and of several values: the F1 of an answer; of texts: its ROUGE-L to the references"
)
_NOTHING_NAMED = "no vote that can be read names anything, so that there is nothing to compare"


@dataclass(frozen=True, slots=True)
class Evaluation(Record):
    """Held-out figures of members and methods on the labelled cells.

    Attributes:
        members: Accuracy per member; ``best_member`` is the best of them, in hindsight.
        methods: Figures per method; a method with a bias for "n/a" is listed without it too, one that can
            have such a bias with it, if any vote is "n/a", and one that uses the scores of votes, or evidence
            of the text, without these, if there are any.
        notes: Methods left out, with the reason, and the attributes that `dawid_skene` covers.
        verdict: The comparison of the methods that can be deployed with the best single member, in words.
        gold_labels: Labelled cells evaluated, of ``products`` products.
        gold_per_fold: Labelled cells that each fold learned from, on average.
        seed: Of folds and bootstrap.
        na_gold: Share of the labelled cells whose gold is "n/a"; near 0, accuracies with a learned bias
            against "n/a" are too high.
        scores: What the scores of votes say and bring; None: no vote has one.
        draws: How many times the labels to learn from were drawn; None: all were used.
        spread: Method that learns from gold -> its accuracies over the draws; None: all were used.
        tasks: Attribute -> the measures of its kind, best member and encoders first; attributes of single
            values are measured together.
        tuned: What members were tuned on, of these votes; None: not known.
        early: What asking members in rows saves; None: not measured.
        costs: Accuracy against cost, by the most accurate method; None: costs of calls are not known.
    """

    members: Mapping[str, Estimate]
    methods: Mapping[str, MethodResult]
    best_member: str
    correlation: Alikeness
    notes: tuple[str, ...]
    verdict: str
    gold_labels: int
    gold_per_fold: float
    products: int
    folds: int
    seed: int
    na_gold: float
    scores: ScoresResult | None = None
    draws: int | None = None
    spread: Mapping[str, Spread] | None = None
    tasks: Mapping[str, TaskResult] = field(default_factory=dict)
    tuned: TunedRows | None = None
    early: EarlyEvaluation | None = None
    costs: CostTable | None = None

    @property
    def best_method(self) -> str:
        """The method with the highest accuracy, of those that can be deployed."""
        return max((m for m in self.methods if m != CONFUSION), key=lambda m: self.methods[m].accuracy)

    @property
    def warning(self) -> str:
        """What members were tuned on, and the methods that are worse on an attribute; "" for nothing."""
        lines = {
            name: headline(found.compared)
            for name, found in self.methods.items()
            if name != CONFUSION and "_without_" not in name
        }
        worse = [f"{self.label(name)} is {line}" for name, line in lines.items() if line]
        return "; ".join([*(self.tuned.warnings if self.tuned else ()), *worse])

    def without_members(self) -> Evaluation:
        """Without what compares with single members, where these were not asked about every cell."""
        nan = math.nan
        methods = {
            name: replace(found, delta_best_member=nan, delta_best_member_ci95=(nan, nan))
            for name, found in self.methods.items()
        }
        return replace(
            self, members={}, methods=methods, best_member="", verdict="", scores=None, tasks={}, costs=None
        )

    @staticmethod
    def label(method: str) -> str:
        """The name of one of :attr:`methods` for people, such as "em, no scores"."""
        base, cut, rest = method.replace("na_bias", "n/a bias").partition("_without_")
        return f"{base}, no {rest}" if cut else base.replace("_with_", ", ")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, nan as None."""
        members = {name: {"accuracy": a.value, "ci95": [a.low, a.high]} for name, a in self.members.items()}
        return Record.to_json(self) | {"members": members}


def evaluate(
    table: VotesTable,
    methods: Sequence[str] = DEFAULT_METHODS,
    folds: int = 5,
    gold_labels: int | None = None,
    seed: int = 0,
    *,
    draws: int = 1,
    value_counts: Mapping[str, int] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    others: Mapping[str, Weights] | None = None,
    kinds: AnswerKinds | None = None,
    encoders: Collection[str] = (),
    prices: Prices | None = None,
    rule: QuorumRule | None = None,
) -> Evaluation:
    """Evaluate members and methods on cells whose gold the methods did not see.

    Methods that learn from votes alone see the votes of the held-out cells, without gold, as in production.

    Args:
        table: Votes with gold.
        methods: Methods as in :func:`quorum.learning.learn.learn`, and "dawid_skene", which is measured only;
            majority is added. Methods that these votes do not allow are left out, and ``notes`` says why.
        folds: Parts that the products are split into, at least 2.
        gold_labels: Number of random labels to learn from per fold; None: all of the other folds.
        seed: Seed of folds, labels and bootstrap.
        draws: Number of times that ``gold_labels`` are drawn, so that intervals hold what the draw does;
            without these it makes no difference.
        value_counts: See :func:`quorum.learning.learn.learn`; the attributes in it have closed value sets.
        settings: Settings per method.
        others: Weights of the members of the table, by their names, to compare the methods with by attribute,
            as those that are live.
        kinds: Kinds of the attributes; None: all have single values. Answers of other kinds count by their
            scores (:mod:`quorum.evaluation.answers`) where others are right or wrong.
        encoders: Members that are encoders, which :attr:`Evaluation.tasks` names first.
        prices: Of the members' calls; None: what the votes cost counts, where that was recorded.
        rule: Quorum, which says when asking in turn may end; None: one answer is enough.

    Raises:
        NothingToScoreError: No gold, or fewer products with gold than folds.
        LearnError: An unknown method or setting.
        VotesError: ``gold_labels`` is more than a fold has.
    """
    recorded, known = table, present_kinds(table, kinds or {})
    table, unread = readable(table, known)
    rows = _rows(table, folds, unread)
    if not (len(exploded(table, known)) or written_texts(table, known)):
        raise NothingToScoreError(". ".join((_NOTHING_NAMED, *unread)))
    fold = assign_folds(table.products, folds, seed)
    seen = training_draws(table, fold, gold_labels, seed, draws)
    costs = member_costs(table, prices)
    asking = (rule, asking_costs(table.members, costs) if costs else None)
    held, learned, notes = _decisions(
        table, fold, seen, methods, value_counts or {}, settings or {}, known, asking
    )
    named, remarks = _others(recorded, table, rows, others or {}, known)
    notes += [*remarks, *unread]
    notes += of_some_attributes(table)
    if not all(map(has_one_value, known.values())):
        notes.append(ABOUT_SCORES)
    taught = table if gold_labels is None else seen[0][0]
    tasks = _tasks(table, known, held, taught, value_counts or {}, encoders, seed)
    best = best_member(tasks)
    members, found = results(table, rows, held, named, seed, known, best)
    scores = _scores(table, rows, held, seed)
    if scores is not None and scores.gains:
        notes.append(gains_in_words(scores.gains))
    best = best or max(members, key=lambda name: members[name].value)
    by_draw = None if gold_labels is None else _by_draw(rows, held)
    if gold_labels is not None and by_draw is not None:
        notes += in_words(gold_labels, draws, by_draw)
    result = Evaluation(
        members=members,
        methods=found,
        best_member=best,
        correlation=alikeness(table),
        notes=tuple(notes),
        verdict=_verdict(found, best, members[best].value, unit_of(table, known)),
        gold_labels=len(rows),
        gold_per_fold=float(np.mean([t.labelled.sum() for t in seen[0]])),
        products=len(np.unique(table.products[rows])),
        folds=folds,
        seed=seed,
        na_gold=float(np.mean([table.cells[i].gold[0] == NOT_APPLICABLE for i in rows])),
        scores=scores,
        draws=None if gold_labels is None else draws,
        spread=by_draw,
        tasks=tasks,
    )
    return replace(result, costs=_costs(result, table, fold, learned, costs, known, rule))


def _costs(
    result: Evaluation,
    table: VotesTable,
    fold: npt.NDArray[np.int64],
    learned: Mapping[str, Sequence[Weights]],
    costs: Mapping[str, float] | None,
    kinds: AnswerKinds,
    rule: QuorumRule | None,
) -> CostTable | None:
    """Accuracy against cost, of members, majority and the best method; None where a cost is not known."""
    if costs is None:
        return None
    best = result.best_method
    votes = {name: result.methods[name].accuracy for name in dict.fromkeys(("majority", best))}
    named = {Evaluation.label(name): accuracy for name, accuracy in votes.items()}
    singles = {name: accuracy.value for name, accuracy in result.members.items()}
    return compare_costs(table, fold, learned[best], costs, singles, named, kinds, rule)


def _tasks(
    table: VotesTable,
    kinds: AnswerKinds,
    held: Mapping[str, Draws],
    seen: VotesTable,
    counts: Mapping[str, int],
    encoders: Collection[str],
    seed: int,
) -> dict[str, TaskResult]:
    """The measures of each attribute's kind, of members, majority and what "auto" learns from ``seen``."""
    forms = {form_of(kind_in(kinds, attribute)) for _, attribute in table.group_names}
    auto = {form: auto_method(seen, kinds, form, counts) for form in forms}
    learned = {form: method if method in held else "majority" for form, method in auto.items()}
    answers = {name: [out.values for out in held[name]] for name in {"majority", *learned.values()}}
    return task_results(table, kinds, answers, learned, encoders, seed)


def _by_draw(rows: npt.NDArray[np.int64], held: Mapping[str, Draws]) -> dict[str, Spread]:
    """The accuracies over the draws of each method that learns from gold."""
    gold_free = (*GOLD_FREE, CONFUSION)
    return {
        name: spread(right_cells(rows, draws))
        for name, draws in held.items()
        if name.partition("_with")[0] not in gold_free
    }


def _rows(table: VotesTable, folds: int, unread: Sequence[str]) -> npt.NDArray[np.int64]:
    rows = np.flatnonzero(table.labelled)
    products = len(np.unique(table.products[rows]))
    if not 2 <= folds <= products:
        few = (
            f"{len(rows)} labelled cells of {products} products do not make {folds} folds: label cells of "
            "more products, or ask for fewer folds (at least 2)"
        )
        raise NothingToScoreError(". ".join((few, *unread)))
    return rows


def _others(
    recorded: VotesTable,
    table: VotesTable,
    rows: npt.NDArray[np.int64],
    others: Mapping[str, Weights],
    kinds: AnswerKinds,
) -> tuple[dict[str, Floats], list[str]]:
    """Scores of other weights on the labelled cells, and notes on those that cannot be compared."""
    found, notes = {}, []
    for name, weights in others.items():
        if is_trained_on(recorded, weights):
            notes.append(f"{name} was learned from these very labels, so nothing is compared with it")
        else:
            found[name] = answer_scores(table, weights, kinds)[rows]
    return found, notes


def _decisions(
    table: VotesTable,
    fold: npt.NDArray[np.int64],
    seen: Sequence[Sequence[VotesTable]],
    methods: Sequence[str],
    counts: Mapping[str, int],
    settings: Mapping[str, Mapping[str, Any]],
    kinds: AnswerKinds,
    asking: tuple[QuorumRule | None, Sequence[float] | None],
) -> tuple[dict[str, Draws], dict[str, Sequence[Weights]], list[str]]:
    """Held-out decisions of every method that these votes allow, its weights by the first draw, and notes."""
    labels = int(min(t.labelled.sum() for t in seen[0]))
    kept, notes = possible(table, methods, of_single(counts, kinds), labels, kinds)
    scored = scores_or_none(table.scores) is not None
    with_text = labels >= GOLD_FOR_TEXT and any(
        cell.title and is_stated(kind_in(kinds, cell.attribute)) for cell in table.cells if cell.gold
    )
    single = is_single(table, kinds)
    with_na = bool((table.codes[single] == NA).any())
    wanted = runs(kept, settings, scored, with_text, with_na, has_single=bool(single.any()))
    # Every method learns from the same things that were named, so they are counted once.
    parts = [[(t, exploded(t, kinds).statistic() if kinds else None) for t in draw] for draw in seen]
    held: dict[str, Draws] = {}
    first: dict[str, Sequence[Weights]] = {}
    for name, (method, own) in wanted.items():
        draws = [
            [
                learn(t, method, kinds=kinds, value_counts=counts, settings=own, statistic=counted)
                for t, counted in draw
            ]
            for draw in (parts[:1] if method in GOLD_FREE else parts)
        ]
        first[name] = draws[0]
        held[name] = [held_out(table, fold, weights, kinds, *asking) for weights in draws]
    values = of_form(exploded(table, kinds).statistic(), kinds, "one")
    is_cautious = settings.get("em", {}).get("cautious", True)
    if "em" in kept and not scored and is_cautious and values.hist.total:
        notes += [f"em: {reason}" for key, reason in doubt(values, counts).items() if key == "doubt"]
    if CONFUSION in kept:
        out, note = _confusion(table, of_single(counts, kinds), kinds)
        held[CONFUSION] = [out]
        notes.append(note)
    return held, first, notes


def _confusion(table: VotesTable, counts: Mapping[str, int], kinds: AnswerKinds) -> tuple[HeldOut, str]:
    """Held-out decisions of confusion matrices, and a note on the attributes that they cover."""
    out, used, preferred = confusion(table, counts, kinds)
    rest = len({attribute for _, attribute in table.group_names}) - len(used)
    others = f" (em decides the other {rest})" if rest else ""
    return out, (
        f"{CONFUSION}: confusion matrices for {', '.join(used) or 'no attribute'}{others}; BIC prefers "
        f"them to one accuracy per member for {', '.join(preferred) or 'none'}. "
        "Measured only: weights cannot hold them"
    )


def _scores(
    table: VotesTable,
    rows: npt.NDArray[np.int64],
    held: Mapping[str, Draws],
    seed: int,
) -> ScoresResult | None:
    """What the scores of votes say and bring; None: no vote has one."""
    members = member_scores(table)
    if not members:
        return None
    plain = {name: name + WITHOUT_SCORES for name in held if name + WITHOUT_SCORES in held}
    gained = {
        name: right_cells(rows, held[name]) - right_cells(rows, held[other]) for name, other in plain.items()
    }
    gains = estimates(gained, table.products[rows], seed) if plain else {}
    return ScoresResult(members, gains)


def _verdict(results: Mapping[str, MethodResult], member: str, accuracy: float, unit: str) -> str:
    name = max((key for key in results if key != CONFUSION), key=lambda key: results[key].accuracy)
    result, name = results[name], Evaluation.label(name)
    low, high = result.delta_best_member_ci95
    what = "" if unit == RIGHT else f"{unit} "
    difference = points_in_words(Estimate(result.delta_best_member, low, high))
    figures = f"{what}{100 * result.accuracy:.1f} % against {100 * accuracy:.1f} %, difference {difference}"
    if low > 0.0:
        return f"{name} is better than the best single member, {member}: {figures}."
    if high < 0.0:
        return f"No method comes up to the best single member, {member}; closest is {name}: {figures}."
    return f"Not better than {member}: the closest method, {name}, cannot be told from it: {figures}."
