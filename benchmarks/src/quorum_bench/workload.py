# SPDX-License-Identifier: Apache-2.0
"""Make requests: made-up products whose votes are known, so that every answer can be checked."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WORDS = (
    "trail running shoe leather cotton navy light waterproof slim fit classic soft daily sport outdoor women "
    "men kids summer winter breathable durable premium compact rechargeable stainless organic"
)


@dataclass(frozen=True, slots=True)
class Product:
    """One request.

    Attributes:
        text: Product text.
        category: May be empty.
        attributes: Attribute names.
    """

    text: str
    category: str
    attributes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Workload:
    """The requests of a load, repeated in order.

    Attributes:
        products: At least one; texts differ.
    """

    products: tuple[Product, ...]

    @classmethod
    def made(cls, attributes: int, text_characters: int = 200, products: int = 64, seed: int = 0) -> Workload:
        """Make products of ``text_characters`` ASCII characters, each with ``attributes`` attributes."""
        rng = random.Random(seed)
        names = attribute_names(attributes)
        return cls(
            tuple(
                Product(_text(rng, p, text_characters), f"category {p % 4}", names) for p in range(products)
            )
        )

    @classmethod
    def of_listings(cls, path: Path, attributes: Sequence[str], products: int = 64) -> Workload:
        """Read the first listings of a JSONL file, each with ``attributes``."""
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()[:products]]
        return cls(tuple(Product(row["title"], row.get("category", ""), tuple(attributes)) for row in rows))

    def votes_table(self, members: Sequence[str]) -> list[dict[str, Any]]:
        """Rows that replay members answer from: they mostly agree, one in five has a value of its own."""
        return [
            {
                "product": f"p{p}",
                "category": product.category,
                "title": product.text,
                "attribute": name,
                "gold": [f"value {p % 7}"],
                "votes": {m: _vote(i, p, a) for i, m in enumerate(members)},
            }
            for p, product in enumerate(self.products)
            for a, name in enumerate(product.attributes)
        ]


def attribute_names(count: int) -> tuple[str, ...]:
    """Make ``count`` attribute names."""
    return tuple(f"attribute {a}" for a in range(count))


def _vote(member: int, product: int, attribute: int) -> str:
    alone = (product + attribute + member) % 5 == 0
    return f"own {member}" if alone else f"value {product % 7}"


def _text(rng: random.Random, product: int, characters: int) -> str:
    vocabulary = _WORDS.split()
    words = [f"product {product}"]
    length = len(words[0])
    while length < characters:
        words.append(rng.choice(vocabulary))
        length += 1 + len(words[-1])
    return " ".join(words)[:characters].rstrip()
