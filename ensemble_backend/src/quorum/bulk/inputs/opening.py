# SPDX-License-Identifier: Apache-2.0
"""Open files and URLs as bytes, unpacked; errors of reading name the file."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from quorum.bulk.inputs.options import Compression
from quorum.bulk.inputs.records import ListingsError
from quorum_contract.errors import QuorumError

_BLOCK = 1 << 20
_MAGIC: tuple[tuple[bytes, Compression], ...] = (
    (b"\x1f\x8b", "gz"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zst"),
)
ENDINGS: dict[str, Compression] = {".gz": "gz", ".bz2": "bz2", ".xz": "xz", ".zst": "zst"}
"""Endings of packed files, which stand after the one of the format."""


def is_url(name: str) -> bool:
    """Whether a name is a URL, such as ``s3://bucket/listings.csv``, and no path."""
    return "://" in name


def file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL (:mod:`fsspec`), and the path in it.

    Raises:
        ListingsError: fsspec, or what it needs for this store, is not installed; or no such kind of URL.
    """
    try:
        import fsspec

        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise ListingsError(
            f"{url}: URLs need the library of their store ({error}); pip install 'quorum[remote]', and for "
            "s3:// also s3fs, for gs:// gcsfs"
        ) from error
    except ValueError as error:
        raise ListingsError(f"{url}: cannot be opened: {error}") from error
    return system, str(path)


def open_bytes(url: str) -> BinaryIO:
    """Open a path or a URL as it lies there; seekable.

    Raises:
        ListingsError: It is a pipe or a device, which may never end, and cannot be read twice.
        OSError: It cannot be opened; libraries of stores raise errors of their own.
    """
    if not is_url(url):
        path = Path(url)
        # Looked at before it is opened: to open a pipe is to wait for its writer. A folder fails as it opens.
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ListingsError(
                f"{url}: is a pipe or a device, and no file; write it to a file, or pass it as standard "
                f"input (- < {url})"
            )
        return path.open("rb")
    system, within = file_system(url)
    file = cast("BinaryIO", system.open(within, "rb"))
    if not url.startswith(("http://", "https://")):
        return file
    try:
        file.seek(1)
        file.read(1)
    except ValueError:
        # A server that sends whole files only.
        with system.open(within, "rb") as whole:
            copy = tempfile.SpooledTemporaryFile(_BLOCK)  # noqa: SIM115
            shutil.copyfileobj(whole, copy, _BLOCK)
            file = cast("BinaryIO", copy)
    file.seek(0)
    return file


def compression_of(head: bytes) -> Compression:
    """How a file is packed, by its first bytes."""
    return next((packed for magic, packed in _MAGIC if head.startswith(magic)), "")


def unpacked(file: BinaryIO, compression: Compression) -> BinaryIO:
    """The bytes that are packed in a stream; the stream itself where they are not."""
    match compression:
        case "":
            return file
        case "gz":
            return cast("BinaryIO", gzip.GzipFile(fileobj=file))
        case "bz2":
            return cast("BinaryIO", bz2.BZ2File(file))
        case "xz":
            return cast("BinaryIO", lzma.LZMAFile(file))
        case "zst":
            try:
                import pyarrow as pa
            except ImportError as error:
                raise ListingsError(
                    "files packed as zst need pyarrow: pip install 'quorum[arrow]', or unpack them"
                ) from error
            return cast("BinaryIO", pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd"))


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn what goes wrong in the block, as it reads a file, into a ListingsError that names the file."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise ListingsError(f"{name}: cannot be unpacked ({error}); is it cut off? Write it anew") from error
    except OSError as error:
        # Decompressors and stores raise it without a number.
        what = error.strerror or f"cannot be read ({error}); is it cut off?"
        raise ListingsError(f"{name}: {what}") from error
    except (QuorumError, UnicodeDecodeError):
        raise
    except Exception as error:
        # Libraries of stores have errors of their own, as of credentials that are missing.
        if not is_url(name):
            raise
        raise ListingsError(f"{name}: {type(error).__name__}: {error}") from error
