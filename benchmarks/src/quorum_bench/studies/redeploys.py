# SPDX-License-Identifier: Apache-2.0
"""Redeploy weights under load on a real server: failures, added latency, and growth of the server.

The same load runs first without and then with redeploys: 16 blocking clients, each with a connection of its
own, and an asyncio client with 4 requests in flight; each pauses 50 ms between answer and question. The
members replay recorded answers, so what is measured is the serving graph, not LLMs.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights
from quorum.evaluation.stats import quantile
from quorum.rollout.channels import Rollout
from quorum_bench.clients import Answered, Callers, Pins, calling
from quorum_bench.studies.footprint import Footprint, footprint, growth
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.workload import Workload
from quorum_contract import STABLE

MEMBERS = ("alpha", "beta", "gamma")
WARM_UP = 0.2
"""Share of the redeploys that the growth leaves out."""

Row = dict[str, Any]
_numbers = itertools.count()


class NamedAnswers(Workload):
    """Products on which each member answers its own name: an answer shows whose weights decided."""

    def votes_table(self, members: Sequence[str]) -> list[dict[str, Any]]:
        """Rows that replay members answer from."""
        votes = {member: f"{member}'s" for member in members}
        return [row | {"gold": [], "votes": votes} for row in super().votes_table(members)]


WORKLOAD = NamedAnswers.made(attributes=3, products=24)


def serve(base: Path | None = None) -> QuorumTarget:
    """Return a target for this study, its repository below ``base`` (default: the temporary folder)."""
    return QuorumTarget(WORKLOAD, {member: {} for member in MEMBERS}, base=base)


def trusting(catalogue: Mapping[str, str], member: str, number: int | None = None) -> Weights:
    """Weights by which ``member`` alone decides; never the same twice, so each becomes a new version."""
    heavy = tuple(2.0 if name == member else 0.5 for name in MEMBERS)
    settings = {"number": next(_numbers) if number is None else number}
    return Weights("majority", MEMBERS, Parameters(heavy), catalogue=catalogue, settings=settings)


class Redeployer:
    """Publishes and moves the stable channel, and notes which member decides by each version.

    Args:
        rollout: Of a running server.
        catalogue: Attribute -> hash of its catalogue.
    """

    def __init__(self, rollout: Rollout, catalogue: Mapping[str, str]) -> None:
        self.pins = Pins()
        self.publish_s: list[float] = []
        self.move_s: list[float] = []
        self._rollout, self._catalogue = rollout, catalogue
        self._members = itertools.cycle(MEMBERS)
        self._back = rollout.store.state().pins[STABLE]
        # By the first version all members decide together.
        self._decider = {self._back: ""}
        self.pins.change(lambda: None, self._back)

    def publish(self) -> int:
        """Publish new weights, in no channel yet."""
        member, start = next(self._members), time.monotonic()
        version = self._rollout.publish(trusting(self._catalogue, member)).version
        self.publish_s.append(time.monotonic() - start)
        self._decider[version] = f"{member}'s"
        return version

    def promote(self, version: int) -> None:
        """Move the stable channel to a version."""
        self._back = self._rollout.store.state().pins[STABLE]
        self._move(lambda: self._rollout.promote(version), version)

    def roll_back(self) -> None:
        """Move the stable channel back."""
        self._move(self._rollout.rollback, self._back)

    def wrong(self, result: Answered) -> list[Any]:
        """Return answers by a version not promoted at that moment, or not by the weights of their version."""
        others = [a for a in result.answers if self._decider[a[2]] not in ("", a[3])]
        return [*self.pins.strangers(result), *others]

    def _move(self, action: Callable[[], Any], version: int) -> None:
        start = time.monotonic()
        self.pins.change(action, version)
        self.move_s.append(time.monotonic() - start)


@contextmanager
def _redeploying(target: QuorumTarget) -> Iterator[Redeployer]:
    with target.rollout() as rollout:
        yield Redeployer(rollout, target.catalogue)


def under_load(target: QuorumTarget, publishes: int, quiet_s: float) -> Row:
    """Return latencies of the same load without and with redeploys; every second move is a rollback.

    Args:
        target: Started, of :func:`serve`.
        publishes: Number of publishes, each followed by a promote or a rollback.
        quiet_s: Seconds of the load without redeploys.
    """
    callers = Callers(target.url, WORKLOAD)
    with calling(callers) as quiet:
        time.sleep(quiet_s)
    with _redeploying(target) as redeployer, calling(callers) as busy:
        for number in range(publishes):
            version = redeployer.publish()
            if number % 2:
                redeployer.roll_back()
            else:
                redeployer.promote(version)
    return {
        "publishes": publishes,
        "moves": len(redeployer.move_s),
        "requests": len(busy.answers),
        "failures": busy.failures + quiet.failures,
        "wrong": redeployer.wrong(busy),
        "versions_seen": len({a[2] for a in busy.answers}),
        "quiet_ms": _latency(quiet),
        "redeploying_ms": _latency(busy),
        "publish_ms": _spread(redeployer.publish_s),
        "move_ms": _spread(redeployer.move_s),
    }


def held(target: QuorumTarget, redeploys: int) -> Row:
    """Return what the server holds after each of many redeploys (publish and promote), under the same load.

    Args:
        target: Started, of :func:`serve`.
        redeploys: Number of them.
    """
    series: list[Footprint] = []
    server = target.pids()[0]
    with _redeploying(target) as redeployer, calling(Callers(target.url, WORKLOAD)) as load:
        for _ in range(redeploys):
            redeployer.promote(redeployer.publish())
            series.append(footprint(server))
    return {
        "redeploys": redeploys,
        "requests": len(load.answers),
        "failures": load.failures,
        "wrong": redeployer.wrong(load),
        "growth_per_redeploy": growth(series, int(redeploys * WARM_UP)),
        "warm_up": int(redeploys * WARM_UP),
        "series": [list(asdict(sample).values()) for sample in series],
        "names": list(asdict(series[0])),
    }


def table(load: Row, kept: Row) -> str:
    """Return the figures of :func:`under_load` and :func:`held` as text."""
    columns = ("p50", "p99", "p99.9", "worst")
    lines = [
        (
            f"{load['publishes']} publishes and {load['moves']} promotes and rollbacks under load: "
            f"{load['requests']} requests, {len(load['failures'])} failed, {len(load['wrong'])} answered by "
            f"a version that was not promoted then; {load['versions_seen']} versions answered\n"
        ),
        f"{'ms':<22}{'n':>8}{'p50':>9}{'p99':>9}{'p99.9':>9}{'worst':>9}",
    ]
    for name, key in (
        ("request, quiet", "quiet_ms"),
        ("request, redeploying", "redeploying_ms"),
        ("publish", "publish_ms"),
        ("promote or roll back", "move_ms"),
    ):
        lines.append(f"{name:<22}{load[key]['n']:>8}" + "".join(f"{load[key][c]:>9.1f}" for c in columns))
    added = {c: load["redeploying_ms"][c] - load["quiet_ms"][c] for c in ("p50", "p99", "worst")}
    lines += [
        "added by redeploying: " + ", ".join(f"{c} {value:+.1f} ms" for c, value in added.items()),
        (
            f"\n{kept['redeploys']} redeploys (publish and promote) under load: {kept['requests']} requests, "
            f"{len(kept['failures'])} failed, {len(kept['wrong'])} wrong. Growth per redeploy after the "
            f"first {kept['warm_up']}, with 95 % interval:\n"
        ),
        f"{'':<14}{'after warm-up':>14}{'at the end':>12}{'per redeploy':>14}",
    ]
    first, last = kept["series"][kept["warm_up"]], kept["series"][-1]
    for i, (name, (slope, low, high)) in enumerate(kept["growth_per_redeploy"].items()):
        lines.append(f"{name:<14}{first[i]:>14}{last[i]:>12}{slope:>+14.3f}  [{low:+.3f}, {high:+.3f}]")
    return "\n".join(lines)


def _latency(result: Answered) -> dict[str, float]:
    return _spread([answered - sent for sent, answered, *_ in result.answers])


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    values = np.array(seconds) * 1000
    shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
    return {
        "n": len(values),
        **{name: quantile(values, q) for name, q in shares.items()},
        "worst": float(values.max()),
    }
