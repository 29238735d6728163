# SPDX-License-Identifier: Apache-2.0
"""Weights of what a default question asks about: one for each member, whatever the keyphrase."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from support.deployment import write_deployment, write_jsonl

import quorum
from quorum.decision import weights as weights_file
from quorum.decision.catalogue_change import OUTSIDE
from quorum.evaluation.canary import is_trained_on
from quorum.votes import read_votes

MEMBERS = ("good", "fair", "poor", "spare")
SETTINGS: dict[str, dict[str, Any]] = {name: {} for name in MEMBERS}
ASKED = {"question": "Would a buyer who searches for {name} want it?", "values": ["0", "1", "2", "3"]}


def rows(count: int, gold: bool = True) -> list[dict[str, Any]]:
    """Votes on keyphrases, each of which stands with two items; the first member is right most often."""
    draw = random.Random(3)
    found = []
    for n in range(count):
        right = draw.choice("0123")
        said = {
            m: right if draw.random() < p else draw.choice("0123")
            for m, p in zip(MEMBERS, (0.95, 0.85, 0.6, 0.8), strict=True)
        }
        cell = {
            "product": f"p{n}",
            "attribute": f"keyphrase {n // 2}",
            "category": f"c{n % 5}",
            "votes": said,
        }
        found.append(cell | {"gold": [right] if gold else []})
    return found


@pytest.mark.parametrize("method", ["loglinear", "iwmv", "majority"])
def test_all_keyphrases_have_one_weight_for_each_member(tmp_path: Path, method: str) -> None:
    deployment = quorum.load_deployment(
        write_deployment(tmp_path, SETTINGS, attributes={"brand": {}}, default=ASKED)
    )
    votes = write_jsonl(tmp_path / "learn.jsonl", rows(200))
    options = quorum.LearnOptions(method=method, judge=False)
    found = quorum.learn(votes, deployment, options, out=tmp_path / "w.json").weights
    assert {*found.attributes} <= {OUTSIDE}
    ours = {
        found.parameters(name, category) for name in ("keyphrase 1", "never seen") for category in ("", "c1")
    }
    assert len(ours) == 1
    if method != "majority":
        (own,) = ours
        assert own.weights[0] > own.weights[1] > own.weights[2]
    if method == "iwmv":
        assert found.attributes[OUTSIDE] == own
        # An attribute that the catalogue lists does not get what keyphrases taught.
        assert found.parameters("brand") == found.default
    if method == "loglinear":
        assert is_trained_on(read_votes(votes), found)
    again = weights_file.load(tmp_path / "w.json")
    assert again.parameters("never seen") == found.parameters("never seen")


def test_a_day_of_keyphrases_is_added_to_the_state(tmp_path: Path) -> None:
    deployment = quorum.load_deployment(write_deployment(tmp_path, SETTINGS, attributes={}, default=ASKED))
    every = rows(200)
    first, second = (
        write_jsonl(tmp_path / "a.jsonl", every[:120]),
        write_jsonl(tmp_path / "b.jsonl", every[120:]),
    )
    whole = write_jsonl(tmp_path / "c.jsonl", every)
    out = tmp_path / "w.json"
    quorum.learn(first, deployment, quorum.LearnOptions(judge=False), out=out)
    day = quorum.learn(second, deployment, quorum.LearnOptions(judge=False, update=out), out=out).weights
    once = quorum.learn(whole, deployment, quorum.LearnOptions(judge=False)).weights
    assert day.default.weights == pytest.approx(once.default.weights, abs=1e-4)


def test_keyphrases_are_evaluated_as_one_attribute(tmp_path: Path) -> None:
    deployment = quorum.load_deployment(write_deployment(tmp_path, SETTINGS, attributes={}, default=ASKED))
    votes = write_jsonl(tmp_path / "v.jsonl", rows(120))
    found = quorum.evaluate(votes, deployment, quorum.EvaluateOptions(methods=("majority", "loglinear")))
    assert "keyphrase 1" not in json.dumps(found.to_json())


def test_other_words_of_the_question_make_the_weights_stale(tmp_path: Path) -> None:
    deployment = quorum.load_deployment(write_deployment(tmp_path, SETTINGS, attributes={}, default=ASKED))
    votes = write_jsonl(tmp_path / "v.jsonl", rows(120))
    weights = quorum.learn(votes, deployment, quorum.LearnOptions(method="iwmv", judge=False)).weights
    other = {**ASKED, "question": "Is {name} another thing?"}
    changed = quorum.load_deployment(
        write_deployment(tmp_path, SETTINGS, attributes={}, default=other)
    ).catalogue()
    assert weights.fitted(deployment.catalogue().hashes) is weights
    assert OUTSIDE in weights.attributes
    assert weights.fitted(changed.hashes).attributes == {}
    assert weights.catalogue_change(changed.hashes, changed.answer_kinds()).changed == (OUTSIDE,)
