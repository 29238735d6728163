# SPDX-License-Identifier: Apache-2.0
"""Describe the machine and versions of a benchmark, so that a reader can repeat it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quorum_bench.usage import gpu_query, rapl_joules

_PACKAGES = ("quorum", "quorum-client", "quorum-bench", "nvidia-pytriton", "tritonclient", "grpcio", "numpy")


def describe_environment(packages: Sequence[str] = ()) -> dict[str, Any]:
    """Return machine, versions and state of the source tree; nothing that names the host or its user.

    Args:
        packages: More packages to list.
    """
    root = Path(__file__).resolve().parent
    commit = _git(root, "rev-parse", "HEAD")
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)),
        "cpu_quota": _cpu_quota(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "gpus": [" ".join(row) for row in gpu_query("name,memory.total,driver_version") or []],
        "energy_counters": rapl_joules() is not None,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "triton": _triton_version(),
        "packages": {name: version for name in (*_PACKAGES, *packages) if (version := _version(name))},
        "commit": commit,
        "dirty": bool(_git(root, "status", "--porcelain", "--untracked-files=no")) if commit else None,
        "load_before": [round(x, 2) for x in os.getloadavg()],
    }


def machine_line(environment: Mapping[str, Any]) -> str:
    """Return the machine of :func:`describe_environment` in one line."""
    e = environment
    gpus = ", ".join(e.get("gpus") or []) or "no GPU"
    quota = f", limited to {e['cpu_quota']:g} cores" if e.get("cpu_quota") else ""
    dirty = " with changes" if e.get("dirty") else ""
    commit = f", commit {str(e['commit'])[:10]}{dirty}" if e.get("commit") else ""
    triton = f", Triton {e['triton']}" if e.get("triton") else ""
    cpu = f"{e.get('cpu')}, {e.get('cores_usable')} cores{quota}"
    return f"{cpu}, {gpus}{triton}, Python {e.get('python')}{commit}"


def _triton_version() -> str:
    with contextlib.suppress(Exception):
        from quorum.server.install import find_install

        binary = find_install().binary
        return (binary.parents[1] / "TRITON_VERSION").read_text("ascii").strip()
    return ""


def _cpu_model() -> str:
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _cpu_quota() -> float | None:
    """Cores that the control group allows, if it limits them."""
    quota, _, period = (_read("/sys/fs/cgroup/cpu.max") or "max").partition(" ")
    return None if quota == "max" or not period else int(quota) / int(period)


def _read(path: str) -> str | None:
    with contextlib.suppress(OSError):
        return Path(path).read_text("utf-8", "replace").strip()
    return None


def _version(package: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def _git(folder: Path, *arguments: str) -> str | None:
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()
    return None
