# SPDX-License-Identifier: Apache-2.0
"""Replace files atomically, hash and lock them, and keep scratch folders that leave nothing behind."""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

WRITE_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Errors of writing, which do not name the file: the disk is full or broken, or a limit is reached."""


def check_replaceable(path: Path) -> None:
    """Raise OSError if ``path`` exists and is no regular file: a device, a pipe, a folder."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is no regular file", str(path))


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

    Raises:
        OSError: The file cannot be written, or ``path`` is no regular file.
    """
    check_replaceable(path)
    named, path = path, path.resolve()
    if mode is None:
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666 & ~_umask()
    # Without a suffix, a dot would make the random letters one.
    prefix = f".{path.name}." if path.suffix else f".{path.name.replace('.', '-')}-"
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None and error.errno in WRITE_ERRNOS:
            error.filename = str(named)
        raise
    sync_folder(path.parent)


@contextmanager
def locked(*paths: Path) -> Iterator[None]:
    """Lock files, which may be replaced meanwhile, until the block or the process ends.

    A file that does not exist is not locked. Raises BlockingIOError, with the name, if another has one.
    """
    handles: list[int] = []
    try:
        for path in dict.fromkeys(path.resolve() for path in paths):
            while path.is_file():
                handle = os.open(path, os.O_RDWR if os.access(path, os.W_OK) else os.O_RDONLY)
                handles.append(handle)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise BlockingIOError(
                        error.errno, "is being changed by another process", str(path)
                    ) from None
                # The process that had it may have put another file in its place.
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(handle), path.stat()):
                        break
        yield
    finally:
        for handle in handles:
            os.close(handle)


@contextmanager
def scratch_folder(prefix: str, before_removal: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Yield a temporary folder, removed when the block ends; those of killed processes are removed before.

    Args:
        prefix: Begin of its name, which goes on with the process id.
        before_removal: Called with the folder of a killed process, for what it names elsewhere.
    """
    sweep_scratch(prefix, before_removal)
    folder, handle = make_scratch(prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def make_scratch(prefix: str, root: Path | None = None) -> tuple[Path, int]:
    """Make a temporary folder, in ``root`` if given, which :func:`sweep_scratch` spares while it is locked.

    Returns:
        The folder, and the handle of its lock: held until every process that inherited it has closed it.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=root))
    handle = os.open(folder, os.O_RDONLY)
    # Process ids are not unique where containers share the folder.
    fcntl.flock(handle, fcntl.LOCK_EX)
    return folder, handle


def sweep_scratch(
    prefix: str, before_removal: Callable[[Path], None] | None = None, root: Path | None = None
) -> None:
    """Remove the temporary folders, in ``root`` if given, that killed processes left.

    Other parameters as in :func:`scratch_folder`.
    """
    for folder in (root or Path(tempfile.gettempdir())).glob(f"{glob.escape(prefix)}[0-9]*-*"):
        _sweep(folder, folder.name.removeprefix(prefix).partition("-")[0], before_removal)


def _sweep(folder: Path, pid: str, before_removal: Callable[[Path], None] | None) -> None:
    """Remove a scratch folder of a process of this user that is dead."""
    with suppress(OSError):
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or _lives(pid):
            return
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if before_removal:
                before_removal(folder)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(handle)


def _lives(pid: str) -> bool:
    return not pid.isdecimal() or Path(f"/proc/{pid}").exists()


def hash_file(path: Path) -> str:
    """``sha256:...`` of a file's content."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _umask() -> int:
    # The only way to read it is to set it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def write_all(handle: int, raw: bytes, offset: int) -> None:
    """Write all bytes at an offset; raises OSError if some cannot be written."""
    view = memoryview(raw)
    while view:
        written = os.pwrite(handle, view, offset)
        view, offset = view[written:], offset + written


def sync_file(path: Path) -> None:
    """Have the content of a file on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Make a rename inside ``folder`` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
