# SPDX-License-Identifier: Apache-2.0
"""What all peers run: the members' table and the vote; and what is said when they are not installed."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import quorum_bench.targets
from quorum_bench.bench import Measured
from quorum_bench.scenarios.peers_llms import all_cpu
from quorum_bench.targets.fastapi import FastApiTarget
from quorum_bench.targets.peer import PYTHON, PeerError
from quorum_bench.workload import Workload

MEMBERS = ["m0", "m1", "m2"]


@pytest.fixture(scope="module")
def shared() -> ModuleType:
    path = Path(quorum_bench.targets.__file__).parent / "peers" / "shared.py"
    spec = importlib.util.spec_from_file_location("peers_shared", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def settings(shared: ModuleType, folder: Path, think_s: float = 0.0) -> object:
    rows = Workload.made(attributes=2, products=4).votes_table(MEMBERS)
    votes = folder / "votes.jsonl"
    votes.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return shared.Settings(MEMBERS, think_s, votes, folder / "weights.json", {})


def test_members_answer_what_the_table_says(shared: ModuleType, tmp_path: Path) -> None:
    workload = Workload.made(attributes=2, products=4)
    rows = workload.votes_table(MEMBERS)
    for name in MEMBERS:
        table = shared.Table(settings(shared, tmp_path), name)
        for p, product in enumerate(workload.products):
            found = asyncio.run(table.values(product.text, product.category, product.attributes))
            assert found == [row["votes"][name] for row in rows if row["product"] == f"p{p}"]


def test_members_think_side_by_side(shared: ModuleType, tmp_path: Path) -> None:
    product = Workload.made(attributes=2, products=4).products[0]
    table = shared.Table(settings(shared, tmp_path, think_s=0.05), "m0")

    async def many() -> None:
        await asyncio.gather(
            *(table.values(product.text, product.category, product.attributes) for _ in range(100))
        )

    start = time.monotonic()
    asyncio.run(many())
    assert 0.05 <= time.monotonic() - start < 100 * 0.05


def test_the_vote_is_that_of_the_product(shared: ModuleType) -> None:
    votes = [["a", "x"], ["b", "x"], ["b", "y"]]
    equal = shared.Vote({"version": 1, "weights": [1.0, 1.0, 1.0]}).answer(votes)
    assert (equal["values"], equal["weights_version"]) == (["b", "x"], 1)
    assert equal["confidence"] == pytest.approx([2 / 3, 2 / 3])
    heavy = shared.Vote({"version": 2, "weights": [3.0, 1.0, 1.0]}).answer(votes)
    assert (heavy["values"], heavy["weights_version"]) == (["a", "x"], 2)


def test_a_missing_environment_says_how_to_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON, str(tmp_path / "none"))
    target = FastApiTarget(Workload.made(attributes=2), MEMBERS)
    with pytest.raises(PeerError, match="make peers-env"):
        target.start()
    target.stop()
    target.stop()


def test_cpu_of_an_answer_counts_the_generators(make_measured: Callable[..., Measured]) -> None:
    # 0.5 s of the server and 0.3 cores of the generators, for 100 answers in a second.
    assert all_cpu(make_measured("x", 5.0)) == pytest.approx([8.0] * 3)
