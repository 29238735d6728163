# SPDX-License-Identifier: Apache-2.0
"""Hold times and status of every request of a load."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

OK = 0
BAD_ANSWER = -1
NOT_SENT = -2
UNANSWERED = -3
"""Statuses; above 0 a gRPC status code (for HTTP targets the nearest one)."""
UNAVAILABLE = 14
"""gRPC's status of a refusal."""


@dataclass(frozen=True, slots=True)
class Samples:
    """One row a request, in the order of ``intended_ns``; times on the monotonic clock of the machine.

    Attributes:
        request: INT64 [n], number of the request in the workload.
        intended_ns: INT64 [n], when it should have been sent; in a closed loop when it was sent.
        sent_ns: INT64 [n], when it was handed to the network library.
        done_ns: INT64 [n], when its answer, or its failure, arrived.
        status: INT32 [n], ``OK`` or why not.
    """

    request: npt.NDArray[np.int64]
    intended_ns: npt.NDArray[np.int64]
    sent_ns: npt.NDArray[np.int64]
    done_ns: npt.NDArray[np.int64]
    status: npt.NDArray[np.int32]

    @classmethod
    def of(cls, rows: Iterable[tuple[int, int, int, int, int]]) -> Samples:
        """Build samples from rows in any order."""
        table = np.array(sorted(rows, key=lambda row: row[1]), dtype=np.int64).reshape(-1, 5)
        return cls(table[:, 0], table[:, 1], table[:, 2], table[:, 3], table[:, 4].astype(np.int32))

    @classmethod
    def joined(cls, parts: Iterable[Samples]) -> Samples:
        """Join the samples of several generators."""
        parts = list(parts)
        columns = {f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)}
        order = np.argsort(columns["intended_ns"], kind="stable")
        return cls(**{name: column[order] for name, column in columns.items()})

    def between(self, start_ns: int, stop_ns: int) -> Samples:
        """The requests meant to be sent in ``[start_ns, stop_ns)``."""
        return self.where((self.intended_ns >= start_ns) & (self.intended_ns < stop_ns))

    def answered_between(self, start_ns: int, stop_ns: int) -> int:
        """Number of answers that arrived in ``[start_ns, stop_ns)``."""
        return int(np.count_nonzero(self.ok & (self.done_ns >= start_ns) & (self.done_ns < stop_ns)))

    def where(self, mask: npt.NDArray[np.bool_]) -> Samples:
        """The requests where ``mask`` holds."""
        return Samples(**{f.name: getattr(self, f.name)[mask] for f in fields(self)})

    def __len__(self) -> int:
        return len(self.status)

    @property
    def ok(self) -> npt.NDArray[np.bool_]:
        """Mask of the answered requests."""
        return np.equal(self.status, OK)

    @property
    def latency_ms(self) -> npt.NDArray[np.float64]:
        """Time from *intended* sending to answer, of the answered requests; milliseconds."""
        return (self.done_ns - self.intended_ns)[self.ok] / 1e6

    @property
    def refusal_ms(self) -> npt.NDArray[np.float64]:
        """Time from *intended* sending to the refusal, of the refused requests; milliseconds."""
        refused = np.equal(self.status, UNAVAILABLE)
        times: npt.NDArray[np.float64] = (self.done_ns - self.intended_ns)[refused] / 1e6
        return times

    @property
    def lateness_ms(self) -> npt.NDArray[np.float64]:
        """Delay of the generator itself; milliseconds."""
        return (self.sent_ns - self.intended_ns) / 1e6
