# SPDX-License-Identifier: Apache-2.0
"""Speed and accuracy of vote aggregation, beside crowd-kit where it is installed.

    python benchmarks/aggregation.py [--part speed|kit|scale|parquet|accuracy] [--quick] [--json FILE]

Needs quorum, quorum_bench and NumPy, and pyarrow for ``parquet``. ``pip install crowd-kit "numpy<2"``, in an
environment of its own, adds its rows; without it they are left out, with a word.
"""
# ruff: noqa: INP001, T201

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aggregation_tables as tables
import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Rule, decide, equal_rule
from quorum.decision.histogram import compress, histogram, right_mask
from quorum.decision.patterns import ABSTAIN
from quorum.learning.em import OneCoin, log_odds
from quorum.learning.iwmv import Iwmv
from quorum.learning.loglinear import LogLinear
from quorum.learning.simulate import accuracy_percent, bayes_winner, independent, with_bloc
from quorum_bench import aggregation as measured

Floats = npt.NDArray[np.float64]
Row = dict[str, Any]
MEMBERS, VALUES, MISSING = 5, 10, 0.1


PARTS = ("speed", "kit", "scale", "parquet", "accuracy")


def main() -> None:
    """Run the parts and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a tenth of the cells, few seeds")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; may be repeated")
    parser.add_argument("--repeats", type=int, help="of each timing; speed 15, kit 3, scale 5")
    parser.add_argument("--json", type=Path, help="write the figures to this file, beside its other parts'")
    options = parser.parse_args()
    cells, seeds = (100_000, 3) if options.quick else (1_000_000, 10)
    machine = _machine()
    print(
        f"{machine['date']}  {machine['cores']} x {machine['cpu']}, load {machine['load']}, "
        f"Python {machine['python']}, NumPy {machine['numpy']}"
    )
    for part in options.part or PARTS:
        result = _run(part, cells, seeds, options)
        if options.json:
            file = options.json
            found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
            found[part] = {"machine": machine, "cells": cells, "quick": options.quick, "result": result}
            file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _run(part: str, cells: int, seeds: int, options: argparse.Namespace) -> object:
    if part == "speed":
        rows = measured.speed(cells, options.repeats or 15)
        tables.print_speed(cells, rows)
        return rows
    if part == "kit":
        found = measured.kit(cells, options.repeats or 3)
        tables.print_kit(found)
        return found
    if part == "scale":
        rows = measured.scale(10 * cells, options.repeats or 5)
        tables.print_scale(rows)
        return rows
    if part == "parquet":
        rows = measured.parquet(10 * cells)
        tables.print_parquet(rows)
        return rows
    apart, together = _independent(seeds, options.quick), _correlated(seeds)
    _print_independent(apart)
    _print_correlated(together)
    return {"independent": apart, "correlated": together}


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
                100.0
                * np.mean(_named(codes, bayes_winner(hist, accuracy, values, bloc, share)[where]) == truth)
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
