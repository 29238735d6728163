# SPDX-License-Identifier: Apache-2.0
"""Run converters: ask for versions, check the disk, stream output, and move the result into place."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from quorum.build.checkpoint import BuildError

_TAIL_LINES = 20
_VERSIONS = """
import importlib.metadata as metadata, json, sys
def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
print(json.dumps({name: version(name) for name in sys.argv[1:]}))
"""


def package_versions(
    python: str, packages: Sequence[str], env: Mapping[str, str] | None = None
) -> dict[str, str | None]:
    """Versions of packages that another interpreter has; None: not installed there.

    Raises OSError, subprocess.CalledProcessError or ValueError if ``python`` is none.
    """
    command = [python, "-c", _VERSIONS, *packages]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    versions: dict[str, str | None] = json.loads(result.stdout)
    return versions


def check_space(folder: Path, needed: int, what: str, advice: str) -> None:
    """Raise BuildError if the disk of a folder has less than ``needed`` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise BuildError(
            f"{folder}: {free / 1e9:.1f} GB free, {what} may need {needed / 1e9:.1f} GB;"
            f" free some, or {advice}"
        )


def run_command(
    command: Sequence[str],
    on_line: Callable[[str], None] | None = None,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> tuple[int, str]:
    """Run a command to its end, or kill it when the caller is interrupted; returns exit code and last lines.

    ``on_line`` is called with each line of its output, standard error included. Raises OSError if it
    cannot be started.
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


def move_into_place(fresh: Path, target: Path, aside: Path) -> None:
    """Rename ``fresh`` to ``target``; what was there is at ``aside`` then, or back if that fails."""
    if target.exists():
        target.rename(aside)
    try:
        fresh.rename(target)
    except OSError:
        if aside.exists():
            aside.rename(target)
        raise
