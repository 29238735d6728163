# SPDX-License-Identifier: Apache-2.0
"""A member is new: only it is asked, and the table is the one that asking all members gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from support.deployment import Live, title

import quorum
from quorum.votes import read_votes
from quorum_bench.targets.triton_stats import TritonStatistics

PRODUCTS = 12


def test_only_the_new_member_is_asked(steady: Live, tmp_path: Path) -> None:
    lines = "".join(f'p{p},"{title(p).replace(chr(34), chr(34) * 2)}"\n' for p in range(PRODUCTS))
    listings = tmp_path / "listings.csv"
    listings.write_text("product,title\n" + lines, encoding="utf-8")
    full, old = tmp_path / "full.jsonl", tmp_path / "old.parquet"
    quorum.extract(steady.spec, listings, quorum.ExtractOptions(votes=full, url=steady.url))
    quorum.drop_members(full, ["gamma"], old)
    statistics = TritonStatistics(steady.url, steady.server.endpoint.admin_key)
    before = dict(statistics.read())
    report = quorum.extract(steady.spec, listings, quorum.ExtractOptions(votes=old, only=["gamma"]))
    asked = dict(statistics.read())
    statistics.close()
    assert (report.answered, report.failed) == (PRODUCTS, 0)
    for name in ("alpha", "beta", "gamma"):
        # Of the running server: the new member was asked on another, which holds no other member.
        assert asked[name].count == before[name].count
    expected, found = read_votes(full), read_votes(old)
    assert found.members == expected.members
    same = [[replace(c, origin=None, usage=()) for c in table.cells] for table in (found, expected)]
    assert same[0] == same[1]
    assert any(cell.values[2] for cell in found.cells)
