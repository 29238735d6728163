# SPDX-License-Identifier: Apache-2.0
"""Time vote aggregation: against reading the votes, against crowd-kit, by scale, and from Parquet.

Imports the product and NumPy only, so that an environment with crowd-kit but without this package can run it
as a script: ``voting_speed.py CELLS REPEATS`` prints the result of :func:`kit` as JSON.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Decision, Rule, decide, decide_rows, equal_rule
from quorum.decision.histogram import Histogram, compress
from quorum.decision.patterns import ABSTAIN
from quorum.learning.dawid_skene import DawidSkene
from quorum.learning.em import OneCoin
from quorum.learning.iwmv import Iwmv
from quorum.learning.simulate import accuracy_percent, independent

Codes = npt.NDArray[np.int32]
Row = dict[str, Any]
Work = Callable[[], Any]
# crowd-kit's method -> our method that does the same, and the wanted factor.
PEERS = {"MajorityVote": ("majority", 100.0), "Wawa": ("iwmv", None), "OneCoinDawidSkene": ("em", 300.0),
         "DawidSkene": ("dawid_skene", 300.0)}  # fmt: skip
READS = 20.0
VALUES, MISSING = 10, 0.1


def speed(cells: int, repeats: int) -> list[Row]:
    """Time our methods and one read of the same array, for 3, 5 and 8 members, in turn."""
    rows = []
    for members in (3, 5, 8):
        codes, truth = _votes(cells, members)
        works: dict[str, Work] = {
            # The sum of the same int32 array, and the cheapest pass NumPy has over the same bytes.
            "numpy.sum": codes.sum,
            "sum as int64": codes.reshape(-1)[: codes.size // 2 * 2].view(np.int64).sum,
            **_ours(codes),
        }
        times = _in_turn(works, repeats)
        read = {name: np.median(times[name]) for name in ("numpy.sum", "sum as int64")}
        for name, work in works.items():
            row: Row = {"members": members, "name": name, **_summary(times[name])}
            if name not in read:
                row["reads"] = row["seconds"] / read["numpy.sum"]
                row["strict_reads"] = row["seconds"] / read["sum as int64"]
                row["accuracy"] = _accuracy(work(), codes, truth)
            rows.append(row)
    return rows


def kit(cells: int, repeats: int) -> Row:
    """Time our methods and crowd-kit's in turn on the same votes, each from its own input form."""
    try:
        peers = importlib.import_module("crowdkit.aggregation")
        frame = importlib.import_module("pandas").DataFrame
        version = importlib.import_module("importlib.metadata").version
    except ImportError as error:
        return {"note": f"crowd-kit left out: {error} (pip install crowd-kit)", "rows": []}
    codes, truth = _votes(cells, 5)
    task, worker = np.nonzero(codes != ABSTAIN)
    votes = frame({"task": task, "worker": worker, "label": codes[task, worker]})
    ours, rows = _ours(codes), list[Row]()
    for name, (same, target) in PEERS.items():
        labels: list[Any] = []

        def theirs(name: str = name, labels: list[Any] = labels) -> None:
            labels[:] = [getattr(peers, name)().fit_predict(votes)]

        pair: list[tuple[float, float]] = []
        for _ in range(repeats):
            # Ours is short: take the median of five for every run of theirs.
            mine = float(np.median(_in_turn({"": ours[same]}, 5)[""]))
            try:
                pair.append((_time(theirs), mine))
            except Exception as error:  # a peer that does not run is a result too
                rows.append({"name": name, "error": f"{type(error).__name__}: {error}"[:90]})
                break
        if not labels:
            continue
        ratios = [theirs_ / mine for theirs_, mine in pair]
        right = float(100.0 * np.mean(labels[0].reindex(range(cells)).to_numpy() == truth))
        rows.append({"name": name, "against": same, "target": target, "accuracy": right,
                     "accuracy_ours": _accuracy(ours[same](), codes, truth),
                     "theirs": _summary([a for a, _ in pair]), "ours": _summary([b for _, b in pair]),
                     "ratio": float(np.median(ratios)), "ratios": sorted(ratios)})  # fmt: skip
    versions = {"crowd_kit": version("crowd-kit"), "pandas": version("pandas")}
    return {"cells": cells, "repeats": repeats, **versions, "rows": rows}


def scale(most: int, repeats: int) -> list[Row]:
    """Time from 10^3 to ``most`` cells of five members."""
    rows, cells = [], 1000
    while cells <= most:
        codes, _ = _votes(cells, 5)
        for name, times in _in_turn(_ours(codes), repeats).items():
            rows.append({"cells": cells, "name": name, **_summary(times)})
        cells *= 10
    return rows


_LEARN = """
import json, sys, time
from pathlib import Path
from quorum.learning.learn import learn_statistic
from quorum.votes.stream import read_statistic

def peak_mb():
    # Not getrusage: its peak of a new process includes that of the parent before the fork.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))

imports = peak_mb()
start = time.perf_counter()
statistic = read_statistic(sys.argv[1], batch_rows=int(sys.argv[2]))
read = time.perf_counter() - start
learn_statistic(statistic, "em")
print(json.dumps({"cells": statistic.hist.total, "read": read, "learn": time.perf_counter() - start - read,
                  "imports_mb": imports, "peak_mb": peak_mb()}))
"""


def parquet(cells: int) -> list[Row]:
    """Seconds and peak memory of a process that learns from a Parquet file of five members' texts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "votes.parquet"
        write_parquet(path, cells)
        rows = []
        for batch in (1 << 14, 1 << 16):
            done = subprocess.run(
                [sys.executable, "-c", _LEARN, path, str(batch)], capture_output=True, text=True, check=True
            )
            rows.append(
                {"batch_rows": batch, "file_mb": path.stat().st_size >> 20, **json.loads(done.stdout)}
            )
    return rows


def write_parquet(path: Path, cells: int) -> None:
    """Five members, 5,000 values, 20 attributes in 10 categories, no cell twice; gold for one cell in 100."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    words = np.array([f"value {i}" for i in range(5000)])
    names = ["product", "category", "attribute", "gold", *(f"m{j}" for j in range(5))]
    schema = pa.schema([(name, pa.string()) for name in names])
    with pq.ParquetWriter(path, schema) as out:
        for start in range(0, cells, 1 << 19):
            at = np.arange(start, min(start + (1 << 19), cells))
            truth = rng.integers(0, 5000, len(at))
            named = np.where(rng.random((5, len(at))) < 0.8, truth, rng.integers(0, 5000, (5, len(at))))
            product, attribute = np.divmod(at, 20)
            columns = [np.char.add("p", product.astype(str)), np.char.add("c", (product % 10).astype(str)),
                       np.char.add("a", attribute.astype(str))]  # fmt: skip
            gold = pa.array(words[truth], pa.string(), mask=rng.random(len(at)) > 0.01)
            votes = [pa.array(words[row], pa.string(), mask=rng.random(len(at)) < MISSING) for row in named]
            arrays = [*(pa.array(column, pa.string()) for column in columns), gold, *votes]
            out.write_table(pa.table(arrays, schema=schema))


def _votes(cells: int, members: int) -> tuple[Codes, npt.NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    drawn, truth = independent(rng, cells, np.linspace(0.55, 0.95, members), VALUES, MISSING)
    return drawn.astype(np.int32), truth


def _ours(codes: Codes) -> dict[str, Work]:
    members = codes.shape[1]
    closed = np.where(codes == ABSTAIN, ABSTAIN, codes - 1).astype(np.int32)
    return {
        "majority": lambda: decide(codes, equal_rule(members)),
        "iwmv": lambda: _once(codes, lambda h: Iwmv(float(VALUES)).fit(h).rule_),
        "em": lambda: _once(codes, lambda h: OneCoin(float(VALUES), per_group=False).fit(h).rule_),
        "dawid_skene": lambda: DawidSkene(VALUES).fit_predict(closed) + 1,
    }


def _once(codes: Codes, learn: Callable[[Histogram], Rule]) -> Decision:
    """Learn and decide in one pass over the cells."""
    hist, where = compress(codes)
    return decide_rows(hist.codes, learn(hist), hist.groups).spread(where)


def _accuracy(out: Any, codes: Codes, truth: npt.NDArray[np.int64]) -> float:
    return float(
        accuracy_percent(out, codes.astype(np.int16), truth)
        if isinstance(out, Decision)
        else 100.0 * np.mean(out == truth)
    )


def _in_turn(works: dict[str, Work], repeats: int) -> dict[str, list[float]]:
    """Seconds of each, one after the other, round by round: uneven load hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(_time(work))
    return times


_OTHER = np.zeros(1 << 23)


def _time(work: Work) -> float:
    """Seconds from memory: the caches are filled with something else before."""
    np.add(_OTHER, 1.0, out=_OTHER)
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _summary(times: list[float]) -> Row:
    return {"seconds": float(np.median(times)), "least": min(times), "most": max(times), "runs": len(times)}


if __name__ == "__main__":
    # Where crowd-kit is installed this package need not be.
    sys.stdout.write(json.dumps(kit(int(sys.argv[1]), int(sys.argv[2]))))
