# SPDX-License-Identifier: Apache-2.0
"""Scores of a votes table through replay members, the real graph and the clients, into a table again."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.deployment import ATTRIBUTES, Live, running, table, write_deployment, write_jsonl

import quorum
from quorum.evaluation.score import apply
from quorum.learning import learn
from quorum.rollout.channels import Rollout
from quorum.server.probe import probe_channel
from quorum.votes import VotesTable, read_votes
from quorum_client import AsyncClient, Client, Extraction, Item, Status

MEMBERS = ("alpha", "beta", "gamma")
PRODUCTS = 12


def score(row: int, member: int) -> float | None:
    """A score of a float32 that no other vote has, and now and then none; the last member has none ever."""
    known = member < 2 and (row + member) % 4
    return float(np.float32(-0.001 * math.pi * (1 + row * 3 + member))) if known else None


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    made = table(MEMBERS, PRODUCTS)
    for number, row in enumerate(made):
        row["scores"] = {name: score(number, at) for at, name in enumerate(MEMBERS)}
        if number % 7 == 5:
            row["votes"]["alpha"], row["scores"]["alpha"] = None, -1.0
    return made


@pytest.fixture(scope="module")
def live(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    deploy = write_deployment(tmp_path_factory.mktemp("scores"), {name: {} for name in MEMBERS}, rows=rows)
    with running(deploy) as server:
        yield server


@pytest.fixture(scope="module")
def recorded(live: Live) -> VotesTable:
    return read_votes(live.spec.root / "votes.jsonl")


def items(recorded: VotesTable) -> list[Item]:
    products = dict.fromkeys((cell.title, cell.category, cell.product) for cell in recorded.cells)
    return [Item(title, ATTRIBUTES, category, product) for title, category, product in products]


def scores(found: list[Extraction]) -> list[list[float | None]]:
    return [[vote.score for vote in answer.votes] for result in found for answer in result.answers]


def test_each_vote_comes_back_with_its_score(live: Live, recorded: VotesTable) -> None:
    wanted = [list(cell.scores) or [None] * len(MEMBERS) for cell in recorded.cells]
    assert sum(number is not None for row in wanted for number in row) > 40

    async def aio() -> list[Extraction]:
        async with AsyncClient(live.url) as client:
            return [result async for result in client.extract_many(items(recorded))]

    with Client(live.url) as client:
        assert scores(list(client.extract_many(items(recorded)))) == wanted
    assert scores(asyncio.run(aio())) == wanted
    first = items(recorded)[0]
    raw = live.ask(first.text, ATTRIBUTES, first.category)
    assert [[raw.scores[name][at] for name in MEMBERS] for at in range(3)] == wanted[:3]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_extract_records_the_table_that_was_replayed(
    live: Live, recorded: VotesTable, tmp_path: Path, ending: str
) -> None:
    listings = tmp_path / "listings.jsonl"
    written = ({"product": i.product_id, "title": i.text, "category": i.category} for i in items(recorded))
    listings.write_text("\n".join(map(json.dumps, written)), "utf-8")
    options = quorum.ExtractOptions(votes=tmp_path / f"votes.{ending}", url=live.url)
    assert quorum.extract(live.spec, listings, options).answered == PRODUCTS
    again = read_votes(tmp_path / f"votes.{ending}")
    bare = recorded.with_gold(np.zeros(len(recorded), np.bool_))
    np.testing.assert_array_equal(again.scores, recorded.scores)
    assert again.data_hash() == bare.data_hash()


VALUES = ["red", "blue", "green", "n/a"]


def sure_cell(rng: np.random.Generator, accuracy: float, truth: str) -> tuple[str | None, float | None]:
    """A member's vote and score: it knows how sure it is, and now and then gives no vote or no score."""
    p = float(np.clip(rng.beta(4 * accuracy, 4 * (1 - accuracy)), 0.01, 0.999))
    others = [value for value in VALUES if value != truth]
    value = truth if rng.random() < p else others[rng.integers(len(others))]
    vote = None if rng.random() < 0.03 else value
    return vote, None if rng.random() < 0.1 else math.log(p)


@pytest.mark.parametrize(("method", "labels"), [("em", 0), ("loglinear", 300)])
def test_served_decisions_by_scores_and_texts_are_those_of_the_table(
    tmp_path: Path, method: str, labels: int
) -> None:
    rng, rows = np.random.default_rng(7), []
    for product in range(150):
        truths = [VALUES[at] for at in rng.integers(len(VALUES), size=len(ATTRIBUTES))]
        title = f"shoe {product} {' '.join(truth.title() for truth in truths[:2] if truth != 'n/a')}"
        for attribute, truth in zip(ATTRIBUTES, truths, strict=True):
            cells = [sure_cell(rng, accuracy, truth) for accuracy in (0.6, 0.7, 0.75)]
            row = {"product": f"p{product}", "category": "shoes", "title": title, "gold": [truth]}
            votes, given = (dict(zip(MEMBERS, part, strict=True)) for part in zip(*cells, strict=True))
            rows.append({**row, "attribute": attribute, "votes": votes, "scores": given})
    deploy = write_deployment(tmp_path, {name: {} for name in MEMBERS}, rows=rows)
    with running(deploy) as live:
        recorded = read_votes(live.spec.root / "votes.jsonl").of_members(live.spec.member_names)
        weights = learn(recorded.sample_gold(labels, 0), method, catalogue=live.spec.catalogue().hashes)
        assert weights.uses_scores
        assert bool(weights.evidence) is (method == "loglinear")
        rollout = Rollout(
            live.spec, live.control, lambda channel: probe_channel(live.spec, live.url, channel)
        )
        rollout.promote(rollout.publish(weights).version)
        with Client(live.url) as client:
            found = list(client.extract_many(items(recorded)))
    assert {result.weights_version for result in found} == {2}
    answers = [result[attribute] for result in found for attribute in ATTRIBUTES]
    decision = apply(recorded, weights)
    values = [
        cell.values[j] if j >= 0 else None for cell, j in zip(recorded.cells, decision.winner, strict=True)
    ]
    assert [answer.value for answer in answers] == values
    confidence = np.array([answer.confidence for answer in answers])
    np.testing.assert_allclose(confidence, decision.confidence, rtol=1e-6)
    plain = apply(recorded, learn(recorded.sample_gold(labels, 0), method, settings={"scores": False}))
    assert (plain.winner != decision.winner).sum() > 10


def test_a_catalogue_member_votes_beside_others_and_leaves_the_product_out(tmp_path: Path) -> None:
    shelf = [
        {"text": f"{brand} {what}, {color}", "attributes": {"brand": brand, "color": color}}
        for brand, what, color in [
            ("Acme", "mug", "red"),
            ("Acme", "cup", "blue"),
            ("Größe", "jug", "red"),
            ("Lone", "pot", "n/a"),
        ]
    ]
    titles = [*(row["text"] for row in shelf), "große GRÖSSE kettle in Red", "nothing known"]
    rows = [
        {"product": f"p{n}", "category": "", "title": title, "attribute": name, "votes": {"alpha": "teal"}}
        for n, title in enumerate(titles)
        for name in ("brand", "color")
    ]
    shop = {"runtime": "catalogue", "options": {"products": "shelf.jsonl"}}
    deploy = write_deployment(
        tmp_path,
        {"alpha": {}, "shelf": shop},
        rows=rows,
        attributes={"brand": {"normaliser": "exact"}, "color": {}},
    )
    write_jsonl(tmp_path / "shelf.jsonl", shelf)
    quorum.validate(quorum.load_deployment(deploy))
    quorum.add_catalogue_votes(
        tmp_path / "votes.jsonl", quorum.load_deployment(deploy), "shelf", tmp_path / "more.jsonl"
    )
    recorded = read_votes(tmp_path / "more.jsonl")
    wanted = ["Acme", "red", "Acme", None, None, "red", None, None, "Größe", "red", None, None]
    assert [cell.values[1] for cell in recorded.cells] == wanted
    with running(deploy) as live, Client(live.url) as client:
        found = list(client.extract_many([Item(title, ["brand", "color"]) for title in titles]))
    votes = [answer.votes[1] for result in found for answer in result.answers]
    assert [vote.value for vote in votes] == wanted
    assert {vote.status for vote in votes if vote.value is None} == {Status.NOT_FOUND}
    assert [vote.score for vote in votes] == [
        cell.scores[1] if cell.scores else None for cell in recorded.cells
    ]
    assert all(answer.votes[0].value == "teal" for result in found for answer in result.answers)
