# SPDX-License-Identifier: Apache-2.0
"""Write answers as CSV or JSON Lines, and every vote as a votes table, row by row."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TextIO

from quorum.bulk.listings import Listing, gold_of
from quorum.decision.spans import SpansError, load_pairs, load_values
from quorum.files import locked
from quorum.safe_text import safe_cell
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.score import as_probability as as_probability
from quorum.votes import Cell, Origin, VotesError, VotesWriter, check_target, read_members
from quorum.votes.schema import known_scores, known_usage
from quorum_client import Extraction, Spent
from quorum_contract.errors import QuorumError

# Of the columns of an attribute.
_ENDINGS = ("", "_confidence", "_status")
_SPENT = ("quorum_cost", "quorum_calls", "quorum_prompt_tokens", "quorum_answer_tokens")


class OutputError(QuorumError, ValueError):
    """Answers cannot be written; the message names the file and the fix."""

    code = "OUTPUT_INVALID"


class Sink(Protocol):
    """Writes answers one by one."""

    def write(self, listing: Listing, result: Extraction | Exception) -> None:
        """Write one row."""


class JsonlSink:
    """One JSON object per listing: value, confidence, status and votes per attribute, or ``error``."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, listing: Listing, result: Extraction | Exception) -> None:
        """Write one row."""
        data = {"product": listing.product, "category": listing.category, "title": listing.text}
        found = {"error": str(result)} if isinstance(result, Exception) else extraction_json(result)
        self._file.write(json.dumps(data | found, ensure_ascii=False) + "\n")


class CsvSink:
    """The input's columns; value, confidence and status per attribute; cost, calls, tokens; ``error``.

    With ``escaped`` (see :func:`quorum.safe_text.safe_cell`) no cell is a formula to a spreadsheet.
    """

    def __init__(
        self, file: TextIO, columns: Sequence[str], attributes: Sequence[str], *, escaped: bool = True
    ) -> None:
        self._escaped = escaped
        names = csv_columns(columns, attributes)
        self._csv = csv.DictWriter(file, names, extrasaction="ignore")
        self._write({name: name for name in names})

    def write(self, listing: Listing, result: Extraction | Exception) -> None:
        """Write one row."""
        row = {name: _csv_cell(value) for name, value in listing.row.items()}
        if isinstance(result, Exception):
            row["error"] = str(result)
        else:
            for answer in result.answers:
                row[answer.attribute] = answer.value or ""
                row[f"{answer.attribute}_confidence"] = f"{answer.confidence:.4f}"
                row[f"{answer.attribute}_status"] = answer.status.name
            if spent := result.spent:
                figures = (spent.cost, spent.calls, spent.prompt_tokens, spent.answer_tokens)
                row |= {name: _figure(found) for name, found in zip(_SPENT, figures, strict=True)}
        self._write(row)

    def _write(self, row: Mapping[str, Any]) -> None:
        if self._escaped:
            row = {name: safe_cell(cell) if isinstance(cell, str) else cell for name, cell in row.items()}
        self._csv.writerow(row)


def csv_columns(columns: Sequence[str], attributes: Sequence[str]) -> list[str]:
    """The columns of a CSV output; raises OutputError if two of them have one name."""
    added = [f"{attribute}{ending}" for attribute in attributes for ending in _ENDINGS]
    added += [*_SPENT, "error"]
    twice = [name for name, count in Counter(added).items() if count > 1]
    if twice:
        raise OutputError(
            f"two columns of the output would be {twice[0]!r}: one is an attribute, one is added; write JSONL"
        )
    clash = sorted(set(columns).intersection(added))
    if clash:
        raise OutputError(f"the input has a column {clash[0]!r} already; rename it or write JSONL")
    return [*columns, *added]


def _figure(number: float | None) -> str:
    """A figure with six digits; empty where it is not known."""
    return "" if number is None else f"{number:.6g}" if number % 1 else f"{number:.0f}"


def _csv_cell(value: Any) -> Any:
    """Write objects and lists, such as gold, as JSON, which `read_listings` parses."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


class VotesSink:
    """A votes table: one row per listing and attribute, as `quorum learn` reads it.

    Without ``origin`` the server's answer is not recorded: it is of some members only.
    """

    def __init__(self, writer: VotesWriter, catalogue: Catalogue, *, origin: bool = True) -> None:
        self._writer = writer
        self._catalogue = catalogue
        self._has_origin = origin

    def write(self, listing: Listing, result: Extraction | Exception) -> None:
        """Write the rows of one listing; a failed listing has none."""
        if isinstance(result, Exception):
            return
        # Of others no member was asked: the category has no such attribute.
        asked = [
            answer
            for answer in result.answers
            if self._catalogue.get(answer.attribute).is_asked_for(listing.category)
        ]
        for answer in asked:
            spent = [result.usage.get(vote.member) for vote in answer.votes]
            cell = Cell(
                product=listing.product,
                category=listing.category,
                title=listing.text,
                attribute=answer.attribute,
                values=tuple(vote.value for vote in answer.votes),
                gold=tuple(gold_of(listing, answer.attribute, self._catalogue)),
                origin=_origin(result) if self._has_origin else None,
                scores=known_scores(vote.score for vote in answer.votes),
                usage=known_usage(one and one.share(len(asked)) for one in spent),
            )
            self._writer.write(cell, [vote.member for vote in answer.votes])


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


def extraction_json(result: Extraction) -> dict[str, Any]:
    """An extraction as plain data."""
    return {
        "attributes": {
            answer.attribute: {
                "value": answer.value,
                "confidence": round(answer.confidence, 4),
                "status": answer.status.name,
                "votes": {
                    v.member: {"value": v.value, "status": v.status.name, "score": _rounded(v.score)}
                    for v in answer.votes
                },
            }
            for answer in result.answers
        },
        **{name: value for name, value in asdict(_origin(result)).items() if value is not None},
        **usage_json(result),
    }


def usage_json(result: Extraction) -> dict[str, Any]:
    """Cost, calls and tokens of an answer as plain data, and of each member; empty where nothing is known."""
    spent = result.spent
    if spent is None:
        return {}
    return {**_spent_json(spent), "usage": {name: _spent_json(own) for name, own in result.usage.items()}}


def _spent_json(spent: Spent) -> dict[str, Any]:
    """The figures with six digits, whole ones without a point."""
    return {
        name: number if number is None or isinstance(number, int) else float(f"{number:.6g}")
        for name, number in spent._asdict().items()
    }


def _rounded(score: float | None) -> float | None:
    # Adding 0 makes -0.0 a plain 0.
    return None if score is None else round(score, 6) + 0.0


def _origin(result: Extraction) -> Origin:
    """Channel, weights and latency of an answer, for `quorum canary report`."""
    latency_ms = round(result.latency_s * 1e3, 2)
    return Origin(result.channel, result.weights_version, latency_ms, result.fallback_from or None)


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

    ``escaped``: see :class:`CsvSink`.

    Raises:
        OutputError: A file cannot be written, another run writes it, or it lacks room for a column of the
            input (``columns``).
    """
    sinks: list[Sink] = []
    if out is not None and out.suffix == ".csv":
        csv_columns(columns, attributes)
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
