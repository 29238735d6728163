# SPDX-License-Identifier: Apache-2.0
"""Weights of spans, several values and texts: learned, kept in one file, and updated day by day."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorum.decision.answer_kinds import AnswerKinds, recorded_kinds
from quorum.decision.cell import Parameters, decide_one
from quorum.decision.consensus import decide_text
from quorum.decision.forms import decide
from quorum.decision.kept import keep_attributes
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.spans import TextSpan, dump_spans, load_pairs, locate
from quorum.decision.weights import Weights, dumps, equal_weights, loads
from quorum.evaluation.answers import decide_answers
from quorum.evaluation.drift import drift
from quorum.learning.by_kind import is_taught_by_gold, learn, methods_by_form
from quorum.learning.learn import LearnError
from quorum.learning.learn import learn as learn_values
from quorum.learning.online import begin, relearn, update
from quorum.learning.texts import learn_texts
from quorum.votes import Cell, VotesTable, build_table
from quorum.votes.exploded import exploded, look_like_spans

MEMBERS = ("good", "fair", "poor")
KINDS: AnswerKinds = {"entities": "spans", "grade": "label", "materials": "values", "summary": "text"}
TEXT = "red cotton shoe for men"
WORDS = TEXT.split()
STARTS = [TEXT.index(word) for word in WORDS]


def span(first: int, last: int, kind: str = "a") -> TextSpan:
    return TextSpan(STARTS[first], STARTS[last] + len(WORDS[last]), kind)


def answer(*spans: TextSpan) -> str:
    return dump_spans(TEXT, spans)


def mixed(cells: int = 120, seed: int = 0, gold: bool = True) -> VotesTable:
    """Cells of every kind; a member names the right thing with a chance of its own."""
    rng = np.random.default_rng(seed)
    chances = (0.9, 0.6, 0.35)
    rows = []
    for number in range(cells):
        right = [answer(span(0, 0), span(1, 2)), "exact", '["cotton"]', "a red shoe of cotton", "red"]
        wrong = [answer(span(0, 1), span(2, 2, "b")), "close", '["wool"]', "good for men", "blue"]
        names = ("entities", "grade", "materials", "summary", "color")
        for name, best, other in zip(names, right, wrong, strict=True):
            votes = tuple(best if rng.random() < chance else other for chance in chances)
            accepted = (best,) if gold else ()
            rows.append(Cell(f"p{seed}-{number}", "", TEXT, name, votes, accepted))
    return build_table(MEMBERS, rows)


def test_things_become_cells_and_texts_are_left_out() -> None:
    votes = (answer(span(0, 0)), answer(span(0, 0), span(2, 2)), None)
    rows = [
        Cell("p", "c", TEXT, "entities", votes, (answer(span(2, 2)),)),
        Cell("p", "c", TEXT, "grade", ("exact", "close", None), ("exact",)),
        Cell("p", "c", TEXT, "summary", ("a", "b", None)),
        Cell("p", "c", TEXT, "color", ("red", "red", None), ("red",)),
    ]
    table = exploded(build_table(MEMBERS, rows), KINDS)
    found = [(cell.attribute, cell.values, cell.gold, cell.title) for cell in table.cells]
    assert found == [
        ("entities", ("named", "named", None), ("n/a",), ""),
        ("entities", ("n/a", "named", None), ("named",), ""),
        ("grade", ("exact", "close", None), ("exact",), ""),
        ("color", ("red", "red", None), ("red",), TEXT),
    ]
    assert table.n_products == 1
    values = build_table(MEMBERS, rows[3:])
    assert exploded(values, KINDS) is values


def test_gold_that_differs_or_cannot_be_read() -> None:
    votes = (answer(span(0, 0)), answer(span(2, 2)), "no JSON")
    either = Cell("p", "", TEXT, "entities", votes, (answer(span(0, 0)), answer(span(0, 0), span(2, 2))))
    first, second = exploded(build_table(MEMBERS, [either]), KINDS).cells
    assert (first.gold, second.gold) == (("named",), ("n/a", "named"))
    assert second.is_right("n/a")
    assert second.is_right("named")
    broken = replace(either, gold=("no JSON",))
    assert {cell.gold for cell in exploded(build_table(MEMBERS, [broken]), KINDS).cells} == {()}


def test_one_file_of_weights_holds_every_kind() -> None:
    table = mixed()
    weights = learn(table, kinds=KINDS)
    assert loads(dumps(weights)) == weights
    assert recorded_kinds(weights.settings) == KINDS
    assert set(weights.attributes) >= {"entities", "materials", "summary"}
    alone = learn(table, kinds={"entities": "spans"})
    of_values = table.take([i for i, cell in enumerate(table.cells) if cell.attribute in ("color", "grade")])
    one = learn_values(exploded(of_values, KINDS), "loglinear")
    assert weights.default == one.default != alone.default
    answers = decide_answers(table, weights, KINDS)
    voted = decide_answers(table, equal_weights(MEMBERS), KINDS)
    for name in KINDS:
        rows = [i for i, cell in enumerate(table.cells) if cell.attribute == name]
        assert answers.scores[rows].mean() >= voted.scores[rows].mean() - 1e-9
    assert is_taught_by_gold(weights)
    assert weights.provenance["rows"] == len(table)
    assert weights.provenance["data_hash"] == table.data_hash()


def test_without_kinds_nothing_changes() -> None:
    table = mixed(30)
    values = table.take([i for i, cell in enumerate(table.cells) if cell.attribute == "color"])
    assert learn(values, kinds=KINDS).content_hash == learn_values(values).content_hash


def test_agreement_does_not_teach_sets() -> None:
    """Things that no member named have no cell: by agreement the member that names little would be worst."""
    weights = learn(mixed(gold=False), "em", kinds={"entities": "spans"})
    assert weights.settings["parts"]["spans"]["method"] == "majority"
    assert weights.attributes["entities"].weights == (1.0, 1.0, 1.0)
    with pytest.raises(LearnError, match="unheard"):
        learn(mixed(), "loglinear", kinds=KINDS, settings={"unheard": 1})


def test_auto_counts_labelled_answers_not_the_things_in_them() -> None:
    weights = learn(mixed(20), kinds=KINDS)
    assert weights.settings["parts"]["spans"]["method"] == "majority"
    assert learn(mixed(50), kinds=KINDS).settings["parts"]["spans"]["method"] == "loglinear"
    later = relearn(begin(mixed(20).take(range(0, 100, 5)), KINDS), kinds={"entities": "spans"})
    assert later.method == "majority"


def test_each_part_has_a_method_of_its_own() -> None:
    table = mixed(60)
    of_sets = np.array([cell.attribute in ("entities", "materials") for cell in table.cells])
    weights = learn(table.with_gold(of_sets), kinds=KINDS)
    found = methods_by_form(weights)
    assert (found["spans"], found["values"]) == ("loglinear", "loglinear")
    assert found["one"] in ("em", "majority")
    again = learn(table.with_gold(of_sets), "auto", kinds=KINDS, methods=found)
    assert again.default == weights.default
    assert again.attributes == weights.attributes


def test_a_day_gives_the_weights_of_both_tables() -> None:
    first, second = mixed(60, 1), mixed(60, 2)
    joint = build_table(MEMBERS, [*first.cells, *second.cells])
    whole, before = learn(joint, kinds=KINDS), learn(first, kinds=KINDS)
    state = update(begin(first, KINDS), second, kinds=KINDS)
    weights = relearn(state, kinds=KINDS, before=before)
    for name in ("grade", "color"):
        assert weights.parameters(name) == whole.parameters(name)
    for name in ("entities", "materials"):
        assert weights.parameters(name).weights == pytest.approx(whole.parameters(name).weights)
    assert weights.attributes["summary"] == before.attributes["summary"]
    assert weights.settings["texts"] == before.settings["texts"]
    labelled_later = update(begin(mixed(60, 3, gold=False), KINDS), mixed(60, 3), kinds=KINDS)
    assert labelled_later.statistic.hist.labelled().total == exploded(mixed(60, 3), KINDS).labelled.sum()


def test_confidences_of_one_file_are_of_one_kind() -> None:
    table, kinds = mixed(), {"entities": "spans", "summary": "text"}
    of_values = np.array([cell.attribute == "color" for cell in table.cells])
    for labelled, method, confidence in (
        (of_values, "auto", "calibrated"),
        (~of_values, "iwmv", "agreement"),
    ):
        weights = learn(table.with_gold(labelled), method, kinds=kinds)  # type: ignore[arg-type]
        assert weights.confidence == confidence
        assert loads(dumps(weights)) == weights


def test_texts_keep_their_weights_when_confidences_become_calibrated() -> None:
    first, second = mixed(30, 1, gold=False), mixed(60, 2)
    before = learn(first, kinds=KINDS)
    after = relearn(update(begin(first, KINDS), second, kinds=KINDS), kinds=KINDS, before=before)
    assert (before.confidence, after.confidence) == ("agreement", "calibrated")
    assert after.attributes["summary"].weights == before.attributes["summary"].weights
    assert loads(dumps(after)) == after


def test_doubt_is_recorded_with_other_kinds() -> None:
    table = mixed(30, gold=False)
    values = exploded(table, dict.fromkeys(KINDS, "text"))
    expected = learn_values(values).settings
    assert "doubt" in expected
    assert learn(table, kinds=KINDS | {"grade": "text"}).settings["doubt"] == expected["doubt"]


def test_kept_attributes_keep_their_kind() -> None:
    table = mixed(40)
    values = table.take([i for i, cell in enumerate(table.cells) if cell.attribute == "color"])
    live, new = learn(table, kinds=KINDS), learn_values(values, "majority")
    kept = keep_attributes(new, live, ["entities", "summary"])
    assert recorded_kinds(kept.settings) == {"entities": "spans", "summary": "text"}
    assert kept.settings["texts"] == live.settings["texts"]
    chosen = {"entities": {"weights": "equal"}, "materials": {"weights": "learned"}}
    biased = replace(live, settings={**live.settings, "set_choice": chosen})
    assert keep_attributes(new, biased, ["entities"]).settings["set_choice"] == {
        "entities": chosen["entities"]
    }
    assert "set_choice" not in keep_attributes(biased, live, ["entities", "materials"]).settings
    found, before = (decide_answers(table, weights, KINDS).values for weights in (kept, live))
    rows = [i for i, cell in enumerate(table.cells) if cell.attribute in ("entities", "summary")]
    assert [found[row] for row in rows] == [before[row] for row in rows]


def test_drift_of_spans() -> None:
    kinds: AnswerKinds = {"entities": "spans"}

    def entities(seed: int) -> VotesTable:
        table = mixed(250, seed)
        return table.take([i for i, cell in enumerate(table.cells) if cell.attribute == "entities"])

    state, weights = begin(entities(1), kinds), learn(entities(1), kinds=kinds)
    assert not drift(state, exploded(entities(2), kinds), weights=weights).findings
    broken = [replace(cell, values=(answer(span(3, 4, "b")), *cell.values[1:])) for cell in entities(3).cells]
    found = drift(state, exploded(build_table(MEMBERS, broken), kinds), weights=weights)
    assert [finding.member for finding in found.findings][:1] == ["good"]


def test_fewer_votes_keep_a_span_where_whole_answers_gain() -> None:
    """Three members name different halves of the truth: each span has one vote, and is right."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(200):
        parts = [span(0, 0), span(1, 1), span(2, 2)]
        votes = tuple(answer(*(p for p in parts if rng.random() < 0.45)) for _ in MEMBERS)
        rows.append(Cell(f"p{number}", "", TEXT, "entities", votes, (answer(*parts),)))
    table, kinds = build_table(MEMBERS, rows), {"entities": "spans"}
    weights = learn(table, kinds=kinds)  # type: ignore[arg-type]
    assert decide_answers(table, weights, kinds).scores.mean() > 0.85  # type: ignore[arg-type]
    voted = decide_answers(table, equal_weights(MEMBERS), kinds)  # type: ignore[arg-type]
    assert voted.scores.mean() < 0.65


def test_spans_are_recognised_without_a_catalogue() -> None:
    assert look_like_spans(mixed(5)) == ["entities"]


def test_texts_by_references_and_without() -> None:
    table = mixed(40)
    cells = [cell for cell in table.cells if cell.attribute == "summary"]
    taught, alone = learn_texts(cells), learn_texts(cells, with_references=False)
    assert (taught.references, alone.references) == (40, 0)
    assert np.argmax(taught.parameters.weights) == 0
    assert np.mean(alone.parameters.weights) == pytest.approx(1.0)
    assert learn_texts([replace(cell, values=(None,) * 3) for cell in cells]).parameters.weights == (1.0,) * 3
    weights = learn(table, kinds={"summary": "text"})
    assert weights.attributes["summary"].weights == taught.parameters.weights
    only = table.take([i for i, cell in enumerate(table.cells) if cell.attribute == "summary"])
    texts = learn(only, kinds=KINDS)
    assert (texts.method, texts.default) == ("consensus", taught.parameters)
    assert loads(dumps(texts)) == texts
    assert learn(only, "majority", kinds=KINDS).attributes["summary"].weights == (1.0,) * 3


SPANS = st.lists(
    st.builds(
        lambda first, length, kind: span(first, min(first + length, 4), kind),
        st.integers(0, 4), st.integers(0, 2), st.sampled_from("ab"),
    ), max_size=4, unique=True,
).map(lambda spans: answer(*spans))  # fmt: skip
SOME = st.lists(st.floats(0.1, 3.0), min_size=3, max_size=3)


def decided(weights: list[float], votes: list[str]) -> str:
    ballots = [(vote, 0) for vote in votes]
    rule, parameters = QuorumRule(), Parameters(tuple(weights))
    return decide(rule, parameters, ballots, form="spans", text=TEXT)[0]


@given(SPANS, SOME)
def test_three_equal_answers_without_overlaps_are_the_answer(vote: str, weights: list[float]) -> None:
    found = decided(weights, [vote] * 3)
    located = locate(TEXT, load_pairs(vote)) or []
    if all(one.end <= other.start for one, other in pairwise(located)):
        assert found == vote


@given(st.lists(SPANS, min_size=3, max_size=3), SOME, st.permutations(range(3)))
def test_the_order_of_members_does_not_matter(
    votes: list[str], weights: list[float], order: list[int]
) -> None:
    # Different sums of weights: a tie goes to the first member.
    weights = [weight + 0.01 * 3**j for j, weight in enumerate(weights)]
    sums = {round(sum(w * s for w, s in zip(weights, signs, strict=True)), 9) for signs in _signs()}
    if 0.0 in sums:
        return
    same = decided([weights[j] for j in order], [votes[j] for j in order])
    assert same == decided(weights, votes)


def _signs() -> list[tuple[int, ...]]:
    return [(a, b, c) for a in (1, -1) for b in (1, -1) for c in (1, -1)]


@given(st.lists(SPANS, min_size=3, max_size=3), SOME)
def test_spans_of_the_answer_do_not_overlap(votes: list[str], weights: list[float]) -> None:
    spans = locate(TEXT, load_pairs(decided(weights, votes)))
    assert spans is not None
    assert all(one.end <= other.start for one, other in pairwise(spans))


@given(st.lists(st.sampled_from(["x", "y", "z", None]), min_size=1, max_size=6), st.data())
def test_consensus_of_exact_matches_is_the_weighted_majority(
    texts: list[str | None], data: st.DataObject
) -> None:
    weights = data.draw(st.lists(st.floats(0.1, 3.0), min_size=len(texts), max_size=len(texts)))
    ballots = [("", 1) if text is None else (text, 0) for text in texts]
    exact = decide_text(weights, ballots, lambda a, b: float(a == b))[0]
    assert exact == decide_one(Parameters(tuple(weights)), ballots)[0]
    (first, *_) = [*(text for text in texts if text is not None), ""]
    assert decide_text([1.0], [(first, 0)])[0] == first


def test_weights_of_the_demo_keep_their_hash() -> None:
    """Weights of single values alone say nothing of kinds."""
    table = mixed(30)
    values = table.take([i for i, cell in enumerate(table.cells) if cell.attribute == "color"])
    weights: Weights = learn(values, kinds={"other": "spans"})
    assert "kinds" not in weights.settings
