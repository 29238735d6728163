# SPDX-License-Identifier: Apache-2.0
"""The study of filled products, on a few made-up ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quorum.votes import build_table, write_votes
from quorum.votes.schema import Cell
from quorum_bench.cli import study_learning
from quorum_bench.cli.app import app
from quorum_bench.studies import catalogue

BRANDS = ("Acme", "Nike", "Lone")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two of three brands stand in other titles too; members say the brand of every second product."""
    cells, train = [], []
    for n in range(40):
        brand = f"Lone{n}" if n % 3 == 2 else BRANDS[n % 3]
        title = f"item{n} {brand}"
        vote = brand if n % 2 else "wrong"
        cells.append(Cell(f"p{n}", "", title, "brand", (vote, vote, "other"), (brand,)))
        train.append({"input": f"more{n} {brand}", "category": "", "target_scores": {"brand": {brand: 1}}})
    write_votes(build_table(["a", "b", "c"], cells), tmp_path / "votes.jsonl")
    (tmp_path / "products-train.jsonl").write_text("\n".join(map(json.dumps, train)), "utf-8")
    return tmp_path


def test_a_product_does_not_count_for_its_own_votes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_methods", lambda table, seeds: {"methods": {"majority": 50.0}})
    none, own, train = catalogue.accuracy(folder, 1)
    assert none["any_right"] == 50.0
    assert own["answered"] == pytest.approx(100 * 27 / 40)
    assert own["right"] == 100.0
    assert train["answered"] == train["any_right"] == 100.0
    table = catalogue.accuracy_table([none, own, train]).splitlines()
    assert table[2].split() == ["no", "member", "50.0", "50.00"]
    assert table[3].split()[-4:] == ["67.5", "100.0", "82.5", "50.00"]


def test_the_size_is_printed_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_learning, "begin", dict)
    monkeypatch.setattr(catalogue, "_words", lambda: [f"word{n}" for n in range(20_000)])
    out = tmp_path / "figures.json"
    args = ["study", "catalogue", "--part", "size", "--products", "200", "--json", str(out)]
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 0, done.output
    small, large = json.loads(out.read_text("utf-8"))["size"]["result"]
    assert (small["products"], large["products"]) == (20, 200)
    assert large["held_bytes"] > small["held_bytes"] > 0
    assert 0 < large["found"] < 1
    assert done.output.splitlines()[-2].split()[0] == "200"
