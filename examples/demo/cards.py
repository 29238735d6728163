# SPDX-License-Identifier: Apache-2.0
"""Write the model cards of the demo LLMs from the records of training and scoring."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

CARD = """\
---
license: apache-2.0
library_name: openvino
---
# {name}

A toy LLM of {parameters:.1f} million parameters ({family}), trained from scratch on synthetic product
listings, so that quorum can be tried on a laptop. It knows nothing else: **not for production**.

## How it was made

`python examples/demo/train.py --model {name}` with seed {seed}: {seconds:.0f} seconds of CPU time on one
core, {steps:,} steps, {examples:,} listings ({about}). Stopped early on purpose: an
ensemble of perfect models has nothing to vote on. Mix of its listings: {mix}.
Converted by `quorum build` to OpenVINO IR with {weight_format} weights ({exporter}).

It answers prompts of style "bare": the asked attributes joined by ", ", the category, the text, each on a
line of its own. The answer is compact JSON with the asked attributes in the asked order; "n/a" where the
text does not say.

## What it scores

On the {listings} held-out listings of `examples/demo/listings.jsonl` (another seed; a third of the brands
never seen in training), by `python examples/demo/score.py --cards` on {date}:

| {header} |
|{rule}|
| {row} |

Unreadable answers: {unreadable}. Speed on one thread of an {machine}, which other work may have shared:
{single_rate:.0f} listings/s with one in flight, {batch_rate:.0f} with 16, six attributes each.

## Licence

Apache-2.0, like the code and the word lists that it was made from.
"""


@dataclass(frozen=True, slots=True)
class Scores:
    """The figures of one model."""

    attributes: dict[str, float]
    """Attribute -> share of listings answered correctly, in [0, 1]."""
    all: float
    """Share of all cells answered correctly, in [0, 1]."""
    unreadable: int
    """Cells without a readable answer."""
    listings: int
    single_rate: float
    """Listings per second, one in flight."""
    batch_rate: float
    """Listings per second, 16 in flight."""
    machine: str
    date: str


def write_card(folder: Path, scores: Scores) -> None:
    """Write a built model's ``README.md`` from the ``training.json`` and ``quorum-build.json`` there."""
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    build = json.loads((folder / "quorum-build.json").read_text(encoding="utf-8"))
    shares = {**scores.attributes, "all": scores.all}
    exporter = ", ".join(
        f"{name} {version}" for name, version in build["exporter"].items() if name != "torch"
    )
    card = CARD.format(
        name=folder.name,
        parameters=training["parameters"] / 1e6,
        family=build["family"],
        seed=training["seed"],
        seconds=training["seconds"],
        steps=training["steps"],
        examples=training["examples"],
        about=training["about"],
        mix=", ".join(f"{name} {value}" for name, value in training["mix"].items()),
        weight_format=build["weight_format"],
        exporter=exporter,
        listings=scores.listings,
        date=scores.date,
        header=" | ".join(shares),
        rule="---|" * len(shares),
        row=" | ".join(f"{share:.1%}" for share in shares.values()),
        unreadable=scores.unreadable,
        machine=scores.machine,
        single_rate=scores.single_rate,
        batch_rate=scores.batch_rate,
    )
    (folder / "README.md").write_text(card.replace("---||", "---|"), encoding="utf-8")
