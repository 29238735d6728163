# SPDX-License-Identifier: Apache-2.0
"""Speed and accuracy of vote aggregation, beside crowd-kit where it is installed.

    python benchmarks/aggregation.py [--quick] [--json FILE]

Needs quorum and NumPy. ``pip install crowd-kit`` adds its rows; without it they are left out, with a word.
"""
# ruff: noqa: INP001, T201

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import os
import platform
import resource
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.fit.simulate import accuracy_percent, independent, with_bloc
from quorum.voting.dawid_skene import DawidSkene
from quorum.voting.decide import Decision, Rule, decide, decide_rows, equal_rule
from quorum.voting.em import OneCoin, log_odds
from quorum.voting.histogram import Histogram, compress, histogram, right_mask
from quorum.voting.iwmv import Iwmv
from quorum.voting.loglinear import LogLinear
from quorum.voting.patterns import ABSTAIN

Codes = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Row = dict[str, Any]
TARGETS = {"MajorityVote": 100.0, "OneCoinDawidSkene": 300.0, "DawidSkene": 300.0}
READS = 20.0
MEMBERS, VALUES, MISSING = 5, 10, 0.1


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a tenth of the cells, few seeds")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    options = parser.parse_args()
    cells, seeds = (100_000, 3) if options.quick else (1_000_000, 10)
    result: Row = {
        "machine": _machine(),
        "quick": options.quick,
        "speed": _speed(cells, 3 if options.quick else 7),
    }
    _print_speed(result)
    result["independent"] = _independent(seeds, options.quick)
    _print_independent(result["independent"])
    result["correlated"] = _correlated(seeds)
    _print_correlated(result["correlated"])
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _speed(cells: int, repeats: int) -> Row:
    """Ours and crowd-kit's on the same votes in this process; each side starts from its own input form."""
    rng = np.random.default_rng(0)
    drawn, truth = independent(rng, cells, np.linspace(0.55, 0.95, MEMBERS), VALUES, MISSING)
    codes = drawn.astype(np.int32)
    read = _best(lambda: codes.reshape(-1).view(np.int64).sum(), repeats)
    rows: list[Row] = []

    def add(name: str, work: Callable[[], Decision | npt.NDArray[np.int64]], times: int) -> None:
        seconds = _best(work, times)
        out = work()
        right = (
            accuracy_percent(out, drawn, truth)
            if isinstance(out, Decision)
            else 100.0 * np.mean(out == truth)
        )
        rows.append({"name": name, "seconds": seconds, "reads": seconds / read, "accuracy": float(right)})

    add("majority", lambda: decide(codes, equal_rule(MEMBERS)), repeats)
    add("iwmv", lambda: _once(codes, lambda h: Iwmv(float(VALUES)).fit(h).rule_), repeats)
    add("em", lambda: _once(codes, lambda h: OneCoin(float(VALUES), per_group=False).fit(h).rule_), repeats)
    closed = np.where(codes == ABSTAIN, ABSTAIN, codes - 1)
    add("dawid_skene", lambda: DawidSkene(VALUES).fit(closed).predict(closed) + 1, 1)
    peers = _crowdkit(codes, truth, rows)
    speed: Row = {"cells": cells, "members": MEMBERS, "values": VALUES, "missing": MISSING}
    speed |= {"read_seconds": read, "rows": rows, **peers}
    return speed | {"peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}


def _once(codes: Codes, learn: Callable[[Histogram], Rule]) -> Decision:
    """Learn and decide in one pass over the cells."""
    hist, where = compress(codes)
    small = decide_rows(hist.codes, learn(hist), hist.groups)
    return Decision(small.winner[where], small.confidence[where])


def _crowdkit(codes: Codes, truth: npt.NDArray[np.int64], ours: list[Row]) -> Row:
    try:
        kit = importlib.import_module("crowdkit.aggregation")
        frame = importlib.import_module("pandas").DataFrame
        version = importlib.import_module("importlib.metadata").version("crowd-kit")
    except ImportError as error:
        return {
            "peers": [],
            "crowd_kit": None,
            "note": f"crowd-kit left out: {error} (pip install crowd-kit)",
        }
    task, worker = np.nonzero(codes != ABSTAIN)
    votes = frame({"task": task, "worker": worker, "label": codes[task, worker]})
    against = {"MajorityVote": "majority", "Wawa": "iwmv", "OneCoinDawidSkene": "em", "DawidSkene": "em"}
    seconds = {row["name"]: row["seconds"] for row in ours}
    peers: list[Row] = []
    for name, other in against.items():
        start = time.perf_counter()
        try:
            labels = getattr(kit, name)().fit_predict(votes)
        except Exception as error:  # a peer that does not run is a result too
            peers.append({"name": name, "error": f"{type(error).__name__}: {error}"[:100]})
            continue
        took = time.perf_counter() - start
        right = float(100.0 * np.mean(labels.reindex(range(len(truth))).to_numpy() == truth))
        found: Row = {"name": name, "seconds": took, "accuracy": right, "against": other}
        peers.append(found | {"ratio": took / seconds[other], "ratio_full": took / seconds["dawid_skene"]})
    return {"peers": peers, "crowd_kit": version, "note": ""}


def _best(work: Callable[[], object], repeats: int) -> float:
    """Shortest of some runs, each from memory: the caches are filled with something else before."""
    other = np.zeros(1 << 25)
    shortest = float("inf")
    for _ in range(repeats):
        other += 1.0
        start = time.perf_counter()
        work()
        shortest = min(shortest, time.perf_counter() - start)
    return shortest


def _independent(seeds: int, quick: bool) -> list[Row]:
    """Accuracy minus that of MAP with the true accuracies, points; members that err independently."""
    rows = []
    for cells, members, values in itertools.product((1_000, 10_000), (3, 5, 8), (3, 10, 50)):
        gaps: dict[str, list[float]] = {name: [] for name in ("oracle", "majority", "iwmv", "em")}
        for seed in range(seeds if quick else 2 * seeds):
            rng = np.random.default_rng(seed)
            accuracy = rng.permutation(np.linspace(0.55, 0.95, members))
            codes, truth = independent(rng, cells, accuracy, values, MISSING)
            hist = histogram(codes)
            rules = {
                "oracle": Rule(log_odds(accuracy, values)[None], np.zeros(1)),
                "majority": equal_rule(members),
                "iwmv": Iwmv(float(values)).fit(hist).rule_,
                "em": OneCoin(float(values), per_group=False).fit(hist).rule_,
            }
            for name, rule in rules.items():
                gaps[name].append(accuracy_percent(decide(codes, rule), codes, truth))
        rows.append({"cells": cells, "members": members, "values": values, **_gaps(gaps, "oracle")})
    return rows


def _correlated(seeds: int) -> list[Row]:
    """The same with a bloc whose members repeat each other, against the exact Bayes decision."""
    rows = []
    for share, members, values in itertools.product((0.3, 0.6), (5,), (3, 10)):
        names = ("oracle", "majority", "iwmv", "em", "loglinear 200", "loglinear 1000")
        gaps: dict[str, list[float]] = {name: [] for name in names}
        phi = []
        bloc = list(range(members // 2 + members % 2))
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            accuracy = rng.permutation(np.linspace(0.55, 0.95, members))
            codes, truth = with_bloc(rng, 10_000, accuracy, values, bloc, share)
            wrong = codes[:, bloc] != truth[:, None]
            phi.append(np.corrcoef(wrong.T)[np.triu_indices(len(bloc), 1)].mean())
            hist, where = compress(codes)
            gaps["oracle"].append(
                100.0 * np.mean(_named(codes, _bayes(hist, accuracy, values, bloc, share)[where]) == truth)
            )
            rules = {
                "majority": equal_rule(members),
                "iwmv": Iwmv(float(values)).fit(hist).rule_,
                "em": OneCoin(float(values), per_group=False).fit(hist).rule_,
            }
            order = rng.permutation(len(codes))
            for labels in (200, 1000):
                gold = np.where(np.isin(np.arange(len(codes)), order[:labels]), truth, ABSTAIN)
                fit = LogLinear(labels=float(values)).fit(histogram(codes, None, right_mask(codes, gold)))
                rules[f"loglinear {labels}"] = fit.rule_
            for name, rule in rules.items():
                gaps[name].append(accuracy_percent(decide(codes, rule), codes, truth))
        rows.append({"share": share, "phi": float(np.mean(phi)), "members": members, "bloc": len(bloc),
                     "values": values, **_gaps(gaps, "oracle")})  # fmt: skip
    return rows


def _bayes(
    hist: Histogram, accuracy: Floats, values: int, bloc: Sequence[int], share: float
) -> npt.NDArray[np.int64]:
    """(r,) member whose value is most probable under the model of :func:`quorum.fit.simulate.with_bloc`."""
    codes, m = hist.codes, hist.members
    chance = np.zeros(codes.shape)
    joins = np.sqrt(share)
    for candidate in range(m):
        right = codes == codes[:, candidate : candidate + 1]
        single = np.where(right, accuracy, (1.0 - accuracy) / (values - 1))
        for size in range(len(bloc) + 1):
            for joined in itertools.combinations(bloc, size):
                inside = np.isin(np.arange(m), joined)
                term = (
                    joins**size
                    * (1.0 - joins) ** (len(bloc) - size)
                    * np.where(inside, 1.0, single).prod(axis=1)
                )
                chance[:, candidate] += term * _together(codes, right, accuracy, inside, values)
    return np.asarray(np.where(codes == ABSTAIN, -1.0, chance).argmax(axis=1))


def _together(
    codes: npt.NDArray[np.int8],
    right: npt.NDArray[np.bool_],
    accuracy: Floats,
    inside: npt.NDArray[np.bool_],
    values: int,
) -> Floats:
    """(r,) probability of the votes of those who share one draw: right below their accuracy, else one."""
    hits, misses = right & inside, ~right & inside
    room = np.where(hits, accuracy, 1.0).min(axis=1) - np.where(misses, accuracy, 0.0).max(axis=1)
    low, high = (np.where(misses, codes, fill) for fill in (np.int8(127), np.int8(-128)))
    alike = ~misses.any(axis=1) | (low.min(axis=1) == high.max(axis=1))
    return np.asarray(np.maximum(room, 0.0) * alike * np.where(misses.any(axis=1), 1.0 / (values - 1), 1.0))


def _named(codes: npt.NDArray[np.int16], winner: npt.NDArray[np.int64]) -> npt.NDArray[np.int16]:
    return np.asarray(codes[np.arange(len(codes)), winner])


def _gaps(accuracies: dict[str, list[float]], base: str) -> Row:
    """Mean of the base and, for the others, mean difference to it with half its 95 % interval."""
    best = np.array(accuracies.pop(base))
    out: Row = {base: float(best.mean())}
    for name, values in accuracies.items():
        gap = np.array(values) - best
        half = 1.96 * gap.std(ddof=1) / np.sqrt(len(gap)) if len(gap) > 1 else float("nan")
        out[name] = {"gap": float(gap.mean()), "half": float(half)}
    return out


def _machine() -> Row:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [
            line.split(":", 1)[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        model = models[0] if models else model
    now = datetime.now(UTC).isoformat(timespec="minutes")
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    return {
        "date": now,
        "cpu": model,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        **versions,
    }


def _print_speed(result: Row) -> None:
    machine, speed = result["machine"], result["speed"]
    print(
        f"{machine['date']}  {machine['cores']} x {machine['cpu']}, load {machine['load']}, "
        f"Python {machine['python']}, NumPy {machine['numpy']}, crowd-kit {speed['crowd_kit'] or '-'}"
    )
    print(
        f"\nSpeed, one process, the same votes: {speed['cells']:,} cells x {speed['members']} members, "
        f"K = {speed['values']}, {speed['missing']:.0%} missing\n"
        f"One read of the votes from memory: {1e3 * speed['read_seconds']:.2f} ms; "
        f"peak of the process {speed['peak_rss_mb']} MB\n\n"
        f"{'':20} {'ms':>9} {'x one read':>11} {'accuracy':>9}"
    )
    for row in speed["rows"]:
        note = (
            ""
            if row["name"] == "dawid_skene"
            else f"   target <= {READS:.0f}: {_mark(row['reads'] <= READS)}"
        )
        print(
            f"{row['name']:20} {1e3 * row['seconds']:9.1f} {row['reads']:11.1f} {row['accuracy']:9.2f}{note}"
        )
    if speed["note"]:
        print(speed["note"])
    for row in speed["peers"]:
        if "error" in row:
            print(f"crowd-kit {row['name']:18} {row['error']}")
            continue
        target = TARGETS.get(row["name"])
        mark = f"   target >= {target:.0f}: {_mark(row['ratio'] >= target)}" if target else ""
        full = f", {row['ratio_full']:.0f} x dawid_skene" if row["name"] == "DawidSkene" else ""
        print(
            f"crowd-kit {row['name']:18} {1e3 * row['seconds']:9.0f} ms, accuracy {row['accuracy']:.2f}: "
            f"{row['ratio']:.0f} x {row['against']}{full}{mark}"
        )


def _print_independent(rows: list[Row]) -> None:
    print("\nAccuracy of independent members (.55-.95), points below MAP with the true accuracies\n")
    print(f"{'cells':>7} {'M':>3} {'K':>3} {'oracle':>7} {'majority':>14} {'iwmv':>14} {'em':>14}")
    for row in rows:
        print(
            f"{row['cells']:7} {row['members']:3} {row['values']:3} {row['oracle']:7.2f} {_gap_cells(row, 3)}"
        )


def _print_correlated(rows: list[Row]) -> None:
    print("\nThe same with a bloc that repeats itself, 10,000 cells, points below the exact Bayes decision\n")
    names = f"{'majority':>14} {'iwmv':>14} {'em':>14} {'loglinear 200':>14} {'loglinear 1000':>14}"
    print(f"{'phi':>5} {'M':>3} {'bloc':>4} {'K':>3} {'oracle':>7} {names}")
    for row in rows:
        print(
            f"{row['phi']:5.2f} {row['members']:3} {row['bloc']:4} {row['values']:3} {row['oracle']:7.2f} "
            f"{_gap_cells(row, 5)}"
        )


def _gap_cells(row: Row, count: int) -> str:
    gaps = [value for value in row.values() if isinstance(value, dict)][:count]
    return " ".join(f"{gap['gap']:+7.2f} +-{gap['half']:4.2f}" for gap in gaps)


def _mark(met: bool) -> str:
    return "met" if met else "MISSED"


if __name__ == "__main__":
    main()
