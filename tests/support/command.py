# SPDX-License-Identifier: Apache-2.0
"""The command ``quorum`` as people run it: a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support import forking

from quorum.deployment import load_deployment
from quorum.server.runfile import find_running

MEASURED = "COVERAGE_PROCESS_START" in os.environ
"""Whether coverage is measured, which a forked process does not write down."""
_ENTRY = "import sys; sys.argv[0] = 'quorum'; from quorum.cli import main; main()"


def start(folder: Path, *arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    """Start a command in ``folder``."""
    return subprocess.Popen(
        [sys.executable, "-c", _ENTRY, *map(str, arguments)],
        cwd=folder,
        env=_environment(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def quorum(
    folder: Path, *arguments: str | Path, code: int = 0, by: forking.Call = forking.call, **environment: str
) -> tuple[str, str]:
    """Run a command to its end, in a process that is forked by ``by``; standard output and standard error."""
    if MEASURED:
        process = start(folder, *arguments, **environment)
        out, err = process.communicate(timeout=100)
        ended = process.returncode
    else:
        ended, out, err = forking.run(folder, [*map(str, arguments)], _environment(environment), by)
    assert ended == code, f"exit code {ended}\n{out}\n{err}"
    assert "Traceback" not in err, err
    return out, err


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name != "QUORUM_ADMIN_KEY"}
    return own | {"COLUMNS": "200"} | dict(more)


def quorum_json(folder: Path, *arguments: str | Path, **how: Any) -> Any:
    """Run a command with ``--json``; what it printed."""
    return json.loads(quorum(folder, *arguments, "--json", **how)[0])


def wait_for_note(folder: Path, process: subprocess.Popen[str]) -> None:
    """Wait until ``quorum up`` has noted its server for other commands."""
    end = time.monotonic() + 90
    while find_running(load_deployment(folder / "deploy.yaml")) is None:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def up(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """``quorum up`` in a folder, stopped at the end as a user stops it."""
    quorum(folder, "render")
    process = start(folder, "up")
    try:
        wait_for_note(folder, process)
        yield process
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert find_running(load_deployment(folder / "deploy.yaml")) is None
    finally:
        process.kill()
        process.communicate()
