# SPDX-License-Identifier: Apache-2.0
"""Find what a machine lacks to serve a deployment, each part with the command that installs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib import metadata, util
from pathlib import Path

from quorum.deployment.schema import Deployment
from quorum.extras import how_to_install
from quorum.server.exposure import client_key
from quorum.server.gateway_settings import gateway_problems
from quorum.server.install import Install, ServerNotFound, find_install
from quorum.server.traces import check as check_traces
from quorum.serving.tracing import TracingError

_LOOK_S = 10.0
_ABSENT = re.compile(r"^\s*(\S+) => not found", re.MULTILINE)
_OLD = re.compile(r"version `(\S+)' not found")
_OF_RETRIEVER = ("tokenizers", "pyarrow")


def missing_parts(spec: Deployment) -> list[str]:
    """One line for each part that is missing here: the server, libraries, packages, what the gateway needs.

    Nothing heavy is imported and no server is started.
    """
    return [*_of_server(), *_of_members(spec), *_of_traces(spec), *gateway_problems(spec, client_key())]


def _of_server() -> Iterator[str]:
    try:
        install = find_install()
    except ServerNotFound as error:
        yield str(error)
        return
    absent: set[str] = set()
    for program in filter(None, (install.binary, install.stub)):
        absent |= libraries_missing(program, install)
    for library in sorted(absent):
        yield f"the server needs the library {library}, which is not here; {_library_fix(library)}"
    if install.stub is not None and (numpy := metadata.version("numpy")).partition(".")[0] != "1":
        yield (
            f"the server's Python stub needs numpy < 2, {sys.executable} has {numpy}; run"
            " `pip install 'numpy<2'`"
        )


def libraries_missing(program: Path, install: Install) -> set[str]:
    """Libraries, and versions of libraries, that the loader does not find for a program of the server."""
    # As ldd does: the loader lists what it would load, and starts nothing.
    environment = {**os.environ, **install.environment(), "LD_TRACE_LOADED_OBJECTS": "1"}
    try:
        done = subprocess.run(
            [str(program)], env=environment, capture_output=True, text=True, check=False, timeout=_LOOK_S
        )
    except (OSError, subprocess.TimeoutExpired):
        # Its start will say more than a guess can.
        return set()
    return {*_ABSENT.findall(done.stdout), *_OLD.findall(done.stdout + done.stderr)}


def _library_fix(library: str) -> str:
    if match := re.match(r"libpython(\d+\.\d+)\.so", library):
        return (
            f"run `apt-get install libpython{match[1]}` (Debian and Ubuntu), or make the environment from a"
            " Python that is built with its shared library"
        )
    if library.startswith(("GLIBC_", "GLIBCXX_", "CXXABI_")):
        return "use Debian 12, Ubuntu 22.04 or newer, or the container image"
    return "install the package of your system that has it (on Debian and Ubuntu `apt-file search` names it)"


def _of_members(spec: Deployment) -> Iterator[str]:
    lacking: dict[tuple[str, tuple[str, ...], str], list[str]] = defaultdict(list)
    for member in spec.members:
        if absent := _absent(member.options.packages):
            lacking[member.runtime, absent, member.options.install].append(member.name)
    for (runtime, absent, install), names in lacking.items():
        yield (
            f"{', '.join(names)}: runtime {runtime!r} needs {', '.join(absent)}, which {sys.executable} does"
            f" not have; {install}"
        )
    if spec.retriever is not None and (absent := _absent(_OF_RETRIEVER)):
        yield (
            f"retriever: needs {', '.join(absent)}, which {sys.executable} does not have; run"
            f" {how_to_install('retrieval')}"
        )


def _of_traces(spec: Deployment) -> Iterator[str]:
    try:
        check_traces(spec.server.traces)
    except TracingError as error:
        yield f"server.traces: {error}"


def _absent(packages: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in packages if util.find_spec(name) is None)
