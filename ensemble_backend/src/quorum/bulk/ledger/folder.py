# SPDX-License-Identifier: Apache-2.0
"""The folder of a bulk job: names of its files, its manifest, its lock; small files replaced as a whole."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from quorum.bulk.inputs.layout import Source
from quorum.bulk.inputs.sources import is_spooled
from quorum.bulk.ledger.errors import JobLocked, LedgerError
from quorum.bulk.ledger.spec import JobSpec, difference_in_words, hash_of
from quorum.files import locked, sync_file, sync_folder

KIND = "quorum.extract"
SCHEMA_VERSION = 1
T = TypeVar("T")


class JobFolder:
    """The folder of one job; its names are in :mod:`quorum.bulk.ledger.ledger`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parts = path / "parts"
        self.nodes = path / "nodes"
        self.manifest = path / "job.json"
        self.weights = path / "weights.json"
        self.written = path / "written.jsonl"
        self.complete = path / "complete.json"
        self.input = path / "input"
        self.lock = path / "lock"

    def journal(self, number: int) -> Path:
        """The journal of a part."""
        return self.parts / f"{number:06d}.journal"

    def packed(self, number: int) -> Path:
        """The journal of a committed part."""
        return self.parts / f"{number:06d}.journal.gz"

    def record(self, number: int) -> Path:
        """The record that a part is committed."""
        return self.parts / f"{number:06d}.json"

    def check(self) -> None:
        """Refuse a folder without a manifest that holds more than a job has before its manifest is written.

        Raises:
            LedgerError: Names what it holds.
            OSError: It cannot be looked at.
        """
        if self.path.is_dir() and not self.manifest.exists() and (other := sorted(self._of_others())):
            raise LedgerError(
                f"{self.path} is the folder of no job: it holds {other[0]!r}; name another, or move it away"
            )

    def _of_others(self) -> Iterator[str]:
        for found in self.path.iterdir():
            if found == self.input and found.is_dir():
                yield from (f"input/{path.name}" for path in found.iterdir() if not is_spooled(path))
            elif found == self.parts and found.is_dir():
                yield from (f"parts/{path.name}" for path in found.iterdir())
            elif found != _draft(self.manifest) and not (found == self.lock and not found.stat().st_size):
                yield found.name

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out, until the block or the process ends.

        Raises:
            JobLocked: Another process works on the job.
            LedgerError: The folder holds other files.
            OSError: It cannot be made.
        """
        self.check()
        self.parts.mkdir(parents=True, exist_ok=True)
        self.lock.touch()
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.lock))
            except BlockingIOError as error:
                raise JobLocked(
                    f"{self.path}: another process works on this job; wait for its end, or stop it"
                ) from error
            yield

    def begin(self, spec: JobSpec) -> tuple[str, bool]:
        """Compare the manifest with the job that is to go on.

        Returns:
            The job's id, and whether it was begun before.

        Raises:
            LedgerError: It is another job; the message says what differs.
        """
        now = spec.to_json()
        before = self.stored()
        if before is None or (before != now and self.is_untouched):
            return hash_of(now), False
        if differs := difference_in_words(before, now):
            raise LedgerError(
                f"{self.path} is the job of another command: {differs}. Run that command again to go on with "
                f"it; or begin anew: name another output, or remove {self.path} and what it wrote"
            )
        return hash_of(now), True

    @property
    def is_untouched(self) -> bool:
        """Whether nothing was ever asked, so that nothing is lost with the folder."""
        return not any(folder.is_dir() and any(folder.iterdir()) for folder in (self.parts, self.nodes))

    def discard_untouched(self) -> None:
        """Remove a job that nothing was asked of: its own files, then the folder if nothing else is in it.

        One that has read standard input stays once it is begun: it may have the only copy.
        """
        if not self.is_untouched or (self.copies() and self.manifest.exists()):
            return
        own = (self.manifest, self.weights, self.written, self.complete)
        with suppress(OSError):
            for path in (*own, *map(_draft, own), self.lock):
                path.unlink(missing_ok=True)
        for folder in (self.parts, self.nodes, self.input, self.path):
            with suppress(OSError):
                folder.rmdir()

    def copies(self) -> set[Path]:
        """Copies of standard input, and what is left of such; raises OSError if the folder cannot be read."""
        return set(filter(is_spooled, self.input.iterdir())) if self.input.is_dir() else set()

    def drop(self, copies: Iterable[Path], sources: Iterable[Source]) -> None:
        """Remove copies of standard input that are no source, and the folders that are empty then."""
        read = {Path(source.url).name for source in sources}
        for copy in copies:
            if copy.name not in read:
                copy.unlink(missing_ok=True)
        for folder in (self.input, self.path):
            with suppress(OSError):
                folder.rmdir()

    def stored(self) -> dict[str, Any] | None:
        """What the manifest says that the job is of; None: there is none."""
        found = self.read(self.manifest)
        if found is None:
            return None
        if (
            not isinstance(found, dict)
            or found.get("kind") != KIND
            or not isinstance(found.get("spec"), dict)
        ):
            raise LedgerError(f"{self.manifest}: this is no bulk job; name another folder")
        if found.get("schema_version") != SCHEMA_VERSION:
            raise LedgerError(f"{self.manifest}: a job of another release of quorum; finish it with that one")
        spec: dict[str, Any] = found["spec"]
        return spec

    def write_manifest(self, spec: JobSpec) -> None:
        """Begin the job."""
        whole = {"kind": KIND, "schema_version": SCHEMA_VERSION, "spec": spec.to_json()}
        self.write(self.manifest, whole)

    def mark_incomplete(self) -> None:
        """Have it on the disk that outputs are to be written; raises OSError if that fails."""
        if self.complete.exists():
            self.complete.unlink()
            sync_folder(self.path)

    def read(self, path: Path) -> Any:
        """The JSON of a file of the job; None: there is none. Raises LedgerError if it is damaged."""
        return self.read_as(path, Any) if path.exists() else None

    def read_as(self, path: Path, kind: type[T]) -> T:
        """The JSON of a file of the job, as a type; raises LedgerError if it is damaged."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise LedgerError(
                f"{path}: damaged ({error}); remove the folder to begin the job anew"
            ) from error

    def write(self, path: Path, data: Mapping[str, Any]) -> None:
        """Replace a file of the job; raises OSError if it cannot be written."""
        draft = _draft(path)
        draft.write_bytes(msgspec.json.encode(data) + b"\n")
        sync_file(draft)
        os.replace(draft, path)  # noqa: PTH105
        sync_folder(path.parent)


def _draft(path: Path) -> Path:
    return path.with_name(f"draft-{path.name}")
