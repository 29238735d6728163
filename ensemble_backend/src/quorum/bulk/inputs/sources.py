# SPDX-License-Identifier: Apache-2.0
"""From the names that a user gives to the files that they stand for."""

from __future__ import annotations

import glob
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

from quorum.bulk.inputs.describe import FORMATS, STDIN_NAME, ending_of
from quorum.bulk.inputs.opening import file_system, is_url, reading
from quorum.bulk.inputs.records import ListingsError

STDIN = "-"
_BLOCK = 1 << 20


class Named(NamedTuple):
    """A file to read: its path or URL, and how messages call it."""

    url: str
    name: str


def find_files(names: Sequence[str], spool: Path | None) -> tuple[list[Named], list[str]]:
    """The files that names stand for, each once and in a steady order, and remarks for people.

    Args:
        names: Files, folders (every file of a known ending below them), patterns such as ``data/*.csv.gz``,
            ``-`` for standard input, and URLs of any of these. Of a file with several names, such as links,
            the first name counts.
        spool: Folder to put standard input into, which can be read only once.

    Raises:
        ListingsError: A name stands for no file.
    """
    found: dict[str | tuple[int, int], Named] = {}
    notes: list[str] = []
    for name in names:
        if name == STDIN:
            files = [Named(str(_spooled(spool)), STDIN_NAME)]
        elif is_url(name) and not name.startswith("file://"):
            with reading(name):
                files = [Named(url, url) for url in _remote(name, notes)]
        else:
            local = name.removeprefix("file://")
            files = [Named(path, path) for path in _local(local, notes)]
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


def _identity(url: str) -> str | tuple[int, int]:
    """What is alike for all names of one file: device and inode, as in :func:`os.path.samefile`."""
    if is_url(url):
        return url
    try:
        status = Path(url).stat()
    except OSError:
        # Whoever opens it says what is wrong.
        return url
    return status.st_dev, status.st_ino


def _local(name: str, notes: list[str]) -> list[str]:
    """The files of a path or a pattern."""
    path = Path(name)
    if path.is_dir():
        below = (file for file in path.rglob("*") if file.is_file())
        return _known(name, (str(file) for file in below if not _is_hidden(file, path)), notes)
    if path.exists() or not glob.has_magic(name):
        return [name]
    found = sorted(file for file in glob.glob(name, recursive=True) if Path(file).is_file())  # noqa: PTH207
    if not found:
        raise ListingsError(f"{name}: no file has such a name; quote the pattern if the shell expands it")
    return found


def _is_hidden(file: PurePath, folder: PurePath) -> bool:
    """Whether a file, or a folder that it is in, is none of the data, as ``_SUCCESS`` of Spark."""
    return any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)


def _remote(url: str, notes: list[str]) -> list[str]:
    """The files of a URL, which may be a folder or a pattern."""
    system, path = file_system(url)
    if url.startswith(("http://", "https://")):
        return [url]
    if glob.has_magic(path):
        found = sorted(system.glob(path))
        if not found:
            raise ListingsError(f"{url}: no object has such a name")
    elif system.isdir(path):
        below = (one for one in system.find(path) if not _is_hidden(PurePosixPath(one), PurePosixPath(path)))
        found = _known(url, below, notes)
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


def _spooled(folder: Path | None) -> Path:
    """Standard input as a file, named by its content, so that the same input is the same file."""
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
