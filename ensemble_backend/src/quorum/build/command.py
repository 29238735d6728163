# SPDX-License-Identifier: Apache-2.0
"""Run a converter, streaming its output and keeping its last lines for error messages."""

from __future__ import annotations

import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_TAIL_LINES = 20


def run_command(
    command: Sequence[str],
    on_line: Callable[[str], None] | None = None,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> tuple[int, str]:
    """Run a command to its end, or kill it when the caller is interrupted; returns exit code and last lines.

    Args:
        command: Program and arguments.
        on_line: Called with each line of its output, standard error included.
        env: Its environment; None: this process's.
        cwd: Its folder; None: this process's.

    Raises:
        OSError: It cannot be started.
    """
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=env,
        cwd=cwd,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                tail.append(line.rstrip())
                if on_line is not None:
                    on_line(line.rstrip())
        except BaseException:
            process.kill()
            raise
    return process.returncode, "\n".join(tail)
