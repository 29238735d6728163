# SPDX-License-Identifier: Apache-2.0
"""Write the public data of the tasks as listings with gold, and define their attributes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from quorum.files import write_atomic
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tune.data import TrainingRow, read_gold
from quorum.votes import read_votes
from quorum_bench.studies.task_tables import spans_of
from quorum_bench.studies.tasks.esci import EXAMPLES, read_esci
from quorum_bench.studies.tasks.inputs import Inputs

ENTITIES, RELEVANCE = "entities", "relevance"
TYPES = (
    *("UoM", "color", "condition", "content", "core_product_type", "creator", "department", "material"),
    *(
        "modifier",
        "occasion",
        "origin",
        "price",
        "product_name",
        "product_number",
        "quantity",
        "shape",
        "time",
    ),
)
"""Types of spans of QueryNER (arXiv 2405.09507)."""
GRADES = ("irrelevant", "complement", "substitute", "exact")
"""Labels of the grades 0 to 3, by the names of ESCI's four."""
CATALOGUE = Catalogue.of(
    [
        Attribute(
            ENTITIES,
            question="The parts of the search query, each with its type.",
            instructions="Cut a search query of an online shop into its parts.",
            values=TYPES,
            kind="spans",
        ),
        Attribute(
            RELEVANCE,
            question="How well does the product answer the query?",
            instructions="Judge how well a product answers a search query of an online shop.",
            values=tuple(reversed(GRADES)),
            kind="label",
            allow_na=False,
            fields=("query", "title"),
        ),
    ]
)
"""Of QueryNER and relevance."""
VALUES = Catalogue({}, default_normaliser="exact")
"""Of AE-110K: every attribute is open, and answers are compared as they are spelled."""

Row = Mapping[str, Any]


def queryner(row: Row) -> dict[str, Any]:
    """A query; gold: its spans."""
    text, spans = " ".join(row["tokens"]), spans_of(row["tokens"], row["labels"])
    gold = [[text[span.start : span.end], span.type] for span in spans]
    return {"id": str(row["id"]), "text": text, "gold": {ENTITIES: gold}}


def relevance(row: Row) -> dict[str, Any]:
    """A query and the title of a product; gold: a grade."""
    return {
        "id": f"{row['query']}/{row['product_id']}",
        "query": row["query"],
        "title": row["title"],
        "gold": {RELEVANCE: [GRADES[row["label"]]]},
    }


def ae110k(row: Row) -> dict[str, Any]:
    """A title; gold: its values by attribute."""
    gold = {name: list(values) for name, values in row["target_scores"].items()}
    return {"title": row["input"], "category": row["category"], "gold": gold}


_SOURCES: Mapping[str, tuple[str, Callable[[Row], dict[str, Any]]]] = {
    "queryner": ("tasks/queryner/{}.jsonl.gz", queryner),
    "relevance": ("tasks/relevance/{}.jsonl.gz", relevance),
    "ae-110k": ("ae-110k/products-{}.jsonl", ae110k),
}
_TASKS = {"queryner": ENTITIES, "relevance": RELEVANCE, "esci": RELEVANCE, "ae-110k": "all"}


def listings(inputs: Inputs, name: str, split: str) -> Path:
    """Write a split as listings with gold, to the folder of the cache.

    Args:
        inputs: Where the data are.
        name: ``queryner``, ``relevance``, ``ae-110k``, or ``esci`` where its files are given.
        split: ``train``, ``dev`` or ``test``; only the first two sources have ``dev``.

    Raises:
        ValueError: The data are not there.
    """
    path = inputs.cache.sources / f"{name}-{split}.jsonl"
    if name == "esci":
        if inputs.esci is None:
            raise ValueError(f"name the folder with {EXAMPLES} by --esci")
        most = inputs.effort.esci[-1] if split == "train" else inputs.effort.esci_asked
        rows = read_esci(inputs.esci, split, most)
    else:
        place, listing = _SOURCES[name]
        rows = map(listing, _rows(inputs.data / place.format(split)))
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    if not lines:
        raise ValueError(f"{name} has no rows of the split {split!r}; complete its files")
    write_atomic(path, "\n".join(lines) + "\n")
    return path


def rows_to_judge(inputs: Inputs, name: str, rows: int | None = None) -> list[TrainingRow]:
    """Rows of the test split: so many, drawn with seed 0, or all."""
    path = listings(inputs, name, "test")
    return list(read_gold(path, [task_of(name)], catalogue_of(name), rows).rows)


def recorded_rows(votes: Path) -> list[TrainingRow]:
    """The labelled cells of a votes table as rows, in its order."""
    return [
        TrainingRow(number, cell.product, cell.title, cell.category, cell.attribute, cell.gold)
        for number, cell in enumerate(read_votes(votes).cells, 1)
        if cell.gold
    ]


def catalogue_of(name: str) -> Catalogue:
    """The catalogue that a source's gold is of."""
    return VALUES if name == "ae-110k" else CATALOGUE


def task_of(name: str) -> str:
    """The attribute that a source has gold for; "all" for every one."""
    return _TASKS[name]


def _rows(path: Path) -> Iterator[Row]:
    if not path.is_file():
        raise ValueError(f"{path} is missing; name the folder of the public data by --data or QUORUM_DATA")
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    yield from map(json.loads, filter(None, content.decode().split("\n")))
