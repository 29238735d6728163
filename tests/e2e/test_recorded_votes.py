# SPDX-License-Identifier: Apache-2.0
"""The recorded votes of five real LLM runs, through the real graph: what comes out is what the file says."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.deployment import running, write_deployment
from support.raw import bytes_tensor, grpc_request
from support.wire import Reply, grpc_reply
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from quorum.decision.cell import Parameters, decide_one
from quorum.tasks.normalise import NORMALISERS, is_not_given

pytestmark = pytest.mark.data

RUNS = {
    "gpt35": "gpt-3.5-10shot-list",
    "gpt4-train20": "gpt-4-10shot-schema-train20",
    "gpt4": "gpt-4-10shot-schema",
    "gpt4-shuffle-train20": "gpt-4-10shot-shuffle3-train20",
    "gpt4-shuffle": "gpt-4-10shot-shuffle3",
}
CELLS = 1_482
AT_ONCE = 32
Cell = tuple[str, str, str]


async def ask_all(url: str, products: list[tuple[str, str, list[str]]]) -> list[Reply]:
    free = asyncio.Semaphore(AT_ONCE)
    async with grpc.aio.insecure_channel(url) as channel:
        stub = GRPCInferenceServiceStub(channel)

        async def one(title: str, category: str, attributes: list[str]) -> Reply:
            text, names = bytes_tensor([title.encode()]), [a.encode() for a in attributes]
            async with free:
                request = grpc_request("quorum", text, names, category.encode())
                return grpc_reply(await stub.ModelInfer(request, timeout=60))

        return await asyncio.gather(*(one(*product) for product in products))


@pytest.fixture(scope="module")
def rows(recorded_votes: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in recorded_votes.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module", params=["exact", "text"])
def answered(
    request: pytest.FixtureRequest, recorded_votes: Path, rows: list[dict[str, Any]], tmp_path_factory: Any
) -> tuple[str, dict[Cell, tuple[str, float, dict[str, tuple[str, int]]]]]:
    """Normaliser, and per cell: decision, confidence and each member's vote."""
    products: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        products[row["title"], row["category"]].append(row["attribute"])
    members = {
        name: {"options": {"votes": str(recorded_votes), "recorded_as": run}} for name, run in RUNS.items()
    }
    deploy = write_deployment(
        tmp_path_factory.mktemp("data"), members, rows=[], attributes={}, default_normaliser=request.param
    )
    asked = [(title, category, names) for (title, category), names in products.items()]
    with running(deploy) as live:
        replies = asyncio.run(ask_all(live.url, asked))
    cells = {}
    for (title, category, names), reply in zip(asked, replies, strict=True):
        assert reply.members == list(RUNS)
        for at, attribute in enumerate(names):
            votes = {member: reply.votes[member][at] for member in RUNS}
            cells[title, category, attribute] = (reply.values[at], reply.confidence[at], votes)
    return request.param, cells


def spelled(normaliser: str, value: str) -> str:
    return "n/a" if is_not_given(value) else NORMALISERS[normaliser](value)


def test_every_cell_of_the_file_is_answered_once(
    answered: tuple[str, dict[Cell, Any]], rows: list[dict[str, Any]]
) -> None:
    assert len(rows) == len(answered[1]) == CELLS
    assert {(r["title"], r["category"], r["attribute"]) for r in rows} == answered[1].keys()


def test_each_members_votes_are_those_of_the_file(
    answered: tuple[str, dict[Cell, Any]], rows: list[dict[str, Any]]
) -> None:
    normaliser, cells = answered
    for row in rows:
        votes = cells[row["title"], row["category"], row["attribute"]][2]
        for member, run in RUNS.items():
            assert votes[member] == (spelled(normaliser, row["votes"][run]), 0), (row["title"], member)


def test_each_decision_is_the_majority_of_the_file(
    answered: tuple[str, dict[Cell, Any]], rows: list[dict[str, Any]]
) -> None:
    normaliser, cells = answered
    counted = 0
    for row in rows:
        value, confidence, _ = cells[row["title"], row["category"], row["attribute"]]
        ballots = [spelled(normaliser, row["votes"][run]) for run in RUNS.values()]
        expected, share = decide_one(Parameters((1.0,) * len(RUNS)), [(b, 0) for b in ballots])
        assert value == expected, row
        assert confidence == pytest.approx(share, abs=1e-6)
        ranked = Counter(ballots).most_common()
        if len(ranked) == 1 or ranked[0][1] > ranked[1][1]:
            counted += 1
            assert value == ranked[0][0], row
            assert confidence == pytest.approx(ranked[0][1] / len(RUNS), abs=1e-6)
    assert counted > CELLS * 0.9
