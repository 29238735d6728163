# SPDX-License-Identifier: Apache-2.0
"""Make the folder of a version: all of it, or nothing, at whatever step a run is killed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from quorum.files import locked, make_scratch, sweep_scratch, sync_folder
from quorum.retrieval.manifest import RETRIEVER_FILE, ManifestError


def check_target(out: Path) -> None:
    """Refuse a target that holds something; of a version that is finished, parts that are left are removed.

    Raises:
        ManifestError: It is a file, or a folder with content.
    """
    if (out / RETRIEVER_FILE).is_file():
        remove_parts(out)
    if out.is_dir() and any(out.iterdir()):
        raise ManifestError(f"{out}: holds {min(out.iterdir()).name!r} already; name another --out")
    if out.exists() and not out.is_dir():
        raise ManifestError(f"{out}: is a file; name a folder by --out")


@contextmanager
def parts_folder(out: Path) -> Iterator[Path]:
    """Yield the folder next to ``out`` whose content a run that is started again goes on from.

    It is removed when the block ends without an error; one run at a time has it.

    Raises:
        BlockingIOError: Another run has it.
        OSError: It cannot be made.
    """
    folder = _parts_of(out)
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / "lock"
    lock.touch()
    with locked(lock):
        yield folder
        shutil.rmtree(folder, ignore_errors=True)


def _parts_of(out: Path) -> Path:
    return out.parent / f".{out.name}.parts"


def has_parts(out: Path) -> bool:
    """Whether a run that makes this folder goes on, or was killed."""
    return _parts_of(out).is_dir()


def remove_parts(out: Path) -> None:
    """Remove what a run that was killed after its last step has left; not what another run has."""
    folder = _parts_of(out)
    with suppress(BlockingIOError), locked(folder / "lock"):
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def making(out: Path) -> Iterator[Path]:
    """Yield a folder next to ``out`` that becomes it when the block ends; what killed runs left is removed.

    Raises:
        ManifestError: ``out`` holds something.
        OSError: It cannot be written.
    """
    check_target(out)
    prefix = f".{out.name}.new-"
    sweep_scratch(prefix, root=out.parent)
    folder, handle = make_scratch(prefix, out.parent)
    try:
        yield folder
        for path in folder.iterdir():
            # Half a page that the disk never got would be found by its hash only when it is published.
            with path.open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(folder)
        folder.chmod(0o755)
        folder.rename(out)
        sync_folder(out.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)
