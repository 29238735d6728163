# SPDX-License-Identifier: Apache-2.0
"""Measure a member that looks values up in filled products: what its votes add, and what it costs."""

from __future__ import annotations

import gc
import json
import tempfile
import time
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from quorum.evaluation.evaluate import Evaluation, evaluate
from quorum.runtimes.base import RuntimeSettings
from quorum.runtimes.catalogue import CatalogueRuntime, add_votes
from quorum.runtimes.lookup_options import CatalogueOptions
from quorum.tasks.catalogue import Catalogue
from quorum.votes import VotesTable, read_votes

Row = dict[str, Any]
MEMBER = "catalogue"
FOLDS = 5
GOLD = 200
# The gold of AE-110K is compared as it is written.
_EXACT = Catalogue({}, "exact")
_ATTRIBUTES = ("brand", "color", "material", "size", "model", "style")
_WORDS = 20_000
_BRANDS = 5_000
_FILLED = 0.7
_LOOKUPS = 2_000


@dataclass(frozen=True, slots=True)
class Shelf:
    """Filled products, by a name for people."""

    name: str
    file: Path


def shelves(folder: Path, out: Path) -> Iterator[Shelf]:
    """Yield the gold of AE-110K's votes, and its products for training, written to ``out`` as a plain list.

    Raises:
        OSError: The folder lacks a file.
    """
    yield Shelf("the other products of the table", folder / "votes.jsonl")
    plain = out / "products.jsonl"
    with (
        (folder / "products-train.jsonl").open(encoding="utf-8") as rows,
        plain.open("w", encoding="utf-8") as file,
    ):
        for row in map(json.loads, rows):
            values = {name: list(accepted) for name, accepted in row["target_scores"].items()}
            file.write(json.dumps({"text": row["input"], "attributes": values}) + "\n")
    yield Shelf("1,568 products for training", plain)


def accuracy(folder: Path, seeds: int) -> Iterator[Row]:
    """Per set of filled products: the member's answers, and the accuracy of the methods with it.

    All labels of the filled products are used, however many the method learns from. The first row has the
    votes without the member.
    """
    votes = read_votes(folder / "votes.jsonl")
    yield {"shelf": "no member", "any_right": _any_right(votes), **_methods(votes, seeds)}
    with tempfile.TemporaryDirectory() as out:
        for shelf in shelves(folder, Path(out)):
            options = CatalogueOptions(products=shelf.file.name)
            settings = RuntimeSettings(MEMBER, shelf.file.parent, options, catalogue=_EXACT)
            table = add_votes(votes, settings)
            own = [cell.values[-1] for cell in table.cells]
            right = [cell.is_right(value) for cell, value in zip(table.cells, own, strict=True)]
            answered = sum(value is not None for value in own)
            yield {
                "shelf": shelf.name,
                "answered": 100.0 * answered / len(own),
                "right": 100.0 * sum(right) / max(answered, 1),
                "any_right": _any_right(table),
                **_methods(table, seeds),
            }


def _any_right(table: VotesTable) -> float:
    return float(100.0 * np.mean(table.right > 0))


def _methods(table: VotesTable, seeds: int) -> Row:
    """Mean accuracies over seeds of folds and labels; without gold there is one."""
    runs: dict[str, list[float]] = {}
    for seed in range(seeds):
        few = evaluate(table, ("em", "loglinear"), FOLDS, GOLD, seed)
        full = evaluate(table, ("loglinear",), FOLDS, None, seed)
        for name, run, method in (
            ("majority", few, "majority"),
            ("em", few, "em"),
            (f"loglinear {GOLD}", few, "loglinear"),
            ("loglinear all", full, "loglinear"),
        ):
            runs.setdefault(name, []).append(_percent(run, method))
    return {"methods": {name: float(np.mean(found)) for name, found in runs.items()}, "runs": runs}


def _percent(run: Evaluation, method: str) -> float:
    return 100.0 * run.methods[method].accuracy


def accuracy_table(rows: Sequence[Row]) -> str:
    """Return the table of the accuracies."""
    names = list(rows[0]["methods"])
    lines = [
        "AE-110K, accuracy in percent, mean over seeds; a product never counts for its own votes",
        f"{'filled products':34}{'answered':>9}{'right':>7}{'any right':>11}"
        + "".join(f"{name:>15}" for name in names),
    ]
    for row in rows:
        own = f"{row['answered']:9.1f}{row['right']:7.1f}" if "answered" in row else f"{'':16}"
        figures = "".join(f"{row['methods'][name]:15.2f}" for name in names)
        lines.append(f"{row['shelf']:34}{own}{row['any_right']:11.1f}{figures}")
    return "\n".join(lines)


def size(products: int) -> Row:
    """Build an index of made-up products, and time look-ups of other titles, of all attributes each."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "products.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for title, values in _made_up(products, 0):
                file.write(json.dumps({"text": title, "attributes": values}) + "\n")
        settings = RuntimeSettings(
            MEMBER, path.parent, CatalogueOptions(products=path.name), catalogue=_EXACT
        )
        gc.collect()
        start = time.process_time()
        runtime = CatalogueRuntime(settings)
        build_s = time.process_time() - start
        times, found = _timed(runtime, [title for title, _ in _made_up(min(_LOOKUPS, products), 1)])
        del runtime
        gc.collect()
        # Tracing slows all allocations down: a second build, for the memory alone.
        tracemalloc.start()
        runtime = CatalogueRuntime(settings)
        held, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        runtime.close()
    return {
        "products": products,
        "build_cpu_s": build_s,
        "held_bytes": held,
        "peak_bytes": peak,
        "median_us": float(np.median(times)),
        "p99_us": float(np.quantile(times, 0.99)),
        "attributes": len(_ATTRIBUTES),
        "found": found,
    }


def _timed(runtime: CatalogueRuntime, titles: Sequence[str]) -> tuple[list[float], float]:
    """CPU microseconds of each look-up of all attributes, and the share of attributes that were found."""
    times, found = [], 0
    for title in titles:
        start = time.thread_time_ns()
        votes = runtime.look_up(title, _ATTRIBUTES)
        times.append((time.thread_time_ns() - start) / 1e3)
        found += sum(bool(vote.value) for vote in votes)
    return times, found / (len(titles) * len(_ATTRIBUTES))


def _made_up(count: int, seed: int) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Titles of about twelve words, and six attributes whose values they hold, most of them filled in.

    Brands and words are drawn by Zipf's law, and each product has a model number of its own.
    """
    rng, words = np.random.default_rng(seed), _words()
    for number in range(count):
        ranks = np.minimum(rng.zipf(1.3, 10), _WORDS) - 1
        drawn = [words[rank] for rank in ranks]
        values = {
            "brand": words[int(ranks[0]) % _BRANDS].capitalize(),
            "color": words[int(ranks[1]) % 40],
            "material": f"{words[int(ranks[2]) % 60]} {words[int(ranks[3]) % 5]}",
            "size": f"{rng.integers(1, 500)} cm",
            "model": f"{words[int(ranks[4]) % 500][:2].upper()}-{seed}{number:06d}",
            "style": words[int(ranks[5]) % 200],
        }
        title = " ".join([values["brand"], *drawn[6:], *list(values.values())[1:]])
        yield title, {name: value for name, value in values.items() if rng.random() < _FILLED}


@cache
def _words() -> list[str]:
    letters = np.random.default_rng(7)
    return ["".join(chr(97 + c) for c in letters.integers(0, 26, n)) for n in letters.integers(3, 9, _WORDS)]


SIZE_HEAD = " products  build, CPU s  held MB  peak MB  look-up us  99 % us  found    (us: of CPU time)"


def size_line(row: Row) -> str:
    """Return a row of sizes as a line."""
    held, peak = row["held_bytes"] / 1e6, row["peak_bytes"] / 1e6
    return (
        f"{row['products']:9d}{row['build_cpu_s']:14.1f}{held:9.1f}{peak:9.1f}"
        f"{row['median_us']:12.0f}{row['p99_us']:9.0f}{100.0 * row['found']:6.0f}%"
    )
