# SPDX-License-Identifier: Apache-2.0
"""Limits of early stopping: flips on other products keep their risk; votes that are too few support none."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from quorum.decision.cell import Parameters
from quorum.decision.lazy import order
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.settle import is_settled
from quorum.decision.stopping import early_stop, with_stopping
from quorum.decision.weights import equal_weights
from quorum.learning import learn
from quorum.learning.early_states import route_of, routes, states
from quorum.learning.stopping import (
    chance_of_at_most,
    chances,
    fewest_products,
    is_kept,
    learn_stopping,
)
from quorum.votes import Cell, build_table

MEMBERS = ("a", "b", "c", "d")
PLAIN = QuorumRule()


def draw_table(seed, products=400, attributes=3, skills=(0.9, 0.85, 0.8, 0.75)):
    """Members are right by their skills, less so on hard products: cells of one product go together."""
    rng, cells = np.random.default_rng(seed), []
    for product in range(products):
        hard = rng.random() < 0.2
        for attribute in range(attributes):
            chance = np.array(skills) - 0.3 * hard
            values = tuple(
                "right" if rng.random() < p else f"wrong {rng.integers(3)}" for p in chance.tolist()
            )
            cells.append(Cell(f"p{product}", "", "", f"a{attribute}", values, ("right",)))
    return build_table(MEMBERS, cells)


def taught(table):
    return learn(table, "em")


def test_flips_on_other_products_keep_their_risk_in_every_order():
    table = draw_table(0)
    weights = taught(table)
    stopping = learn_stopping(table, weights, taught)
    assert dict(stopping.limits).keys() >= {0.02, 0.05}
    other = draw_table(1, products=1000)
    orders = routes(weights)
    assert len(orders) == 75
    masks = sorted({mask for route in orders for mask in route})
    found = states(other, np.arange(len(other)), weights, masks, {}, PLAIN)
    change = chances(stopping.change, found.features)
    for risk in (0.02, 0.05):
        flips = []
        for route in orders:
            stops = found.stops(stopping.limit(risk), change, route)
            flips.append(1.0 - found.at(found.same, stops, route).mean())
        assert max(flips) <= risk
    exact = found.stops(0.0, None, orders[0])
    early = found.stops(stopping.limit(0.05), change, orders[0])
    assert found.at(found.same, exact, orders[0]).all()
    assert early.mean() < 0.95 * exact.mean()


def test_of_many_members_the_rows_that_are_asked_are_tested():
    """Without rows of its own a deployment asks several members first, by weight per cost."""
    members = tuple("abcdefg")
    weights = replace(equal_weights(members), default=Parameters((1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)))
    found = routes(weights)
    assert route_of([[6, 5, 4], [3], [2], [1], [0]]) in found
    assert route_of([[6, 5, 4, 3, 2], [1], [0]]) in found
    rows = [["a"], ["c", "b"], ["d"], ["e"], ["f"], ["g"]]
    assert route_of([[0], [2, 1], [3], [4], [5], [6]]) in routes(weights, rows)
    assert route_of([[0, 2, 1], [3], [4], [5], [6]]) in routes(weights, rows)


def test_stopping_as_served_is_stopping_as_learned():
    table = draw_table(2, products=150)
    stopping = learn_stopping(table, taught(table), taught)
    weights = with_stopping(taught(table), stopping)
    early = early_stop(weights, "a0", 0.05)
    route = route_of([[member] for member in order(weights.default.weights)])
    found = states(table, np.arange(len(table)), weights, route, {}, PLAIN)
    stops = found.stops(stopping.limit(0.05), chances(stopping.change, found.features), route)
    for at, cell in enumerate(table.cells):
        known = [None] * len(MEMBERS)
        for asked, member in enumerate(order(weights.default.weights)):
            known[member] = (cell.values[member], 0)
            if is_settled(PLAIN, weights.default, known, early=early):
                assert asked == stops[at]
                break


def test_too_few_cells_support_no_risk():
    table = draw_table(3, products=7)
    stopping = learn_stopping(table, equal_weights(MEMBERS), taught)
    assert stopping.limits == ()
    assert early_stop(with_stopping(equal_weights(MEMBERS), stopping), "a0", 0.05) is None
    alone = build_table(("a",), [Cell("p", "", "", "x", ("v",))])
    assert learn_stopping(alone, equal_weights(("a",)), taught) is None


def test_flips_of_one_product_count_as_few_cells():
    products = np.repeat(np.arange(300), 4).astype(np.int32)
    spread, together = np.zeros(1200, np.bool_), np.zeros(1200, np.bool_)
    spread[::100], together[:12] = True, True
    assert spread.sum() == together.sum() == 12
    assert is_kept(spread, products, 0.02)
    assert not is_kept(together, products, 0.02)


def test_cells_without_a_flip_count_as_their_products():
    for products, are_enough in (
        (2, False),
        (fewest_products(0.01) - 1, False),
        (fewest_products(0.01), True),
    ):
        owners = np.repeat(np.arange(products), 240).astype(np.int32)
        assert is_kept(np.zeros(len(owners), np.bool_), owners, 0.01) == are_enough
    # A large product without flips is not many small ones; one flip does not make its cells independent.
    owners = np.append(np.zeros(300), np.arange(1, 240)).astype(np.int32)
    assert not is_kept(np.zeros(len(owners), np.bool_), owners, 0.01)
    owners = np.repeat(np.arange(2), 1000).astype(np.int32)
    assert not is_kept(np.arange(2000) == 0, owners, 0.01)


@pytest.mark.parametrize("whole", [1.0, 0.5])
@pytest.mark.parametrize(("products", "risk"), [(60, 0.02), (120, 0.02), (300, 0.01), (600, 0.01)])
def test_a_risk_is_seldom_accepted_where_whole_products_flip(products, risk, whole):
    """The share of flips is the risk: that it is kept is said of at most a tenth of tables."""
    rng, accepted, tables = np.random.default_rng(0), 0, 400
    for _ in range(tables):
        sizes = rng.integers(1, 9, products)
        owners = np.repeat(np.arange(products), sizes).astype(np.int32)
        together = np.repeat(rng.random(products) < whole * risk, sizes)
        alone = rng.random(len(owners)) < (1.0 - whole) * risk
        accepted += is_kept(together | alone, owners, risk)
    assert accepted / tables <= 0.13


@pytest.mark.parametrize("risk", [0.01, 0.02, 0.05])
def test_the_chance_of_few_flips_is_binomial(risk):
    sure = [1.0 - risk, risk]
    exact = sum(
        np.prod([sure[flip] for flip in flips])
        for flips in itertools.product((0, 1), repeat=8)
        if sum(flips) <= 2
    )
    assert chance_of_at_most(2, 8, risk) == pytest.approx(exact)
    assert chance_of_at_most(8, 8, risk) == 1.0
    needed = fewest_products(risk)
    assert chance_of_at_most(0, needed, risk) <= 0.1 < chance_of_at_most(0, needed - 1, risk)
