# SPDX-License-Identifier: Apache-2.0
"""Damaged ``weights.json``: refused by WeightsError, or all decisions are numbers and named values."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

from support.mutate import LONG, LONG_FORM, as_json, damaged, mutated, patience

from quorum.decision.cell import Parameters, decide_one
from quorum.decision.evidence import FEATURES, Evidence
from quorum.decision.scores import LEVELS
from quorum.decision.trial import check_decisions
from quorum.decision.weights import Weights, WeightsError, dumps, equal_weights, group_key, load, loads

pytestmark = LONG_FORM
FUZZED = 100_000 if LONG else 3_000
LONGEST_MESSAGE = 1_000
MEMBERS = ("llama", "qwen", "gpt")
SCORES = tuple(tuple(0.5 * level - member for level in range(LEVELS)) for member in range(3))
FULL = Weights(
    "loglinear",
    MEMBERS,
    Parameters((1.0, 0.5, 2.25), -0.5, 0.75, 0.25, SCORES),
    {"gender": Parameters((0.0, 1.0, 2.0), 0.25, 0.5, 0.0, (), False)},
    {group_key("shoes", "gender"): Parameters((3.0, 0.0, 0.0), 0.0, 0.0, 0.5, SCORES)},
    {"": "sha256:open", "gender": "sha256:g"},
    "calibrated",
    {"ridge": 5.0, "attributes": {"gender": "own"}},
    {"created": "2024-01-01T00:00:00Z", "rows": 10, "gold_labels": 5, "labelled_tables": ["sha256:t"]},
    dict.fromkeys(FEATURES, (0.5, 2.0, 1.0)),
)
OLD = [(Path(__file__).parent / f"data/weights_schema_{schema}.json").read_text("utf-8") for schema in (1, 2)]
TEXTS = [dumps(FULL), dumps(equal_weights(MEMBERS, {"": "sha256:open"})), *OLD]
CELLS = (("", "colour"), ("", "gender"), ("shoes", "gender"))
VALUES = ("cotton", "soft cotton", "n/a", "red", "r" * 500)


def read(tree: dict[str, Any]) -> Weights:
    """Read a damaged tree; once more with the hash of its content, so that this is not what refuses it."""
    try:
        return loads(as_json(tree))
    except WeightsError as error:
        actual = re.search(r"the content's is '(sha256:\w+)'", str(error))
        if not actual:
            raise
        return loads(as_json({**tree, "content_hash": actual[1]}))


def check_every_decision(draw: random.Random, weights: Weights) -> None:
    check_decisions(weights)
    evidence = Evidence(weights.evidence) if weights.evidence else None
    for category, attribute in CELLS:
        rule = weights.parameters(attribute, category)
        for _ in range(4):
            ballots = [
                (draw.choice(VALUES), 0) if draw.random() < 0.8 else ("", draw.randrange(1, 9))
                for _ in weights.members
            ]
            scores = [draw.choice([None, 0.0, -0.1, -5.0, -1e30]) for _ in weights.members]
            text = evidence.of("a red, soft cotton shirt") if evidence and draw.random() < 0.5 else None
            value, confidence = decide_one(rule, ballots, draw.choice([scores, ()]), text)
            assert value in ({value for value, status in ballots if status == 0} or {""})
            assert 0.0 <= confidence <= 1.0


def test_damaged_weights_are_refused_or_decide_every_vote() -> None:
    draw, found = random.Random(8), Counter[bool]()
    trees = [json.loads(text) for text in TEXTS]
    for _ in range(FUZZED):
        tree = mutated(draw, draw.choice(trees), draw.choice([1, 1, 2, 3]))
        try:
            with patience():
                weights = read(tree)
                check_every_decision(draw, weights)
                assert dumps(loads(dumps(weights))) == dumps(weights)
            message = ""
        except WeightsError as error:
            message = str(error)
        found[not message] += 1
        assert len(message.encode()) < LONGEST_MESSAGE
    assert min(found[False], found[True]) > FUZZED // 20


def test_damaged_bytes_of_weights_are_refused_unless_they_say_the_same(tmp_path: Path) -> None:
    draw, path, refused = random.Random(9), tmp_path / "weights.json", 0
    for _ in range(FUZZED // 3):
        text = draw.choice(TEXTS)
        path.write_bytes(damaged(draw, text.encode(), draw.choice([1, 2, 3])))
        try:
            with patience():
                assert load(path).content_hash == loads(text).content_hash
            continue
        except WeightsError as error:
            message = str(error)
        refused += 1
        assert message.startswith(f"{path}: ")
        assert len(message.encode()) < LONGEST_MESSAGE
    assert refused > FUZZED // 6
