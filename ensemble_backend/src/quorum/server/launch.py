# SPDX-License-Identifier: Apache-2.0
"""Set PDEATHSIG and ASLR flags before exec."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from quorum.processes import most_open_files as most_open_files
from quorum.processes import raise_open_files as raise_open_files

NO_EFFECT = (
    "server.aslr: false has no effect: the kernel, or the container's seccomp profile, refuses "
    "personality(); allow it there, or remove the line from deploy.yaml"
)
FEW_OPEN_FILES = 4096
"""Fewer open files than this are few: each connection takes one."""
_ADDR_NO_RANDOMIZE = 0x0040000
# prctl(PR_SET_PDEATHSIG, signal): kept over an exec. A parent that had ended before sends none.
_END_WITH_PARENT = f"""
libc.prctl(1, {int(signal.SIGKILL)})
if os.getppid() != {{0}}:
    sys.exit("quorum: the process that starts the server has ended")
"""
_OPEN_FILES = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({0}, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
"""
# Added to the current personality; kept over an exec, and inherited by children.
_NO_ASLR = f"""
if libc.personality(libc.personality(0xFFFFFFFF) | {_ADDR_NO_RANDOMIZE}) == -1:
    print("quorum: {NO_EFFECT}", flush=True)
"""


def launch_command(command: list[str], *, aslr: bool) -> list[str]:
    """Wrap a command so that it may open many files, and is killed when this process dies.

    With ``aslr`` false it runs without ASLR.

    PDEATHSIG follows the thread that starts the process, so only the main thread sets it. A new interpreter
    sets the flags and then execs the command: ``preexec_fn`` would fork a process that may have gRPC threads.
    A refusal by the kernel is printed to standard output, and the command still runs.
    """
    settings = [_OPEN_FILES.format(most_open_files())]
    if threading.current_thread() is threading.main_thread():
        settings.append(_END_WITH_PARENT.format(os.getpid()))
    if not aslr:
        settings.append(_NO_ASLR)
    program = [
        "import ctypes, os, sys",
        "libc = ctypes.CDLL(None)",
        *settings,
        "os.execv(sys.argv[1], sys.argv[1:])",
    ]
    return [sys.executable, "-I", "-S", "-c", "\n".join(program), *command]


def has_aslr(pid: int) -> bool | None:
    """Whether a process may get random addresses; ``None`` when ``/proc`` does not show it."""
    try:
        personality = int(Path(f"/proc/{pid}/personality").read_text("ascii"), 16)
    except OSError:
        return None
    return not personality & _ADDR_NO_RANDOMIZE
