# SPDX-License-Identifier: Apache-2.0
"""Replace files atomically: at every moment a file is the old one or the new one, also after a power cut."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomic(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file by ``text``, as UTF-8; missing folders are made.

    Args:
        path: The file.
        text: Its new content.
        mode: Permissions of the new file; until it is complete only its owner can read it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, mode) as passing:
        passing.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: Path, mode: int | None = None) -> Iterator[Path]:
    """Replace a file by what is written to another name in its folder, for content that is streamed.

    The other name has the same ending, for writers that go by it. When the block raises, ``path`` stays as it
    was and the other file is removed.

    Args:
        path: The file; its folder exists.
        mode: Permissions of the new file; None: those of the old one, else what the umask leaves.

    Yields:
        Where to write.
    """
    path = path.resolve()
    if mode is None:
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666 & ~_umask()
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    passing = Path(name)
    try:
        yield passing
        with passing.open("rb") as file:
            os.fsync(file.fileno())
        passing.chmod(mode)
        passing.replace(path)
    except BaseException:
        passing.unlink(missing_ok=True)
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
