# SPDX-License-Identifier: Apache-2.0
"""Open the file of a run that writes row by row; say values in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from quorum.bulk.outputs.errors import OutputError
from quorum.decision.spans import SpansError, load_pairs, load_values
from quorum.files import locked
from quorum.tasks.score import as_probability as as_probability


def in_words(value: str) -> str:
    """A value for people: spans and several values without the marks of JSON."""
    if not value.startswith("["):
        return value
    try:
        return "; ".join(f"{words} = {kind}" for words, kind in load_pairs(value)) or "none"
    except SpansError:
        pass
    try:
        return ", ".join(load_values(value))
    except SpansError:
        return value


def check_output(out: Path, source: Path, *, force: bool = False) -> None:
    """Refuse a file that answers cannot be written to; ``source`` holds the listings. Nothing is written.

    ``force`` allows a file that exists, which loses what it holds.

    Raises:
        OutputError: It is read already or holds something, or has an unknown ending.
    """
    if out.resolve() == source.resolve():
        raise OutputError(f"--out {out}: that file is read or written already; name another")
    if out.suffix not in (".csv", ".jsonl"):
        raise OutputError(f"--out {out}: cannot tell the format from {out.suffix!r}; use .csv or .jsonl")
    if not force and out.is_file() and out.stat().st_size:
        raise OutputError(f"--out {out} exists; name another file, or replace it by --force")


@contextmanager
def reserving(files: ExitStack, paths: Iterable[Path]) -> Iterator[None]:
    """Keep files, made if needed, for this run until ``files`` closes; they are to be opened in the block.

    Raises OutputError, and removes what was made, where one cannot be written, or another run writes it.
    """
    made: list[Path] = []
    try:
        for path in paths:
            made += [] if path.exists() else [path]
            path.open("a").close()
            files.enter_context(locked(path))
        yield
    except OSError as error:
        for path in filter(Path.exists, made):
            path.unlink()
        advice = "; wait for its end, or name another file" if isinstance(error, BlockingIOError) else ""
        raise OutputError(f"{error.filename}: {error.strerror}{advice}") from error
