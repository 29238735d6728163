# SPDX-License-Identifier: Apache-2.0
"""Scoring: replies stay with their listings, votes decide as weights say, cards show what was measured."""

import json
import threading

import pytest
from cards import Scores, write_card
from demo_format import answer_json
from score import accuracy, ask_all, best_orders, load_catalogue, load_rows, summarise, votes_table
from vocabulary import ATTRIBUTES

ROWS = [
    {"product": f"p-{number:04d}", "category": "", "title": "", "gold": {name: ["x"] for name in ATTRIBUTES}}
    for number in range(4)
]


class _Given:
    def __init__(self, value):
        self.values = {(row["product"], name): value for row in ROWS for name in ATTRIBUTES}


def _everywhere(*order):
    return dict.fromkeys(ATTRIBUTES, order)


def test_one_voter_or_the_agreeing_two_decide():
    table = votes_table(ROWS, {"a": _Given("x"), "b": _Given("y"), "c": _Given("y")})
    assert accuracy(table, _everywhere("a")) == 1.0
    assert accuracy(table, _everywhere("a", "b", "c")) == 0.0
    assert accuracy(table, _everywhere("b")) == 0.0
    assert set(best_orders(table, ["a", "b", "c"]).values()) == {("a",)}


def test_first_voter_breaks_ties_and_an_abstention_has_no_vote():
    table = votes_table(ROWS, {"a": _Given(None), "b": _Given("x"), "c": _Given("y")})
    assert accuracy(table, _everywhere("a", "b", "c")) == 1.0
    assert accuracy(table, _everywhere("a", "c", "b")) == 0.0
    found = summarise(table, ["a", "b", "c"])
    assert (found["unanimous"], found["oracle (any right)"]) == (0.0, 1.0)
    assert found["weighted per attribute, two-fold"] == 1.0


class _LateRuntime:
    """Answers every listing with its gold, the latest first, once three wait."""

    def __init__(self, rows):
        self.gold = {row["title"]: answer_json(ATTRIBUTES, row["gold"]) for row in rows}
        self.waiting = []
        self.most = 0

    def submit(self, question, done):
        self.waiting.append((question, done))
        self.most = max(self.most, len(self.waiting))
        if len(self.waiting) == 3:
            threading.Thread(target=self.answer).start()

    def answer(self):
        waiting, self.waiting = self.waiting, []
        for question, done in reversed(waiting):
            done(self.gold[question.text])


def test_replies_stay_with_their_listings():
    rows = load_rows()[:30]
    runtime = _LateRuntime(rows)
    replies = ask_all(runtime, load_catalogue(), rows, 3)
    assert replies == [answer_json(ATTRIBUTES, row["gold"]) for row in rows]
    assert runtime.most == 3


@pytest.fixture
def folder(tmp_path):
    training = {
        "parameters": 1_500_000,
        "seed": 7,
        "seconds": 60.0,
        "steps": 9,
        "examples": 99,
        "about": "few",
    }
    (tmp_path / "training.json").write_text(json.dumps({**training, "mix": {"typo": 0.25}}))
    build = {"family": "llama", "weight_format": "int8", "exporter": {"optimum-intel": "2.2"}}
    (tmp_path / "quorum-build.json").write_text(json.dumps(build))
    return tmp_path


def test_card_shows_what_was_measured(folder):
    shares = {name: 0.5 + number / 10 for number, name in enumerate(ATTRIBUTES[:5])} | {"age_group": 0.125}
    write_card(folder, Scores(shares, 0.765, 3, 400, 12.4, 34.6, "test processor", "2026-01-02"))
    card = (folder / "README.md").read_text()
    assert "| brand | color | material | size | gender | age_group | all |" in card
    assert "| 50.0% | 60.0% | 70.0% | 80.0% | 90.0% | 12.5% | 76.5% |" in card
    assert "1.5 million parameters (llama)" in card
    assert "not for production" in card
    assert "12 listings/s with one in flight, 35 with 16" in card
    assert "typo 0.25" in card
