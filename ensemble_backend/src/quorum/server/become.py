# SPDX-License-Identifier: Apache-2.0
"""What a process asks of the kernel before it becomes another program, and whether it was granted."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

NO_EFFECT = (
    "server.aslr: false has no effect: the kernel, or the container's seccomp profile, refuses "
    "personality(); allow it there, or remove the line from deploy.yaml"
)
_ADDR_NO_RANDOMIZE = 0x0040000
# prctl(PR_SET_PDEATHSIG, SIGTERM): kept over an exec.
_END_WITH_PARENT = "libc.prctl(1, 15)"
# On top of what is set already; kept over an exec, and inherited by children.
_NO_ASLR = f"""
if libc.personality(libc.personality(0xFFFFFFFF) | {_ADDR_NO_RANDOMIZE}) == -1:
    print("quorum: {NO_EFFECT}", flush=True)
"""


def prepared(command: list[str], *, aslr: bool) -> list[str]:
    """The command so that it is terminated when this process dies, and with the memory layout asked for.

    The kernel watches the thread that starts it, so only the main thread can ask for the first. An
    interpreter of its own asks and then becomes the command: ``preexec_fn`` would fork a process that may
    have gRPC threads. What the kernel refuses is said on standard output, and the command runs all the same.

    Args:
        command: A program's path and arguments.
        aslr: Whether memory layouts stay as this process inherited them: random, as a rule.
    """
    asked = []
    if threading.current_thread() is threading.main_thread():
        asked.append(_END_WITH_PARENT)
    if not aslr:
        asked.append(_NO_ASLR)
    if not asked:
        return command
    program = [
        "import ctypes, os, sys",
        "libc = ctypes.CDLL(None)",
        *asked,
        "os.execv(sys.argv[1], sys.argv[1:])",
    ]
    return [sys.executable, "-I", "-S", "-c", "\n".join(program), *command]


def has_aslr(pid: int) -> bool | None:
    """Whether the kernel may give a process random addresses; ``None`` when it does not tell."""
    try:
        personality = int(Path(f"/proc/{pid}/personality").read_text("ascii"), 16)
    except OSError:
        return None
    return not personality & _ADDR_NO_RANDOMIZE
