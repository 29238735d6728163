# SPDX-License-Identifier: Apache-2.0
"""Write the three raters of the keyphrase data as recorded votes, and the pairs that they judged.

``python examples/keyphrases/raters.py OUT [--data DIR]`` writes

- ``pairs.jsonl``: item, text (its title), keyphrase, fold, gold (the source's final grade), and the signals:
  clicks and impressions (both SIMULATED by the data's makers) and relevance (BM25);
- ``votes.jsonl``: the votes, which the members of ``deploy.yaml`` replay;
- ``learn.jsonl``: the same votes with gold, on the queries of one fold, for ``quorum learn``;
- ``items.jsonl`` and ``keyphrases.jsonl``: all items, and candidates without judgements.

The raters are people. DIR has ``judgements.jsonl.gz``, ``items.jsonl.gz`` and ``keyphrases.jsonl.gz``, by
default ``$QUORUM_DATA/keyphrases``. Needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

RATERS = ("rater_1", "rater_2", "rater_3")
LEARNED_FOLD = 0
"""Fold whose final grades teach the weights; the other two are not seen."""

Row = Mapping[str, Any]


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a packed JSON lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def judged(data: Path) -> list[tuple[Row, str]]:
    """Each judgement with its item's title; of items with one title only the first: members see no id."""
    titles = {item["id"]: item["title"] for item in rows(data / "items.jsonl.gz")}
    found: dict[tuple[str, str], tuple[Row, str]] = {}
    for row in rows(data / "judgements.jsonl.gz"):
        title = titles[row["item"]]
        found.setdefault((title, row["keyphrase"]), (row, title))
    return [*found.values()]


def pair(row: Row, title: str) -> Row:
    """A row of pairs."""
    return {
        "item": row["item"],
        "text": title,
        "keyphrase": row["keyphrase"],
        "fold": row["fold"],
        "gold": str(row["final"]),
        "clicks": row["sim_clicks"],
        "impressions": row["sim_impressions"],
        "relevance": row["search_score"],
    }


def vote(row: Row, title: str, *, gold: bool) -> Row:
    """A row of a votes table."""
    return {
        "product": row["item"],
        "category": "",
        "title": title,
        "attribute": row["keyphrase"],
        "votes": dict(zip(RATERS, map(str, row["votes"]), strict=True)),
        "gold": [str(row["final"])] if gold else [],
    }


def write(path: Path, found: Iterable[Row]) -> int:
    """Write JSON lines; the number of rows."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in found]
    path.write_text("".join(lines), encoding="utf-8")
    return len(lines)


def write_all(data: Path, out: Path) -> dict[str, int]:
    """Write all files; rows of each."""
    out.mkdir(parents=True, exist_ok=True)
    known = judged(data)
    learned = [(row, title) for row, title in known if row["fold"] == LEARNED_FOLD]
    return {
        "pairs.jsonl": write(out / "pairs.jsonl", (pair(*one) for one in known)),
        "votes.jsonl": write(out / "votes.jsonl", (vote(*one, gold=False) for one in known)),
        "learn.jsonl": write(out / "learn.jsonl", (vote(*one, gold=True) for one in learned)),
        "items.jsonl": write(out / "items.jsonl", rows(data / "items.jsonl.gz")),
        "keyphrases.jsonl": write(out / "keyphrases.jsonl", rows(data / "keyphrases.jsonl.gz")),
    }


def main() -> None:
    """Parse arguments, write, and say what was written."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("QUORUM_DATA", "data")) / "keyphrases"
    )
    given = parser.parse_args()
    if not (given.data / "judgements.jsonl.gz").is_file():
        sys.exit(f"no judgements.jsonl.gz in {given.data}; name the folder of the data with --data")
    for name, count in write_all(given.data, given.out).items():
        print(f"{given.out / name}: {count} rows")


if __name__ == "__main__":
    main()
