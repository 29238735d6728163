# SPDX-License-Identifier: Apache-2.0
"""Make the environments: ``setup.py run|hf|dev|build|peers``. Standard library only, for any Python from 3.8.

``run`` makes ``.venv`` (server, models, command line), ``hf`` adds PyTorch and Transformers to it, ``dev``
the test tools; ``build`` makes ``.venv-build`` (PyTorch and converters), ``peers`` makes ``.venv-peers``
(the servers that the benchmark puts beside this one). PyTorch is the CPU build, but in
``.venv`` the one with CUDA where an NVIDIA driver is loaded; QUORUM_TORCH=cpu or cuda decides otherwise.
Packages come through pip, so its own configuration (mirrors, wheel folders) holds. A stamp makes a second run
instant; what was left half-made is made anew. The variable PYTHON names the interpreter to build on, when the
system's does not fit.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
PROJECTS = [
    p for d in ("client", "ensemble_backend", "benchmarks") for p in (ROOT / d).glob("pyproject.toml")
]
SUPPORTED = ("3.11", "3.12")
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"

PROBE = """
import ctypes, importlib.util, json, os, sys, sysconfig
version = "%d.%d" % sys.version_info[:2]
name = "libpython" + version + ".so.1.0"
try:
    ctypes.CDLL(name)
    shared = True
except OSError:
    shared = os.path.exists(os.path.join(sysconfig.get_config_var("LIBDIR") or "", name))
venv = bool(importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv"))
print(json.dumps({"path": sys.executable, "version": version, "shared": shared, "venv": venv}))
"""


def say(text: str) -> None:
    print("setup:", text, flush=True)


def stop(text: str) -> NoReturn:
    sys.exit(f"setup: {text}")


def check_machine() -> None:
    """The server in the wheel is built for one kind of machine."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        stop(f"needs Linux on x86-64, this is {sys.platform} on {platform.machine()}; use a container")
    glibc = (os.confstr("CS_GNU_LIBC_VERSION") or "glibc 0.0").split()[-1]
    if tuple(map(int, glibc.split(".")[:2])) < (2, 35):
        stop(f"needs glibc 2.35 or newer, here is {glibc}; use Debian 12, Ubuntu 22.04 or newer")


def probe(python: str) -> dict | None:
    """What this interpreter has, or None when it is not one."""
    if (path := shutil.which(python)) is None:
        return None
    done = subprocess.run([path, "-c", PROBE], capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def find_python(asked: str | None) -> str:
    """An interpreter that can host the server's Python models; installs Debian packages when it may.

    The server's Python stub is linked against the shared libpython (Debian's own python3 is static, the
    library is a package of its own) and needs numpy < 2, which has no wheels for Python 3.13 and newer.
    """
    base = getattr(sys, "_base_executable", sys.executable)
    names = [asked] if asked else [base, *(f"python{v}" for v in SUPPORTED)]
    found = [p for p in map(probe, names) if p]
    fitting = [p for p in found if p["version"] in SUPPORTED]
    if complete := [p["path"] for p in fitting if p["shared"] and p["venv"]]:
        return complete[0]
    if not fitting:
        have = ", ".join(sorted({p["version"] for p in found})) or "none"
        stop(
            f"needs Python {' or '.join(SUPPORTED)} (found: {have}): the server's Python stub needs "
            "numpy < 2, which newer Pythons have no wheels for. Put one beside it, for example with "
            "`apt-get install python3.12`, pyenv or uv, then: make setup PYTHON=/path/to/python3.12"
        )
    python = fitting[0]
    needed = {f"python{python['version']}-venv": "venv", f"libpython{python['version']}": "shared"}
    packages = [package for package, part in needed.items() if not python[part]]
    install_debian(packages)
    again = probe(python["path"])
    if not (again and again["shared"] and again["venv"]):
        stop(f"{python['path']} still lacks {' and '.join(packages)}; point PYTHON=... at a complete Python")
    return python["path"]


def install_debian(packages: list[str]) -> None:
    """Install system packages as root, or say which."""
    names = " ".join(packages)
    line = f"apt-get update && apt-get install -y --no-install-recommends {names}"
    if not shutil.which("apt-get"):
        stop(f"missing: {names} (Debian's names); install them")
    if os.geteuid() != 0:
        stop(f"missing system packages; run this once, then again:\n\n    sudo sh -c '{line}'\n")
    say(line)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    if subprocess.run(["sh", "-c", line], check=False, env=quiet, stdin=subprocess.DEVNULL).returncode:
        stop(f"apt-get failed (above); install {names} and run again")


class Environment:
    """A virtual environment and its stamps."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.python = folder, folder / "bin" / "python"

    def ensure(self, stage: str, files: list[Path], install: Callable[[Environment], None]) -> None:
        """Run ``install`` unless the stamp says that these files were installed here."""
        stamp, partial = self.folder / f".quorum-{stage}", self.folder / ".quorum-partial"
        digest = hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()
        whole = self.python.exists() and not partial.exists()
        if whole and stamp.is_file() and stamp.read_text() == digest:
            return
        start = time.monotonic()
        if not whole:
            self.create()
        stamp.unlink(missing_ok=True)
        install(self)
        stamp.write_text(digest)
        partial.unlink(missing_ok=True)
        say(f"{self.folder.name}: {stage} ready in {time.monotonic() - start:.0f} s")

    def create(self) -> None:
        check_machine()
        python = find_python(os.environ.get("PYTHON"))
        if self.folder.exists():
            say(f"{self.folder.name} is incomplete: making it anew")
            shutil.rmtree(self.folder)
        say(f"{self.folder.name}: new environment from {python}")
        self.folder.mkdir()
        (self.folder / ".quorum-partial").touch()
        subprocess.run([python, "-m", "venv", str(self.folder)], check=True)

    def pip(self, *arguments: str, may_fail: bool = False) -> bool:
        quiet = [] if sys.stdout.isatty() and not may_fail else ["-q", "--progress-bar", "off"]
        command = [str(self.python), "-m", "pip", "install", *quiet, *arguments]
        say(" ".join(["pip install", *(a.replace(f"{ROOT}/", "") for a in arguments)]))
        start, null = time.monotonic(), subprocess.DEVNULL
        done = subprocess.run(command, check=False, stdin=null, stderr=null if may_fail else None)
        if done.returncode and not may_fail:
            stop(f"pip failed (above); see `{self.python} -m pip config debug`, then run again")
        say(f"  {'not there' if done.returncode else 'done'} after {time.monotonic() - start:.0f} s")
        return done.returncode == 0


def install_run(env: Environment) -> None:
    env.pip("-r", f"{REQUIREMENTS}/run.txt", "-c", f"{REQUIREMENTS}/constraints.txt")
    env.pip("--no-deps", "--no-build-isolation", *(a for p in PROJECTS for a in ("-e", str(p.parent))))


def install_dev(env: Environment) -> None:
    env.pip("-r", f"{REQUIREMENTS}/dev.txt", "-c", f"{REQUIREMENTS}/constraints.txt")


def has_gpu() -> bool:
    """Whether an NVIDIA driver is loaded here."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def torch_build() -> str:
    """Which build of PyTorch members get: ``cpu`` or ``cuda``."""
    build = os.environ.get("QUORUM_TORCH") or ("cuda" if has_gpu() else "cpu")
    if build not in ("cpu", "cuda"):
        stop(f"QUORUM_TORCH={build} is unknown; use cpu or cuda")
    return build


def install_hf_cpu(env: Environment) -> None:
    install_torch_cpu(env, "hf.txt")
    install_hf(env)


def install_hf_cuda(env: Environment) -> None:
    # To pip the CPU build satisfies the same requirement.
    subprocess.run([str(env.python), "-m", "pip", "uninstall", "-q", "-y", "torch"], check=False)
    install_hf(env)


def install_hf(env: Environment) -> None:
    constraints = f"{REQUIREMENTS}/constraints.txt"
    env.pip("-r", f"{REQUIREMENTS}/hf.txt", "-r", f"{REQUIREMENTS}/run.txt", "-c", constraints)


def install_torch_cpu(env: Environment, file: str) -> None:
    """PyTorch's CPU build: from a local wheel, the configured index, PyTorch's own; else that with CUDA."""
    torch = next(w for w in (REQUIREMENTS / file).read_text().split() if w.startswith("torch=="))
    cpu, quick = f"{torch}+cpu", ("--no-deps", "--retries", "0", "--timeout", "15")
    if not (
        env.pip("--no-index", "--no-deps", cpu, may_fail=True)
        or env.pip(*quick, cpu, may_fail=True)
        or env.pip(*quick, "--index-url", TORCH_CPU_INDEX, cpu, may_fail=True)
    ):
        say("no CPU build of PyTorch within reach: taking the one with CUDA, some gigabytes more")


def install_build(env: Environment) -> None:
    install_torch_cpu(env, "build.txt")
    env.pip("-r", f"{REQUIREMENTS}/build.txt", "-c", f"{REQUIREMENTS}/build-constraints.txt")
    env.pip("--no-deps", "-r", f"{REQUIREMENTS}/build-nodeps.txt")


def install_peers(env: Environment) -> None:
    env.pip("-r", f"{REQUIREMENTS}/peers.txt")
    own = [a for name in ("client", "ensemble_backend") for a in ("-e", str(ROOT / name))]
    env.pip("--no-deps", "-r", f"{REQUIREMENTS}/peers-nodeps.txt", *own)


def main() -> None:
    if len(sys.argv) != 2 or (what := sys.argv[1]) not in ("run", "hf", "dev", "build", "peers"):
        stop("usage: setup.py run|hf|dev|build|peers")
    if what == "build":
        build = [REQUIREMENTS / f"build{part}.txt" for part in ("", "-nodeps", "-constraints")]
        Environment(ROOT / ".venv-build").ensure("build", build, install_build)
    elif what == "peers":
        files = [*(REQUIREMENTS / f"peers{part}.txt" for part in ("", "-nodeps")), *PROJECTS]
        Environment(ROOT / ".venv-peers").ensure("peers", files, install_peers)
    else:
        common = [REQUIREMENTS / "run.txt", REQUIREMENTS / "constraints.txt", *PROJECTS]
        env = Environment(ROOT / ".venv")
        env.ensure("run", common, install_run)
        if what == "hf":
            files, build = [*common, REQUIREMENTS / "hf.txt"], torch_build()
            (env.folder / f".quorum-hf-{'cpu' if build == 'cuda' else 'cuda'}").unlink(missing_ok=True)
            env.ensure(f"hf-{build}", files, install_hf_cuda if build == "cuda" else install_hf_cpu)
        if what == "dev":
            env.ensure("dev", [*common, REQUIREMENTS / "dev.txt"], install_dev)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nsetup: interrupted; run again to go on")
