# SPDX-License-Identifier: Apache-2.0
"""The outcome of one row of a bulk job, and its line in a journal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from quorum_client import Extraction, Status
from quorum_contract.errors import QuorumError

_FAILED = frozenset({Status.TIMEOUT, Status.OVERLOADED, Status.ERROR, Status.BUDGET})


class FailedRow(QuorumError):
    """A row that could not be answered, as its journal has it; ``code`` is that of the original error."""

    code = "ROW_FAILED"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class Entry:
    """The outcome of one row: an answer or an error.

    Attributes:
        row: Index of the row in the whole input, from 0.
        product: Its id, which guards against a journal of other rows.
        answer: What was answered; None: it failed.
        error: Code and message of the error; None: it was answered.
    """

    row: int
    product: str
    answer: Extraction | None = None
    error: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        """Refuse both, or neither, by ValueError."""
        if (self.answer is None) == (self.error is None):
            raise ValueError(f"row {self.row}: an entry has an answer or an error")

    @classmethod
    def of(cls, row: int, product: str, result: Extraction | QuorumError) -> Entry:
        """The entry of what :meth:`quorum_client.AsyncClient.extract_as_completed` yields for a row."""
        if isinstance(result, Extraction):
            return cls(row, product, answer=result)
        return cls(row, product, error=(result.code, str(result)))

    @property
    def is_voteless(self) -> bool:
        """Whether no member answered anything, and at least one failed: it may answer when asked again."""
        if self.answer is None:
            return False
        statuses = {vote.status for answer in self.answer.answers for vote in answer.votes}
        return Status.ANSWERED not in statuses and not _FAILED.isdisjoint(statuses)

    @property
    def is_retriable(self) -> bool:
        """Whether ``--retry-failed`` asks its row again."""
        return self.error is not None or self.is_voteless

    @property
    def result(self) -> Extraction | FailedRow:
        """The answer, or the error."""
        if self.answer is not None:
            return self.answer
        return FailedRow(*self.error or ("", ""))

    def to_line(self) -> bytes:
        """One line of JSON, with its newline."""
        data: dict[str, Any] = {"row": self.row, "product": self.product}
        data |= {"answer": self.answer.to_dict()} if self.answer is not None else {"error": self.error}
        return msgspec.json.encode(data) + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Entry:
        """Inverse of :meth:`to_line`; raises ValueError for any other line."""
        try:
            data = msgspec.json.decode(line, type=_Line)
            answer = None if data.answer is None else Extraction.from_dict(data.answer)
        except (msgspec.MsgspecError, RecursionError, KeyError, TypeError) as error:
            raise ValueError(str(error)) from error
        return cls(data.row, data.product, answer, data.error)


class _Line(msgspec.Struct):
    row: int
    product: str
    answer: dict[str, Any] | None = None
    error: tuple[str, str] | None = None
