# SPDX-License-Identifier: Apache-2.0
"""Respond to a request of a member's model, at once or later, exactly once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import triton_python_backend_utils as pb_utils

from quorum.serving.packing import pack_votes, unpack_votes
from quorum.serving.tensors import answer, packed_tensor
from quorum.tasks.parse import abstain
from quorum_contract import VOTES, Status

logger = logging.getLogger(__name__)


class Reply:
    """The response to one request, complete once every member of the model has given its votes.

    A call with votes never raises, even if the caller has gone. Only the first votes of each member count;
    ``record``, if given, gets them with the position of the member once they are sent.
    """

    def __init__(
        self, prefixes: Sequence[str] = ("",), record: Callable[[int, bytes], None] | None = None
    ) -> None:
        self._sender: Any = None
        self._record = record
        self._prefixes = prefixes
        self._votes: dict[int, bytes] = {}
        self._lock = threading.Lock()

    def __call__(self, votes: bytes, position: int = 0) -> None:
        """Record the packed votes of the member at ``position``."""
        sender = None
        with self._lock:
            is_first = position not in self._votes
            self._votes.setdefault(position, votes)
            if len(self._votes) == len(self._prefixes):
                sender, self._sender = self._sender, None
        if sender is not None:
            self._send(sender)
        if is_first and self._record is not None:
            self._record(position, votes)

    def _send(self, sender: Any) -> None:
        # A request without a response would hang until the caller's deadline.
        for response in (self._response, self._abstained):
            try:
                sender.send(response(), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            except Exception:
                logger.exception("a response could not be sent")
            else:
                return

    def now_or_later(self, request: Any) -> Any:
        """The response to ``request`` if all votes are in; else ``None``, and it is sent once they are."""
        with self._lock:
            if len(self._votes) < len(self._prefixes):
                self._sender = request.get_response_sender()
                return None
        return self._response()

    def fill(self, votes: bytes) -> None:
        """Record the same votes for every member that has given none yet."""
        for position in range(len(self._prefixes)):
            self(votes, position)

    def _response(self) -> Any:
        return self._packed([self._votes[position] for position in range(len(self._prefixes))])

    def _abstained(self) -> Any:
        counts = [len(unpack_votes(self._votes[position])) for position in range(len(self._prefixes))]
        return self._packed([pack_votes(abstain(Status.ERROR, count)) for count in counts])

    def _packed(self, votes: Sequence[bytes]) -> Any:
        return answer(*map(packed_tensor, [f"{prefix}{VOTES}" for prefix in self._prefixes], votes))
