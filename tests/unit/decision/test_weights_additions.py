# SPDX-License-Identifier: Apache-2.0
"""weights.json with levels of the members' scores, or with evidence of the text."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.weights_files import LEARNED, edited, refused

from quorum.decision.cell import Parameters
from quorum.decision.weights import (
    WeightsError,
    dumps,
    loads,
)

OFFSETS = ((-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5),) * 3
SCORED = replace(LEARNED, default=Parameters((1.0, 0.5, 2.25), -0.5, 0.75, 0.0, OFFSETS))


def scored(**changes):
    content = json.loads(dumps(SCORED))
    content.update(changes)
    return json.dumps(content)


def older(schema, **changes):
    path = Path(__file__).parent / f"data/weights_schema_{schema}.json"
    return json.dumps(json.loads(path.read_text("utf-8")) | changes)


def test_only_weights_with_scores_have_levels():
    assert loads(dumps(SCORED)) == SCORED
    assert json.loads(dumps(SCORED))["score_log_odds"] == [-3, -2, -1, 0, 1, 2, 3, 4, 5]
    assert "scores" not in json.loads(dumps(SCORED))["attributes"]["gender"]
    assert json.loads(dumps(LEARNED))["schema_version"] == json.loads(dumps(SCORED))["schema_version"] == 3
    assert "score" not in dumps(LEARNED)
    assert SCORED.uses_scores
    assert not LEARNED.uses_scores
    assert SCORED.content_hash != LEARNED.content_hash


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (scored(score_log_odds=[0, 1]), ["score_log_odds are [0, 1]", "learn the weights again"]),
        (edited(score_log_odds=[-3, -2, -1, 0, 1, 2, 3, 4, 5]), ["exactly with weights that use scores"]),
        (older(1, score_log_odds=[0]), ["schema_version is 1", "score_log_odds"]),
        (older(1, schema_version=2), ["schema_version is 2", "score_log_odds"]),
        (
            scored(default={"weights": [1, 1, 1], "na_bias": 0, "none_bias": 0, "scores": [[0] * 9] * 2}),
            ["default.scores must have 9 numbers for each of 3 members"],
        ),
        (
            scored(default={"weights": [1, 1, 1], "na_bias": 0, "none_bias": 0, "scores": [[0] * 8] * 3}),
            ["default.scores must have 9 numbers"],
        ),
        (
            scored(default={"weights": [1, 1, 1], "na_bias": 0, "none_bias": 0, "scores": [["x"] * 9] * 3}),
            ["default: ", "scores"],
        ),
        (
            scored(default={"weights": [1] * 3, "na_bias": 0, "none_bias": 0, "scores": [[1.7e308] * 9] * 3}),
            ["default: the numbers are so large that their sum is no number"],
        ),
        (
            scored(default={"weights": [1, 1, 1], "na_bias": 0, "none_bias": 0, "evidence": {}}),
            ["default: ", "evidence"],
        ),
    ],
)  # fmt: skip
def test_scores_that_are_refused(text, words):
    refused(text, *words)


def test_an_infinite_offset_is_refused():
    with pytest.raises(WeightsError, match=r"default.scores must be finite"):
        replace(SCORED, default=Parameters((1.0,) * 3, 0.0, 0.5, 0.0, ((float("nan"),) * 9,) * 3))


EVIDENT = replace(LEARNED, evidence={"any_case": (0.98, 0.13, 0.5), "words": (0.1, 0.3, -0.4)})


def evident(**changes):
    content = json.loads(dumps(EVIDENT))
    content["evidence"] |= changes
    return json.dumps(content)


def test_evidence_is_kept_and_absent_where_there_is_none():
    assert loads(dumps(EVIDENT)) == EVIDENT
    assert EVIDENT.content_hash != LEARNED.content_hash
    assert "evidence" not in json.loads(dumps(LEARNED))
    turned = replace(EVIDENT, evidence=dict(reversed(EVIDENT.evidence.items())))
    assert dumps(turned) == dumps(EVIDENT)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (evident(colour=[0, 1, 1]), "no features"),
        (evident(words=[0, 0, 1]), "scale above 0"),
        (evident(words=[0, 1]), "evidence"),
        (evident(words=[0, 1, "x"]), "evidence"),
        (evident(words=[0, 1, 1e308]), "at most"),
        (evident(words=[0, 1, 0.3]), "content_hash"),
        (evident(words=[0, 1, 0.3]).replace('"schema_version": 3', '"schema_version": 2'), "unknown: "),
    ],
)
def test_evidence_that_cannot_be_is_refused(text, word):
    refused(text, word)
