# SPDX-License-Identifier: Apache-2.0
"""Compare learning without gold to majority on subsets of the members of recorded votes."""

from __future__ import annotations

import gzip
import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quorum.decision.histogram import histogram
from quorum.deployment.load import load_deployment
from quorum.learning import learn_statistic
from quorum.learning.simulate import independent
from quorum.votes import VotesTable, read_votes
from quorum.votes.schema import Cell
from quorum.votes.statistic import Statistic
from quorum.votes.table import build_table
from quorum_bench.studies.score_votes import hits, percent, seed_votes, statistic_of

Row = dict[str, Any]
SIZES = (3, 4, 5)
MOST_LOST = 0.3
WANTED = 18 / 20
METHODS: Mapping[str, tuple[str, Mapping[str, Any] | None]] = {
    "em_before": ("em", {"cautious": False}),
    "em": ("em", None),
    "auto": ("auto", None),
}
"""Column -> method and its settings."""


@dataclass(frozen=True)
class Inputs:
    """Votes to take subsets of.

    Attributes:
        data: Folder of the public data; None: left out.
        files: Further votes tables with gold.
        demo: Folder of the demo's votes, ``seed-N.jsonl``, recorded where they are missing; None: left out.
        deploy: ``deploy.yaml`` of the demo's LLMs.
        draws: Random subsets of a table; all of them where there are no more.
        seed: Seed of the draws.
        seeds: Number of the demo's tables, and of simulated ones of each kind.
    """

    data: Path | None
    files: Sequence[Path]
    demo: Path | None
    deploy: Path
    draws: int = 20
    seed: int = 1
    seeds: int = 10


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    votes: VotesTable
    counts: Mapping[str, int]
    whole: bool = False


def subsets(inputs: Inputs) -> Iterator[Row]:
    """Per subset: accuracy of majority, and points that every method is above or below it."""
    for table in _tables(inputs):
        everyone = tuple(range(len(table.votes.members)))
        for members in [everyone] if table.whole else _drawn(len(everyone), inputs):
            yield _judged(table, members)


def _judged(table: _Table, members: tuple[int, ...]) -> Row:
    votes = of_members(table.votes, members).coded()
    statistic = statistic_of(votes, scores=False)
    majority, points, doubt = percent(hits(votes)), {}, ""
    for column, (method, settings) in METHODS.items():
        weights = learn_statistic(statistic, method, value_counts=table.counts, settings=settings)
        points[column] = percent(hits(votes, weights)) - majority
        doubt = weights.settings.get("doubt", "")
    return {
        "table": table.name,
        "members": list(votes.members),
        "subset": list(members),
        "cells": len(votes.codes),
        "majority": majority,
        **points,
        "doubt": doubt,
    }


def of_members(table: VotesTable, members: Sequence[int]) -> VotesTable:
    """The votes of some members, with the gold of all cells and without scores."""
    cells = [
        Cell(
            cell.product, cell.category, cell.title, cell.attribute,
            tuple(cell.values[j] for j in members), cell.gold,
        )
        for cell in table.cells
    ]  # fmt: skip
    return build_table([table.members[j] for j in members], cells)


def _drawn(members: int, inputs: Inputs) -> list[tuple[int, ...]]:
    """All subsets of 3 to 5 members, or random ones, by size first."""
    sizes = [size for size in SIZES if size <= members]
    every = [chosen for size in sizes for chosen in itertools.combinations(range(members), size)]
    if len(every) <= inputs.draws:
        return every
    rng = np.random.default_rng(inputs.seed)
    found: set[tuple[int, ...]] = set()
    while len(found) < inputs.draws:
        chosen = rng.choice(members, sizes[int(rng.integers(len(sizes)))], replace=False)
        found.add(tuple(sorted(chosen.tolist())))
    return sorted(found)


def _tables(inputs: Inputs) -> Iterator[_Table]:
    if inputs.data is not None:
        yield _Table("AE-110K", read_votes(inputs.data / "ae-110k" / "votes.jsonl"), {})
        yield _Table("raters", _raters(inputs.data / "tasks" / "relevance"), {"relevance": 4})
        yield _Table("annotators", _annotators(inputs.data / "tasks" / "queryner"), {"label": 34})
    for file in inputs.files:
        yield _Table(file.stem, read_votes(file), {})
    if inputs.demo is not None:
        deployment = load_deployment(inputs.deploy)
        counts = deployment.catalogue().value_counts()
        for _, votes in seed_votes(inputs.demo, deployment, inputs.seeds):
            yield _Table("demo", votes, counts)
    for members, values in itertools.product((3, 5), (3, 10)):
        for seed in range(inputs.seeds):
            name = f"independent {members}, K {values}"
            yield _Table(name, _simulated(members, values, seed), {"a": values}, whole=True)


def _raters(folder: Path) -> VotesTable:
    """Three people's grades of products for queries, and the final grade."""
    rows = [row for part in ("train", "dev", "test") for row in _lines(folder / f"{part}.jsonl.gz")]
    cells = [
        Cell(f"{row['query']}|{row['product_id']}", "", "", "relevance", tuple(map(str, row["ratings"])),
             (str(row["label"]),))
        for row in rows
    ]  # fmt: skip
    return build_table(["rater 1", "rater 2", "rater 3"], cells)


def _annotators(folder: Path) -> VotesTable:
    """Three people's labels of the tokens of queries, and the adjudicated labels."""
    cells = [
        Cell(f"{row['id']}.{at}", "", "", "label", votes, (gold,))
        for row in _lines(folder / "test.jsonl.gz")
        for at, (gold, votes) in enumerate(
            zip(row["labels"], zip(*row["annotators"], strict=True), strict=True)
        )
    ]
    return build_table(["annotator 1", "annotator 2", "annotator 3"], cells)


def _lines(file: Path) -> list[dict[str, Any]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _simulated(members: int, values: int, seed: int) -> VotesTable:
    """1 000 cells of members that err independently."""
    rng = np.random.default_rng(seed)
    codes, truth = independent(rng, 1_000, rng.permutation(np.linspace(0.55, 0.95, members)), values)
    cells = [
        Cell(f"p{i}", "", "", "a", tuple(f"v{v}" if v > 0 else None for v in row), (f"v{truth[i]}",))
        for i, row in enumerate(codes.tolist())
    ]
    return build_table([f"m{j}" for j in range(members)], cells)


def seconds(cells: int = 1_000_000, repeats: int = 5) -> Row:
    """Time ``em`` on independent members with and without the test, in turn, each time on other votes."""
    names, attributes = tuple(f"m{j}" for j in range(5)), 8
    took: dict[str, list[float]] = {"em_before": [], "em": []}
    for seed in range(2 * repeats):
        rng = np.random.default_rng(seed)
        codes, _ = independent(rng, cells, np.linspace(0.55, 0.95, 5), 10)
        groups = rng.integers(0, attributes, cells).astype(np.int32)
        column = list(took)[seed % 2]
        start = time.perf_counter()
        hist = histogram(codes, groups)
        statistic = Statistic(names, tuple(("", f"a{g}") for g in range(attributes)), hist)
        learn_statistic(statistic, "em", settings=METHODS[column][1])
        took[column].append(time.perf_counter() - start)
    medians = {column: float(np.median(times)) for column, times in took.items()}
    return {"cells": cells, **medians, "ratio": medians["em"] / medians["em_before"]}


def seconds_line(row: Row) -> str:
    """Return the seconds as a line."""
    return (
        f"{row['cells']} cells of 5 independent members, from codes to weights, median: em before "
        f"{row['em_before']:.3f} s, em {row['em']:.3f} s, ratio {row['ratio']:.2f}"
    )


HEAD = (
    "Accuracy of majority, and points above it, without gold and without scores\n"
    f"{'table':20}{'subset':17}{'majority':>9}{'em before':>10}{'em':>7}{'auto':>7}  agreement"
)


def line(row: Row) -> str:
    """Return a row as a line."""
    subset = ",".join(map(str, row["subset"]))
    points = f"{row['em_before']:+10.2f}{row['em']:+7.2f}{row['auto']:+7.2f}"
    trust = "doubted" if row["doubt"] else "trusted"
    return f"{row['table'][:19]:20}{subset:17}{row['majority']:9.1f}{points}  {trust}"


def summary(rows: Sequence[Row]) -> str:
    """Return mean, worst and number of subsets below majority, by table, with what is wanted of auto."""
    lines = [
        f"{'':23}{'em before':^23}{'em':^23}{'auto':^23}",
        f"{'table':20}{'n':>3}" + f"{'mean':>8}{'worst':>7}{'below':>7} " * 3 + " trusted  verdict",
    ]
    for name in dict.fromkeys(row["table"] for row in rows):
        own = [row for row in rows if row["table"] == name]
        figures = ""
        for column in METHODS:
            points = np.array([row[column] for row in own])
            figures += f"{points.mean():+8.2f}{points.min():+7.2f}{(points < -MOST_LOST).sum():7d} "
        good = np.mean([row["auto"] >= -MOST_LOST for row in own])
        trusted = sum(not row["doubt"] for row in own)
        verdict = "met" if good >= WANTED else "MISSED"
        lines.append(f"{name[:19]:20}{len(own):3d}{figures}{trusted:8d}  {verdict}")
    lines.append(
        f"below: by more than {MOST_LOST:g} points; wanted: auto not so in {WANTED:.0%} of the subsets"
    )
    return "\n".join(lines)
