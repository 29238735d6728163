# SPDX-License-Identifier: Apache-2.0
"""From the names that a user gives to the files that they stand for."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

from quorum.bulk.inputs.describe import FORMATS, STDIN_NAME, ending_of
from quorum.bulk.inputs.opening import file_system, is_url, reading
from quorum.bulk.inputs.records import ListingsError

STDIN = "-"
_BLOCK = 1 << 20
_SPOOLED = re.compile(r"stdin-[0-9a-f]{16}|\.stdin-\w{8}")


class Named(NamedTuple):
    """A file to read: its path or URL, and how messages call it."""

    url: str
    name: str


def find_files(
    names: Sequence[str], spool: Path | None, own: Sequence[str] = ()
) -> tuple[list[Named], list[str]]:
    """The files that names stand for, each once and in a steady order, and remarks for people.

    Args:
        names: Files, folders (every file of a known ending below them), patterns such as ``data/*.csv.gz``,
            ``-`` for standard input, and URLs of any of these. Of a file with several names, such as links,
            the first name counts.
        spool: Folder to put standard input into, which can be read only once.
        own: Files, folders and URLs that the reader writes: folders and patterns do not stand for what they
            are or hold.

    Raises:
        ListingsError: A name stands for no file.
    """
    places = [_place(one) for one in own]

    def is_read(file: str) -> bool:
        place = _place(file)
        return not any(place == one or place.startswith(f"{one}/") for one in places)

    found: dict[str | tuple[int, int], Named] = {}
    notes: list[str] = []
    for name in names:
        if name == STDIN:
            files = [Named(str(spooled(spool)), STDIN_NAME)]
        elif is_url(name) and not name.startswith("file://"):
            with reading(name):
                files = [Named(url, url) for url in _remote(name, is_read, notes)]
        else:
            local = name.removeprefix("file://")
            files = [Named(path, path) for path in _local(local, is_read, notes)]
        again: list[str] = []
        for file in files:
            first = found.setdefault(_identity(file.url), file)
            if first.url != file.url:
                again.append(f"{file.name} is the same file as {first.name}")
            elif first is not file:
                again.append(f"{file.name} is named more than once")
        if again:
            more = f"; so are {len(again) - 1} more" if len(again) > 1 else ""
            notes.append(f"{again[0]}, and read once{more}")
    if not found:
        raise ListingsError("no input; name a file, a folder, or - for standard input")
    return list(found.values()), notes


def _place(name: str) -> str:
    """The same text for each name of a place."""
    local = name.removeprefix("file://")
    return local.rstrip("/") if is_url(local) else str(Path(local).resolve())


def _identity(url: str) -> str | tuple[int, int]:
    """What is alike for all names of one file: device and inode, as in :func:`os.path.samefile`."""
    if is_url(url):
        return url
    try:
        status = Path(url).stat()
    except OSError:
        # Opening it reports what is wrong.
        return url
    return status.st_dev, status.st_ino


def _local(name: str, is_read: Callable[[str], bool], notes: list[str]) -> list[str]:
    """The files of a path or a pattern."""
    path = Path(name)
    if path.is_dir():
        below = (file for file in path.rglob("*") if file.is_file() and not _is_hidden(file, path))
        return _known(name, filter(is_read, map(str, below)), notes)
    if path.exists() or not glob.has_magic(name):
        return [name]
    every = glob.glob(name, recursive=True)  # noqa: PTH207
    found = sorted(file for file in every if Path(file).is_file() and is_read(file))
    if not found:
        raise ListingsError(f"{name}: no file has such a name; quote the pattern if the shell expands it")
    return found


def _is_hidden(file: PurePath, folder: PurePath) -> bool:
    """Whether a file, or a folder that it is in, is none of the data, as ``_SUCCESS`` of Spark."""
    return any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)


def _remote(url: str, is_read: Callable[[str], bool], notes: list[str]) -> list[str]:
    """The files of a URL, which may be a folder or a pattern."""
    system, path = file_system(url)
    if url.startswith(("http://", "https://")):
        return [url]
    if glob.has_magic(path):
        found = sorted(one for one in system.glob(path) if is_read(system.unstrip_protocol(one)))
        if not found:
            raise ListingsError(f"{url}: no object has such a name")
    elif system.isdir(path):
        below = (one for one in system.find(path) if not _is_hidden(PurePosixPath(one), PurePosixPath(path)))
        found = _known(url, (one for one in below if is_read(system.unstrip_protocol(one))), notes)
    else:
        return [url]
    return [system.unstrip_protocol(one) for one in found]


def _known(folder: str, files: Iterable[str], notes: list[str]) -> list[str]:
    """The files of a folder that have an ending of a table."""
    every = sorted(files)
    known = [file for file in every if ending_of(file) in FORMATS]
    if not known:
        raise ListingsError(f"{folder}: has no file that ends in {', '.join(FORMATS)}, packed or not")
    if left := len(every) - len(known):
        other = next(file for file in every if ending_of(file) not in FORMATS)
        notes.append(f"{folder}: {left} files of other endings are left out, such as {other}")
    return known


def is_spooled(path: Path) -> bool:
    """Whether a file is a copy of standard input, or the beginning of one, by its name."""
    return _SPOOLED.fullmatch(path.name) is not None


def spooled(folder: Path | None) -> Path:
    """Standard input as a file in a folder, named by its content, so that the same input is the same file.

    Raises:
        ListingsError: There is no folder for it.
        OSError: It cannot be read, or written.
    """
    if folder is None:
        raise ListingsError("standard input cannot be read here; write it to a file")
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    handle, name = tempfile.mkstemp(prefix=".stdin-", dir=folder)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            while block := sys.stdin.buffer.read(_BLOCK):
                digest.update(block)
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        return temporary.replace(folder / f"stdin-{digest.hexdigest()[:16]}")
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
