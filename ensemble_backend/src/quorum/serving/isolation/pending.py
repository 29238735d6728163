# SPDX-License-Identifier: Apache-2.0
"""A question that a worker process has."""

from __future__ import annotations

from typing import NamedTuple

from quorum.serving.answering import Done, packed
from quorum.tasks.parse import abstain
from quorum_contract import Spent, Status


class Pending(NamedTuple):
    """A question that the process has, and what takes its votes."""

    deadline_ns: int
    attributes: int
    done: Done

    def abstain(self, status: Status, spent: Spent) -> None:
        """Settle it without votes; ``spent`` is what it may have taken all the same."""
        self.done(packed(abstain(status, self.attributes), spent))
