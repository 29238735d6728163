#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Test the client on each supported Python, with the lowest and the highest versions of what it needs.

``client_matrix.py [VERSION ...]``, by default 3.10 to 3.13. uv finds the interpreters on this machine, or
fetches them where it can; a version that is not to be had is named, and fails the script only with
QUORUM_ALL_PYTHONS=1, which CI sets. Needs ``.venv`` (``make setup-dev``) for its uv.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from setup import pip_settings, uv_variables

ROOT = Path(__file__).resolve().parent.parent
UV = ROOT / ".venv" / "bin" / "uv"
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
RESOLUTIONS = ("lowest-direct", "highest")
TESTS = "tests/unit/client"
TOOLS = ("hypothesis", "pytest>=8", "pytest-timeout")
COMPILED = ("grpcio", "numpy", "pandas", "pyarrow", "python-rapidjson")
"""Packages that are not to be built from source, which would take long."""
SHOWN = ("tritonclient", "grpcio", "protobuf", "numpy", "pandas", "pyarrow")


def main(versions: list[str]) -> int:
    if not UV.exists():
        sys.exit(f"{UV} is missing: run `make setup-dev`")
    environment = {**os.environ, **uv_variables(pip_settings(ROOT / ".venv" / "bin" / "python"))}
    outcomes: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for version in versions:
            for resolution in RESOLUTIONS:
                place = Path(folder) / f"{version}-{resolution}"
                outcomes[f"{version} {resolution}"] = run(version, resolution, place, environment)
                print(f"==> {version} {resolution}: {outcomes[f'{version} {resolution}']}", flush=True)
    print("\n".join(f"{name:<20} {outcome}" for name, outcome in outcomes.items()))
    wanted = "passed" if os.environ.get("QUORUM_ALL_PYTHONS") else ("passed", "no interpreter")
    return 0 if all(outcome.startswith(wanted) for outcome in outcomes.values()) else 1


def run(version: str, resolution: str, place: Path, environment: dict[str, str]) -> str:
    """Make an environment and run the tests in it; returns how it went."""
    if not uv("venv", "-q", "--python", version, str(place), env=environment):
        return "no interpreter"
    python = place / "bin" / "python"
    client = f"{ROOT / 'client'}[arrow,otel,pandas]"
    wheels = [word for name in COMPILED for word in ("--only-binary", name)]
    install = ("pip", "install", "-q", "--python", str(python))
    if not uv(*install, *wheels, "--resolution", resolution, client, env=environment):
        return "failed to install"
    if not uv(*install, *TOOLS, env=environment):
        return "failed to install the test tools"
    show = (
        f"from importlib.metadata import version as v; print(*(n + ' ' + v(n) for n in {SHOWN!r}), sep=', ')"
    )
    found = subprocess.run([python, "-c", show], capture_output=True, text=True, check=True).stdout.strip()
    command = [python, "-m", "pytest", "-q", "-o", f"cache_dir={place}", "-m", "not slow", TESTS]
    done = subprocess.run(command, cwd=ROOT, check=False, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    return f"{'passed' if done.returncode == 0 else 'failed'} ({found})"


def uv(*words: str, env: dict[str, str]) -> bool:
    return subprocess.run([UV, *words], check=False, env=env).returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(VERSIONS)))
