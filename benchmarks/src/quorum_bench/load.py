# SPDX-License-Identifier: Apache-2.0
"""Put a load on a target, by generators in their own processes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from quorum_bench.arrivals import Offsets
from quorum_bench.samples import Samples
from quorum_bench.targets import CallerSpec
from quorum_contract.errors import QuorumError

_HEAD_START_NS = 100_000_000
_CONNECT_S = 60.0


class LoadError(QuorumError, RuntimeError):
    """A generator could not do its work; the message holds its last words."""

    code = "LOAD_GENERATOR_FAILED"


@dataclass(frozen=True, slots=True)
class Closed:
    """``concurrency`` callers, each with one request in flight."""

    concurrency: int


@dataclass(frozen=True, slots=True, eq=False)
class Open:
    """Requests at fixed times.

    Attributes:
        arrivals: Of one run, from its start; ascending.
        rate_per_s: Rate of the arrivals, for the labels.
        patience_s: Wait for answers after the last arrival.
    """

    arrivals: Offsets
    rate_per_s: float
    patience_s: float = 30.0


Load = Closed | Open


@dataclass(frozen=True, slots=True)
class Generated:
    """Results of the generators.

    Attributes:
        samples: All requests.
        start_ns: When the load began.
        stop_ns: When the last request was sent or could have been.
        cpu_share: CPU time of the busiest generator / its running time; near 1 it measured itself.
        cpu_cores: The sum over all generators.
        calls: Calls of members per answer, of a sample of the answers; None: these do not say it.
        cost: Cost per answer, likewise.
    """

    samples: Samples
    start_ns: int
    stop_ns: int
    cpu_share: float
    cpu_cores: float
    calls: float | None = None
    cost: float | None = None


def run_load(caller: CallerSpec, load: Load, seconds: float, generators: int = 1) -> Generated:
    """Put a load on a target and wait until it is over.

    Args:
        caller: The target's caller.
        load: Closed or open loop.
        seconds: Length of a closed loop; an open loop leaves out later arrivals.
        generators: Processes that share the load.

    Raises:
        LoadError: A generator failed.
        ValueError: More generators than callers.
    """
    if isinstance(load, Closed) and not 1 <= generators <= load.concurrency:
        raise ValueError(f"{generators} generators for {load.concurrency} callers; use at most as many")
    duration_ns = int(seconds * 1e9)
    with tempfile.TemporaryDirectory(prefix="quorum-bench-") as folder:
        jobs = [
            _write_job(Path(folder), caller, load, duration_ns, index, generators)
            for index in range(generators)
        ]
        outputs = [job.with_suffix(".npz") for job in jobs]
        start_ns = _drive(jobs, outputs, seconds)
        parts = [np.load(output) for output in outputs]
    samples = Samples.joined(
        Samples(**{name: part[name] for name in part.files if name not in ("own", "took")}) for part in parts
    )
    answers, calls, cost = np.sum([part["took"] for part in parts], axis=0).tolist()
    shares = [float(part["own"][2] / max(1, part["own"][1] - part["own"][0])) for part in parts]
    each = [total / answers if answers and total == total else None for total in (calls, cost)]
    return Generated(samples, start_ns, start_ns + duration_ns, max(shares), sum(shares), *each)


def _write_job(
    folder: Path, caller: CallerSpec, load: Load, duration_ns: int, index: int, generators: int
) -> Path:
    job: dict[str, Any] = {"factory": caller.factory, "settings": dict(caller.settings)}
    if isinstance(load, Closed):
        callers = list(range(load.concurrency))[index::generators]
        job |= {"kind": "closed", "callers": callers, "stride": load.concurrency, "duration_ns": duration_ns}
    else:
        arrivals = folder / f"arrivals-{index}.npy"
        np.save(arrivals, load.arrivals[load.arrivals < duration_ns][index::generators])
        job |= {"kind": "open", "arrivals": str(arrivals), "patience_s": load.patience_s}
    path = folder / f"job-{index}.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    return path


def _drive(jobs: Sequence[Path], outputs: Sequence[Path], seconds: float) -> int:
    processes = []
    with tempfile.TemporaryFile("w+") as words:
        try:
            for job, output in zip(jobs, outputs, strict=True):
                command = [sys.executable, "-m", "quorum_bench.generator", str(job), str(output)]
                processes.append(
                    subprocess.Popen(
                        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words, text=True
                    )
                )
            for process in processes:
                assert process.stdout is not None
                if process.stdout.readline().strip() != "ready":
                    raise LoadError(f"a load generator could not begin:\n{_last(words)}")
            start_ns = time.monotonic_ns() + _HEAD_START_NS
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(f"{start_ns}\n")
                process.stdin.flush()
            for process in processes:
                if process.wait(seconds + 2 * _CONNECT_S):
                    raise LoadError(
                        f"a load generator ended with status {process.returncode}:\n{_last(words)}"
                    )
        except subprocess.TimeoutExpired as error:
            raise LoadError(f"a load generator did not end:\n{_last(words)}") from error
        finally:
            for process in processes:
                process.kill()
                process.communicate()
    return start_ns


def _last(words: IO[str]) -> str:
    words.seek(0)
    return "\n".join(words.read().splitlines()[-12:])
