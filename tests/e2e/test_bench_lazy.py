# SPDX-License-Identifier: Apache-2.0
"""The benchmark's lazy channel: by weights learned from its own votes it answers as all members do."""

from __future__ import annotations

from pathlib import Path

from support.deployment import ATTRIBUTES, said, title, write_deployment

from quorum.bulk.listings import Listing
from quorum.decision.cell import Parameters
from quorum.decision.stopping import Stopping, recorded_stopping, with_stopping
from quorum.decision.weights import Weights
from quorum.deployment.lazy import LazySpec
from quorum_bench.load import Closed, run_load
from quorum_bench.targets.lazy import LazyTarget, compared, learned
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.workload import Product, Workload

MEMBERS = ("alpha", "beta", "gamma")
PRODUCTS = 24


def listing(product: int) -> Listing:
    gold = {attribute: (said(-1, product, attribute),) for attribute in ATTRIBUTES}
    return Listing(f"p{product}", title(product), category(product), gold)


def category(product: int) -> str:
    return "shoes" if product % 2 else ""


def test_it_asks_less_for_the_same_answers(tmp_path: Path) -> None:
    deploy = write_deployment(tmp_path, {name: {} for name in MEMBERS})
    workload = Workload(tuple(Product(title(p), category(p), ATTRIBUTES[:1]) for p in range(PRODUCTS)))
    taught: list[Weights] = []

    def weights(target: QuorumTarget) -> Weights:
        taught.append(learned(target, [listing(product) for product in range(PRODUCTS)]))
        return taught[0]

    with LazyTarget(workload, deploy, "lazy", LazySpec(whole_questions=False), weights) as target:
        found = compared(target, workload)
        assert (found["cells"], found["equal"], found["flips"]) == (PRODUCTS, PRODUCTS, 0)
        assert found["calls"]["full"] == len(MEMBERS)
        assert found["calls"]["lazy"] == len(MEMBERS) * found["asked"] < len(MEMBERS)
        load = run_load(target.caller(workload), Closed(2), 0.5)
        assert load.samples.ok.all()
        assert load.calls is not None
        assert load.calls < len(MEMBERS)
    assert recorded_stopping(taught[0].settings) is not None


def test_at_a_flip_risk_it_stops_where_a_vote_could_still_change_the_answer(tmp_path: Path) -> None:
    deploy = write_deployment(tmp_path, {name: {} for name in MEMBERS})
    workload = Workload(tuple(Product(title(p), category(p), ATTRIBUTES[:1]) for p in range(PRODUCTS)))
    never_changes = Stopping((-6.0, 0.0, 0.0, 0.0), ((0.02, 0.05),), {}, ATTRIBUTES[:1], 100, 100)

    def weights(target: QuorumTarget) -> Weights:
        equal = Weights("majority", MEMBERS, Parameters((1.0,) * 3), catalogue=target.catalogue)
        return with_stopping(equal, never_changes)

    with LazyTarget(workload, deploy, "lazy", LazySpec(flip_risk=0.02), weights) as target:
        found = compared(target, workload)
    assert found["asked"] == 1 / 3, "one stands in the first row, and the others are never asked"
    assert found["cells"] - found["equal"] == found["flips"]
