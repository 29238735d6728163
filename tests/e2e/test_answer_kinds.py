# SPDX-License-Identifier: Apache-2.0
"""All kinds of answer over gRPC on a real server, while new weights are published and promoted."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.command import quorum
from support.deployment import Live, running, write_deployment, write_jsonl
from support.rollout import trusting

from quorum.decision.weights import Weights
from quorum.rollout.channels import Rollout
from quorum.votes import read_votes
from quorum_client import Client, InvalidRequest, Span, Status
from quorum_contract.fields import join_fields

ATTRIBUTES: dict[str, Any] = {
    "entities": {"kind": "spans", "values": ["color", "device", "product"]},
    "colors": {"many": True},
    "summary": {"kind": "text", "max_chars": 60},
    "cable_length": {"only": ["cables"]},
    "length": {"kind": "spans", "values": ["length"], "only": ["cables"]},
    "relevance": {"kind": "label", "values": ["exact", "none"], "fields": ["query", "title"]},
}
TEXT = "red iphone 12 case, black"
PAIR = {"query": "iphone case", "title": "Red Case\nfor iPhone 12"}
RED, CASE, PHONE = ["red", "color"], ["case", "product"], ["iphone 12", "device"]
SAID: dict[str, dict[str, Any]] = {
    "alpha": {
        "entities": [RED, PHONE],
        "colors": ["red", "black"],
        "summary": "A red case for the iphone 12",
        "relevance": "exact",
    },
    "beta": {
        "entities": [RED, CASE],
        "colors": ["red"],
        "summary": "A red case for an iphone",
        "relevance": "exact",
    },
    "gamma": {
        "entities": [["iphone 12 case", "product"], ["black", "color"]],
        "colors": ["black"],
        "summary": "Something else entirely",
        "relevance": "none",
    },
}


def votes() -> list[dict[str, Any]]:
    return [
        {
            "product": "p",
            "category": "",
            "title": join_fields(PAIR) if attribute == "relevance" else TEXT,
            "attribute": attribute,
            "votes": {
                member: said[attribute] if isinstance(said[attribute], str) else json.dumps(said[attribute])
                for member, said in SAID.items()
            },
        }
        for attribute in SAID["alpha"]
    ]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("kinds")
    path = write_deployment(folder, {name: {} for name in SAID}, rows=votes(), attributes=ATTRIBUTES)
    with running(path) as server:
        yield server


@pytest.fixture(scope="module")
def client(live: Live) -> Iterator[Client]:
    with Client(live.url) as client:
        yield client


def test_spans_values_and_texts_are_decided_by_their_parts(client: Client) -> None:
    result = client.extract(TEXT, ["entities", "colors", "summary"])
    assert result["entities"].spans == (Span("red", "color"),)
    assert result["entities"].confidence == pytest.approx(2 / 3)
    assert result["colors"].values == ("black", "red")
    assert result["summary"].value == "A red case for the iphone 12"
    assert {vote.status for answer in result.answers for vote in answer.votes} == {Status.ANSWERED}
    with pytest.raises(ValueError, match="has no spans"):
        _ = result["summary"].spans


def test_fields_are_one_text_to_members(client: Client) -> None:
    answer = client.extract(PAIR, ["relevance"])["relevance"]
    assert (answer.value, answer.values) == ("exact", ("exact",))
    with pytest.raises(InvalidRequest, match="field 'Query'"):
        client.extract({"Query": "x"}, ["relevance"])


def test_no_member_is_asked_for_what_a_category_has_not(client: Client) -> None:
    other = client.extract(TEXT, ["cable_length", "colors"], category="cases")
    assert (other["cable_length"].value, other["cable_length"].confidence) == ("n/a", 1.0)
    other = client.extract(TEXT, ["length", "entities"], category="cases")["length"]
    assert (other.value, other.spans) == ("n/a", ())
    cable = client.extract(TEXT, ["cable_length"], category="Cables")["cable_length"]
    assert cable.value is None, "nothing is recorded for it"


def learned(live: Live, member: str) -> Weights:
    """Weights by which one member decides answers of every kind."""
    catalogue = live.spec.catalogue()
    plain, kinds = trusting(catalogue.hashes, member), catalogue.answer_kinds()
    settings = {**plain.settings, "kinds": kinds}
    return replace(plain, attributes=dict.fromkeys(kinds, plain.default), settings=settings)


def test_redeploys_under_load_fail_no_question_of_any_kind(live: Live, client: Client) -> None:
    rollout = Rollout(live.spec, live.control, live.control.pinned)
    wanted = {
        "alpha": (Span("red", "color"), Span("iphone 12", "device")),
        "gamma": (Span("iphone 12 case", "product"), Span("black", "color")),
    }
    seen: set[int] = set()
    errors: list[Exception] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                seen.add(client.extract(TEXT, ["entities", "colors", "summary"]).weights_version)
                client.extract(PAIR, ["relevance"])
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for member, spans in wanted.items():
            version = rollout.publish(learned(live, member)).version
            rollout.promote(version)
            result = client.extract(TEXT, ["entities", "colors", "summary"])
            assert result.weights_version == version
            assert result["entities"].spans == spans
            assert result["summary"].value == SAID[member]["summary"]
            assert result["colors"].values == tuple(sorted(SAID[member]["colors"]))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert len(seen) >= 2


def test_votes_of_a_file_are_recorded_in_the_spelling_of_answers(live: Live, tmp_path: Path) -> None:
    listings = [{"id": "p", "title": TEXT, "gold": {"entities": [RED, PHONE], "colors": ["red", "black"]}}]
    source = write_jsonl(tmp_path / "listings.jsonl", listings)
    folder = live.spec.root
    names = "entities,colors,cable_length"
    asked = ("extract", str(source), "--url", live.url, "--votes")
    quorum(folder, *asked, str(tmp_path / "votes.jsonl"), "--attributes", names)
    cells = {cell.attribute: cell for cell in read_votes(tmp_path / "votes.jsonl").cells}
    assert sorted(cells) == ["colors", "entities"]
    assert cells["entities"].gold == ('[["red","color"],["iphone 12","device"]]',)
    assert cells["entities"].is_right(cells["entities"].values[0])
    assert cells["colors"].gold == ('["black","red"]',)
    _, err = quorum(folder, *asked, str(tmp_path / "more.jsonl"), code=1)
    assert "ask for them separately" in err
