# SPDX-License-Identifier: Apache-2.0
"""Measure what a target uses under load, from ``/proc``, RAPL and ``nvidia-smi``."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quorum_bench.targets import StepTimes

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_RAPL = Path("/sys/class/powercap")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Usage at one moment; all but memory and power cumulative.

    Attributes:
        at_ns: Monotonic time.
        cpu_s: CPU seconds of the target's processes.
        busy_s: CPU seconds of the whole machine.
        rss_bytes: Resident memory of the target's processes, shared pages counted in each.
        rapl_j: Energy of the CPU packages, joules; ``None`` where it cannot be read.
        gpu_w: Power of all GPUs, watts; ``None`` without one.
        gpu_bytes: GPU memory of the target's processes; ``None`` without a GPU.
        steps: The target's own statistics.
    """

    at_ns: int
    cpu_s: float
    busy_s: float
    rss_bytes: int
    rapl_j: float | None
    gpu_w: float | None
    gpu_bytes: int | None
    steps: Mapping[str, StepTimes]


def descendants(roots: Sequence[int]) -> list[int]:
    """The processes and all their descendants that are alive."""
    parents: dict[int, list[int]] = {}
    for folder in _PROC.iterdir():
        if folder.name.isdecimal() and (fields := _stat(int(folder.name))):
            parents.setdefault(int(fields[1]), []).append(int(folder.name))
    alive: list[int] = []
    pending = list(dict.fromkeys(roots))
    while pending:
        pid = pending.pop()
        if pid not in alive:
            alive.append(pid)
            pending.extend(parents.get(pid, []))
    return alive


def cpu_seconds(pids: Sequence[int]) -> float:
    """CPU time that these processes, and their children that ended, have used."""
    return sum(sum(map(int, fields[11:15])) for pid in pids if (fields := _stat(pid))) / _TICKS


def busy_seconds() -> float:
    """CPU time of the whole machine since its start."""
    user, nice, system, _, _, irq, soft, steal = map(
        int, (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + soft + steal) / _TICKS


def rss_bytes(pids: Sequence[int]) -> int:
    """Resident memory of these processes, bytes."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE
    return total


def pss_bytes(pids: Sequence[int]) -> int:
    """Memory of these processes, shared pages split among their users, bytes; takes milliseconds."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def rapl_joules() -> float | None:
    """Energy counters of all CPU packages, or ``None`` where they cannot be read (often root only)."""
    files = [p / "energy_uj" for p in _RAPL.glob("intel-rapl:[0-9]*") if p.name.count(":") == 1]
    try:
        return sum(int(f.read_text()) for f in files) / 1e6 if files else None
    except OSError:
        return None


def gpu_query(fields: str, kind: str = "gpu") -> list[list[str]] | None:
    """Rows of ``nvidia-smi --query-<kind>=<fields>``, or ``None`` without a GPU."""
    if not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", f"--query-{kind}={fields}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    if done.returncode:
        return None
    return [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines() if line.strip()]


class Recorder:
    """Takes snapshots on a thread while a load runs.

    Args:
        pids: The target's processes.
        steps: The target's own statistics.
        every_s: Time between two snapshots.
    """

    def __init__(
        self,
        pids: Callable[[], Sequence[int]],
        steps: Callable[[], Mapping[str, StepTimes]],
        every_s: float = 0.5,
    ) -> None:
        self.snapshots: list[Snapshot] = []
        self.error: Exception | None = None
        self._pids, self._steps, self._every_s = pids, steps, every_s
        self._has_gpu = gpu_query("name") is not None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="quorum-bench-recorder", daemon=True)

    def __enter__(self) -> Recorder:
        self._take()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self.error:
            raise self.error
        self._take()

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._every_s):
                self._take()
        except Exception as error:
            self.error = error

    def _take(self) -> None:
        pids = descendants(self._pids())
        steps = dict(self._steps())
        power = gpu_query("power.draw") if self._has_gpu else None
        memory = gpu_query("pid,used_memory", "compute-apps") if self._has_gpu else None
        self.snapshots.append(
            Snapshot(
                at_ns=time.monotonic_ns(),
                cpu_s=cpu_seconds(pids),
                busy_s=busy_seconds(),
                rss_bytes=rss_bytes(pids),
                rapl_j=rapl_joules(),
                gpu_w=sum(_number(row[0]) for row in power) if power else None,
                gpu_bytes=_gpu_bytes(memory, pids) if memory is not None else None,
                steps=steps,
            )
        )


def _gpu_bytes(rows: Sequence[Sequence[str]], pids: Sequence[int]) -> int:
    return sum(int(_number(row[1])) * 1024 * 1024 for row in rows if int(_number(row[0])) in pids)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _stat(pid: int) -> list[str]:
    """Fields of ``/proc/PID/stat`` after the name; empty when the process is gone."""
    with contextlib.suppress(OSError):
        return (_PROC / str(pid) / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
    return []
