# SPDX-License-Identifier: Apache-2.0
"""Set PDEATHSIG and ASLR flags before exec."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

NO_EFFECT = (
    "server.aslr: false has no effect: the kernel, or the container's seccomp profile, refuses "
    "personality(); allow it there, or remove the line from deploy.yaml"
)
_ADDR_NO_RANDOMIZE = 0x0040000
# prctl(PR_SET_PDEATHSIG, signal): kept over an exec.
_END_WITH_PARENT = f"libc.prctl(1, {int(signal.SIGKILL)})"
# Added to the current personality; kept over an exec, and inherited by children.
_NO_ASLR = f"""
if libc.personality(libc.personality(0xFFFFFFFF) | {_ADDR_NO_RANDOMIZE}) == -1:
    print("quorum: {NO_EFFECT}", flush=True)
"""


def launch_command(command: list[str], *, aslr: bool) -> list[str]:
    """Wrap a command so that it is killed when this process dies, and with ASLR off if ``aslr`` is false.

    PDEATHSIG follows the thread that starts the process, so only the main thread sets it. A new interpreter
    sets the flags and then execs the command: ``preexec_fn`` would fork a process that may have gRPC threads.
    A refusal by the kernel is printed to standard output, and the command still runs.
    """
    settings = []
    if threading.current_thread() is threading.main_thread():
        settings.append(_END_WITH_PARENT)
    if not aslr:
        settings.append(_NO_ASLR)
    if not settings:
        return command
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
