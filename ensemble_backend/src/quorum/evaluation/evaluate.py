# SPDX-License-Identifier: Apache-2.0
"""Evaluate members and methods by cross-validation in which the cells of a product stay together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.decision.cell import NOT_APPLICABLE
from quorum.decision.patterns import ABSTAIN, NA
from quorum.evaluation.draws import (
    GOLD_FREE,
    Draws,
    Spread,
    estimates,
    in_words,
    resampled,
    right_cells,
    spread,
    training_draws,
)
from quorum.evaluation.heldout import HeldOut, assign_folds, closed_attributes, confusion, held_out
from quorum.evaluation.measures import ReliabilityBin, accuracy_at, calibration_error, micro_f1, reliability
from quorum.evaluation.member_scores import ScoresResult, gains_in_words, member_scores, worst_attribute
from quorum.evaluation.score import NothingToScoreError
from quorum.evaluation.stats import Estimate, percentile_interval
from quorum.learning.correlation import blocs, correlation
from quorum.learning.em import MIN_MEMBERS
from quorum.learning.learn import NA_BIAS_METHODS, USUAL_NA_BIAS, doubt, learn
from quorum.records import Record
from quorum.votes.table import VotesTable, scores_or_none

CONFUSION = "dawid_skene"
SCORE_METHODS = ("em", "loglinear")
"""Methods that use the scores of votes."""
DEFAULT_METHODS = ("majority", "iwmv", "em", "loglinear", CONFUSION)
BLOC_PHI = 0.85
_WITHOUT_SCORES = "_without_scores"


@dataclass(frozen=True, slots=True)
class MethodResult:
    """Held-out figures of one method; shares in [0, 1], intervals are 95 %, bootstrapped over products.

    Where labels are drawn several times, figures are means over the draws, and intervals are over these too.

    Attributes:
        accuracy: Share of labelled cells decided right; ``ci95`` is its interval.
        f1: Micro-F1 of extracting values, "n/a" being no value.
        ece: Expected calibration error of the confidence, 15 bins of equal mass.
        accuracy_at_80: Accuracy on the 80 % of the cells with the highest confidence.
        calls_saved: Share of the calls that early stopping saves, with the same decisions; nan where the
            method cannot stop early.
        delta_best_member: Accuracy minus that of the best single member, chosen in hindsight.
        delta_majority: Accuracy minus that of majority.
        confidence: "agreement", "calibrated" or, overconfident when members repeat each other, "posterior".
        by_attribute: Attribute -> (accuracy, labelled cells).
        reliability: Bins of the reliability diagram.
    """

    accuracy: float
    ci95: tuple[float, float]
    f1: float
    ece: float
    accuracy_at_80: float
    calls_saved: float
    delta_best_member: float
    delta_best_member_ci95: tuple[float, float]
    delta_majority: float
    delta_majority_ci95: tuple[float, float]
    confidence: str
    by_attribute: Mapping[str, tuple[float, int]]
    reliability: Sequence[ReliabilityBin]


@dataclass(frozen=True, slots=True)
class Alikeness:
    """How much members repeat each other on the labelled cells.

    Attributes:
        members: Order of rows and columns.
        error_phi: Correlation of being wrong; None where undefined.
        same_error: When both are wrong: share with the same wrong answer.
        blocs: Members linked by a correlation above :data:`BLOC_PHI`.
    """

    members: tuple[str, ...]
    error_phi: list[list[float | None]]
    same_error: list[list[float | None]]
    blocs: list[list[str]]


@dataclass(frozen=True, slots=True)
class Evaluation(Record):
    """Held-out figures of members and methods on the labelled cells.

    Attributes:
        members: Accuracy per member; ``best_member`` is the best of them, in hindsight.
        methods: Figures per method; a method with a bias for "n/a" is listed without it too, one that can
            have such a bias with it, if any vote is "n/a", and one that uses the scores of votes without
            these, if there are any.
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

    Raises:
        NothingToScoreError: No gold, or fewer products with gold than folds.
        LearnError: An unknown method or setting.
        VotesError: ``gold_labels`` is more than a fold has.
    """
    rows = _rows(table, folds)
    fold = assign_folds(table.products, folds, seed)
    seen = training_draws(table, fold, gold_labels, seed, draws)
    held, notes = _decisions(table, fold, seen, methods, value_counts or {}, settings or {})
    members, results = _results(table, rows, held, seed)
    scores = _scores(table, rows, held, results, seed)
    if scores is not None and scores.gains:
        notes.append(gains_in_words(scores.gains))
    best = max(members, key=lambda name: members[name].value)
    by_draw = None
    if gold_labels is not None:
        gold_free = (*GOLD_FREE, CONFUSION)
        by_draw = {
            name: spread(right_cells(rows, of_method))
            for name, of_method in held.items()
            if name.partition("_with")[0] not in gold_free
        }
        notes += in_words(gold_labels, draws, by_draw)
    return Evaluation(
        members=members,
        methods=results,
        best_member=best,
        correlation=_alikeness(table),
        notes=tuple(notes),
        verdict=_verdict(results, best, members[best].value),
        gold_labels=len(rows),
        gold_per_fold=float(np.mean([t.labelled.sum() for t in seen[0]])),
        products=len(np.unique(table.products[rows])),
        folds=folds,
        seed=seed,
        na_gold=float(np.mean([table.cells[i].gold[0] == NOT_APPLICABLE for i in rows])),
        scores=scores,
        draws=None if gold_labels is None else draws,
        spread=by_draw,
    )


def _rows(table: VotesTable, folds: int) -> npt.NDArray[np.int64]:
    rows = np.flatnonzero(table.labelled)
    products = len(np.unique(table.products[rows]))
    if not 2 <= folds <= products:
        raise NothingToScoreError(
            f"{len(rows)} labelled cells of {products} products do not make {folds} folds: label cells of "
            "more products, or ask for fewer folds (at least 2)"
        )
    return rows


def _decisions(
    table: VotesTable,
    fold: npt.NDArray[np.int64],
    seen: Sequence[Sequence[VotesTable]],
    methods: Sequence[str],
    counts: Mapping[str, int],
    settings: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[str, Draws], list[str]]:
    """Held-out decisions of every method that these votes allow, and the notes."""
    kept, notes = _possible(table, methods, counts, int(min(t.labelled.sum() for t in seen[0])))
    scored = scores_or_none(table.scores) is not None
    held: dict[str, Draws] = {
        name: [
            held_out(table, fold, [learn(t, method, value_counts=counts, settings=own) for t in draw])
            for draw in (seen[:1] if method in GOLD_FREE else seen)
        ]
        for name, (method, own) in _runs(kept, settings, scored, bool((table.codes == NA).any())).items()
    }
    if "em" in kept and not scored and settings.get("em", {}).get("cautious", True):
        notes += [
            f"em: {reason}" for key, reason in doubt(table.statistic(), counts).items() if key == "doubt"
        ]
    if CONFUSION in kept:
        out, note = _confusion(table, counts)
        held[CONFUSION] = [out]
        notes.append(note)
    return held, notes


def _possible(
    table: VotesTable, methods: Sequence[str], counts: Mapping[str, int], labels: int
) -> tuple[list[str], list[str]]:
    """The methods that can be evaluated, and notes on why the others cannot."""
    answered = (table.codes != ABSTAIN).any(axis=0)
    active = [name for name, any_vote in zip(table.members, answered, strict=True) if any_vote]
    kept, notes = list(dict.fromkeys(methods)), []
    dropped = [name for name in kept if name in ("em", CONFUSION)] if len(active) < MIN_MEMBERS else []
    if dropped:
        notes.append(
            f"{' and '.join(dropped)} left out: learning without gold needs {MIN_MEMBERS} members that "
            f"answer, here {len(active)} did ({', '.join(active) or 'none'})"
        )
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


def _confusion(table: VotesTable, counts: Mapping[str, int]) -> tuple[HeldOut, str]:
    """Held-out decisions of confusion matrices, and a note on the attributes that they cover."""
    out, used, preferred = confusion(table, counts)
    rest = len({attribute for _, attribute in table.group_names}) - len(used)
    others = f" (em decides the other {rest})" if rest else ""
    return out, (
        f"{CONFUSION}: confusion matrices for {', '.join(used) or 'no attribute'}{others}; BIC prefers "
        f"them to one accuracy per member for {', '.join(preferred) or 'none'}. "
        "Measured only: weights cannot hold them"
    )


def _runs(
    methods: Sequence[str], settings: Mapping[str, Mapping[str, Any]], scored: bool, with_na: bool
) -> dict[str, tuple[str, Mapping[str, Any]]]:
    runs: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for name in dict.fromkeys(["majority", *(method for method in methods if method != CONFUSION)]):
        runs[name] = (name, settings.get(name, {}))
        if name == "loglinear":
            runs["loglinear_without_na_bias"] = (name, {**settings.get(name, {}), "na_bias": False})
        if with_na and name in NA_BIAS_METHODS and not settings.get(name, {}).get("na_bias"):
            runs[f"{name}_with_na_bias"] = (name, {**settings.get(name, {}), "na_bias": USUAL_NA_BIAS})
        if scored and name in SCORE_METHODS and settings.get(name, {}).get("scores", True):
            runs[name + _WITHOUT_SCORES] = (name, {**settings.get(name, {}), "scores": False})
    return runs


def _results(
    table: VotesTable, rows: npt.NDArray[np.int64], held: Mapping[str, Draws], seed: int
) -> tuple[dict[str, Estimate], dict[str, MethodResult]]:
    """Figures of each member and of each method; of the methods, majority stands first."""
    hits = [table.correct()[rows, j, None] for j in range(len(table.members))]
    hits += [right_cells(rows, draws) for draws in held.values()]
    columns = [cells.astype(np.float64) for cells in hits]
    means = resampled(columns, table.products[rows], seed)
    shares = [float(column.mean()) for column in columns]
    majority = len(table.members)
    best = int(np.argmax(shares[:majority]))
    attributes = np.array([table.cells[i].attribute for i in rows.tolist()])

    def interval(column: int, minus: int | None = None) -> tuple[float, float]:
        low, high = percentile_interval(means[:, column] - (0.0 if minus is None else means[:, minus]))
        return float(low), float(high)

    def mean(figures: Iterable[float]) -> float:
        return float(np.mean(list(figures)))

    def result(column: int, draws: Draws) -> MethodResult:
        right = right_cells(rows, draws)
        pairs = [(out.confidence[rows], out.right[rows]) for out in draws]
        confidences, flags = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        return MethodResult(
            accuracy=shares[column],
            ci95=interval(column),
            f1=mean(micro_f1(table, [out.values[i] for i in rows.tolist()], rows) for out in draws),
            ece=mean(calibration_error(*pair) for pair in pairs),
            accuracy_at_80=mean(accuracy_at(*pair) for pair in pairs),
            calls_saved=mean(out.saved for out in draws),
            delta_best_member=shares[column] - shares[best],
            delta_best_member_ci95=interval(column, best),
            delta_majority=shares[column] - shares[majority],
            delta_majority_ci95=interval(column, majority),
            confidence=draws[0].kind,
            by_attribute={
                str(name): (float(right[attributes == name].mean()), int((attributes == name).sum()))
                for name in np.unique(attributes)
            },
            reliability=reliability(confidences, flags),
        )

    members = {name: Estimate(shares[j], *interval(j)) for j, name in enumerate(table.members)}
    return members, {
        name: result(column, draws) for column, (name, draws) in enumerate(held.items(), majority)
    }


def _scores(
    table: VotesTable,
    rows: npt.NDArray[np.int64],
    held: Mapping[str, Draws],
    results: Mapping[str, MethodResult],
    seed: int,
) -> ScoresResult | None:
    """What the scores of votes say and bring; None: no vote has one."""
    members = member_scores(table)
    if not members:
        return None
    plain = {name: name + _WITHOUT_SCORES for name in held if name + _WITHOUT_SCORES in held}
    gained = {
        name: right_cells(rows, held[name]).astype(np.float64) - right_cells(rows, held[other])
        for name, other in plain.items()
    }
    gains = estimates(gained, table.products[rows], seed) if plain else {}
    majority = results["majority"].by_attribute
    worst = {
        name: worst_attribute(result.by_attribute, majority)
        for name, result in results.items()
        if name != "majority"
    }
    return ScoresResult(members, gains, worst)


def _alikeness(table: VotesTable) -> Alikeness:
    hist = table.statistic().hist
    answered = np.maximum((table.codes[table.labelled] != ABSTAIN).sum(axis=0), 1)
    figures = correlation(hist, table.correct().sum(axis=0) / answered, 10.0)
    groups = blocs(figures.error_phi, BLOC_PHI)
    return Alikeness(
        members=table.members,
        error_phi=figures.error_phi.tolist(),
        same_error=figures.same_error.tolist(),
        blocs=[[table.members[j] for j in bloc] for bloc in groups],
    )


def _verdict(results: Mapping[str, MethodResult], member: str, accuracy: float) -> str:
    name = max((key for key in results if key != CONFUSION), key=lambda key: results[key].accuracy)
    result, name = results[name], Evaluation.label(name)
    low, high = result.delta_best_member_ci95
    figures = (
        f"{100 * result.accuracy:.1f} % against {100 * accuracy:.1f} %, difference "
        f"{100 * result.delta_best_member:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"
    )
    if low > 0.0:
        return f"{name} is better than the best single member, {member}: {figures}."
    if high < 0.0:
        return f"No method comes up to the best single member, {member}; closest is {name}: {figures}."
    return f"Not better than {member}: the closest method, {name}, cannot be told from it: {figures}."
