# SPDX-License-Identifier: Apache-2.0
"""Cost on a real server: on every answer, in votes tables, within a budget that outlives the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command import quorum_json
from support.days import in_one_day
from support.deployment import ATTRIBUTES, Live, running, title, write_deployment

import quorum
from quorum.operations.budgets import budgets_of
from quorum.serving.budget import counts_path
from quorum.votes import read_votes
from quorum_client import Client, Status

PRODUCTS = 24
MEMBERS: dict[str, Any] = {
    "cheap": {
        "price": {"per_1k_prompt_tokens": 0.1},
        "options": {"prompt_tokens": 1000, "answer_tokens": 50},
    },
    "slow": {"price": {"per_second": 2.0}, "options": {"latency_ms": 40, "latency_shape": "constant"}},
    "dear": {
        "price": {"per_call": 1.0, "per_1k_answer_tokens": 10.0},
        "options": {"prompt_tokens": 1000, "answer_tokens": 50, "isolated": True},
        "budget": {"per_day": 10.0},
    },
}
DEAR = 1.5
"""What a call of the dear member costs: six of its budget, as a seventh would be above it."""


def listings(folder: Path) -> Path:
    path = folder / "in.jsonl"
    rows = [
        {"product": f"p{p}", "title": title(p), "category": "shoes" if p % 2 else ""} for p in range(PRODUCTS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cost")
    write_deployment(folder, MEMBERS, currency="EUR")
    listings(folder)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Live]:
    with running(folder / "deploy.yaml") as live:
        yield live


@pytest.fixture
def live(server: Live, folder: Path) -> Live:
    """The server, with nothing spent yet."""
    in_one_day()
    counts_path(folder, "dear").write_bytes(b"")
    return server


def test_an_answer_says_what_it_cost(live: Live, folder: Path) -> None:
    with Client(live.url) as client:
        found = client.extract(title(2), ATTRIBUTES)
    assert found.usage["cheap"][:4] == (1, 1000, 50, 0)
    assert found.usage["cheap"].cost == pytest.approx(0.1)
    assert found.usage["dear"][:4] == (1, 1000, 50, 0)
    assert found.usage["dear"].cost == pytest.approx(DEAR)
    slow = found.usage["slow"]
    assert slow.seconds is not None
    assert 0.035 < slow.seconds < 30
    assert slow.cost == pytest.approx(2 * slow.seconds, rel=1e-5)
    assert (slow.prompt_tokens, slow.answer_tokens) == (None, None), "these votes say nothing of tokens"
    assert found.cost == pytest.approx(0.1 + DEAR + (slow.cost or 0), rel=1e-5)


def test_a_budget_runs_out_in_the_middle_of_a_run(live: Live, folder: Path) -> None:
    notes: list[str] = []
    options = quorum.ExtractOptions(
        out=folder / "out.jsonl", votes=folder / "out-votes.jsonl", concurrency=1, url=live.url
    )
    report = quorum.extract(live.spec, folder / "in.jsonl", options, note=notes.append)
    assert (report.ended, report.answered, report.failed) == ("complete", PRODUCTS, 0)
    assert report.tally.decided == PRODUCTS * len(ATTRIBUTES), "the others answer"
    assert report.tally.abstained == {"dear": {"BUDGET": (PRODUCTS - 6) * len(ATTRIBUTES)}}
    budget = report.budgets["dear"]
    assert (budget.row, budget.answers) == (7, PRODUCTS - 6)
    (note,) = [note for note in notes if "budget" in note]
    assert note == f"{budget.since}, row 7: the budget of dear is spent; answers go on with 2 of 3 members"
    assert report.spent.calls == 2 * PRODUCTS + 6
    assert report.to_json()["budgets"]["dear"]["row"] == 7
    answers = [json.loads(line) for line in (folder / "out.jsonl").read_text("utf-8").splitlines()]
    assert [answer["usage"]["dear"]["calls"] for answer in answers] == [1] * 6 + [0] * (PRODUCTS - 6)
    assert all(answer["cost"] > 0 for answer in answers)
    table = read_votes(folder / "out-votes.jsonl")
    place = table.members.index("dear")
    spent = [cell.usage[place] for cell in table.cells]
    assert sum(one.cost or 0 for one in spent if one) == pytest.approx(6 * DEAR, rel=1e-4)
    assert sum(one.calls for one in spent if one) == pytest.approx(6, rel=1e-4)


def test_what_the_server_spent_can_be_read(live: Live) -> None:
    with Client(live.url) as client:
        client.extract(title(2), ATTRIBUTES)
    found = budgets_of(live.spec)["dear"].to_json()
    assert found["minute_calls"] in (0, 1), "0 in the next minute"
    assert (found["day_calls"], found["day_cost"], found["per_day"]) == (1, DEAR, 10.0)


def test_a_restart_does_not_give_a_budget_back(live: Live, folder: Path) -> None:
    options = quorum.ExtractOptions(out=folder / "again.jsonl", concurrency=1, url=live.url)
    quorum.extract(live.spec, folder / "in.jsonl", options)
    with running(folder / "deploy.yaml") as second, Client(second.url) as client:
        found = client.extract(title(1), ATTRIBUTES)
    assert {vote.status for answer in found.answers for vote in answer.votes if vote.member == "dear"} == {
        Status.BUDGET
    }
    assert found.usage["dear"] == (0, 0, 0, 0, 0.0, 0.0)
    assert found.cost is not None
    assert found.cost < DEAR


def test_a_dry_run_says_what_a_run_takes(live: Live, folder: Path) -> None:
    for command in (("extract", "in.jsonl", "--dry-run"), ("plan", "deploy.yaml", "--requests", "in.jsonl")):
        found = quorum_json(folder, *command, "--url", live.url)
        assert (found["requests"], found["sampled"]) == (PRODUCTS, PRODUCTS)
        assert found["cost"]["middle"] > 0
        assert found["seconds"]["middle"] > 0
        assert 2 * PRODUCTS <= found["calls"]["middle"] <= 3 * PRODUCTS
    assert not list(folder.glob("*.csv"))


def test_recorded_votes_show_accuracy_beside_cost(live: Live, folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "votes.jsonl").read_text("utf-8").splitlines()]
    gold: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        if row["gold"]:
            gold.setdefault(row["product"], {})[row["attribute"]] = row["gold"]
    source = folder / "labelled.jsonl"
    given = map(json.loads, (folder / "in.jsonl").read_text("utf-8").splitlines())
    source.write_text(
        "".join(json.dumps({**row, "gold": gold.get(row["product"], {})}) + "\n" for row in given), "utf-8"
    )
    options = quorum.ExtractOptions(votes=folder / "labelled-votes.jsonl", concurrency=1, url=live.url)
    quorum.extract(live.spec, source, options)
    votes = folder / "labelled-votes.jsonl"
    by_price = quorum_json(folder, "evaluate", votes, "--folds", "2")
    as_recorded = quorum.evaluate(votes, options=quorum.EvaluateOptions(folds=2)).to_json()
    for found in (by_price, as_recorded):
        by_name = {row["name"]: row for row in found["costs"]["rows"]}
        assert by_name["dear"]["cost"] == pytest.approx(1000 * DEAR, rel=1e-4)
        assert by_name["cheap"]["cost"] == pytest.approx(100, rel=1e-4)
        assert any(row["is_pareto"] for row in found["costs"]["rows"])
