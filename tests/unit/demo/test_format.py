# SPDX-License-Identifier: Apache-2.0
"""The demo models are trained on the very prompts that the server sends and answers that it can read."""

import json
import re
from itertools import islice

import pytest
import yaml
from demo_format import answer_json, bare_prompt
from listings import Mix, listings
from score import load_catalogue
from vocabulary import ATTRIBUTES, HERE, values_of, words_for

from quorum.runtimes.grammar import answer_pattern
from quorum.tasks.kinds import answer_schema
from quorum.tasks.parse import parse_answer
from quorum.tasks.prompt import build_prompt

CATALOGUE = load_catalogue()
SAMPLE = list(islice(listings("format", Mix()), 300))


@pytest.mark.parametrize("asked", [ATTRIBUTES, ATTRIBUTES[:1], ATTRIBUTES[::-1]])
def test_training_prompt_is_the_served_prompt(asked):
    for listing in SAMPLE:
        served = build_prompt(CATALOGUE, "bare", listing.title, listing.category, asked)
        assert bare_prompt(asked, listing.category, listing.title) == served


def test_training_answer_is_read_back_as_gold():
    for listing in SAMPLE:
        votes = parse_answer(CATALOGUE, ATTRIBUTES, answer_json(ATTRIBUTES, listing.gold))
        assert [vote.value for vote in votes] == [listing.gold[name][0] for name in ATTRIBUTES]


def test_training_answer_matches_the_grammar():
    pattern = re.compile(answer_pattern(json.dumps(answer_schema(CATALOGUE, ATTRIBUTES))))
    assert all(pattern.fullmatch(answer_json(ATTRIBUTES, listing.gold)) for listing in SAMPLE)


def test_catalogue_maps_every_synonym_to_its_value():
    for attribute in ("color", "material"):
        for value, words in words_for(attribute).items():
            assert {CATALOGUE.get(attribute).normalise(word) for word in words} == {value}
    assert set(words_for("size")) == {"XS", "S", "M", "L", "XL", "XXL", "XXXL"}
    assert values_of("brand") is None


def test_deployed_catalogue_is_the_one_that_was_trained():
    deployed = yaml.safe_load((HERE.parents[1] / "deploy.yaml").read_text(encoding="utf-8"))["attributes"]
    trained = json.loads((HERE / "attributes.json").read_text(encoding="utf-8"))
    assert list(deployed) == list(trained)
    for name, spec in trained.items():
        assert deployed[name].get("values", []) == (spec["values"] or [])
        assert deployed[name].get("synonyms", {}) == spec["synonyms"]
        assert deployed[name].get("normaliser", "text") == spec["normaliser"]
        assert deployed[name]["question"] == spec["question"]
