# SPDX-License-Identifier: Apache-2.0
"""Make up small task data of a synthetic marketplace: a stand-in where no public data is at hand.

``python examples/tasks/made_up.py OUT`` writes ``OUT/TASK-train.jsonl``, ``-learn`` and ``-test``: listings
with gold as ``quorum tune``, ``extract`` and ``evaluate`` read them. Words are those of the demo
(``examples/demo/vocabulary.py``, ``listings.py``); invented brands of test rows occur in no other split. The
attributes that the gold is of are in ``deploy.yaml`` next to this file.

| task | attributes | kind | gold |
|---|---|---|---|
| attributes | brand, color, gender | value | of the demo's titles, without misspellings |
| entities | entities | spans | the phrases that a search query was put together from |
| relevance | relevance | label | which facts of the query the product has |
| descriptions | description | text | two sentences from title and known facts |

Figures on this data say that the parts work together; they say nothing about real listings.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "demo"))

from listings import Mix, known_brands_cached, listings  # noqa: E402
from vocabulary import (  # noqa: E402
    AUDIENCES,
    CATEGORIES,
    FILLERS,
    SIZES,
    invent_brand,
    words_for,
)

SPLITS: Mapping[str, int] = {"train": 600, "learn": 18, "test": 18}
"""Rows of each split by default."""
ATTRIBUTES = ("brand", "color", "gender")
SHARES = {"exact": 0.34, "substitute": 0.3, "complement": 0.18, "irrelevant": 0.18}
"""Shares of the labels of relevance."""
MIX = Mix(typo=0.0, synonym=0.35, hint=0.15, rich=0.2)
"""Titles of the task attributes."""
_BRANDS = 40
_WEARERS = {
    ("women", "adult"): "women",
    ("men", "adult"): "men",
    ("women", "kids"): "girls",
    ("men", "kids"): "boys",
}
_TYPES = {
    "filler": "modifier",
    "brand": "creator",
    "color": "color",
    "material": "material",
    "noun": "core_product_type",
    "audience": "department",
    "size": "UoM",
}
"""Part of a query, in the order that most people write -> type of its span, by QueryNER's names."""
_WANTED = ("brand", "color", "material", "audience")
"""Parts that relevance compares."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true of one product, as canonical values, with the words that state it.

    Attributes:
        category: A key of the vocabulary's categories.
        words: Part -> words, in any spelling.
        values: Part -> value; two products have a fact in common if these are equal.
    """

    category: str
    words: Mapping[str, str]
    values: Mapping[str, str]


def draw(rng: random.Random, *, unseen: bool) -> Facts:
    """Draw a product with all of its facts; ``unseen`` as in :func:`vocabulary.invent_brand`."""
    category = rng.choice(sorted(CATEGORIES))
    known = CATEGORIES[category]
    wearer = rng.choice(sorted(_WEARERS))
    brand = invent_brand(rng, unseen=True) if unseen else rng.choice(known_brands_cached(_BRANDS))
    color, material = rng.choice(sorted(words_for("color"))), rng.choice(known.materials)
    size = rng.choice(SIZES[rng.choice([s for s in known.sizes if not s.startswith(("kids", "baby"))])])
    values = {
        "brand": brand,
        "color": color,
        "material": material,
        "noun": rng.choice(known.nouns),
        "audience": _WEARERS[wearer],
        "filler": rng.choice(FILLERS),
        "size": size,
    }
    words = dict(values) | {
        "color": _worded(rng, "color", color),
        "material": _worded(rng, "material", material),
        "audience": rng.choice(AUDIENCES[wearer]),
        "size": f"size {size}" if size.isalnum() and len(size) < 3 else size,
    }
    return Facts(category, words, values)


def _worded(rng: random.Random, attribute: str, value: str) -> str:
    words = words_for(attribute)[value]
    return value if rng.random() < 0.6 else rng.choice(words)


def title(facts: Facts, rng: random.Random) -> str:
    """A title that states all facts but the size: brand and audience first or last, the noun at the end."""
    middle = [facts.words[part] for part in ("filler", "color", "material", "noun")]
    ends = [facts.words["brand"], facts.words["audience"]]
    rng.shuffle(ends)
    return " ".join([ends[0], *middle, ends[1]] if rng.random() < 0.5 else [*ends, *middle])


def query_parts(facts: Facts, rng: random.Random, few: int, many: int) -> list[str]:
    """The noun and ``few`` to ``many`` other parts, mostly in the usual order."""
    others = [part for part in _TYPES if part != "noun"]
    chosen = {"noun", *rng.sample(others, rng.randint(few, many))}
    parts = [*_TYPES]
    if rng.random() < 0.35:
        rng.shuffle(parts)
    return [part for part in parts if part in chosen]


def attributes(rng: random.Random, *, unseen: bool) -> Iterator[dict[str, Any]]:
    """A title; gold: its brand, color and gender, "n/a" where it does not say."""
    for listing in listings(rng.getrandbits(32), replace(MIX, unseen=unseen, known_brands=_BRANDS)):
        gold = {name: list(listing.gold[name]) for name in ATTRIBUTES}
        yield {"text": listing.title, "category": listing.category, "gold": gold}


def entities(rng: random.Random, *, unseen: bool) -> Iterator[dict[str, Any]]:
    """A search query; gold: its phrases as pairs [words, type]."""
    while True:
        facts = draw(rng, unseen=unseen)
        pairs = [[facts.words[part].lower(), _TYPES[part]] for part in query_parts(facts, rng, 1, 4)]
        yield {"text": " ".join(words for words, _ in pairs), "gold": {"entities": pairs}}


def relevance(rng: random.Random, *, unseen: bool) -> Iterator[dict[str, Any]]:
    """A query and a product's title; gold: a key of :data:`SHARES`.

    ``exact``: the product has all that the query names. ``substitute``: the same thing, but one or two facts
    differ. ``complement``: a spare part for it. ``irrelevant``: something of another category.
    """
    while True:
        wanted = draw(rng, unseen=unseen)
        parts = [part for part in query_parts(wanted, rng, 1, 3) if part in (*_WANTED, "noun")]
        named = [part for part in parts if part != "noun"]
        if not named:
            continue
        label = rng.choices(list(SHARES), list(SHARES.values()))[0]
        query = " ".join(wanted.words[part] for part in parts).lower()
        if label == "complement":
            shown = _spare_part(wanted, rng)
        else:
            shown = title(_product(wanted, named, label, rng, unseen=unseen), rng)
        yield {"query": query, "title": shown, "gold": {"relevance": [label]}}


def _spare_part(wanted: Facts, rng: random.Random) -> str:
    detail = rng.choice(CATEGORIES[wanted.category].details)
    form = rng.choice(("replacement {0} for {1}", "spare {0} for {1}", "{0} to fit {1}"))
    shown = form.format(detail, wanted.values["noun"])
    return f"{wanted.words['brand']} {shown}" if rng.random() < 0.5 else shown


def _product(wanted: Facts, named: list[str], label: str, rng: random.Random, *, unseen: bool) -> Facts:
    """A product that answers a query for ``wanted``, of which it names some facts, as the label says."""
    while True:
        other = draw(rng, unseen=unseen)
        if label == "irrelevant":
            if other.category != wanted.category:
                return other
            continue
        changed = rng.sample(named, min(len(named), rng.choice((1, 1, 2)))) if label == "substitute" else []
        if any(other.values[part] == wanted.values[part] for part in changed):
            continue
        kept = ["noun", *(part for part in named if part not in changed)]
        words = {**other.words, **{part: wanted.words[part] for part in kept}}
        return Facts(wanted.category, words, {**other.values, **{p: wanted.values[p] for p in kept}})


def descriptions(rng: random.Random, *, unseen: bool) -> Iterator[dict[str, Any]]:
    """A title and the known facts; gold: a description."""
    while True:
        facts = draw(rng, unseen=unseen)
        yield {"title": title(facts, rng), "known": known(facts), "gold": {"description": [described(facts)]}}


def known(facts: Facts) -> str:
    """What a shop knows of a product without its title."""
    return "; ".join(f"{name}: {facts.values[name]}" for name in ("color", "material", "size"))


def described(facts: Facts) -> str:
    """The description of a product."""
    values = facts.values
    are_many = values["noun"].endswith("s") and not values["noun"].endswith("ss")
    comes, is_made = ("come", "are made") if are_many else ("comes", "is made")
    return (
        f"The {values['noun']} by {values['brand']} for {values['audience']} {comes} in {values['color']} "
        f"and {is_made} of {values['material']}. Available in size {values['size']}."
    )


TASKS: Mapping[str, Callable[..., Iterator[dict[str, Any]]]] = {
    "attributes": attributes,
    "entities": entities,
    "relevance": relevance,
    "descriptions": descriptions,
}

KINDS = {"attributes": "value", "entities": "spans", "relevance": "label", "descriptions": "text"}
"""Task -> kind of its answers."""


def rows(task: str, split: str, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """The first ``count`` rows of a split, each with an id; the same for the same seed."""
    found: dict[str, dict[str, Any]] = {}
    for row in TASKS[task](random.Random(f"{task} {split} {seed}"), unseen=split == "test"):
        found.setdefault(json.dumps({**row, "gold": None}), row)
        if len(found) == count:
            break
    return [{"id": f"{task}-{split}-{number:04d}", **row} for number, row in enumerate(found.values(), 1)]


def write(out: Path, splits: Mapping[str, int] = SPLITS, seed: int = 0) -> dict[str, int]:
    """Write every split of every task to ``out``; the number of rows of each file."""
    out.mkdir(parents=True, exist_ok=True)
    counts = {}
    for task in TASKS:
        for split, count in splits.items():
            lines = [json.dumps(row, ensure_ascii=False) for row in rows(task, split, count, seed)]
            name = f"{task}-{split}.jsonl"
            (out / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
            counts[name] = len(lines)
    return counts


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Make up small task data as listings with gold.")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other rows")
    args = parser.parse_args()
    for name, count in write(args.out, seed=args.seed).items():
        print(f"{args.out / name}: {count} rows, made up")


if __name__ == "__main__":
    main()
