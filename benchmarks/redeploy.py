# SPDX-License-Identifier: Apache-2.0
"""Redeploying weights under load on a real server: failures, added latency, and what the server holds.

    python benchmarks/redeploy.py [--quick] [--base FOLDER] [--json FILE]

First the same load runs without and with redeploys: 16 blocking clients, each with a connection of its own,
and an asyncio client with 4 requests in flight; each pauses 50 ms between answer and question. Then 300
redeploys are made under that load, and what the server holds is looked at after each. The members replay
recorded answers, so what is measured is the serving graph, not LLMs. ``--base`` puts the repository on
another file system.
"""
# ruff: noqa: INP001, T201

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.deployment import Live, running
from support.footprint import Footprint, footprint, growth
from support.rollout import MEMBERS, rollout_of, trusting, write_split
from support.streams import Answered, Pins, streams

from quorum.rollout.channels import Rollout

QUIET_S, WARM_UP = 30.0, 0.2


class Redeployer:
    """Publishes and moves the stable channel, and knows which member decides by each version."""

    def __init__(self, live: Live) -> None:
        self.rollout: Rollout = rollout_of(live)
        self.pins = Pins()
        self.decider = {1: ""}
        self._hash = live.spec.catalogue().hash
        self._members = itertools.cycle(MEMBERS)
        self._back = 1
        self.publish_s: list[float] = []
        self.move_s: list[float] = []
        self.pins.change(lambda: None, 1)

    def publish(self) -> int:
        """New weights, in no channel yet."""
        member, start = next(self._members), time.monotonic()
        version = self.rollout.publish(trusting(self._hash, member)).version
        self.publish_s.append(time.monotonic() - start)
        self.decider[version] = f"{member}'s"
        return version

    def promote(self, version: int) -> None:
        """The stable channel goes to it."""
        self._back = self.rollout.store.pins()["quorum"]
        self._move(lambda: self.rollout.promote(version), version)

    def roll_back(self) -> None:
        """The stable channel goes back."""
        self._move(self.rollout.rollback, self._back)

    def _move(self, action: Any, version: int) -> None:
        start = time.monotonic()
        self.pins.change(action, version)
        self.move_s.append(time.monotonic() - start)

    def wrong(self, result: Answered) -> list[Any]:
        """Answers with a version not promoted at that moment, or not by the weights of their version."""
        others = [a for a in result.answers if self.decider[a[2]] not in ("", a[3])]
        return [*self.pins.strangers(result), *others]


def under_load(live: Live, publishes: int, quiet_s: float) -> dict[str, Any]:
    """Latencies of the same load without and with redeploys; every second move is a rollback."""
    with streams(live.url) as quiet:
        time.sleep(quiet_s)
    redeployer = Redeployer(live)
    with streams(live.url) as busy:
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


def held(live: Live, redeploys: int) -> dict[str, Any]:
    """What the server holds after each of many redeploys (publish and promote), under the same load."""
    redeployer = Redeployer(live)
    redeployer.pins = Pins()
    redeployer.pins.change(lambda: None, redeployer.rollout.store.pins()["quorum"])
    redeployer.decider[redeployer.rollout.store.pins()["quorum"]] = ""
    series: list[Footprint] = []
    with streams(live.url) as load:
        for _ in range(redeploys):
            redeployer.promote(redeployer.publish())
            series.append(footprint(live.server))
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


def _latency(result: Answered) -> dict[str, float]:
    return _spread([answered - sent for sent, answered, *_ in result.answers])


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    values = np.array(seconds) * 1000
    p50, p99, p999 = np.percentile(values, [50, 99, 99.9])
    return {"n": len(values), "p50": p50, "p99": p99, "p99.9": p999, "worst": values.max()}


def main() -> None:
    """Run both parts and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="15 publishes and moves, 60 redeploys")
    parser.add_argument("--base", type=Path, help="folder for the repository, such as /dev/shm")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    options = parser.parse_args()
    publishes, redeploys, quiet_s = (15, 60, 5.0) if options.quick else (100, 300, QUIET_S)
    with tempfile.TemporaryDirectory(dir=options.base) as folder:
        deploy = write_split(Path(folder))
        with running(deploy) as live:
            result = {"machine": _machine(), "under_load": under_load(live, publishes, quiet_s)}
        with running(deploy) as live:
            result["held"] = held(live, redeploys)
    _print(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _print(result: dict[str, Any]) -> None:
    load, kept = result["under_load"], result["held"]
    print(result["machine"])
    print(
        f"\n{load['publishes']} publishes and {load['moves']} promotes and rollbacks under load: "
        f"{load['requests']} requests, {len(load['failures'])} failed, {len(load['wrong'])} answered by a "
        f"version that was not promoted then; {load['versions_seen']} versions answered\n"
    )
    print(f"{'ms':<22}{'n':>8}{'p50':>9}{'p99':>9}{'p99.9':>9}{'worst':>9}")
    for name, row in (
        ("request, quiet", load["quiet_ms"]),
        ("request, redeploying", load["redeploying_ms"]),
        ("publish", load["publish_ms"]),
        ("promote or roll back", load["move_ms"]),
    ):
        print(
            f"{name:<22}{row['n']:>8}" + "".join(f"{row[k]:>9.1f}" for k in ("p50", "p99", "p99.9", "worst"))
        )
    added = {k: load["redeploying_ms"][k] - load["quiet_ms"][k] for k in ("p50", "p99", "worst")}
    print("added by redeploying: " + ", ".join(f"{k} {v:+.1f} ms" for k, v in added.items()))
    print(
        f"\n{kept['redeploys']} redeploys (publish and promote) under load: {kept['requests']} requests, "
        f"{len(kept['failures'])} failed, {len(kept['wrong'])} wrong. Growth per redeploy after the first "
        f"{kept['warm_up']}, with 95 % interval:\n"
    )
    first, last = kept["series"][kept["warm_up"]], kept["series"][-1]
    print(f"{'':<14}{'after warm-up':>14}{'at the end':>12}{'per redeploy':>14}")
    for i, (name, (slope, low, high)) in enumerate(kept["growth_per_redeploy"].items()):
        print(f"{name:<14}{first[i]:>14}{last[i]:>12}{slope:>+14.3f}  [{low:+.3f}, {high:+.3f}]")


def _machine() -> str:
    info = Path("/proc/cpuinfo").read_text("utf-8")
    model = next((line.partition(":")[2].strip() for line in info.splitlines() if "model name" in line), "?")
    cores = len(os.sched_getaffinity(0))
    now = datetime.now(UTC).isoformat(timespec="minutes")
    return f"{now}  {cores} x {model}, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
