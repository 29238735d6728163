# SPDX-License-Identifier: Apache-2.0
"""Write the folder of a tuned member at once: complete, or as it was."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from quorum.build.command import move_into_place
from quorum.files import make_scratch, sweep_scratch, sync_folder
from quorum.tune.card import CARD_FILE
from quorum.tune.loop import CHECKPOINT_FOLDER, TrainingError


@contextmanager
def reserved(folder: Path, *, force: bool = False, marker: str = CARD_FILE) -> Iterator[None]:
    """Keep a target for one run until the block ends; what killed runs left next to it is removed.

    Raises:
        TrainingError: As :func:`check_target` does, or another run has this target.
    """
    target = folder.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.with_name(f".{target.name}.lock")
    handle = _lock(lock, folder)
    try:
        _tidy(target)
        check_target(folder, force=force, marker=marker)
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


def _lock(path: Path, folder: Path) -> int:
    while True:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise TrainingError(
                f"{folder}: another run writes to it; wait for its end, or name another --out"
            ) from None
        # The run that had it may have removed it meanwhile.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)


def _tidy(folder: Path) -> None:
    """Put back the folder that a killed run had moved aside, and remove what is unfinished."""
    aside = _aside(folder)
    if aside.exists():
        if folder.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(folder)
    sweep_scratch(_prefix(folder), root=folder.parent)


def _prefix(folder: Path) -> str:
    return f".{folder.name}-"


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def check_target(folder: Path, *, force: bool = False, marker: str = CARD_FILE) -> None:
    """Refuse a folder that holds anything but a checkpoint; with ``force`` one with ``marker`` is taken.

    Raises:
        TrainingError: It is a file, or holds other files.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise TrainingError(f"{folder}: is a file; name a folder by --out")
    names = {path.name for path in folder.iterdir()} - {CHECKPOINT_FOLDER}
    if not names or (force and marker in names):
        return
    advice = "replace it by --force, or name another --out" if marker in names else "name another --out"
    raise TrainingError(f"{folder}: holds {sorted(names)[0]!r} already; {advice}")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder, which replaces ``folder``, checkpoint included, when the block ends.

    When the block raises, or the folder cannot be replaced, ``folder`` stays as it was.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged, handle = make_scratch(_prefix(folder), folder.parent)
    aside = _aside(folder)
    try:
        yield staged
        for path in staged.rglob("*"):
            if path.is_file():
                _sync(path)
        staged.chmod(0o777 & ~_umask())
        move_into_place(staged, folder, aside)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    finally:
        os.close(handle)
    shutil.rmtree(aside, ignore_errors=True)
    sync_folder(folder.parent)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    # The only way to read it is to set it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
