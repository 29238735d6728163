# SPDX-License-Identifier: Apache-2.0
"""The input of a job: scanned before anything is asked, and held against what the job began with."""

from __future__ import annotations

import glob
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from quorum.bulk.ask import fields_of
from quorum.bulk.callbacks import Note
from quorum.bulk.inputs.records import BadRow, Row
from quorum.bulk.inputs.scan import Scan, check_unchanged, place_of, scan
from quorum.bulk.inputs.sources import STDIN, find_files, spooled
from quorum.bulk.ledger import Entry, Ledger, LedgerError
from quorum.bulk.ledger.folder import JobFolder
from quorum.bulk.listings import Listing, gold_flaw
from quorum.bulk.mapping import ColumnNames, raw_of
from quorum.bulk.options import ExtractOptions
from quorum.bulk.outputs import OutputError, Outputs
from quorum.deployment.schema import Deployment
from quorum.tasks.catalogue import Catalogue
from quorum_client import InvalidRequest
from quorum_contract.errors import QuorumError

Files = str | Path | Sequence[str | Path]
ListingOf = Callable[[Row], Listing | BadRow]
SHOWN_BAD = 3


class TooManyBad(QuorumError, ValueError):
    """More rows cannot be asked than the run allows; the message names some."""

    code = "TOO_MANY_BAD_ROWS"


def names_of(files: Files) -> list[str]:
    """The names of the inputs."""
    return [str(files)] if isinstance(files, str | Path) else [str(file) for file in files]


def column_names(deployment: Deployment, attributes: Sequence[str], options: ExtractOptions) -> ColumnNames:
    """The columns that the caller names, and the fields that the attributes are made for."""
    return ColumnNames(
        text=tuple(options.text or ()),
        id=options.id,
        category=options.category,
        fields=fields_of(deployment, attributes),
    )


def find_input(
    names: Sequence[str],
    columns: ColumnNames,
    options: ExtractOptions,
    folder: Path,
    note: Note,
    catalogue: Catalogue,
    outputs: Outputs | None = None,
) -> Scan:
    """What the input is: as the job has it, if that is of the same command, else scanned now.

    Folders and patterns do not stand for the files of the job's folder, nor for outputs. A row whose gold is
    of another kind than its attribute in the catalogue is bad.

    Raises:
        ListingsError: It cannot be read, or has changed since the job began.
    """
    own = own_places(folder, outputs)
    JobFolder(folder).check()
    stored = Ledger.stored(folder)
    if stored and stored["columns"] == asked_of(names, columns, options):
        found = Scan.from_json(stored["input"])
        if STDIN in names:
            _check_same_stdin(found, folder)
        _check_same_files(names, found, folder, own)
        check_unchanged(found)
        return found
    return scan_input(names, columns, options, catalogue, note, spool=JobFolder(folder).input, own=own)


def scan_input(
    names: Sequence[str],
    columns: ColumnNames,
    options: ExtractOptions,
    catalogue: Catalogue,
    note: Note,
    *,
    spool: Path,
    own: Sequence[str] = (),
) -> Scan:
    """Scan the input of a run, and remark on what was detected; see :func:`find_input`."""
    found = scan(
        names,
        options.inputs,
        options.part_rows,
        columns=columns,
        check=lambda listing: gold_flaw(listing, catalogue),
        spool=spool,
        own=own,
    )
    for remark in found.notes:
        note(remark)
    return found


def own_places(folder: Path, outputs: Outputs | None) -> list[str]:
    """What the run itself writes: folders and patterns of the input do not stand for it."""
    return [str(folder), *(target.name for target in (outputs.targets if outputs else ()))]


def _check_same_files(names: Sequence[str], found: Scan, folder: Path, own: Sequence[str]) -> None:
    """Refuse files that a folder, or a pattern, did not stand for when the job began."""
    if not (files_only := [name for name in names if name != STDIN]):
        return
    files, _ = find_files(files_only, None, own)
    if new := [file.name for file in files if file.url not in {source.url for source in found.sources}]:
        raise LedgerError(
            f"{new[0]}: is new since the job in {folder} began; ask about it by a job of its own, with other"
            " outputs, or move it away to go on with this one"
        )


def _check_same_stdin(found: Scan, folder: Path) -> None:
    """Refuse standard input that is other than the copy that the job has; nothing is as good as the same."""
    if sys.stdin.isatty():
        return
    copy = spooled(JobFolder(folder).input)
    if copy.name in {Path(source.url).name for source in found.sources}:
        return
    is_empty = not copy.stat().st_size
    copy.unlink()
    if not is_empty:
        raise LedgerError(
            f"standard input: is not what the job in {folder} began with, of which it has a copy; go on with"
            f" that by the same command with </dev/null, or name other outputs, or remove {folder}"
        )


@contextmanager
def keeping_no_stdin(folder: Path) -> Iterator[None]:
    """If the block fails, remove what it has read of standard input, unless the job is begun with that."""
    job = JobFolder(folder)
    before = job.copies()
    try:
        yield
    except BaseException:
        if new := job.copies() - before:
            stored = job.stored()
            sources = Scan.from_json(stored["input"]).sources if stored else ()
            job.drop(new, sources)
        raise


def check_apart(names: Sequence[str], outputs: Outputs, found: Scan) -> None:
    """Refuse outputs that are read, or would be by the same command; raises OutputError."""
    read = {Path(source.url).resolve() for source in found.sources}
    for target in outputs.targets:
        path = Path(target.name).resolve()
        if target.is_url:
            continue
        if not target.is_folder and not path.parent.is_dir():
            raise OutputError(
                f"{target.option} {target.name}: there is no such folder; make it, or name another file"
            )
        if path in read:
            raise OutputError(f"{target.option} {target.name}: that file is read; name another")
        for name in names:
            inside = Path(name).is_dir() and path.is_relative_to(Path(name).resolve())
            if inside or (glob.has_magic(name) and fnmatch(str(path), str(Path(name).resolve()))):
                raise OutputError(
                    f"{target.option} {target.name}: the input {name} would hold it; name a place outside"
                )


def asked_of(names: Sequence[str], columns: ColumnNames, options: ExtractOptions) -> dict[str, Any]:
    """What the caller says of the input, as JSON values."""
    asked = {
        "files": names,
        "columns": asdict(columns),
        "read": asdict(options.inputs),
        "part_rows": options.part_rows,
    }
    plain: dict[str, Any] = json.loads(json.dumps(asked))
    return plain


def check_bad(found: Scan, options: ExtractOptions, note: Note) -> None:
    """Refuse an input with more bad rows than are allowed, before anything is asked; else remark on them."""
    # Where all are bad there is nothing to ask.
    allowed = min(options.bad_allowed(found.rows), found.rows - 1)
    if found.bad_rows > allowed:
        raise too_many_bad(allowed, found.rows, found.bad_rows, found.bad)
    if found.bad_rows:
        first = found.bad[0]
        note(
            f"{bad_in_words(found.bad_rows, found.rows)} and not asked; the first: {first.place}:"
            f" {first.reason}"
        )


def check_refused(found: Scan, options: ExtractOptions, refused: int, examples: Sequence[BadRow]) -> None:
    """Refuse more bad rows than are allowed, with those that the server has refused; some are examples."""
    allowed, bad = options.bad_allowed(found.rows), found.bad_rows + refused
    if bad > allowed:
        raise too_many_bad(allowed, found.rows, bad, [*examples, *found.bad])


def refused_row(found: Scan, entry: Entry) -> BadRow:
    """A row that the server has refused as invalid."""
    reason = entry.error[1] if entry.error else ""
    return BadRow(entry.row, place_of(found.sources, entry.row), reason, "")


def is_refused(entry: Entry) -> bool:
    """Whether no server takes the row, as it breaks the contract."""
    return entry.error is not None and entry.error[0] == InvalidRequest.code


def bad_in_words(bad: int, rows: int) -> str:
    """Such as "2 of 300 rows are bad"."""
    return f"{bad} of {rows} rows {'is' if bad == 1 else 'are'} bad"


def too_many_bad(allowed: int, rows: int, bad: int, examples: Sequence[BadRow]) -> TooManyBad:
    """The error of a run that has more bad rows than it allows."""
    shown = "; ".join(f"{row.place}: {row.reason}" for row in examples[:SHOWN_BAD])
    return TooManyBad(
        f"{bad_in_words(bad, rows)}, {allowed} are allowed. The first: {shown}. Repair them, say how the"
        " input is to be read (`quorum extract --help`), or allow more by --max-bad"
    )


def listings_by(found: Scan, deployment: Deployment) -> ListingOf:
    """A function that makes a listing of a row; one that the scan found bad is bad."""
    columns, catalogue = found.mapping, deployment.catalogue()
    assert columns is not None

    def listing_of(row: Row) -> Listing | BadRow:
        listing = columns.listing(row)
        if isinstance(listing, Listing) and (flaw := gold_flaw(listing, catalogue)):
            return BadRow(row.index, row.place, flaw, raw_of(row.values))
        return listing

    return listing_of
