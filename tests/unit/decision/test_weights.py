# SPDX-License-Identifier: Apache-2.0
"""weights.json: what is refused, with which words, and what survives the round trip."""

import json
from dataclasses import replace

import pytest

from quorum.decision import weights as weights_file
from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights, WeightsError, dumps, equal_weights, load, loads

MEMBERS = ("llama", "qwen", "gpt")
LEARNED = Weights(
    method="loglinear",
    members=MEMBERS,
    default=Parameters((1.0, 0.5, 2.25), -0.5, 0.75),
    attributes={"gender": Parameters((0.0, 1.0, 2.0), 0.25, 0.5)},
    groups={"shoes|gender": Parameters((3.0, 0.0, 0.0), 0.0, 0.0)},
    catalogue_hash="sha256:abc",
    confidence="calibrated",
    settings={"ridge": 5.0},
    provenance={"created": "2024-01-01T00:00:00Z", "rows": 10, "gold_labels": 5},
)


def edited(**changes):
    content = json.loads(dumps(LEARNED))
    content.update(changes)
    return json.dumps(content)


def default(weights, **biases):
    return edited(default={"weights": weights, **(biases or {"na_bias": 0, "none_bias": 0})})


def refused(text, *words):
    with pytest.raises(WeightsError) as caught:
        loads(text, "7/weights.json")
    message = str(caught.value)
    assert message.startswith("7/weights.json: ")
    for word in words:
        assert word in message


def test_round_trip_and_same_bytes():
    assert loads(dumps(LEARNED)) == LEARNED
    assert dumps(loads(dumps(LEARNED))) == dumps(LEARNED)


def test_the_most_specific_parameters_win_and_are_cached_objects():
    assert LEARNED.parameters("gender", "shoes") is LEARNED.groups["shoes|gender"]
    assert LEARNED.parameters("gender", "hats") is LEARNED.attributes["gender"]
    assert LEARNED.parameters("colour", "shoes") is LEARNED.default


def test_equal_weights_are_deterministic_and_undated():
    first, second = equal_weights(MEMBERS, "sha256:abc"), equal_weights(list(MEMBERS), "sha256:abc")
    assert dumps(first) == dumps(second)
    assert first.provenance["created"] is None
    assert first.default == Parameters((1.0, 1.0, 1.0))
    assert loads(dumps(first)) == first


def test_one_changed_attribute_changes_one_line_and_the_hash():
    other = replace(LEARNED, attributes={"gender": Parameters((0.0, 1.0, 2.5), 0.25, 0.5)})
    before, after = dumps(LEARNED).splitlines(), dumps(other).splitlines()
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 2


def test_the_order_of_keys_does_not_change_the_hash():
    content = json.loads(dumps(LEARNED))
    assert loads(json.dumps(dict(reversed(content.items())))) == LEARNED


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (dumps(LEARNED)[:-20], ["not JSON", "quorum learn"]),
        ("[]", ["Expected `object`", "quorum learn"]),
        (edited(schema_version=0), ["schema_version is 0", "reads 1", "quorum learn"]),
        (edited(schema_version=True), ["schema_version is True"]),
        (edited(extra=1), ["unknown: ['extra']"]),
        (edited(members=["llama", "qwen"]), ["3 numbers for 2 members"]),
        (edited(members=["a", "a", "b"]), ["distinct"]),
        (edited(members="abc"), ["Expected `array`", "$.members"]),
        (edited(method="magic"), ["magic", "loglinear"]),
        (edited(confidence="agreement"), ["none_bias", "agreement needs null"]),
        (default([1, 1, -1]), ["default", "'gpt' is -1.0"]),
        (default([1, 1, "2"]), ["default: Expected `float`", "$.weights[2]"]),
        (default([1, 1, True]), ["got `bool`", "$.weights[2]"]),
        (default([1, 1, 10**400]), ["out of range", "$.weights[2]"]),
        (default([1, 1, 1], na_bias=0, none_bias=None), ["default.none_bias is None", "needs a number"]),
        (default(3), ["default: Expected `array`", "$.weights"]),
        (edited(attributes=[]), ["Expected `object`", "$.attributes"]),
        (edited(attributes={"x": 3}), ["attributes['x']: Expected `object`"]),
        (edited(groups={"s|x": {"bias": 0}}), ["groups['s|x']: keys missing: ['na_bias', 'none_bias']"]),
        (edited(attributes={"x": {"na_bias": 0, "none_bias": 0, "b": 0}}), ["unknown field `b`"]),
        (edited(catalogue_hash=3), ["catalogue_hash"]),
        (edited(method="em"), ["content_hash", "edited or damaged"]),
        ('{"schema_version": 1, "schema_version": 1}', ["stands twice"]),
        (edited(members=["\ud800", "qwen", "gpt"]), ["surrogates", "quorum learn"]),
        ("[" * 100_000, ["nested too deeply", "quorum learn"]),
        (dumps(LEARNED).replace("5.0", "[" * 900 + "]" * 900), ["quorum learn"]),
        (dumps(LEARNED).replace("2.25", "1" * 5000), ["4300 digits", "quorum learn"]),
    ],
)  # fmt: skip
def test_refused(text, words):
    refused(text, *words)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        (edited(schema_version=3), "this quorum reads 1 to 2; upgrade quorum"),
        (dumps(LEARNED).replace('"method"', '"method": "em", "method"'), "keep one of them"),
        (edited(method="em"), "edited or damaged; write it again with `quorum learn`"),
    ],
)
def test_the_remedy_fits_the_cause(text, end):
    with pytest.raises(WeightsError) as caught:
        loads(text)
    assert str(caught.value).endswith(end)


def test_an_entry_without_its_biases_is_refused_though_the_hash_fits():
    content = json.loads(dumps(equal_weights(MEMBERS)))
    del content["default"]["na_bias"], content["default"]["none_bias"]
    refused(json.dumps(content), "default: keys missing: ['na_bias', 'none_bias']")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("key", ["weights", "na_bias", "none_bias"])
def test_not_finite_is_refused(number, key):
    text = dumps(LEARNED)
    old = {"weights": "2.25", "na_bias": '"na_bias": -0.5', "none_bias": '"none_bias": 0.75'}[key]
    new = number if key == "weights" else f'"{key}": {number}'
    assert old in text
    refused(text.replace(old, new, 1), "finite")


@pytest.mark.parametrize(
    "key", ["method", "members", "default", "content_hash", "provenance", "catalogue_hash"]
)
def test_missing_keys_are_named(key):
    content = json.loads(dumps(LEARNED))
    del content[key]
    refused(json.dumps(content), f"missing: ['{key}']")


def test_every_number_is_under_the_hash():
    for old, new in (("2.25", "2.26"), ('"rows": 10', '"rows": 11'), ("shoes|gender", "shoe|gender")):
        refused(dumps(LEARNED).replace(old, new, 1), "content_hash")


def test_a_deployment_with_other_members_or_catalogue_is_refused():
    LEARNED.check_fits(MEMBERS, "sha256:abc")
    replace(LEARNED, catalogue_hash=None).check_fits(MEMBERS, "sha256:anything")
    with pytest.raises(WeightsError, match="order counts"):
        LEARNED.check_fits(("qwen", "llama", "gpt"), "sha256:abc")
    with pytest.raises(WeightsError, match="sha256:xyz"):
        LEARNED.check_fits(MEMBERS, "sha256:xyz")
    with pytest.raises(WeightsError, match="catalogue"):
        LEARNED.check_fits(MEMBERS, None)


def test_files(tmp_path):
    path = tmp_path / "weights.json"
    weights_file.dump(LEARNED, path)
    assert load(path) == LEARNED
    path.write_bytes(b"\xff")
    with pytest.raises(WeightsError, match="cannot be read"):
        load(path)
    with pytest.raises(WeightsError, match=r"missing\.json"):
        load(tmp_path / "missing.json")


def test_not_writable_as_json():
    with pytest.raises(WeightsError, match="JSON"):
        dumps(replace(LEARNED, settings={"ridge": float("nan")}))


OFFSETS = ((-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5),) * 3
SCORED = replace(LEARNED, default=Parameters((1.0, 0.5, 2.25), -0.5, 0.75, 0.0, OFFSETS))


def scored(**changes):
    content = json.loads(dumps(SCORED))
    content.update(changes)
    return json.dumps(content)


def test_weights_with_scores_are_schema_2_and_others_are_still_schema_1():
    assert loads(dumps(SCORED)) == SCORED
    assert json.loads(dumps(SCORED))["schema_version"] == 2
    assert json.loads(dumps(SCORED))["score_log_odds"] == [-3, -2, -1, 0, 1, 2, 3, 4, 5]
    assert "scores" not in json.loads(dumps(SCORED))["attributes"]["gender"]
    assert json.loads(dumps(LEARNED))["schema_version"] == 1
    assert "score" not in dumps(LEARNED)
    assert SCORED.uses_scores
    assert not LEARNED.uses_scores
    assert SCORED.content_hash != LEARNED.content_hash


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (scored(score_log_odds=[0, 1]), ["score_log_odds are [0, 1]", "learn the weights again"]),
        (scored(schema_version=1), ["schema_version is 1", "score_log_odds"]),
        (edited(schema_version=2), ["schema_version is 2", "score_log_odds"]),
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
            ["default.scores are so large"],
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


@pytest.mark.parametrize("bias", ["na_bias", "none_bias", "part_bias"])
def test_weights_and_biases_whose_sum_is_no_number_are_refused(bias):
    values = {"na_bias": 0.0, "none_bias": 0.5, bias: 1.7e308}
    with pytest.raises(WeightsError, match="weights and biases are so large"):
        replace(LEARNED, default=Parameters((5e307,) * 3, **values), attributes={}, groups={})


EVIDENT = replace(LEARNED, evidence={"any_case": (0.98, 0.13, 0.5), "words": (0.1, 0.3, -0.4)})


def evident(**changes):
    content = json.loads(dumps(EVIDENT))
    content["evidence"] |= changes
    return json.dumps(content)


def test_evidence_is_kept_and_absent_where_there_is_none():
    assert loads(dumps(EVIDENT)) == EVIDENT
    assert json.loads(dumps(EVIDENT))["schema_version"] == 2
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
        (evident().replace('"schema_version": 2', '"schema_version": 1'), "schema_version is 1"),
    ],
)
def test_evidence_that_cannot_be_is_refused(text, word):
    refused(text, word)
