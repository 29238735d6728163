# SPDX-License-Identifier: Apache-2.0
"""Keep a review to its own files: tables and journals that are not of this review stay as they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock

from quorum.review.choose import LabelError
from quorum.review.page.decisions import Key, key_of
from quorum.review.page.journal import Entry, read_journal, text_hash
from quorum.votes import VotesTable, check_target, read_votes, write_votes


def journal_of(out: Path) -> Path:
    """The journal of a table with gold, next to it."""
    return out.with_name(f"{out.stem}.journal.jsonl")


def check_out(out: Path, votes: Path) -> None:
    """Refuse to write a table over the votes, or over one that no decision of a review has made.

    Raises:
        LabelError: It is the votes table, or is there and its journal has no decision.
        VotesError: It has the ending of no format.
    """
    if out.resolve() == votes.resolve():
        raise LabelError(f"--out {out}: that is the votes table; name another file for the labels")
    check_target(out)
    journal = journal_of(out)
    if out.exists() and not (journal.exists() and read_journal(journal)):
        raise LabelError(
            f"{out} exists and may hold answers, and {journal.name} has no decision; name another with "
            "--out, or go on from it as VOTES"
        )


class OwnTable:
    """The table with gold, as long as nobody else writes it; may be used from several threads."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, Lock()
        self._last = _version(path)

    def write(self, table: VotesTable, has_gold: bool) -> None:
        """Write it; one without gold of the review only over one that may have had some.

        Raises:
            LabelError: Somebody else has made or changed it since the review began; it stays as it is.
            OSError: It cannot be written.
        """
        with self._lock:
            if not has_gold and self._last is None:
                return
            if _version(self._path) not in (None, self._last):
                raise LabelError(
                    f"{self._path}: somebody else has written it since the review began; decisions are in "
                    f"{journal_of(self._path).name}: move {self._path.name} away, then run the same command"
                )
            write_votes(table, self._path)
            self._last = _version(self._path)


def _version(path: Path) -> tuple[int, int, int] | None:
    """What tells a file from one that was written later; None: there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def check_entries(entries: Sequence[Entry], out: Path, table: VotesTable, votes: Path) -> None:
    """Refuse a journal of other votes, and a table with gold that is from elsewhere.

    Args:
        entries: Of the journal.
        out: The table with gold, if it is there.
        table: The votes.
        votes: Their file.

    Raises:
        LabelError: A decision is on a cell that the votes lack or have with another text, or ``out`` has
            gold that is neither in the votes nor in the journal.
        VotesError: ``out`` cannot be read.
    """
    known: defaultdict[Key, set[tuple[str, ...]]] = defaultdict(set)
    texts: dict[Key, str] = {}
    for entry in entries:
        if entry.verdict != "undo":
            known[key_of(entry)].add(entry.gold)
            texts[key_of(entry)] = entry.text
    there = {(cell.product, cell.attribute): cell.gold for cell in table.cells}
    unknown = [key for key in known if key not in there]
    if unknown:
        raise LabelError(
            f"{journal_of(out)}: {len(unknown)} of its {len(known)} cells are not in {votes}, such as "
            f"{', '.join(unknown[0])}; name the votes that it was begun with, or another --out"
        )
    changed = [
        key for cell in table.cells
        if texts.get(key := (cell.product, cell.attribute)) and texts[key] != text_hash(cell.title)
    ]  # fmt: skip
    if changed:
        raise LabelError(
            f"{journal_of(out)}: {len(changed)} of its {len(known)} cells have another text in {votes}, such "
            f"as {', '.join(changed[0])}, so its answers are not of these products; name the votes that it "
            "was begun with, or another --out"
        )
    if not out.exists():
        return
    found = [cell for cell in read_votes(out).cells if cell.gold]
    keys = [(cell.product, cell.attribute) for cell in found]
    other = [
        key for key, cell in zip(keys, found, strict=True)
        if cell.gold != there.get(key) and cell.gold not in known.get(key, ())
    ]  # fmt: skip
    if other:
        raise LabelError(
            f"{out}: {len(other)} of its {len(found)} labels are from elsewhere, such as of "
            f"{', '.join(other[0])}; name another --out, or go on from it as VOTES with another --out"
        )


def own_files(votes: Path, out: Path, weights: str | Path | None) -> dict[str, Path]:
    """What a review reads and writes: what each file is, and its path."""
    found = {"the votes table": votes, "the table with gold": out, "the journal": journal_of(out)}
    return found if weights is None else found | {"the weights": Path(weights)}


def check_exports(own: Mapping[str, Path], targets: Sequence[Path]) -> None:
    """Raise LabelError for a target of an export that would replace a file of the review, or another one."""
    there = {path.resolve(): what for what, path in own.items()}
    for target in targets:
        what = there.get(target.resolve())
        if what:
            raise LabelError(f"--export {target}: that is {what}; name another file")
        if target.suffix.lower() == ".xml":
            raise LabelError(
                f"--export {target}: .xml is the labelling interface of Label Studio; give a name that ends "
                "in .json"
            )
        there[target.resolve()] = "the file of another export"
