# SPDX-License-Identifier: Apache-2.0
"""The command ``quorum`` as people run it: a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_ENTRY = "import sys; sys.argv[0] = 'quorum'; from quorum.cli import main; main()"


def start(folder: Path, *arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    """Start a command in ``folder``."""
    env = {k: v for k, v in os.environ.items() if k != "QUORUM_ADMIN_KEY"} | {"COLUMNS": "200"} | environment
    return subprocess.Popen(
        [sys.executable, "-c", _ENTRY, *map(str, arguments)],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def quorum(folder: Path, *arguments: str | Path, code: int = 0, **environment: str) -> tuple[str, str]:
    """Run a command to its end; standard output and standard error."""
    process = start(folder, *arguments, **environment)
    out, err = process.communicate(timeout=100)
    assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
    assert "Traceback" not in err, err
    return out, err


def quorum_json(folder: Path, *arguments: str | Path, code: int = 0, **environment: str) -> Any:
    """Run a command with ``--json``; what it printed."""
    return json.loads(quorum(folder, *arguments, "--json", code=code, **environment)[0])
