# SPDX-License-Identifier: Apache-2.0
"""Put pairs together as requests: one item and several of its keyphrases in each."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from quorum.bulk.judging.pairs import Pair
from quorum_client import Item

Asked = tuple[Pair, ...]
"""The pairs of one request, all of one item."""


def requests_of(pairs: Sequence[Pair], per_request: int, done: Collection[int] = ()) -> list[Asked]:
    """Requests for the pairs whose lines are not done, items in order of first appearance.

    Keyphrases that differ only in case go into different requests: LLMs do not keep it.
    """
    by_item: dict[str, list[Pair]] = {}
    for pair in pairs:
        if pair.line not in done:
            by_item.setdefault(pair.item, []).append(pair)
    return [request for of_item in by_item.values() for request in _split(of_item, per_request)]


def item_of(asked: Asked) -> Item:
    """A request as the client takes it."""
    first = asked[0]
    return Item(first.text, [pair.keyphrase for pair in asked], first.category, first.item)


def _split(pairs: Sequence[Pair], most: int) -> list[Asked]:
    """Groups of at most so many pairs, no two of which have one name but for case."""
    # The n-th pair of a folded name is in the n-th layer, so that a layer has each name once.
    layers: list[list[Pair]] = []
    counts: dict[str, int] = {}
    for pair in pairs:
        name = pair.keyphrase.casefold()
        number = counts[name] = counts.get(name, -1) + 1
        if number == len(layers):
            layers.append([])
        layers[number].append(pair)
    return [tuple(layer[at : at + most]) for layer in layers for at in range(0, len(layer), most)]
