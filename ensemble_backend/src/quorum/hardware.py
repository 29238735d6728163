# SPDX-License-Identifier: Apache-2.0
"""Describe GPUs: those of this machine, by nvidia-smi, and a table of those to plan for."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from quorum_contract.errors import QuorumError

GIB = 1 << 30
MIB = 1 << 20
QUERY = ("index", "name", "compute_cap", "memory.total", "memory.used", "driver_version")
_TIMEOUT_S = 30.0
_MEMORY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(GiB|GB|MiB|MB)\s*", re.IGNORECASE)
_UNITS = {"gib": GIB, "gb": 10**9, "mib": MIB, "mb": 10**6}


class GpuError(QuorumError, RuntimeError):
    """The GPUs of this machine cannot be read, or a named GPU is unknown."""

    code = "GPU_NOT_USABLE"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU.

    Attributes:
        name: NVIDIA's name.
        architecture: ``sm_90`` for compute capability 9.0; empty when unknown.
        memory: Total bytes.
        used: Bytes that other processes hold.
        index: Its number on the machine.
        driver: Version of the driver; empty for a planned GPU.
    """

    name: str
    architecture: str
    memory: int
    used: int = 0
    index: int = 0
    driver: str = ""

    @property
    def free(self) -> int:
        """Bytes that no process holds."""
        return max(self.memory - self.used, 0)


# Memory as nvidia-smi reports it with ECC on, which programs get; compute capabilities from
# https://developer.nvidia.com/cuda-gpus (2026-11).
KNOWN: Mapping[str, Gpu] = MappingProxyType(
    {
        "l40s-48": Gpu("NVIDIA L40S", "sm_89", 46_068 * MIB),
        "a100-40": Gpu("NVIDIA A100-SXM4-40GB", "sm_80", 40_960 * MIB),
        "a100-80": Gpu("NVIDIA A100-SXM4-80GB", "sm_80", 81_920 * MIB),
        "h100-80": Gpu("NVIDIA H100 80GB HBM3", "sm_90", 81_559 * MIB),
        "h200-141": Gpu("NVIDIA H200", "sm_90", 143_771 * MIB),
        "b200-180": Gpu("NVIDIA B200", "sm_100", 183_359 * MIB),
    }
)


def parse_memory(text: str) -> int:
    """``80GiB``, ``80 GB``, ``81559MiB`` in bytes; raises GpuError for anything else."""
    amount = _MEMORY.fullmatch(text)
    if not amount:
        raise GpuError(f"{text!r} is no amount of memory; write it as in 80GiB, 80GB or 81559MiB")
    return int(float(amount[1]) * _UNITS[amount[2].lower()])


def known_gpu(name: str) -> Gpu:
    """A GPU of :data:`KNOWN`; raises GpuError for any other name."""
    try:
        return KNOWN[name.lower()]
    except KeyError:
        raise GpuError(
            f"GPU {name!r} is unknown; use one of {', '.join(KNOWN)}, or --gpu-memory 80GiB"
        ) from None


def parse_nvidia_smi(text: str) -> list[Gpu]:
    """Parse the output of ``nvidia-smi --query-gpu=<QUERY> --format=csv,noheader``.

    Memory is printed as ``81559 MiB``, an unknown field as ``[N/A]`` or ``[Not Supported]``.
    Raises GpuError for any other text.
    """
    gpus = []
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if not row:
            continue
        try:
            index, name, capability, total, used, driver = (field.strip() for field in row)
            held = 0 if used.startswith("[") else parse_memory(used)
            number = float(capability)
            major, minor = int(number), round(number * 10) % 10
            gpus.append(Gpu(name, f"sm_{major}{minor}", parse_memory(total), held, int(index), driver))
        except (ValueError, GpuError) as error:
            raise GpuError(
                f"nvidia-smi printed {', '.join(row)!r}, which does not match {','.join(QUERY)};"
                " run it by hand and report the driver's version"
            ) from error
    return gpus


def find_gpus() -> list[Gpu]:
    """The GPUs of this machine; none where there is no ``nvidia-smi``. Raises GpuError if that fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GpuError(f"{program} cannot be run ({error}); check the driver, run it by hand") from error
    if result.returncode:
        lines = (result.stdout + result.stderr).strip().splitlines()
        raise GpuError(
            f"{program} failed ({lines[-1] if lines else f'exit code {result.returncode}'});"
            " is the driver installed and, in a container, was it started with --gpus all?"
        )
    return parse_nvidia_smi(result.stdout)
