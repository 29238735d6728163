# SPDX-License-Identifier: Apache-2.0
"""Replace files atomically: a reader sees the old or the new content, also after a power cut."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomic(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file by ``text``, as UTF-8; missing folders are created.

    Args:
        path: The file.
        text: Its new content.
        mode: Permissions of the new file; until it is complete, owner only.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, mode) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: Path, mode: int | None = None) -> Iterator[Path]:
    """Yield a temporary file in the folder of ``path``, which replaces ``path`` when the block ends.

    Both have the same suffix, for writers that go by it. When the block raises, ``path`` stays and the
    temporary file is removed. The folder must exist.

    Args:
        path: The file.
        mode: Permissions of the new file; None: those of the old one, else by the umask.
    """
    path = path.resolve()
    if mode is None:
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666 & ~_umask()
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _umask() -> int:
    # The only way to read it is to set it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def sync_folder(folder: Path) -> None:
    """Make a rename inside ``folder`` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
