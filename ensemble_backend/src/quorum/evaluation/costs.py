# SPDX-License-Identifier: Apache-2.0
"""Find what a call of each member costs: its price on the usage that votes recorded, or as recorded."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from quorum.votes.table import VotesTable
from quorum_contract import Price, Spent
from quorum_contract.usage import add_up

Prices = Mapping[str, Price | None]
"""Member -> price of its calls; None: not known."""

_LEAST = 1e-3


def member_costs(table: VotesTable, prices: Prices | None = None) -> dict[str, float] | None:
    """Member -> mean cost of a call, which asks all attributes of a product; None if of one it is not known.

    Args:
        table: The votes, with what they took where that was recorded.
        prices: Of a deployment; None, or without any price: the costs that the table recorded count.
    """
    given = prices if prices and any(prices.values()) else None
    found: dict[str, float] = {}
    for place, name in enumerate(table.members):
        price = given.get(name) if given else None
        cost = _mean_cost(table, place, price) if price or not given else None
        if cost is None:
            return None
        found[name] = cost
    return found


def asking_costs(members: Sequence[str], costs: Mapping[str, float]) -> list[float]:
    """Cost of a call of each member, above 0, that orders the asking; free ones cost a little."""
    per_call = [costs[name] for name in members]
    least = _LEAST * max(per_call) or 1.0
    return [max(cost, least) for cost in per_call]


def _mean_cost(table: VotesTable, place: int, price: Price | None) -> float | None:
    costs = []
    for spent in _calls(table, place):
        cost = price.of(spent) if price else spent.cost
        if cost is not None:
            costs.append(cost / spent.calls)
    if costs:
        return statistics.fmean(costs)
    # Without tokens and seconds a price by the call is enough.
    return price.of(Spent(1, None, None, None, None)) if price else None


def _calls(table: VotesTable, place: int) -> Iterator[Spent]:
    """What a member took for each product, where it was called and that was recorded."""
    shares: dict[int, list[Spent]] = {}
    for cell, product in zip(table.cells, table.products.tolist(), strict=True):
        if cell.usage and (spent := cell.usage[place]) is not None:
            shares.setdefault(product, []).append(spent)
    for parts in shares.values():
        if (spent := add_up(parts)).calls:
            yield spent
