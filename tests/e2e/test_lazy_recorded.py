# SPDX-License-Identifier: Apache-2.0
"""The recorded votes of five real LLM runs, asked in rows: every value is that of all members."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from support.deployment import running, write_deployment
from support.raw import bytes_tensor, grpc_request
from support.wire import Reply, grpc_reply
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from quorum.deployment import load_deployment
from quorum.operations.learn import LearnOptions, learn
from quorum.repository.render import render
from quorum.repository.state import State
from quorum.repository.store import Store
from quorum_contract import CANARY, LAZY, LAZY_CANARY, STABLE, Status

pytestmark = [pytest.mark.data, pytest.mark.timeout(600)]

RUNS = {
    "gpt35": "gpt-3.5-10shot-list",
    "gpt4-train20": "gpt-4-10shot-schema-train20",
    "gpt4": "gpt-4-10shot-schema",
    "gpt4-shuffle-train20": "gpt-4-10shot-shuffle3-train20",
    "gpt4-shuffle": "gpt-4-10shot-shuffle3",
}
CELLS, AT_ONCE = 1_482, 32
Products = list[tuple[str, str, list[str]]]


class Count(NamedTuple):
    """What a lazy channel did."""

    cells: int
    changed: int
    asked: int
    called: int
    requests: int


async def ask_all(url: str, products: Products, channel: str) -> list[Reply]:
    free = asyncio.Semaphore(AT_ONCE)
    async with grpc.aio.insecure_channel(url) as connection:
        stub = GRPCInferenceServiceStub(connection)

        async def one(title: str, category: str, attributes: list[str]) -> Reply:
            text, names = bytes_tensor([title.encode()]), [a.encode() for a in attributes]
            async with free:
                request = grpc_request(channel, text, names, category.encode())
                return grpc_reply(await stub.ModelInfer(request, timeout=60))

        return await asyncio.gather(*(one(*product) for product in products))


@pytest.fixture(scope="module")
def counts(recorded_votes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Count]]:
    """By channel: `quorum_lazy` has weights learned from the labels, `quorum_lazy_canary` equal ones."""
    rows = [json.loads(line) for line in recorded_votes.read_text("utf-8").splitlines()]
    products: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        row["votes"] = {name: row["votes"][run] for name, run in RUNS.items()}
        products[row["title"], row["category"]].append(row["attribute"])
    members: dict[str, Any] = {name: {} for name in RUNS}
    more: dict[str, Any] = {"lazy": {"whole_questions": False}, "default_normaliser": "exact"}
    deploy = write_deployment(tmp_path_factory.mktemp("data"), members, rows=rows, attributes={}, **more)
    spec = load_deployment(deploy)
    render(spec)
    store = Store(spec.repository_path)
    store.add_version(2, learn(deploy.parent / "votes.jsonl", spec, LearnOptions(method="loglinear")).weights)
    store.write_state(State((1, 2), {STABLE: 2, CANARY: 1}, 0.0))
    asked = [(title, category, names) for (title, category), names in products.items()]
    with running(spec.path) as live:
        yield {
            lazy: count(*(asyncio.run(ask_all(live.url, asked, channel)) for channel in (full, lazy)))
            for full, lazy in ((STABLE, LAZY), (CANARY, LAZY_CANARY))
        }


def count(full: list[Reply], lazy: list[Reply]) -> Count:
    cells = changed = asked = called = 0
    for all_, some in zip(full, lazy, strict=True):
        cells += len(all_.values)
        changed += sum(a != b for a, b in zip(all_.values, some.values, strict=True))
        for member in RUNS:
            statuses = [status for _, status in some.votes[member]]
            asked += sum(status != Status.NOT_ASKED for status in statuses)
            called += any(status != Status.NOT_ASKED for status in statuses)
            for vote, given in zip(all_.votes[member], some.votes[member], strict=True):
                assert given in (vote, ("", Status.NOT_ASKED))
    return Count(cells, changed, asked, called, len(full))


@pytest.mark.parametrize("channel", [LAZY, LAZY_CANARY])
def test_every_cell_has_the_value_of_all_members(counts: dict[str, Count], channel: str) -> None:
    assert (counts[channel].cells, counts[channel].changed) == (CELLS, 0)


@pytest.mark.parametrize(
    ("channel", "least_cells", "least_calls"), [(LAZY, 0.22, 0.1), (LAZY_CANARY, 0.35, 0.29)]
)
def test_so_many_cells_and_calls_are_spared(
    counts: dict[str, Count], channel: str, least_cells: float, least_calls: float
) -> None:
    found, members = counts[channel], len(RUNS)
    assert 1 - found.asked / (found.cells * members) >= least_cells
    assert 1 - found.called / (found.requests * members) >= least_calls
