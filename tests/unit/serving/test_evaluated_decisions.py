# SPDX-License-Identifier: Apache-2.0
"""What evaluation measures is what the last step would answer, of every kind."""

from __future__ import annotations

import numpy as np
import pytest

from quorum.decision.answer_kinds import AnswerKinds
from quorum.decision.evidence import Evidence
from quorum.decision.quorum_rule import QuorumRule
from quorum.evaluation.answers import answer_scores, decide_answers
from quorum.learning.by_kind import learn
from quorum.serving.cells import Cells
from quorum.serving.packing import Admitted
from quorum.votes import Cell, VotesTable, build_table

pytestmark = pytest.mark.usefixtures("serving")

MEMBERS = ("good", "fair", "poor")
KINDS: AnswerKinds = {"entities": "spans", "grade": "label", "materials": "values", "summary": "text"}
TEXT = "red cotton shoe for men"
ANSWERS = {
    "entities": ('[["red","color"],["cotton shoe","product"]]', '[["red cotton","color"]]'),
    "grade": ("exact", "close"),
    "materials": ('["cotton"]', '["wool"]'),
    "summary": ("a red shoe of cotton", "good for men"),
    "color": ("red", "blue"),
}


def votes_table(seed: int) -> VotesTable:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(60):
        for name, (best, other) in ANSWERS.items():
            votes = tuple(best if rng.random() < chance else other for chance in (0.9, 0.6, 0.4))
            cast = tuple(vote if rng.random() < 0.8 else None for vote in votes)
            rows.append(Cell(f"p{number}", "", TEXT, name, cast, (best,)))
    return build_table(MEMBERS, rows)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("is_learned", [True, False])
def test_decisions_are_those_of_serving(seed: int, is_learned: bool) -> None:
    from quorum.serving.vote import TritonPythonModel

    table = votes_table(seed)
    # Weights of single values alone do not know of the other kinds.
    kinds = KINDS if is_learned else {}
    weights = learn(table, kinds=kinds)
    step = TritonPythonModel()
    evidence = Evidence(weights.evidence) if weights.evidence else None
    step._quorum, step._cells = QuorumRule(), Cells(weights, evidence, KINDS)
    found = decide_answers(table, weights, KINDS)
    for row, cell in enumerate(table.cells):
        question = Admitted(cell.title, cell.category, (cell.attribute,), 0)
        votes = [("", 1, None) if value is None else (value, 0, None) for value in cell.values]
        ((value, confidence, _),) = step._decide(question, votes)
        assert found.values[row] == value
        assert found.confidence[row] == pytest.approx(confidence, abs=1e-6)
    swapped = MEMBERS[::-1]
    assert (answer_scores(table.of_members(swapped), weights, KINDS) == found.scores).all()
