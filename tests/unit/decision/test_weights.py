# SPDX-License-Identifier: Apache-2.0
"""weights.json: what is refused, with which words, and what survives the round trip."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from support.weights_files import CATALOGUE, LEARNED, MEMBERS, default, edited, refused

from quorum.decision import weights as weights_file
from quorum.decision.cell import Parameters
from quorum.decision.weights import (
    WeightsError,
    attribute_of,
    dumps,
    equal_weights,
    group_key,
    load,
    loads,
)


def test_round_trip_and_same_bytes():
    assert loads(dumps(LEARNED)) == LEARNED
    assert dumps(loads(dumps(LEARNED))) == dumps(LEARNED)


def test_the_most_specific_parameters_win_and_are_cached_objects():
    assert LEARNED.parameters("gender", "shoes") is LEARNED.groups["shoes|gender"]
    assert LEARNED.parameters("gender", "hats") is LEARNED.attributes["gender"]
    assert LEARNED.parameters("colour", "shoes") is LEARNED.default


def test_equal_weights_are_deterministic_and_undated():
    first, second = equal_weights(MEMBERS, CATALOGUE), equal_weights(list(MEMBERS), CATALOGUE)
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
        (edited(catalogue=3), ["catalogue"]),
        (edited(catalogue={"gender": 3}), ["Expected `str`", "$.catalogue"]),
        (edited(catalogue="sha256:abc"), ["another form of the catalogue's hash"]),
        (edited(catalogue_hash="sha256:abc"), ["unknown: ['catalogue_hash']"]),
        (edited(provenance={"created": "\ud800"}), ["surrogates"]),
        (edited(provenance={"created": 5}), ["provenance.created: Expected `str | null`, got `int`"]),
        (edited(provenance={"gold_labels": "many"}), ["provenance.gold_labels: Expected `int`"]),
        (edited(provenance={"kept": [1]}), ["provenance.kept: Expected `object`, got `array`"]),
        (edited(provenance={"kept": {"x": 5}}), ["provenance.kept: Expected `object`", "$[...]"]),
        (edited(provenance={"labelled_tables": 7}), ["provenance.labelled_tables: Expected `array`"]),
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
        (edited(schema_version=4), "this quorum reads 1 to 3; upgrade quorum"),
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


@pytest.mark.parametrize("key", ["method", "members", "default", "content_hash", "provenance"])
def test_missing_keys_are_named(key):
    content = json.loads(dumps(LEARNED))
    del content[key]
    refused(json.dumps(content), f"missing: ['{key}']")


def test_every_number_is_under_the_hash():
    for old, new in (("2.25", "2.26"), ('"rows": 10', '"rows": 11'), ("shoes|gender", "shoe|gender")):
        refused(dumps(LEARNED).replace(old, new, 1), "content_hash")


def test_a_deployment_with_other_members_is_refused():
    assert not LEARNED.check_fits(MEMBERS, CATALOGUE)
    assert not replace(LEARNED, catalogue=None).check_fits(MEMBERS, {"": "sha256:any"})
    with pytest.raises(WeightsError, match="order counts"):
        LEARNED.check_fits(("qwen", "llama", "gpt"), CATALOGUE)


def test_a_changed_attribute_uses_the_weights_of_all_and_the_others_keep_theirs():
    learned = replace(
        LEARNED,
        attributes={"gender": LEARNED.default, "colour": LEARNED.attributes["gender"]},
        groups={group_key("a|b", "gender"): LEARNED.default, group_key("x", "b|gender"): LEARNED.default},
    )
    now = CATALOGUE | {"gender": "sha256:other", "size": "sha256:s"}
    assert str(learned.check_fits(MEMBERS, now)) == (
        "gender changed and size is new in the catalogue since these weights were learned: they use the "
        "weights of all attributes"
    )
    fitted = learned.fitted(now)
    assert fitted.parameters("gender", "a|b") is fitted.default
    assert fitted.parameters("colour") is learned.attributes["colour"]
    assert fitted.groups.keys() == {group_key("x", "b|gender")}
    assert learned.fitted(CATALOGUE) is learned
    assert learned.fitted(None) is learned
    removed = {"": "sha256:open", "colour": "sha256:c"}
    assert str(learned.check_fits(MEMBERS, removed)).startswith("gender left the catalogue")
    assert learned.fitted(removed).attributes.keys() == {"colour"}


def test_an_attribute_that_the_catalogue_lists_with_the_same_meaning_keeps_its_weights():
    learned = replace(LEARNED, attributes={"material": LEARNED.default})
    same, other = CATALOGUE | {"material": "sha256:open"}, CATALOGUE | {"material": "sha256:m"}
    assert not learned.check_fits(MEMBERS, same)
    assert learned.fitted(same) is learned
    assert learned.check_fits(MEMBERS, other).added == ("material",)
    assert not learned.fitted(other).attributes
    assert not learned.fitted(CATALOGUE | {"": "sha256:number"}).attributes
    assert "does not list changed" in str(learned.check_fits(MEMBERS, CATALOGUE | {"": "sha256:number"}))


@pytest.mark.parametrize("parts", [("a|b", "c"), ("a", "b|c"), ("a\\", "|c\\"), ("", ""), ("a\n", "b\n")])
def test_the_attribute_of_a_group_key(parts):
    assert attribute_of(group_key(*parts)) == parts[1]


def test_the_time_of_learning_is_in_the_file_but_not_in_the_hash():
    later = replace(LEARNED, provenance=LEARNED.provenance | {"created": "2030-01-01T00:00:00Z"})
    assert later.content_hash == LEARNED.content_hash
    assert loads(dumps(later)).provenance["created"] == "2030-01-01T00:00:00Z"
    assert replace(LEARNED, provenance={"rows": 11}).content_hash != LEARNED.content_hash


@pytest.mark.parametrize("schema", [1, 2])
def test_files_of_older_schemas_keep_their_hash_and_their_check(schema):
    text = (Path(__file__).parent / f"data/weights_schema_{schema}.json").read_text("utf-8")
    old = loads(text)
    assert old.schema_version == schema
    assert dumps(old) == text
    assert not old.check_fits(MEMBERS, CATALOGUE, "sha256:abc")
    assert old.fitted(CATALOGUE) is old
    for whole in ("sha256:xyz", None):
        with pytest.raises(WeightsError, match=f"sha256:abc, the deployment has {whole}"):
            old.check_fits(MEMBERS, CATALOGUE, whole)
    refused(text.replace("2024", "2025"), "edited or damaged")
    without = json.loads(text)
    del without["catalogue_hash"]
    refused(json.dumps(without), "missing: ['catalogue_hash']")
    refused(text.replace('"catalogue_hash": "sha256:abc"', '"catalogue_hash": {}'), "another form")


LONG = "x" * 9_999


@pytest.mark.parametrize(
    "text",
    [
        edited(method=LONG), edited(members=["m"] * 5_000), edited(confidence=LONG),
        edited(content_hash=LONG),
        edited(schema_version=LONG), edited(schema_version=10**4_000), edited(attributes={LONG: 3}),
        edited(attributes={"x": {"na_bias": 0, "none_bias": 0, LONG: 1}}), edited(score_log_odds=[1] * 5_000),
        edited(**{f"key{number}": 1 for number in range(3_000)}), edited(catalogue={LONG: 1}),
        f'{{"{LONG}": 1, "{LONG}": 1}}', edited(**{"\ud800": 1}), edited(attributes={"x": {"\ud800": 1}}),
        *(dumps(LEARNED).replace("5.0", "[" * depth + "]" * depth) for depth in (300, 950, 990, 5_000)),
    ],
    ids=range(18),
)  # fmt: skip
def test_messages_about_hostile_files_are_short_and_printable(text):
    with pytest.raises(WeightsError) as caught:
        loads(text)
    assert len(str(caught.value).encode("utf-8")) < 500


@pytest.mark.parametrize("error", [MemoryError("too large"), AttributeError("no such thing")])
def test_whatever_reading_a_file_raises_is_its_damage(monkeypatch, error):
    monkeypatch.setattr(weights_file, "parse", Mock(side_effect=error))
    refused(dumps(LEARNED), str(error))


def test_files(tmp_path):
    path = tmp_path / "weights.json"
    weights_file.dump(LEARNED, path)
    assert load(path) == LEARNED
    path.write_bytes(b"\xff")
    with pytest.raises(WeightsError, match="cannot be read"):
        load(path)
    with pytest.raises(WeightsError, match=r"missing\.json"):
        load(tmp_path / "missing.json")
    with pytest.raises(WeightsError, match="null byte"):
        load("no\0name.json")


def test_not_writable_as_json():
    with pytest.raises(WeightsError, match="JSON"):
        dumps(replace(LEARNED, settings={"ridge": float("nan")}))


@pytest.mark.parametrize("bias", ["na_bias", "none_bias", "part_bias"])
def test_numbers_whose_sum_is_no_number_are_refused(bias):
    values = {"na_bias": 0.0, "none_bias": 0.5, bias: 1.7e308}
    with pytest.raises(WeightsError, match="default: the numbers are so large"):
        replace(LEARNED, default=Parameters((5e307,) * 3, **values), attributes={}, groups={})


def test_large_weights_whose_sum_is_no_number_are_refused():
    refused(default([1e308] * 3), "default: the numbers are so large")


def test_weights_whose_sum_is_no_number_in_another_order_are_refused():
    largest, little = sys.float_info.max, 0.4 * 2.0**971
    assert math.isfinite(largest + little + little)
    assert not math.isfinite(largest + (little + little))
    refused(default([largest, little, little]), "default: the numbers are so large")
