# SPDX-License-Identifier: Apache-2.0
"""Open the files of a run that writes row by row; say values in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from quorum.bulk.outputs.csv_answers import CsvSink, answer_columns
from quorum.bulk.outputs.errors import OutputError
from quorum.bulk.outputs.jsonl_answers import JsonlSink
from quorum.bulk.outputs.outcome import Sink
from quorum.bulk.outputs.votes_tables import VotesSink
from quorum.decision.spans import SpansError, load_pairs, load_values
from quorum.files import locked
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.score import as_probability as as_probability
from quorum.votes import VotesError, VotesWriter, check_target, read_members


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


def check_outputs(out: Path | None, votes: Path | None, source: Path, *, force: bool = False) -> None:
    """Refuse files that answers cannot be written to; ``source`` holds the listings. Nothing is written.

    ``force`` allows files that exist, which lose what they hold.

    Raises:
        OutputError: None is named, one is read or written already or holds something, or ``out`` has an
            unknown ending.
        VotesError: ``votes`` has the ending of no format.
    """
    if out is None and votes is None:
        raise OutputError("nothing to write: name --out FILE (CSV or JSONL), --votes FILE, or both")
    for option, path, others in (("--out", out, [source]), ("--votes", votes, [source, out])):
        if path is not None and any(other and path.resolve() == other.resolve() for other in others):
            raise OutputError(f"{option} {path}: that file is read or written already; name another")
    if out is not None and out.suffix not in (".csv", ".jsonl"):
        raise OutputError(f"--out {out}: cannot tell the format from {out.suffix!r}; use .csv or .jsonl")
    if votes is not None:
        check_target(votes)
    if not force:
        _refuse_filled(out, votes)


def _refuse_filled(out: Path | None, votes: Path | None) -> None:
    """Raise OutputError for a file that a run would empty."""
    for option, path in (("--out", out), ("--votes", votes)):
        if path is None or not path.is_file() or not path.stat().st_size:
            continue
        content, advice = "", "name another file"
        if path == votes:
            # Of a file of another kind its name says enough.
            with suppress(VotesError):
                content = f" with votes of {', '.join(read_members(path))}"
            advice += " (`quorum votes merge` joins both)"
        raise OutputError(f"{option} {path} exists{content}; {advice}, or replace it by --force")


def open_sinks(
    files: ExitStack,
    out: Path | None,
    votes: Path | None,
    columns: Sequence[str],
    attributes: Sequence[str],
    catalogue: Catalogue,
    *,
    escaped: bool = True,
) -> list[Sink]:
    """Open the files to write, which ``files`` closes; none is emptied unless all can be written.

    ``escaped``: see :class:`quorum.bulk.outputs.csv_answers.CsvSink`.

    Raises:
        OutputError: A file cannot be written, another run writes it, or it lacks room for a column of the
            input (``columns``).
    """
    sinks: list[Sink] = []
    if out is not None and out.suffix == ".csv":
        answer_columns(columns, attributes)
    with reserving(files, filter(None, (out, votes))):
        if out is not None:
            # Buffered by line: an answer is on disk at once.
            file = files.enter_context(out.open("w", 1, encoding="utf-8", newline=""))
            is_csv = out.suffix == ".csv"
            sinks.append(CsvSink(file, columns, attributes, escaped=escaped) if is_csv else JsonlSink(file))
        if votes is not None:
            sinks.append(VotesSink(files.enter_context(VotesWriter(votes)), catalogue))
    return sinks


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
