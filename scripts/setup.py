# SPDX-License-Identifier: Apache-2.0
"""Make the environments: ``setup.py run|hf|tune|dev|build|peers|ray ...``. Needs only Python 3.8 or newer.

``run`` makes ``.venv`` (server, models, command line), ``hf`` adds PyTorch and Transformers to it, ``tune``
these and the ONNX tools for fine-tuning, ``dev`` the test tools; ``build`` makes ``.venv-build`` (PyTorch and
converters), ``peers`` makes ``.venv-peers`` (the other servers of the benchmark), ``ray`` makes ``.venv-ray``
(bulk runs on Ray, exporters to tables). PyTorch is the CPU build, but in ``.venv`` the build with CUDA
where an NVIDIA driver is loaded; QUORUM_TORCH=cpu or cuda overrides it. Packages are installed by uv,
itself installed by pip, under pip's own configuration (mirrors, wheel folders, certificates); where uv
fails, and with QUORUM_INSTALLER=pip, pip installs them. A stamp makes a second run instant; an incomplete
environment is made anew. The variable PYTHON names the interpreter to use when the system's does not fit.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
PROJECTS = [
    p for d in ("client", "ensemble_backend", "benchmarks") for p in (ROOT / d).glob("pyproject.toml")
]
SUPPORTED = ("3.11", "3.12")
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# Setting of pip -> (variable of uv, separator of its list).
UV_VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "timeout": ("UV_HTTP_TIMEOUT", " "),
    "default-timeout": ("UV_HTTP_TIMEOUT", " "),
    "proxy": ("ALL_PROXY", " "),
}
PIP_SECTIONS = ("global", "install", ":env:")  # a later one wins

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
    """Stop on a machine that the server in the wheel is not built for."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        stop(f"needs Linux on x86-64, this is {sys.platform} on {platform.machine()}; use a container")
    glibc = (os.confstr("CS_GNU_LIBC_VERSION") or "glibc 0.0").split()[-1]
    if tuple(map(int, glibc.split(".")[:2])) < (2, 35):
        stop(f"needs glibc 2.35 or newer, here is {glibc}; use Debian 12, Ubuntu 22.04 or newer")


def probe(python: str) -> dict | None:
    """Describe an interpreter; None if it is not one."""
    if (path := shutil.which(python)) is None:
        return None
    done = subprocess.run([path, "-c", PROBE], capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def find_python(asked: str | None) -> str:
    """Find an interpreter that can host the server's Python models; as root, install missing Debian packages.

    The server's Python stub is linked against the shared libpython (Debian's own python3 is static, the
    library is a package of its own) and needs numpy < 2, which has no wheels for Python 3.13 and newer.
    """
    base = getattr(sys, "_base_executable", sys.executable)
    names = [asked] if asked else [base, *(f"python{v}" for v in SUPPORTED)]
    interpreters = [p for p in map(probe, names) if p]
    fitting = [p for p in interpreters if p["version"] in SUPPORTED]
    if complete := [p["path"] for p in fitting if p["shared"] and p["venv"]]:
        return complete[0]
    if not fitting:
        have = ", ".join(sorted({p["version"] for p in interpreters})) or "none"
        stop(
            f"needs Python {' or '.join(SUPPORTED)} (found: {have}): the server's Python stub needs "
            "numpy < 2, which newer Pythons have no wheels for. Install one next to it, for example with "
            "`apt-get install python3.12`, pyenv or uv, then: make setup PYTHON=/path/to/python3.12"
        )
    python = fitting[0]
    needed = {f"python{python['version']}-venv": "venv", f"libpython{python['version']}": "shared"}
    packages = [package for package, part in needed.items() if not python[part]]
    install_debian(packages)
    completed = probe(python["path"])
    if not (completed and completed["shared"] and completed["venv"]):
        stop(f"{python['path']} still lacks {' and '.join(packages)}; point PYTHON=... at a complete Python")
    return python["path"]


def install_debian(packages: list[str]) -> None:
    """Install system packages as root; otherwise stop with the command to run."""
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
        self._uv: str | None = None

    def ensure(self, stage: str, files: list[Path], install: Callable[[Environment], None]) -> None:
        """Run ``install`` unless the stamp matches these files."""
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

    def install(self, *arguments: str, may_fail: bool = False, quick: bool = False) -> bool:
        """Install packages by uv, or by pip where uv is missing or fails.

        Args:
            arguments: Arguments of either installer.
            may_fail: Return False on failure instead of stopping with a message.
            quick: Give up at once when an index cannot be reached.
        """
        say(" ".join(["install", *(a.replace(f"{ROOT}/", "") for a in arguments)]))
        start = time.monotonic()
        done = self.uv(arguments, may_fail, quick)
        if not done and not may_fail and self.uv_path:
            say("  uv failed (above): trying pip")
        done = done or ((not may_fail or not self.uv_path) and self.pip(arguments, may_fail, quick))
        if not done and not may_fail:
            stop(f"pip failed (above); see `{self.python} -m pip config debug`, then run again")
        say(f"  {'done' if done else 'not there'} after {time.monotonic() - start:.0f} s")
        return done

    def pip(self, arguments: Sequence[str], may_fail: bool, quick: bool) -> bool:
        quiet = [] if sys.stdout.isatty() and not may_fail else ["-q", "--progress-bar", "off"]
        hurry = ["--retries", "0", "--timeout", "15"] if quick else []
        return run([str(self.python), "-m", "pip", "install", *quiet, *hurry, *arguments], may_fail)

    def uv(self, arguments: Sequence[str], may_fail: bool, quick: bool) -> bool:
        if not self.uv_path:
            return False
        quiet = [] if sys.stdout.isatty() and not may_fail else ["-q"]
        settings = pip_settings(self.python)
        hurry = {"UV_HTTP_RETRIES": "0", "UV_HTTP_TIMEOUT": "15"} if quick else {}
        command = [self.uv_path, "pip", "install", *quiet, "--python", str(self.python), *arguments]
        command += (word for word in uv_arguments(settings) if word == "-c" or word not in arguments)
        return run(command, may_fail, {**uv_variables(settings), **hurry, **os.environ})

    @property
    def uv_path(self) -> str | None:
        """The uv of this environment or of ``.venv``; None where pip fails to install it or is preferred."""
        if self._uv is None:
            places = [self.folder / "bin" / "uv", ROOT / ".venv" / "bin" / "uv"]
            wanted = os.environ.get("QUORUM_INSTALLER") != "pip"
            there = next((str(path) for path in places if path.exists()), "")
            if wanted and not there and self.pip(["-r", f"{REQUIREMENTS}/uv.txt"], True, False):
                there = str(places[0])
            self._uv = there if wanted else ""
        return self._uv or None


def run(command: list[str], may_fail: bool, env: dict[str, str] | None = None) -> bool:
    null = subprocess.DEVNULL
    done = subprocess.run(command, check=False, stdin=null, stderr=null if may_fail else None, env=env)
    return done.returncode == 0


def pip_settings(python: Path) -> dict[str, list[str]]:
    """Read pip's configuration, files and variables, as pip itself combines it for ``pip install``."""
    command = [str(python), "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    values: dict[tuple[int, str], list[str]] = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section in PIP_SECTIONS and value:
            values[PIP_SECTIONS.index(section), name] = str(ast.literal_eval(value)).split()
    return {name: value for (_, name), value in sorted(values.items())}


def uv_arguments(settings: dict[str, list[str]]) -> list[str]:
    """Express as arguments the settings of pip that arguments add to, where they would replace a variable."""
    arguments = [word for file in settings.get("constraint", []) for word in ("-c", file)]
    if settings.get("no-index", ["no"])[0].lower() in ("1", "true", "yes", "on"):
        arguments.append("--no-index")
    return arguments


def uv_variables(settings: dict[str, list[str]]) -> dict[str, str]:
    """Express pip's configuration in uv's variables."""
    # Like pip, uv then takes the best version of all indexes, and trusts the system's certificates.
    variables = {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_SYSTEM_CERTS": "1"}
    for name, (variable, separator) in UV_VARIABLES.items():
        if name in settings:
            variables[variable] = separator.join(settings[name])
    return variables


def install_run(env: Environment) -> None:
    env.install("-r", f"{REQUIREMENTS}/run.txt", "-c", f"{REQUIREMENTS}/constraints.txt")
    env.install("--no-deps", "--no-build-isolation", *(a for p in PROJECTS for a in ("-e", str(p.parent))))


def install_dev(env: Environment) -> None:
    env.install("-r", f"{REQUIREMENTS}/dev.txt", "-c", f"{REQUIREMENTS}/constraints.txt")
    # Takes seconds; without it tests of the chart are skipped, and say so.
    subprocess.run([str(env.python), str(ROOT / "scripts" / "helm_tool.py")], check=False)


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
    # For pip the CPU build satisfies the same requirement.
    subprocess.run([str(env.python), "-m", "pip", "uninstall", "-q", "-y", "torch"], check=False)
    install_hf(env)


def install_hf(env: Environment) -> None:
    constraints = f"{REQUIREMENTS}/constraints.txt"
    env.install("-r", f"{REQUIREMENTS}/hf.txt", "-r", f"{REQUIREMENTS}/run.txt", "-c", constraints)


def install_tune(env: Environment) -> None:
    constraints = f"{REQUIREMENTS}/constraints.txt"
    env.install("-r", f"{REQUIREMENTS}/tune.txt", "-r", f"{REQUIREMENTS}/run.txt", "-c", constraints)


def install_torch_cpu(env: Environment, file: str) -> None:
    """Install PyTorch for CPU: a local wheel, from the configured index or PyTorch's; else the CUDA build."""
    torch = next(w for w in (REQUIREMENTS / file).read_text().split() if w.startswith("torch=="))
    places = (["--no-index"], [], ["--index-url", TORCH_CPU_INDEX])
    if not any(
        env.install(*place, "--no-deps", f"{torch}+cpu", may_fail=True, quick=True) for place in places
    ):
        say("no CPU build of PyTorch within reach: installing the one with CUDA, some gigabytes more")


def install_build(env: Environment) -> None:
    install_torch_cpu(env, "build.txt")
    env.install("-r", f"{REQUIREMENTS}/build.txt", "-c", f"{REQUIREMENTS}/build-constraints.txt")
    env.install("--no-deps", "-r", f"{REQUIREMENTS}/build-nodeps.txt")


def install_peers(env: Environment) -> None:
    env.install("-r", f"{REQUIREMENTS}/peers.txt")
    own = [a for name in ("client", "ensemble_backend") for a in ("-e", str(ROOT / name))]
    env.install("--no-deps", "-r", f"{REQUIREMENTS}/peers-nodeps.txt", *own)


def install_ray(env: Environment) -> None:
    env.install("-r", f"{REQUIREMENTS}/ray.txt", "-c", f"{REQUIREMENTS}/constraints.txt")
    own = [a for name in ("client", "ensemble_backend") for a in ("-e", str(ROOT / name))]
    env.install("--no-deps", *own)


def make(stage: str) -> None:
    """Make or update the environment of a stage, if it is missing or out of date."""
    if stage == "build":
        files = [REQUIREMENTS / f"build{part}.txt" for part in ("", "-nodeps", "-constraints")]
        Environment(ROOT / ".venv-build").ensure("build", files, install_build)
        return
    if stage == "peers":
        files = [*(REQUIREMENTS / f"peers{part}.txt" for part in ("", "-nodeps")), *PROJECTS]
        Environment(ROOT / ".venv-peers").ensure("peers", files, install_peers)
        return
    if stage == "ray":
        files = [REQUIREMENTS / "ray.txt", REQUIREMENTS / "constraints.txt", *PROJECTS]
        Environment(ROOT / ".venv-ray").ensure("ray", files, install_ray)
        return
    common = [REQUIREMENTS / "run.txt", REQUIREMENTS / "constraints.txt", *PROJECTS]
    env = Environment(ROOT / ".venv")
    env.ensure("run", common, install_run)
    if stage in ("hf", "tune"):
        files, build = [*common, REQUIREMENTS / "hf.txt"], torch_build()
        (env.folder / f".quorum-hf-{'cpu' if build == 'cuda' else 'cuda'}").unlink(missing_ok=True)
        env.ensure(f"hf-{build}", files, install_hf_cuda if build == "cuda" else install_hf_cpu)
    if stage == "tune":
        env.ensure(
            "tune", [*common, *(REQUIREMENTS / f"{part}.txt" for part in ("hf", "tune"))], install_tune
        )
    if stage == "dev":
        env.ensure("dev", [*common, REQUIREMENTS / "dev.txt"], install_dev)


def main() -> None:
    stages = sys.argv[1:]
    if not stages or not set(stages) <= {"run", "hf", "tune", "dev", "build", "peers", "ray"}:
        stop("usage: setup.py run|hf|tune|dev|build|peers|ray ...")
    for stage in stages:
        make(stage)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nsetup: interrupted; run again to go on")
