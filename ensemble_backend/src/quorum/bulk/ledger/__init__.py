# SPDX-License-Identifier: Apache-2.0
"""A bulk job's memory: every outcome once, in journals and parts, through kills and retries."""

from quorum.bulk.ledger.entry import Entry, FailedRow
from quorum.bulk.ledger.errors import JobLocked, LedgerError, NewWeights, StorageFailed
from quorum.bulk.ledger.ledger import Ledger, Pending
from quorum.bulk.ledger.spec import JobSpec
from quorum.bulk.ledger.tally import Counts, Tally

__all__ = [
    "Counts",
    "Entry",
    "FailedRow",
    "JobLocked",
    "JobSpec",
    "Ledger",
    "LedgerError",
    "NewWeights",
    "Pending",
    "StorageFailed",
    "Tally",
]
