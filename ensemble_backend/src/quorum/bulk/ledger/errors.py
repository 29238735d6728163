# SPDX-License-Identifier: Apache-2.0
"""Why a bulk job is not begun, or stops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from quorum_contract.errors import QuorumError


class LedgerError(QuorumError, ValueError):
    """A job cannot be begun or gone on with; the message says what differs and what to do."""

    code = "JOB_REFUSED"


class JobLocked(LedgerError):
    """Another process works on the job."""

    code = "JOB_LOCKED"


class NewWeights(LedgerError):
    """Other weights answer now than before; the row is not in the journal, and may be asked again."""

    code = "JOB_NEW_WEIGHTS"


class StorageFailed(LedgerError):
    """A file cannot be written: the disk is full, or a folder is read-only. Nothing that was written is lost.

    The same command goes on once that is put right.
    """

    code = "JOB_STORAGE_FAILED"


@contextmanager
def storing(what: object) -> Iterator[None]:
    """Turn an OSError of the block into StorageFailed; ``what`` was being written."""
    try:
        yield
    except OSError as error:
        name = error.filename or what
        raise StorageFailed(
            f"{name}: {error.strerror or error}; what was answered so far is kept. Make room, or give "
            "access, and run the same command again"
        ) from error
