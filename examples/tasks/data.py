# SPDX-License-Identifier: Apache-2.0
"""Write the public task data as listings with gold, for ``quorum tune``, ``extract`` and ``evaluate``.

``python examples/tasks/data.py OUT [--data DIR] [TASK ...]`` writes ``OUT/TASK-train.jsonl``, ``-dev`` and
``-test``. DIR has one folder per task with ``{train,dev,test}.jsonl.gz``, by default ``$QUORUM_DATA/tasks``.
The attributes that the gold is of are in ``deploy.yaml`` next to this file.

| task | attribute | kind | source |
|---|---|---|---|
| queryner | entities | spans | QueryNER (arXiv 2405.09507), queries of Amazon's ESCI set |
| relevance | relevance | label | ratings of querqy/chorus, a stand-in for ESCI with its labels |
| descriptions | description | text | Icecat products, Open Content License |
| review-summaries | summary | text | FewSum's Amazon reviews, three human summaries each |

Needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

SPLITS = ("train", "dev", "test")
GRADES = ("irrelevant", "complement", "substitute", "exact")
"""Labels of the grades 0 to 3 of relevance, by the names that ESCI gives to its four."""

Row = Mapping[str, Any]


def queryner(row: Row) -> dict[str, Any]:
    """A query; gold: its spans as pairs [words, type], read from BIO labels."""
    return {
        "id": str(row["id"]),
        "text": " ".join(row["tokens"]),
        "gold": {"entities": pairs(row["tokens"], row["labels"])},
    }


def pairs(tokens: list[str], labels: list[str]) -> list[list[str]]:
    """The spans of BIO labels as [words, type]; an I- that continues nothing begins a span."""
    found: list[list[str]] = []
    before = "O"
    for token, label in zip(tokens, labels, strict=True):
        kind = label[2:]
        if label.startswith("I-") and before[2:] == kind:
            found[-1][0] += f" {token}"
        elif label != "O":
            found.append([token, kind])
        before = label
    return found


def relevance(row: Row) -> dict[str, Any]:
    """A query and a product's title; gold: one of :data:`GRADES`."""
    gold = {"relevance": [GRADES[row["label"]]]}
    return {
        "id": f"{row['query']}/{row['product_id']}",
        "query": row["query"],
        "title": row["title"],
        "gold": gold,
    }


def descriptions(row: Row) -> dict[str, Any]:
    """A title and the known attributes; gold: the description."""
    known = "; ".join(f"{name}: {_plain(value)}" for name, value in row["attributes"].items())
    return {
        "id": row["id"],
        "title": row["title"],
        "known": known,
        "gold": {"description": [row["description"]]},
    }


def review_summaries(row: Row) -> dict[str, Any]:
    """Eight reviews as one text; gold: three summaries."""
    text = " ".join(f"({number}) {review}" for number, review in enumerate(row["reviews"], 1))
    return {
        "id": row["product_id"],
        "category": row["category"],
        "text": text,
        "gold": {"summary": row["summaries"]},
    }


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


TASKS: Mapping[str, Callable[[Row], dict[str, Any]]] = {
    "queryner": queryner,
    "relevance": relevance,
    "descriptions": descriptions,
    "review-summaries": review_summaries,
}


def read(data: Path, task: str, split: str) -> Iterator[Row]:
    """The rows of one split; raises ``SystemExit`` with what to do where the file is absent."""
    path = data / task / f"{split}.jsonl.gz"
    if not path.is_file():
        raise SystemExit(
            f"{path} does not exist; name the folder of the task data with --data or QUORUM_DATA"
        )
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def write(data: Path, task: str, out: Path) -> dict[str, int]:
    """Write all splits of a task to ``out``; the number of rows of each split."""
    out.mkdir(parents=True, exist_ok=True)
    counts = {}
    for split in SPLITS:
        lines = [json.dumps(TASKS[task](row), ensure_ascii=False) for row in read(data, task, split)]
        (out / f"{task}-{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        counts[split] = len(lines)
    return counts


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Write task data as listings with gold.")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)}; all by default")
    usual = Path(os.environ.get("QUORUM_DATA", "data")) / "tasks"
    parser.add_argument(
        "--data", type=Path, default=usual, help=f"folder of the task data, by default {usual}"
    )
    args = parser.parse_args()
    if unknown := set(args.tasks) - set(TASKS):
        parser.error(f"unknown task {min(unknown)!r}; use {', '.join(TASKS)}")
    for task in args.tasks or TASKS:
        counts = write(args.data, task, args.out)
        print(f"{task}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))


if __name__ == "__main__":
    main()
