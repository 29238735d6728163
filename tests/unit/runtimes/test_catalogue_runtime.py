# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import quorum
from quorum.runtimes import create
from quorum.runtimes.base import Question, Reply, RuntimeConfigError, RuntimeSettings
from quorum.runtimes.catalogue import CatalogueRuntime, add_votes
from quorum.runtimes.filled_file import read_products
from quorum.runtimes.lookup_options import CatalogueOptions
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.parse import Vote
from quorum.votes import VotesError, build_table, read_votes, write_votes
from quorum.votes.schema import Cell
from quorum_contract import Status

PLAIN: list[dict[str, Any]] = [
    {"id": 1, "text": "Acme mug, red", "category": "mugs", "attributes": {"brand": "Acme", "color": ["Red"]}},
    {"text": "Acme cup", "attributes": {"brand": "Acme", "color": None, "size": ""}},
    {"title": "plain jug", "gold": {"brand": ["n/a"], "litres": 2}},
    {"title": "unknown", "attributes": {}},
]
CELLS = [
    Cell("1", "mugs", "Acme mug, red", "brand", ("x",), ("Acme",)),
    Cell("1", "mugs", "Acme mug, red", "color", ("x",), ("Red",)),
    Cell("2", "", "Acme cup", "brand", (None,), ("Acme",)),
    Cell("2", "", "Acme cup", "color", ("x",)),
    Cell("3", "", "plain jug", "brand", ("x",), ("n/a",)),
]
COLORS = Catalogue.of([Attribute("color", values=("red", "blue")), Attribute("brand")], "exact")


def lines(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def settings(path: Path, catalogue: Catalogue = COLORS, **options: Any) -> RuntimeSettings[CatalogueOptions]:
    chosen = CatalogueOptions(products=path.name, **options)
    return RuntimeSettings("shelf", path.parent, chosen, catalogue=catalogue)


def ask(runtime: Any, text: str, *attributes: str) -> Reply:
    replies: list[Reply] = []
    deadline = time.monotonic_ns() + 10**12
    runtime.submit(Question("", "{}", text, "", attributes, deadline), replies.append)
    (reply,) = replies
    return reply


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return lines(tmp_path / "shelf.jsonl", PLAIN)


def test_it_votes_with_the_logarithm_of_the_precision_or_abstains(plain: Path) -> None:
    runtime = create(settings(plain))
    votes = ask(runtime, "new Acme pot, red", "color", "brand", "litres")
    assert votes == [
        Vote("red", Status.ANSWERED, pytest.approx(math.log(1.5 / 2.0), abs=1e-7)),
        Vote("acme", Status.ANSWERED, pytest.approx(math.log(2.5 / 3.0), abs=1e-7)),
        Vote("", Status.NOT_FOUND, None),
    ]
    assert ask(runtime, "acme mug, RED", "color") == [Vote("", Status.NOT_FOUND)]
    runtime.close()


def test_options_say_how_precise_and_whether_with_scores(plain: Path) -> None:
    runtime = create(settings(plain, min_precision=0.8, scores=False))
    assert ask(runtime, "Acme, red", "color", "brand") == [
        Vote("", Status.NOT_FOUND),
        Vote("acme", Status.ANSWERED),
    ]


def products_of(path: Path) -> list[tuple[str, str, Mapping[str, tuple[str, ...]]]]:
    return [(one.product, one.text, dict(one.values)) for one in read_products(path)]


def test_every_format_is_read_alike(plain: Path, tmp_path: Path) -> None:
    assert products_of(plain) == [
        ("1", "Acme mug, red", {"brand": ("Acme",), "color": ("Red",)}),
        ("", "Acme cup", {"brand": ("Acme",)}),
        ("", "plain jug", {"brand": ("n/a",), "litres": ("2",)}),
    ]
    labelled = [
        ("1", "Acme mug, red", {"brand": ("Acme",), "color": ("Red",)}),
        ("2", "Acme cup", {"brand": ("Acme",)}),
        ("3", "plain jug", {"brand": ("n/a",)}),
    ]
    for ending in ("jsonl", "parquet", "arrow"):
        write_votes(build_table(["m"], CELLS), tmp_path / f"votes.{ending}")
        assert products_of(tmp_path / f"votes.{ending}") == labelled
    columns = {"id": ["1", "2"], "text": ["Acme mug, red", "Acme cup"]}
    pairs = [[("brand", "Acme"), ("color", "Red")], [("brand", "Acme"), ("color", None)]]
    for name, kind in (("map", pa.map_(pa.string(), pa.string())), ("struct", None)):
        values = pairs if kind else [dict(row) for row in pairs]
        table = pa.table({**columns, "attributes": pa.array(values, kind)})
        pq.write_table(table, tmp_path / f"{name}.parquet")
        assert products_of(tmp_path / f"{name}.parquet") == labelled[:2]


def test_a_map_that_names_an_attribute_twice_is_refused(tmp_path: Path) -> None:
    pairs = pa.array([[("brand", "Acme"), ("brand", "Bolt")]], pa.map_(pa.string(), pa.string()))
    pq.write_table(pa.table({"text": ["Acme mug"], "attributes": pairs}), tmp_path / "map.parquet")
    with pytest.raises(RuntimeConfigError, match="row 1: `attributes`: 'brand' stands twice"):
        products_of(tmp_path / "map.parquet")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("not JSON", "line 2: not JSON"),
        ("[1]", "line 2: list, expected an object"),
        ('{"attributes": {"a": "b"}}', "line 2: the text is None; .* title, text"),
        ('{"text": "  ", "attributes": {"a": "b"}}', "line 2: the text is '  '"),
        ('{"text": "t"}', "line 2: no `attributes`"),
        ('{"text": "t", "attributes": "b"}', "line 2: no `attributes`"),
        ('{"text": "t", "attributes": ["b"]}', "line 2: no `attributes`"),
        ('{"text": "t", "attributes": ["ab"]}', "line 2: no `attributes`"),
        ('{"text": "t", "attributes": [["a", "b"]]}', "line 2: no `attributes`"),
        ('{"text": "t", "attributes": {"a": 1e999}}', "line 2: `attributes`: 'a' is inf, which is no value"),
        ('{"text": "t", "attributes": {"a": [NaN, "b"]}}', "line 2: `attributes`: 'a' is nan"),
        ('{"text": "t", "attributes": {"a": "b", "a": "c"}}', "line 2: 'a' stands twice in one object"),
        ('{"text": "t", "attributes": {"a": true}}', "line 2: `attributes`: 'a' is True"),
        ('{"text": "t", "attributes": {"a": {"b": "c"}}}', "line 2: `attributes`: 'a' is"),
        ('{"text": "t", "attributes": {" ": "c"}}', "line 2: .*cannot name an attribute"),
        ('{"text": "\\ud800", "attributes": {"a": "c"}}', "line 2: .*lone surrogate"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: str, problem: str) -> None:
    path = tmp_path / "shelf.jsonl"
    path.write_text(json.dumps(PLAIN[0]) + "\n" + row + "\n", "utf-8")
    with pytest.raises(RuntimeConfigError, match=problem):
        create(settings(path))


def test_a_file_of_no_use_is_refused(tmp_path: Path) -> None:
    def refused(path: Path, problem: str) -> None:
        with pytest.raises(RuntimeConfigError, match=problem):
            create(settings(path))

    refused(tmp_path / "missing.jsonl", "does not exist")
    refused(lines(tmp_path / "shelf.csv", PLAIN), "cannot tell the format from '.csv'")
    refused(lines(tmp_path / "empty.jsonl", []), "no attribute of any product is filled in")
    refused(lines(tmp_path / "bare.jsonl", PLAIN[3:]), "no attribute of any product is filled in")
    other = [{"text": "t", "attributes": {"Colour": "red"}}]
    refused(lines(tmp_path / "names.jsonl", other), "fills in 'Colour', and .* asks for 'brand', 'color'")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    refused(tmp_path / "broken.parquet", "cannot be read as Parquet")
    write_votes(build_table(["m"], [Cell("1", "", "", "brand", ("x",), ("Acme",))]), tmp_path / "v.jsonl")
    refused(tmp_path / "v.jsonl", "line 1: no `title`")


def test_added_votes_leave_the_product_out_by_text_and_by_id(plain: Path) -> None:
    bare = build_table(
        ["m"],
        [
            Cell("1", "", "red Acme mug", "color", ("x",), scores=(-0.5,)),
            Cell("9", "", "red Acme mug", "color", ("x",)),
            Cell("8", "", "Acme cup", "brand", ("x",)),
        ],
    )
    table = add_votes(bare, settings(plain))
    assert table.members == ("m", "shelf")
    assert [cell.values for cell in table.cells] == [("x", None), ("x", "red"), ("x", "acme")]
    assert table.cells[0].scores == (-0.5, None)
    assert table.cells[1].scores == (None, pytest.approx(math.log(0.75), abs=1e-7))
    assert table.cells[2].scores[1] == pytest.approx(math.log(0.75), abs=1e-7)
    with pytest.raises(VotesError, match="already"):
        add_votes(table, settings(plain))
    with pytest.raises(VotesError, match="has no title"):
        add_votes(build_table(["m"], [Cell("1", "", "", "color", ("x",))]), settings(plain))


@pytest.fixture
def deploy(plain: Path, tmp_path: Path) -> Path:
    path = tmp_path / "deploy.yaml"
    path.write_text(
        "members:\n"
        "  - {name: shelf, runtime: catalogue, options: {products: shelf.jsonl}}\n"
        "attributes: {color: {values: [red, blue]}, brand: {}}\n",
        "utf-8",
    )
    return path


def test_validate_reads_the_products(deploy: Path, plain: Path) -> None:
    deployment = quorum.load_deployment(deploy)
    quorum.validate(deployment)
    assert quorum.plan(deployment).plan.elsewhere == ["shelf"]
    (build,) = quorum.member_builds(deployment)
    assert "filled products" in build.reason
    plain.write_text('{"text": "t", "attributes": 5}\n', "utf-8")
    with pytest.raises(quorum.QuorumError, match=r"members\[0\].options.products: .*line 1: no `attributes`"):
        quorum.validate(deployment)


def test_votes_are_added_to_a_file(deploy: Path, tmp_path: Path) -> None:
    votes, out = tmp_path / "votes.jsonl", tmp_path / "more.parquet"
    write_votes(build_table(["m"], CELLS), votes)
    added = quorum.add_catalogue_votes(votes, quorum.load_deployment(deploy), "shelf", out)
    assert added.to_json() == {"out": str(out), "member": "shelf", "cells": 5, "answered": 2}
    assert [cell.values[1] for cell in read_votes(out).cells] == ["acme", None, "acme", None, None]
    with pytest.raises(quorum.QuorumError, match="no member 'other' of runtime 'catalogue'"):
        quorum.add_catalogue_votes(votes, quorum.load_deployment(deploy), "other", out)


def test_a_runtime_is_made_without_a_catalogue_too(plain: Path) -> None:
    runtime = CatalogueRuntime(settings(plain, Catalogue({}, "exact")))
    assert ask(runtime, "an ACME", "brand")[0].value == "Acme"  # type: ignore[index,union-attr]
