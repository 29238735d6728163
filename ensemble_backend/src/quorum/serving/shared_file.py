# SPDX-License-Identifier: Apache-2.0
"""Files that the steps of one server share in memory: how they are named, found and opened.

They are named after the server, as its regions of shared memory are: by its mark, which is unique where
containers share memory. A process id is not, and another server may get it later: only a Triton that was
started without ``quorum``, and so has no mark, is known by it.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  (this is what it is for)
MARK = "QUORUM_SERVER"
"""Environment variable of a server and all its processes: the name of its scratch folder."""
ADMISSION, ANSWERED, COUNTS = "admission", "answered", "counts"
"""What is shared: tickets, which member has answered which question, and counts of what steps did."""


def own_server() -> str:
    """Name of this step's server: all steps are children of the same ``tritonserver`` process."""
    return os.environ.get(MARK) or _numbered(os.getppid())


def server_name(pid: int) -> str:
    """Name of the server with that process id.

    Raises:
        OSError: It does not run, or belongs to another user.
    """
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    begin = f"{MARK}=".encode()
    marks = [os.fsdecode(one.removeprefix(begin)) for one in variables if one.startswith(begin)]
    return next(filter(None, marks), _numbered(pid))


def shared_path(server: str, what: str) -> Path:
    """The file of a server for one of the above."""
    return SHARED_MEMORY / f"{server}_{what}"


def traces_of(server: str) -> list[Path]:
    """All that a server has in shared memory: the files that its steps share, and Triton's regions."""
    return list(SHARED_MEMORY.glob(f"{server}_*"))


def open_shared(path: Path, size: int) -> mmap.mmap:
    """Map a file of ``size`` bytes at least, which is made, full of zeros, where there is none.

    Raises:
        PermissionError: The file belongs to another user.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        found = os.fstat(handle)
        if found.st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to another user; remove it")
        # Never shorter: a process that has mapped a longer file would die at its next access.
        if found.st_size < size:
            os.ftruncate(handle, size)
        return mmap.mmap(handle, size)
    finally:
        os.close(handle)


def _numbered(pid: int) -> str:
    return f"quorum-{pid}"
