# SPDX-License-Identifier: Apache-2.0
"""Decide cells by weights that did not see their gold, in folds of whole products; count questions saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quorum.decision.answer_kinds import AnswerKinds
from quorum.decision.evidence import Evidence
from quorum.decision.histogram import compress
from quorum.decision.lazy import order
from quorum.decision.patterns import ABSTAIN
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.scores import levels_of
from quorum.decision.weights import Weights
from quorum.evaluation.answers import decide_answers, is_single
from quorum.evaluation.in_turn import open_cell
from quorum.learning.by_kind import learn
from quorum.learning.dawid_skene import DawidSkene
from quorum.learning.em import MIN_MEMBERS
from quorum.votes.table import VotesTable


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Decisions of one method on every cell, each by weights that did not see the gold of its product.

    Attributes:
        values: The decided value per cell; "" where all members abstained.
        right: (n,) its score in [0, 1], 1 where a single value is right; 0 without gold.
        confidence: (n,) in [0, 1].
        kind: "agreement", "calibrated" or "posterior".
        saved: Share of the questions that asking in turn until settled saves; nan where the method cannot.
    """

    values: Sequence[str]
    right: npt.NDArray[np.float64]
    confidence: npt.NDArray[np.float64]
    kind: str
    saved: float


def assign_folds(products: npt.NDArray[np.int32], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """(n,) fold of each cell; products are assigned at random, and a product's cells stay together."""
    size = int(products.max(initial=-1)) + 1
    return np.asarray((np.random.default_rng(seed).permutation(size) % folds)[products])


def training(
    table: VotesTable, fold: npt.NDArray[np.int64], labels: int | None, seed: int
) -> list[VotesTable]:
    """Per fold, the table with the gold of the other folds only, or of ``labels`` random ones of them."""
    tables = [table.with_gold(fold != part) for part in range(int(fold.max()) + 1)]
    return tables if labels is None else [t.sample_gold(labels, seed + i) for i, t in enumerate(tables)]


def held_out(
    table: VotesTable,
    fold: npt.NDArray[np.int64],
    learned: Sequence[Weights],
    kinds: AnswerKinds | None = None,
    rule: QuorumRule | None = None,
    costs: Sequence[float] | None = None,
) -> HeldOut:
    """Decide the cells of each fold by the weights of that fold.

    Questions are saved on cells of single values alone: all members are asked for spans, sets and texts. Rule
    and costs are those of :func:`questions_saved`.
    """
    n, saved, known = len(table), 0.0, kinds or {}
    values, right, confidence = [""] * n, np.zeros(n), np.zeros(n)
    single = is_single(table, known)
    for part, weights in enumerate(learned):
        rows = np.flatnonzero(fold == part)
        held = table.take(rows)
        own = decide_answers(held, weights, known)
        right[rows], confidence[rows] = own.scores, own.confidence
        for row, value in zip(rows.tolist(), own.values, strict=True):
            values[row] = value
        if (lazy := np.flatnonzero(single[rows])).size:
            asked = held if len(lazy) == len(held) else held.take(lazy)
            saved += questions_saved(asked, weights, rule, costs) * len(lazy) / n
    return HeldOut(values, right, confidence, learned[0].confidence, saved)


def closed_attributes(table: VotesTable, value_counts: Mapping[str, int]) -> list[str]:
    """Attributes of the table whose number of possible answers is known."""
    return sorted(value_counts.keys() & {attribute for _, attribute in table.group_names})


def confusion(
    table: VotesTable, value_counts: Mapping[str, int], kinds: AnswerKinds | None = None
) -> tuple[HeldOut, list[str], list[str]]:
    """Decide by confusion matrices per attribute where the value set is closed, else by em.

    Gold is not used, so every cell is held out. At least 3 members must answer.

    Returns:
        The decisions, the attributes with confusion matrices, and those where BIC prefers these to one
        accuracy per member.
    """
    blank = table.with_gold(np.zeros(len(table), np.bool_))
    weights = learn(blank, "em", kinds=kinds, value_counts=value_counts)
    plain = held_out(table, np.zeros(len(table), np.int64), [weights], kinds)
    values, confidence, right = list(plain.values), plain.confidence.copy(), plain.right.copy()
    used, preferred = [], []
    for name in closed_attributes(table, value_counts):
        rows = [i for i, cell in enumerate(table.cells) if cell.attribute == name]
        codes, texts = _global_codes([table.cells[i].values for i in rows])
        if ((codes != ABSTAIN).any(axis=0)).sum() < MIN_MEMBERS:
            continue
        model = DawidSkene(max(value_counts[name], len(texts)))
        chosen = model.fit_predict(codes)
        shares = model.predict_proba(codes)
        used.append(name)
        if model.preferred_:
            preferred.append(name)
        for i, code, share in zip(rows, chosen.tolist(), shares, strict=True):
            values[i] = texts[code] if 0 <= code < len(texts) else ""
            confidence[i] = share[code] if code >= 0 else 0.0
            right[i] = bool(table.cells[i].gold) and table.cells[i].is_right(values[i])
    return HeldOut(values, right, confidence, "posterior", float("nan")), used, preferred


def questions_saved(
    table: VotesTable,
    weights: Weights,
    rule: QuorumRule | None = None,
    costs: Sequence[float] | None = None,
) -> float:
    """Share of the questions, one per member and cell, saved by asking in turn until a cell is settled.

    Args:
        table: Cells of single values.
        weights: They decide.
        rule: Quorum; None: one answer is enough.
        costs: Of a call, above 0, one per member: the order is by weight per cost; None: all equal.
    """
    evidence = Evidence(weights.evidence) if weights.evidence else None
    turn, quorum = order(weights.default.weights, costs), rule or QuorumRule()
    asked = 0.0
    for row, count in _distinct(table, weights):
        asked += open_cell(table, row, weights, evidence, {}).questions(quorum, turn) * count
    return 1.0 - asked / (len(table) * len(table.members))


def _distinct(table: VotesTable, weights: Weights) -> Iterable[tuple[int, float]]:
    """Cells, and how many others weights decide alike: every cell where its text counts."""
    if weights.evidence:
        return ((row, 1.0) for row in range(len(table)))
    levels = levels_of(table.scores) if weights.uses_scores else None
    hist, where = compress(table.codes, table.groups, levels=levels)
    # Any cell of a row: they differ in their scores, but not in the levels of these.
    return zip(np.unique(where, return_index=True)[1].tolist(), hist.counts.tolist(), strict=True)


def _global_codes(votes: Sequence[Sequence[str | None]]) -> tuple[npt.NDArray[np.int32], list[str]]:
    """(n, m) index of each text among all of them, -1 for an abstention, and the texts."""
    ids: dict[str | None, int] = {None: ABSTAIN}
    codes = [[ids.setdefault(value, len(ids) - 1) for value in row] for row in votes]
    return np.array(codes, np.int32), [text for text in ids if text is not None]
