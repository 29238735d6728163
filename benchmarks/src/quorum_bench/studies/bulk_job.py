# SPDX-License-Identifier: Apache-2.0
"""Measure a job over many listings: rows per second, and memory and CPU of the command as it goes on.

The members replay, so that the server costs little and the command shows. The same server is asked before and
after by a load generator: perf_analyzer where it is given, else this package's own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from quorum_bench.load import Closed, LoadError, run_load
from quorum_bench.perf_analyzer import run_perf_analyzer
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.usage import cpu_seconds, rss_bytes
from quorum_bench.workload import Workload
from quorum_contract import STABLE

MEMBERS, ATTRIBUTES = 3, 3
CALLERS = (16, 64)
_EVERY_S = 0.25
_RUN = "import sys; sys.argv[0] = 'quorum'; from quorum.cli import main; main()"
_MIB = 1 << 20
Note = Callable[[str], None]


class Moment(NamedTuple):
    """A moment of the job: seconds since its start, rows answered, memory and CPU of the command."""

    seconds: float
    rows: int
    rss_bytes: int
    cpu_s: float


@dataclass(slots=True)
class Watched:
    """A command that ran to its end.

    Attributes:
        moments: In order of time.
        seconds: From start to end.
        report: What it printed.
    """

    moments: list[Moment] = field(default_factory=list)
    seconds: float = 0.0
    report: dict[str, Any] = field(default_factory=dict)


def listings(workload: Workload, path: Path, rows: int) -> None:
    """Write the products of a workload again and again, each row with an id of its own."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            product = workload.products[number % len(workload.products)]
            row = {"sku": f"s{number}", "category": product.category, "title": product.text}
            file.write(json.dumps(row) + "\n")


def reference(
    target: QuorumTarget,
    workload: Workload,
    program: Path | None,
    seconds: float,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """Answers per second of the load generator, at the number of callers with the most."""
    rates = {}
    for callers in CALLERS:
        if program is not None:
            rates[callers] = run_perf_analyzer(program, target, callers, workload, seconds).rate
        else:
            found = run_load(target.caller(workload), Closed(callers), seconds)
            rates[callers] = found.samples.answered_between(found.start_ns, found.stop_ns) / seconds
        note(f"{callers} callers: {rates[callers]:.0f} answers/s")
    best = max(rates, key=lambda callers: rates[callers])
    return {"by_callers": rates, "callers": best, "rate": rates[best]}


def watch(target: QuorumTarget, folder: Path, rows: int, concurrency: str) -> Watched:
    """Run ``quorum extract`` over the listings in a folder, and look at it all the time.

    Raises:
        LoadError: The command failed.
    """
    command = [
        *(sys.executable, "-c", _RUN, "extract", "listings.jsonl", "--out", "answers.parquet"),
        *("--votes", "votes.parquet", "--deploy", str(target.deployment.path), "--url", target.url),
        *("--concurrency", concurrency, "--json"),
    ]
    before, watched = target.steps()[STABLE].count, Watched()
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        start = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=err)
        try:
            while process.poll() is None:
                done = target.steps()[STABLE].count - before
                used = rss_bytes([process.pid]), cpu_seconds([process.pid])
                if used[0]:
                    watched.moments.append(Moment(time.monotonic() - start, done, *used))
                time.sleep(_EVERY_S)
        finally:
            process.kill()
            process.wait()
    watched.seconds = time.monotonic() - start
    if process.returncode:
        last = "\n".join((folder / "err").read_text(errors="replace").splitlines()[-8:])
        raise LoadError(f"quorum extract ended with {process.returncode}:\n{last}")
    watched.report = json.loads((folder / "out").read_text("utf-8"))
    return watched


def figures_of(watched: Watched, rows: int) -> dict[str, Any]:
    """What the moments of a job say."""
    moments = watched.moments
    asking = [moment for moment in moments if 0 < moment.rows < rows]
    first, last = asking[0], next((m for m in moments if m.rows >= rows), moments[-1])
    tenths = [
        [moment.rss_bytes for moment in asking if low * rows < moment.rows <= (low + 0.1) * rows]
        for low in (0.0, 0.9)
    ]
    rss = [float(np.median(some)) / _MIB if some else float("nan") for some in tenths]
    return {
        "rows": rows,
        "seconds": watched.seconds,
        "rows_per_s": rows / watched.seconds,
        "asking_rows_per_s": (last.rows - first.rows) / (last.seconds - first.seconds),
        "before_first_answer_s": first.seconds,
        "after_last_answer_s": watched.seconds - last.seconds,
        "rss_first_tenth_mib": rss[0],
        "rss_last_tenth_mib": rss[1],
        "rss_peak_mib": max(moment.rss_bytes for moment in moments) / _MIB,
        "cpu_s_per_1000_rows": moments[-1].cpu_s / rows * 1e3,
        "answered": watched.report["answered"],
    }


def measure(rows: int, program: Path | None, seconds: float, concurrency: str, note: Note) -> dict[str, Any]:
    """Measure the load generator, the job, and the load generator again, on one server."""
    workload = Workload.made(attributes=ATTRIBUTES)
    members: dict[str, dict[str, Any]] = {f"m{number}": {} for number in range(MEMBERS)}
    with (
        tempfile.TemporaryDirectory(prefix="quorum-bench-") as name,
        QuorumTarget(workload, members) as target,
    ):
        folder = Path(name)
        listings(workload, folder / "listings.jsonl", rows)
        before = reference(target, workload, program, seconds, note)
        job = figures_of(watch(target, folder, rows, concurrency), rows)
        note(f"job: {job['asking_rows_per_s']:.0f} rows/s, {job['rows_per_s']:.0f} with scan and outputs")
        after = reference(target, workload, program, seconds, note)
    rate = (before["rate"] + after["rate"]) / 2
    return {
        "generator": "perf_analyzer" if program else "quorum-bench",
        "before": before,
        "job": job,
        "after": after,
        "share": job["rows_per_s"] / rate,
        "asking_share": job["asking_rows_per_s"] / rate,
    }


HEAD = f"{'figure':44} {'value':>12}"


def rows_of(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The figures for people."""
    job, rate = found["job"], (found["before"]["rate"] + found["after"]["rate"]) / 2
    yield {"figure": f"{found['generator']}, answers/s", "value": f"{rate:.0f}"}
    yield {"figure": "job while it asks, rows/s", "value": f"{job['asking_rows_per_s']:.0f}"}
    yield {"figure": "  of the generator's", "value": f"{found['asking_share']:.0%}"}
    yield {"figure": "job from start to end, rows/s", "value": f"{job['rows_per_s']:.0f}"}
    yield {"figure": "  of the generator's", "value": f"{found['share']:.0%}"}
    yield {"figure": "seconds before the first answer", "value": f"{job['before_first_answer_s']:.1f}"}
    yield {"figure": "seconds after the last answer", "value": f"{job['after_last_answer_s']:.1f}"}
    yield {"figure": "memory in the first tenth, MiB", "value": f"{job['rss_first_tenth_mib']:.0f}"}
    yield {"figure": "memory in the last tenth, MiB", "value": f"{job['rss_last_tenth_mib']:.0f}"}
    yield {"figure": "memory at its peak, MiB", "value": f"{job['rss_peak_mib']:.0f}"}
    yield {"figure": "CPU seconds of the command per 1000 rows", "value": f"{job['cpu_s_per_1000_rows']:.2f}"}


def line(row: dict[str, Any]) -> str:
    """A figure as a line of a table."""
    return f"{row['figure']:44} {row['value']:>12}"
