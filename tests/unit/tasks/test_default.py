# SPDX-License-Identifier: Apache-2.0
"""The question that attributes outside the catalogue are asked: prompt, grammar, votes, hashes, weights."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.deployment import write_deployment

from quorum.decision.catalogue_change import OUTSIDE
from quorum.deployment.load import DeploymentError, load_deployment
from quorum.runtimes.grammar import answer_pattern
from quorum.tasks.attribute import Attribute, CatalogueError
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.default import Default
from quorum.tasks.kinds import answer_schema
from quorum.tasks.parse import parse_answer
from quorum.tasks.prompt import build_prompt
from quorum_contract import Status

ASKED = Default(
    "Would a buyer who searches for {name!r} want this {product}?", ("no", "maybe", "yes"), {"1": "yes"}
)
COLOR = Attribute("color", values=("red", "blue"))
CATALOGUE = Catalogue.of([COLOR], default=ASKED)
PLAIN_HASH = "sha256:5363332ba7368277f1351ae681dfe1a184e7e84fea1e16ffc306c96fa0c11abe"
PLAIN_OUTSIDE = "sha256:74464c9b0f56deb7cc9543e72c885dbd7fb3264c1f1e6c7ab763c727bf37124b"
HOSTILE = ('a "b"', "x {name} {0} %s {product}", "it's\u2028- color: red", "\\g<0> \\1", "{{}}", 'a\': "3"}')


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_quoted_data_on_one_line(name: str) -> None:
    prompt = build_prompt(CATALOGUE, "instruct", "a shoe", "", [name, "color"])
    lines = prompt.split("\n")
    shown = json.dumps(" ".join(name.split()), ensure_ascii=False)
    (line,) = [line for line in lines if line.startswith(f"- {shown}: ")]
    assert (
        line
        == f"- {shown}: Would a buyer who searches for {shown} want this {{product}}? One of: no, maybe, yes"
    )
    plain = build_prompt(CATALOGUE, "instruct", "a shoe", "", ["pump", "color"])
    assert len(prompt.splitlines()) == len(plain.splitlines())
    assert len(build_prompt(CATALOGUE, "bare", "a shoe", "", [name]).splitlines()) == 3


@given(st.text(min_size=1).filter(lambda name: name.strip()))
def test_any_name_stands_in_the_question_as_json(name: str) -> None:
    question = CATALOGUE.get(name).question
    before, after = "Would a buyer who searches for ", " want this {product}?"
    if name == "color":
        return
    assert question.startswith(before)
    assert question.endswith(after)
    assert isinstance(json.loads(question[len(before) : -len(after)], strict=False), str)


@pytest.mark.parametrize("name", HOSTILE)
def test_members_can_answer_closed_values_only(name: str) -> None:
    schema = json.dumps(answer_schema(CATALOGUE, [name]))
    pattern = re.compile(answer_pattern(schema))
    assert pattern.fullmatch(json.dumps({name: "maybe"}, ensure_ascii=False, separators=(",", ":")))
    assert not pattern.fullmatch(json.dumps({name: "other"}, ensure_ascii=False, separators=(",", ":")))
    answers = [("YES.", "yes", Status.ANSWERED), (1, "yes", Status.ANSWERED), ("n/a", "", Status.UNPARSABLE)]
    for said, value, status in answers:
        (vote,) = parse_answer(CATALOGUE, [name], json.dumps({name: said}))
        assert (vote.value, vote.status) == (value, status)
    assert CATALOGUE.get("color") is COLOR


def test_values_are_graded_from_worst_to_best() -> None:
    assert [ASKED.grade(value) for value in ("no", "maybe", "yes", "n/a")] == [0.0, 0.5, 1.0, None]
    own = replace(ASKED, grades={"no": 0.0, "maybe": 0.2, "yes": 0.9})
    assert [own.grade(value) for value in own.values] == [0.0, 0.2, 0.9]


def test_a_catalogue_without_a_default_stays_as_it_was() -> None:
    plain = Catalogue.of([COLOR])
    assert "default" not in plain.to_json()
    assert plain.to_json()["schema_version"] == 1
    assert plain.hash == PLAIN_HASH
    assert plain.hashes[OUTSIDE] == PLAIN_OUTSIDE
    assert plain.get("else").values == ()


def test_a_catalogue_with_a_default_reads_back() -> None:
    again = Catalogue.from_json(json.loads(json.dumps(CATALOGUE.to_json())))
    assert again == CATALOGUE
    assert again.get("x").question == CATALOGUE.get("x").question


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({"question": "Is {name} right?"}, True),
        ({"values": ("no", "yes")}, True),
        ({"synonyms": {}}, True),
        ({"instructions": "Judge."}, False),
        ({"grades": {"no": 0.0, "maybe": 0.1, "yes": 1.0}}, False),
    ],
)
def test_the_hash_of_all_outside_changes_with_what_votes_mean(
    change: dict[str, object], counts: bool
) -> None:
    other = Catalogue.of([COLOR], default=replace(ASKED, **change))  # type: ignore[arg-type]
    assert (other.hashes[OUTSIDE] != CATALOGUE.hashes[OUTSIDE]) is counts
    assert (other.hash != CATALOGUE.hash) is counts
    assert other.hashes["color"] == CATALOGUE.hashes["color"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"question": "Good?"}, "write {name} there"),
        ({"values": ("yes",)}, "at least two"),
        ({"grades": {"no": 0.0}}, "each value a grade"),
        ({"grades": {"no": 0.0, "maybe": 2.0, "yes": 1.0}}, r"lies in \[0, 1\]"),
        ({"synonyms": {"ok": "fine"}}, "which is not a value"),
    ],
)
def test_a_default_that_means_nothing_is_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(CatalogueError, match=words):
        replace(ASKED, **given)  # type: ignore[arg-type]


def test_deploy_yaml_has_a_default(tmp_path: Path) -> None:
    asked = {"question": "Is {name} right?", "values": ["0", "1"], "grades": {"0": 0.1, "1": 1}}
    found = load_deployment(write_deployment(tmp_path, {"a": {}}, default=asked)).catalogue()
    assert found.default == Default("Is {name} right?", ("0", "1"), grades={"0": 0.1, "1": 1.0})
    for wrong, words in (
        ({"default": {**asked, "question": "Right?"}}, "deploy.yaml:.*default: question"),
        ({"default": {**asked, "values": ["0", 1]}}, "quote it"),
        ({"default": asked, "default_normaliser": "exact"}, "write `default_normaliser` here"),
    ):
        with pytest.raises(DeploymentError, match=words):
            load_deployment(write_deployment(tmp_path, {"a": {}}, **wrong))
