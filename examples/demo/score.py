# SPDX-License-Identifier: Apache-2.0
"""Score the demo LLMs, alone and voting, on the held-out listings, through the runtime that serves them.

``python examples/demo/score.py [--votes FILE] [--cards]`` runs in the serving environment and prints
accuracies and speeds; ``--votes`` writes the votes table, ``--cards`` each model's ``README.md``.
"""

from __future__ import annotations

import argparse
import json
import platform
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from cards import Scores, write_card
from demo_format import bare_prompt
from vocabulary import ATTRIBUTES, HERE

from quorum.runtimes.base import Generated, Question, Reply, RuntimeSettings
from quorum.runtimes.openvino import OpenVinoRuntime
from quorum.runtimes.options import OpenVinoOptions
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import answer_schema
from quorum.tasks.parse import parse_answer

SINGLE_COUNT = 100
"""Listings asked one at a time, for the speed at one in flight."""
IN_FLIGHT = 16
_DEADLINE_NS = 120_000_000_000

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answers:
    """One model's answers to all listings."""

    values: dict[tuple[str, str], str | None]
    """(product, attribute) -> value; None where the answer could not be read."""
    single_rate: float
    """Listings per second, one in flight."""
    batch_rate: float
    """Listings per second, 16 in flight."""


def load_catalogue() -> Catalogue:
    """The demo's attributes, as in the server's catalogue."""
    attributes = json.loads((HERE / "attributes.json").read_text(encoding="utf-8"))
    return Catalogue.of(
        [
            Attribute(
                name, spec["question"], tuple(spec["values"] or ()), spec["synonyms"], spec["normaliser"]
            )
            for name, spec in attributes.items()
        ]
    )


def load_rows() -> list[Row]:
    """The held-out listings."""
    return [json.loads(line) for line in (HERE / "listings.jsonl").read_text(encoding="utf-8").splitlines()]


def ask_all(
    runtime: OpenVinoRuntime, catalogue: Catalogue, rows: Sequence[Row], in_flight: int
) -> list[Reply]:
    """Ask the model about every listing, at most ``in_flight`` at once; replies in the order of ``rows``."""
    replies: dict[int, Reply] = {}
    free = threading.Semaphore(in_flight)
    schema = json.dumps(answer_schema(catalogue, ATTRIBUTES))

    def done(number: int, reply: Reply) -> None:
        replies[number] = reply
        free.release()

    for number, row in enumerate(rows):
        free.acquire()
        prompt = bare_prompt(ATTRIBUTES, row["category"], row["title"])
        deadline = time.monotonic_ns() + _DEADLINE_NS
        question = Question(prompt, schema, row["title"], row["category"], ATTRIBUTES, deadline)
        runtime.submit(question, partial(done, number))
    for _ in range(in_flight):
        free.acquire()
    return [replies[number] for number in range(len(rows))]


def ask_model(folder: Path, catalogue: Catalogue, rows: Sequence[Row]) -> Answers:
    """Answers and speeds of the model in ``folder``, on one thread."""
    runtime = OpenVinoRuntime(RuntimeSettings(folder.name, folder.parent, OpenVinoOptions(model=folder.name)))
    try:
        ask_all(runtime, catalogue, rows[:IN_FLIGHT], IN_FLIGHT)
        started = time.perf_counter()
        ask_all(runtime, catalogue, rows[:SINGLE_COUNT], 1)
        single = time.perf_counter() - started
        started = time.perf_counter()
        replies = ask_all(runtime, catalogue, rows, IN_FLIGHT)
        batch = time.perf_counter() - started
    finally:
        runtime.close()
    values: dict[tuple[str, str], str | None] = {}
    for row, reply in zip(rows, replies, strict=True):
        generated = reply if isinstance(reply, Generated) else Generated("")
        votes = parse_answer(catalogue, ATTRIBUTES, *generated[:3])
        for attribute, vote in zip(ATTRIBUTES, votes, strict=True):
            values[row["product"], attribute] = vote.value or None
    return Answers(values, SINGLE_COUNT / single, len(rows) / batch)


def votes_table(rows: Sequence[Row], answers: Mapping[str, Answers]) -> list[dict[str, Any]]:
    """One row per listing and attribute, in the votes-table format."""
    return [
        {
            "product": row["product"],
            "category": row["category"],
            "title": row["title"],
            "attribute": attribute,
            "gold": row["gold"][attribute],
            "votes": {model: reply.values[row["product"], attribute] for model, reply in answers.items()},
        }
        for row in rows
        for attribute in ATTRIBUTES
    ]


def accuracy(table: Sequence[Row], choose: Mapping[str, Sequence[str]]) -> float:
    """Share of cells decided correctly when ``choose[attribute]`` lists the models in order of weight.

    The first model wins unless the others agree on another value; a single model decides alone.
    """
    return sum(_decision(row["votes"], choose[row["attribute"]]) in row["gold"] for row in table) / len(table)


def _decision(votes: Mapping[str, str | None], order: Sequence[str]) -> str | None:
    values = [votes[model] for model in order if votes[model] is not None]
    return max(values, key=values.count) if values else None


def best_orders(table: Sequence[Row], models: Sequence[str]) -> dict[str, Sequence[str]]:
    """Per attribute the order of models whose decision is right most often on ``table``.

    With three models every weighted majority is one of these: one decides alone, or two that agree win and
    one breaks ties.
    """
    orders: list[tuple[str, ...]] = [(model,) for model in models]
    orders += [(model, *(other for other in models if other != model)) for model in models]
    best: dict[str, Sequence[str]] = {}
    for attribute in ATTRIBUTES:
        cells = [row for row in table if row["attribute"] == attribute]
        best[attribute] = max(orders, key=lambda order: accuracy(cells, {attribute: order}))
    return best


def summarise(table: Sequence[Row], models: Sequence[str]) -> dict[str, float]:
    """Shares right: unanimous cells, majority, weights learned on one half for the other, the oracle."""
    even = [row for row in table if int(row["product"][-4:]) % 2 == 0]
    odd = [row for row in table if int(row["product"][-4:]) % 2 == 1]
    agreed = [row for row in table if len(set(row["votes"].values())) == 1]
    halves = ((even, odd), (odd, even))
    weighted = sum(accuracy(test, best_orders(train, models)) * len(test) for train, test in halves) / len(
        table
    )
    return {
        "unanimous": len(agreed) / len(table),
        "right when unanimous": sum(row["votes"][models[0]] in row["gold"] for row in agreed)
        / max(1, len(agreed)),
        "majority": accuracy(table, dict.fromkeys(ATTRIBUTES, tuple(models))),
        "weighted per attribute, two-fold": weighted,
        "weighted per attribute, in hindsight": accuracy(table, best_orders(table, models)),
        "oracle (any right)": sum(any(vote in row["gold"] for vote in row["votes"].values()) for row in table)
        / len(table),
    }


def score(table: Sequence[Row], model: str, answers: Answers) -> Scores:
    """Compute one model's figures for its card."""
    cells = {attribute: [row for row in table if row["attribute"] == attribute] for attribute in ATTRIBUTES}
    return Scores(
        attributes={name: accuracy(rows, {name: (model,)}) for name, rows in cells.items()},
        all=accuracy(table, dict.fromkeys(ATTRIBUTES, (model,))),
        unreadable=sum(value is None for value in answers.values.values()),
        listings=len(table) // len(ATTRIBUTES),
        single_rate=answers.single_rate,
        batch_rate=answers.batch_rate,
        machine=machine(),
        date=datetime.now(UTC).date().isoformat(),
    )


def machine() -> str:
    """The processor's name and architecture."""
    lines = (
        Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if Path("/proc/cpuinfo").exists()
        else []
    )
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'unknown processor'} ({platform.machine()})"


def main() -> None:
    """Read the command line and score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=HERE / "models", help="folder of the built models")
    parser.add_argument("--votes", type=Path, help="write the votes table here")
    parser.add_argument("--cards", action="store_true", help="write the models' README.md")
    options = parser.parse_args()
    catalogue, rows = load_catalogue(), load_rows()
    folders = sorted(file.parent for file in options.models.glob("*/openvino_model.xml"))
    answers = {folder.name: ask_model(folder, catalogue, rows) for folder in folders}
    table = votes_table(rows, answers)
    print(f"{'':12}" + "".join(f"{name:>11}" for name in (*ATTRIBUTES, "all", "1/s @1", "1/s @16")))
    for folder in folders:
        scores = score(table, folder.name, answers[folder.name])
        shares = "".join(f"{value:11.1%}" for value in (*scores.attributes.values(), scores.all))
        print(f"{folder.name:12}{shares}{scores.single_rate:11.1f}{scores.batch_rate:11.1f}")
        if options.cards:
            write_card(folder, scores)
    if len(folders) == 3:
        for name, value in summarise(table, list(answers)).items():
            print(f"{name:38}{value:7.1%}")
    if options.votes:
        lines = [json.dumps(row, ensure_ascii=False) for row in table]
        options.votes.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
