# SPDX-License-Identifier: Apache-2.0
"""Put a finished file where it belongs, never over a file of others: on a disk, or in an object store."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from quorum.bulk.outputs.errors import OutputError
from quorum.bulk.outputs.owned import Owned
from quorum.files import check_replaceable, hash_file, sync_file, sync_folder

_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})
_BLOCK = 1 << 20


class Destination(Protocol):
    """Where one file goes."""

    name: str

    def draft(self, folder: Path, suffix: str) -> Path:
        """Where to write the file first; ``folder`` is the job's own. Nothing is there."""

    def hash(self) -> str | None:
        """``sha256:...`` of what is there; None: nothing."""

    def exists(self) -> bool:
        """Whether something is there."""

    def create(self, draft: Path) -> bool:
        """Put the file there if nothing is; whether it did. ``draft`` is gone then."""

    def replace(self, draft: Path) -> None:
        """Put the file there, in one step; ``draft`` is gone then."""


def destination_of(name: str) -> Destination:
    """The destination of a path or URL; raises OutputError if there is no way to write there."""
    return StoredObject(name) if "://" in name else LocalFile(Path(name))


def put(
    destination: Destination,
    draft: Path,
    owned: Owned,
    *,
    option: str,
    force: bool = False,
    in_folder: bool = False,
) -> None:
    """Put a finished file at its destination, over an earlier one of this job, or any with ``force``.

    It may be repeated after a kill at any moment. A file in a folder is never replaced by force.

    Raises:
        OSError: It cannot be written.
        OutputError: Something is there that this job did not write.
    """
    made = hash_file(draft)
    owned.note(destination.name, made)
    if destination.create(draft):
        return
    there = destination.hash()
    if there == made:
        draft.unlink()
    elif force or owned.has(destination.name, there):
        destination.replace(draft)
    else:
        draft.unlink()
        raise OutputError(refusal(option, destination.name, in_folder=in_folder))


def refusal(option: str, name: str, *, in_folder: bool = False) -> str:
    """Why something is not overwritten, and what to do."""
    others = "or name another folder" if in_folder else "name another file, or replace it by --force"
    return (
        f"{option} {name} exists, and is not as this job wrote it; move it away and run the same command "
        f"again, {others}"
    )


class LocalFile:
    """A file on a disk: a hidden draft next to it, then a link (fails if something is there) or a rename."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        # A link to a file elsewhere stays.
        self._path = path.resolve()

    def draft(self, folder: Path, suffix: str) -> Path:
        """As :meth:`Destination.draft`: next to the file, as only there it can be renamed."""
        check_replaceable(self._path)
        # Another job may write one for the same file.
        job = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
        draft = self._path.with_name(f".{self._path.stem}.{job}.draft{suffix}")
        # It may be the very file that was put in place when the process was killed.
        draft.unlink(missing_ok=True)
        return draft

    def hash(self) -> str | None:
        """As :meth:`Destination.hash`."""
        check_replaceable(self._path)
        return hash_file(self._path) if self._path.exists() else None

    def exists(self) -> bool:
        """As :meth:`Destination.exists`."""
        return self._path.exists()

    def create(self, draft: Path) -> bool:
        """As :meth:`Destination.create`."""
        sync_file(draft)
        try:
            os.link(draft, self._path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if self._path.exists():
                return False
            os.replace(draft, self._path)  # noqa: PTH105
        draft.unlink(missing_ok=True)
        sync_folder(self._path.parent)
        return True

    def replace(self, draft: Path) -> None:
        """As :meth:`Destination.replace`."""
        check_replaceable(self._path)
        sync_file(draft)
        os.replace(draft, self._path)  # noqa: PTH105
        sync_folder(self._path.parent)


class StoredObject:
    """An object behind a URL, through fsspec; written by one put, never by a rename, which copies.

    A new object is put under the condition that none is there (``mode="create"``). AWS S3 (s3fs, with
    botocore above 1.35.20), Google Cloud Storage (gcsfs) and Azure Blob Storage (adlfs) check that
    themselves. Elsewhere (S3 look-alikes that ignore ``If-None-Match``, SFTP, HDFS, WebDAV) it is looked
    first and then written: two jobs that write one name at the same moment may overwrite each other, and
    where a put is not atomic a reader may see a part of the file until the job goes on and puts it again.
    """

    def __init__(self, url: str) -> None:
        """Raises OutputError without fsspec, or without the package for such URLs."""
        self.name = url
        self._files, self._path = file_system(url)

    def draft(self, folder: Path, suffix: str) -> Path:
        """As :meth:`Destination.draft`: in the job's folder."""
        draft = folder / f"upload{suffix}"
        draft.unlink(missing_ok=True)
        return draft

    def hash(self) -> str | None:
        """As :meth:`Destination.hash`; reads the object."""
        with _asking(self.name):
            if not self._exists():
                return None
            digest = hashlib.sha256()
            with self._files.open(self._path, "rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
            return f"sha256:{digest.hexdigest()}"

    def exists(self) -> bool:
        """As :meth:`Destination.exists`."""
        with _asking(self.name):
            return self._exists()

    def create(self, draft: Path) -> bool:
        """As :meth:`Destination.create`."""
        with _asking(self.name):
            if self._exists():
                return False
            try:
                self._files.put_file(str(draft), self._path, mode="create")
            except Exception:
                # Stores say in their own ways that an object is there.
                if self._exists():
                    return False
                raise
        draft.unlink()
        return True

    def replace(self, draft: Path) -> None:
        """As :meth:`Destination.replace`."""
        with _asking(self.name):
            self._files.put_file(str(draft), self._path)
        draft.unlink()

    def _exists(self) -> bool:
        self._files.invalidate_cache()
        return bool(self._files.exists(self._path))


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it; raises OutputError if there is none."""
    try:
        from fsspec.core import url_to_fs

        files, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise OutputError(
            f"{url}: cannot be written ({error}); install fsspec and the package for such URLs, such as s3fs"
        ) from error
    return files, path


def names_in(folder: str) -> list[str]:
    """Names in a folder, without hidden ones; empty where there is no such folder. Raises OSError."""
    names: list[str] = []
    if "://" not in folder:
        with suppress(FileNotFoundError):
            names = [path.name for path in Path(folder).iterdir()]
    else:
        files, path = file_system(folder)
        with _asking(folder), suppress(FileNotFoundError):
            files.invalidate_cache()
            names = [found.rstrip("/").rpartition("/")[2] for found in files.ls(path, detail=False)]
    return sorted(name for name in names if not name.startswith((".", "_")))


@contextmanager
def _asking(url: str) -> Iterator[None]:
    """Turn what stores raise into OSError with the URL: each has errors of its own."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = url
        raise
    except Exception as error:
        raise OSError(errno.EIO, f"{type(error).__name__}: {error}", url) from error
