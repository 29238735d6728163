# SPDX-License-Identifier: Apache-2.0
"""Write the folder of a tuned member at once: complete, or as it was."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quorum.files import sync_folder
from quorum.tune.card import CARD_FILE
from quorum.tune.loop import CHECKPOINT_FOLDER, TrainingError


def check_target(folder: Path, *, force: bool = False) -> None:
    """Refuse a folder that holds anything but a checkpoint; with ``force`` also what ``quorum tune`` wrote.

    Raises:
        TrainingError: It is a file, or holds other files.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise TrainingError(f"{folder}: is a file; name a folder by --out")
    names = {path.name for path in folder.iterdir()} - {CHECKPOINT_FOLDER}
    if not names or (force and CARD_FILE in names):
        return
    advice = "replace it by --force, or name another --out" if CARD_FILE in names else "name another --out"
    raise TrainingError(f"{folder}: holds {sorted(names)[0]!r} already; {advice}")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder, which replaces ``folder``, checkpoint included, when the block ends.

    When the block raises, ``folder`` stays as it was.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield staged
        for path in staged.rglob("*"):
            if path.is_file():
                _sync(path)
        staged.chmod(0o777 & ~_umask())
        old = staged.with_name(f"{staged.name}-old")
        if folder.exists():
            folder.rename(old)
        staged.rename(folder)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
    sync_folder(folder.parent)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    # The only way to read it is to set it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
