# SPDX-License-Identifier: Apache-2.0
"""Keep what a run of judging has so far, so that a killed one goes on: a file next to the output.

JSON lines, only ever appended: first what the run is of, then the weights that decide, then for each answer
its cells and what it took. A line that was cut off by a kill is dropped, and its pairs are asked again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from quorum.bulk.spent import Totals
from quorum_client import Extraction, Spent
from quorum_contract.errors import QuorumError

KIND = "quorum.judging"
SCHEMA_VERSION = 1
SYNC_EVERY, SYNC_S = 64, 1.0
"""Answers, and seconds, after which what is written is on the disk."""


class JudgeError(QuorumError, ValueError):
    """Pairs cannot be judged as asked; the message says what to do."""

    code = "JUDGING_REFUSED"


class VoteOf(msgspec.Struct, frozen=True, array_like=True):
    """A member's vote: value (None: an abstention), status and score."""

    value: str | None
    status: int
    score: float | None = None


class Cell(msgspec.Struct, frozen=True, omit_defaults=True):
    """The outcome of one pair, by its line in the input.

    Attributes:
        line: As :attr:`quorum.bulk.judging.pairs.Pair.line`.
        votes: Per member, in the deployment's order; empty: it could not be asked.
        value: The decided value; empty: none, for ``reason``.
        confidence: Of that.
        label: Expected grade in [0, 1].
        disagreement: Share of the answering members that named another value.
        by_votes: Whether the votes say how the rest of the confidence spreads over the other values.
        reason: Why there is no value.
    """

    line: int
    votes: tuple[VoteOf, ...] = ()
    value: str = ""
    confidence: float = 0.0
    label: float = 0.0
    disagreement: float = 0.0
    by_votes: bool = False
    reason: str = ""


class Decider(msgspec.Struct, frozen=True):
    """The weights that decide: their version, and hash and confidence where their file is at hand."""

    version: int
    hash: str | None = None
    confidence: str | None = None


class _Line(msgspec.Struct, omit_defaults=True):
    weights: Decider | None = None
    cells: list[Cell] = msgspec.field(default_factory=list)
    spent: list[Spent] = msgspec.field(default_factory=list)
    cost: float | None = None


def path_of(out: Path) -> Path:
    """Path of the journal of an output."""
    return out.with_name(f"{out.name}.journal")


class Journal:
    """An open journal; a context manager. Another process must not have it open (``quorum.files.locked``).

    Attributes:
        weights: Those that decide; None: nothing is answered yet.
        done: Lines of the pairs that have an outcome.
        decided: How many of these have a value.
        spent: What the answers with these outcomes took.
    """

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        """Begin a journal in an empty file, or go on with the one that is there.

        Raises:
            JudgeError: It is of another run, or damaged.
            OSError: It cannot be written.
        """
        self._path, self._run = path, dict(run)
        self.weights: Decider | None = None
        self.done: set[int] = set()
        self.decided = 0
        self.spent = Totals()
        self._encoder = msgspec.json.Encoder()
        end = self._read()
        self._file = path.open("r+b", buffering=0)
        self._unsynced, self._synced_at = 0, time.monotonic()
        # A line without its end was being written.
        self._file.truncate(end)
        self._file.seek(end)
        if not end:
            self._append({"kind": KIND, "schema_version": SCHEMA_VERSION, "of": self._run})
            self.sync()

    def decide_by(self, weights: Decider) -> None:
        """Note the weights that decide, or refuse others than before.

        Raises:
            JudgeError: They are others.
        """
        if self.weights is None:
            self.weights = weights
            self._append(_Line(weights=weights))
        elif _differ(self.weights, weights):
            before = self.weights
            raise JudgeError(
                f"weights version {weights.version} ({weights.hash or 'hash unknown'}) decides now, version"
                f" {before.version} ({before.hash or 'hash unknown'}) decided what is in {self._path}:"
                " labels of two judges do not mix. Promote that version again and run the same command, or"
                f" remove {self._path} to judge all pairs by the new weights"
            )

    def add(self, cells: list[Cell], answer: Extraction | None = None) -> None:
        """Write the outcomes of one answer, and what it took; without one where the question was refused."""
        line = _Line(cells=cells)
        if answer is not None:
            line.spent, line.cost = list(answer.usage.values()), answer.cost
        self._append(line)
        self._count(line)
        self._unsynced += 1
        if self._unsynced >= SYNC_EVERY or time.monotonic() - self._synced_at >= SYNC_S:
            self.sync()

    def sync(self) -> None:
        """Have all that is written on the disk."""
        os.fsync(self._file.fileno())
        self._unsynced, self._synced_at = 0, time.monotonic()

    def cells(self) -> Iterator[tuple[Cell, tuple[Spent, ...]]]:
        """The outcomes so far, in the order in which they came.

        Each with its share of what each member's answer took; empty where that is not known.
        """
        decoder = msgspec.json.Decoder(_Line)
        with self._path.open("rb") as lines:
            for number, line in enumerate(lines):
                found = decoder.decode(line) if number else _Line()
                usage = tuple(spent.share(len(found.cells)) for spent in found.spent if found.cells)
                yield from ((cell, usage) for cell in found.cells)

    def remove(self) -> None:
        """Remove the file: the output is complete."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        if not self._file.closed:
            with suppress(OSError):
                self.sync()
            self._file.close()

    def __enter__(self) -> Journal:
        """Return the journal."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def _append(self, line: object) -> None:
        raw = self._encoder.encode(line) + b"\n"
        while raw:
            raw = raw[self._file.write(raw) or 0 :]

    def _count(self, line: _Line) -> None:
        self.done.update(cell.line for cell in line.cells)
        self.decided += sum(not cell.reason for cell in line.cells)
        if line.spent:
            self.spent.add_parts(line.spent, line.cost)

    def _read(self) -> int:
        """Read what is there; the place behind its last whole line."""
        end, decoder, other = 0, msgspec.json.Decoder(_Line), ""
        with self._path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    if number == 1:
                        other = self._differs(msgspec.json.decode(line))
                    else:
                        found = decoder.decode(line)
                        self.weights = found.weights or self.weights
                        self._count(found)
                except (msgspec.MsgspecError, RecursionError) as error:
                    raise JudgeError(
                        f"{self._path}:{number}: damaged ({error}); remove the file to judge all pairs again"
                    ) from error
                end += len(line)
        if other and self.done:
            raise JudgeError(other)
        if other:
            # It judged nothing, so it is begun anew.
            self.weights, self.spent, end = None, Totals(), 0
        return end

    def _differs(self, header: Any) -> str:
        """Why a journal cannot be gone on with, for people; empty where it can."""
        if not isinstance(header, dict) or header.get("kind") != KIND:
            raise JudgeError(f"{self._path} is no journal of `quorum judge`; name another --out")
        before = header.get("of") if header.get("schema_version") == SCHEMA_VERSION else None
        if not isinstance(before, dict):
            return f"{self._path}: of another release of quorum; remove it to judge all pairs again"
        differs = [name for name in self._run if self._run[name] != before.get(name)]
        if not differs:
            return ""
        return (
            f"{self._path} is of a run with another {' and '.join(differs)}: run that command again to go on"
            " with it, name another --out, or remove the file to begin anew"
        )


def _differ(before: Decider, now: Decider) -> bool:
    known = before.hash is not None and now.hash is not None
    return before.version != now.version or (known and before.hash != now.hash)
