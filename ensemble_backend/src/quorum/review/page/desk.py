# SPDX-License-Identifier: Apache-2.0
"""The state behind the review page: who sees which cell next, what was decided, and the table with gold."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

from quorum.decision.weights import equal_weights
from quorum.evaluation.answers import decide_answers
from quorum.records import Record, plain
from quorum.review.choose import LabelError
from quorum.review.gold import load_weights, spelled_row
from quorum.review.need import AttributeNeed, label_needs
from quorum.review.page.agreement import Agreement, agreements
from quorum.review.page.card import Cards, Shown
from quorum.review.page.decisions import Decisions, Key, key_of
from quorum.review.page.export import Reviewed, ReviewFormat, export
from quorum.review.page.files import (
    OwnTable,
    check_entries,
    check_exports,
    check_out,
    journal_of,
    own_files,
)
from quorum.review.page.given import check_typed, check_verdict, check_who, checked_name, checked_note
from quorum.review.page.journal import Entry, Journal, Mode, Verdict, text_hash
from quorum.review.page.queue import Holds, Order, make_queue
from quorum.review.page.tally import Tally, tally
from quorum.review.sheet import GoldRow, apply_gold, read_gold
from quorum.review.spellings import spelling_remarks
from quorum.tasks.catalogue import Catalogue
from quorum.votes import Cell, read_votes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewOptions:
    """Which cells people review, and who does.

    Attributes:
        reviewers: Names; those in the journal may go on too.
        count: Cells to review, at least 1.
        order: What comes first.
        overlap: Share of the cells that every reviewer decides, in [0, 1].
        seed: Of the draws.
        weights: Weights that decide; None: every member has the same.
    """

    reviewers: Sequence[str]
    count: int = 200
    order: Order = "mixed"
    overlap: float = 1.0
    seed: int = 0
    weights: str | Path | None = None


@dataclass(frozen=True, slots=True)
class ReviewReport(Record):
    """What a review has come to.

    Attributes:
        out: The table with gold; None where no cell has any, so that none was written.
        journal: The file with every decision.
        labels: Labelled cells of the table, those that it had before included.
        tally: Of the cells with gold from the review, how the ensemble and its members did.
        unsettled: Cells that wait for an adjudication.
        agreement: Of each two reviewers.
        needs: Labels that the attributes have now, and need.
        remarks: On the votes, for people.
    """

    out: Path | None
    journal: Path
    labels: int
    tally: Tally
    unsettled: int
    agreement: tuple[Agreement, ...]
    needs: tuple[AttributeNeed, ...]
    remarks: tuple[str, ...] = ()


class Desk:
    """A review of a votes table; its methods may be called from several threads.

    Each decision is in the journal, on the disk, when :meth:`decide` returns. The table with gold follows
    from votes and journal, and is written by :meth:`save`.

    Args:
        votes: A votes table (JSONL, Parquet or Arrow).
        out: The table with gold. Its journal is next to it; one that is there is gone on with.
        options: Cells and people.
        catalogue: Normalises gold like votes, has value sets and questions; None: gold is taken as it is.
        clock: Seconds since 1970.

    Raises:
        LabelError: ``out`` exists without decisions in its journal, or has gold from elsewhere; the journal
            is open elsewhere, of another table or of other votes; a name that is none; every cell has gold.
        VotesError: The votes, or ``out``, cannot be read, or ``out`` has the ending of no format.
        WeightsError: The weights cannot be read, or are for other members.
    """

    def __init__(
        self,
        votes: str | Path,
        out: str | Path,
        options: ReviewOptions,
        catalogue: Catalogue | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        source, self.out = Path(votes), Path(out)
        self.journal_path = journal_of(self.out)
        check_out(self.out, source)
        self._own = own_files(source, self.out, options.weights)
        self._labels = OwnTable(self.out)
        self._catalogue, self._clock, self._lock = catalogue, clock, Lock()
        self._table = read_votes(source)
        self._named = [checked_name(name) for name in options.reviewers]
        if not self._named:
            raise LabelError("no reviewer is named; give at least one")
        loaded = load_weights(options.weights, catalogue)
        # Weights may have the members in another order; the table is written as it was.
        table = self._table.of_members(loaded.members) if loaded else self._table
        weights = loaded or equal_weights(table.members)
        self._cards = Cards(table.members, weights, catalogue)
        answers = decide_answers(table, weights, catalogue.answer_kinds() if catalogue else {})
        self._seen = table.cells
        self._shown = [Shown(v, float(c)) for v, c in zip(answers.values, answers.confidence, strict=True)]
        self._rows = {(cell.product, cell.attribute): i for i, cell in enumerate(table.cells)}
        self._queue = make_queue(
            table, answers.confidence, options.count, order=options.order, weights=loaded, seed=options.seed,
            shared=options.overlap,
        )  # fmt: skip
        self._reasons = dict(zip(self._queue.keys, (c.reason for c in self._queue.choices), strict=True))
        self._remarks = spelling_remarks(self._table, source, catalogue)
        self._holds = Holds()
        self._back: dict[tuple[str, Mode], Entry] = {}
        self._journal = Journal(self.journal_path, self.out.name)
        try:
            check_entries(self._journal.entries, self.out, self._table, source)
            self._decisions = Decisions(self._journal.entries)
        except BaseException:
            self._journal.close()
            raise

    def close(self) -> None:
        """Let others open the journal."""
        self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def reviewers(self) -> list[str]:
        """Who may decide: those named, and those in the journal."""
        return list(dict.fromkeys([*self._named, *self._decisions.people()]))

    @property
    def first_reviewer(self) -> str:
        """Who decides where no name is given."""
        return self._named[0]

    @property
    def begun(self) -> bool:
        """Whether somebody has decided something, also if all was taken back."""
        return bool(self._decisions.people())

    def state(self, reviewer: str, mode: Mode) -> dict[str, Any]:
        """What the page shows one person now, as JSON values; raises LabelError for an unknown name."""
        with self._lock:
            return self._state(reviewer, mode)

    def decide(
        self,
        reviewer: str,
        mode: Mode,
        key: Key,
        verdict: Verdict,
        *,
        chosen: str = "",
        typed: str = "",
        note: str = "",
    ) -> dict[str, Any]:
        """Keep a decision, and return the state with the next cell.

        Args:
            reviewer: Who.
            mode: Own answer, or adjudication.
            key: The cell.
            verdict: ``answer``, ``unsure`` or ``skip``.
            chosen: The answer, one that was shown.
            typed: Instead: what was typed, alternatives between " | ".
            note: A remark.

        Raises:
            LabelError: No such cell, person, mode, verdict or answer; nothing is kept then.
            OSError: The journal cannot be written; nothing is kept then.
        """
        with self._lock:
            check_who(reviewer, mode, self.reviewers)
            check_verdict(verdict)
            remark = checked_note(note)
            cell = self._cell(key)
            gold = self._gold(cell, mode, chosen, typed) if verdict == "answer" else ()
            shown = self._shown[self._rows[key]]
            entry = Entry(
                self._clock(), reviewer, mode, verdict, *key, gold, shown.value,
                round(shown.confidence, 6), remark, text_hash(cell.title),
            )  # fmt: skip
            if not self._is_repeated(entry):
                self._journal.append(entry)
                self._decisions.add(entry)
            self._back.pop((reviewer, mode), None)
            return self._state(reviewer, mode)

    def undo(self, reviewer: str, mode: Mode) -> dict[str, Any]:
        """Take back this person's latest decision, and return the state with its cell; may be repeated.

        Raises:
            LabelError: Nothing is left to take back.
            OSError: The journal cannot be written; nothing changes then.
        """
        with self._lock:
            check_who(reviewer, mode, self.reviewers)
            last = self._decisions.last(reviewer, mode)
            if last is None:
                raise LabelError("nothing to undo")
            entry = Entry(self._clock(), reviewer, mode, "undo")
            self._journal.append(entry)
            self._decisions.add(entry)
            self._back[reviewer, mode] = last
            return self._state(reviewer, mode)

    def save(self) -> int:
        """Write the table with gold, if any cell has some, or had; the number of labelled cells.

        Raises:
            LabelError: Somebody else has written a table there meanwhile.
            OSError: It cannot be written.
        """
        with self._lock:
            rows = self._gold_rows()
        result = apply_gold(self._table, rows)
        self._labels.write(result.table, bool(rows))
        return int(result.table.labelled.sum())

    def report(self) -> ReviewReport:
        """What the review has come to."""
        with self._lock:
            rows, found = self._gold_rows(), self._tally()
            unsettled = sum(1 for _ in self._decisions.open_differences())
            pairs = tuple(agreements(self._decisions))
        table = apply_gold(self._table, rows).table
        needs = tuple(label_needs(table))
        return ReviewReport(
            self.out if rows else None, self.journal_path, int(table.labelled.sum()), found, unsettled,
            pairs, needs, self._remarks,
        )  # fmt: skip

    def export(self, form: ReviewFormat, path: Path) -> int:
        """Write the cells of the queue, and all that were decided, for another program; their number.

        Raises:
            LabelError: The file is one of the review, or ends in .xml.
            OSError: It cannot be written.
        """
        check_exports(self._own, [path])
        with self._lock:
            gold = self._decisions.gold()
            keys = dict.fromkeys([*self._decisions.cells(), *self._queue.keys])
            reviewed = [self._reviewed(key, gold.get(key, ())) for key in keys]
        return export(reviewed, form, path)

    def _reviewed(self, key: Key, gold: tuple[str, ...]) -> Reviewed:
        row = self._rows[key]
        cell = self._seen[row]
        kind, attribute = self._cards.kind(cell), self._cards.attribute(cell)
        own = self._decisions.on(key)
        return Reviewed(cell, self._cards.members, attribute, kind, self._shown[row], gold, own)

    def _cell(self, key: Key) -> Cell:
        row = self._rows.get(key)
        if row is None:
            raise LabelError(f"{key[0]!r}, {key[1]!r}: no such cell in the votes; reload the page")
        cell = self._seen[row]
        if cell.gold:
            raise LabelError(f"{key[0]!r}, {key[1]!r} has gold in the votes already; reload the page")
        return cell

    def _gold(self, cell: Cell, mode: Mode, chosen: str, typed: str) -> tuple[str, ...]:
        """The answer of a person in the spelling of votes."""
        key = cell.product, cell.attribute
        if chosen and chosen not in self._cards.answers(
            cell, self._shown[self._rows[key]], self._others(key, mode)
        ):
            raise LabelError(f"{chosen!r} was not shown; reload the page, or type the answer")
        given = (chosen,) if chosen else read_gold(typed, self._cards.kind(cell))
        check_typed(typed)
        if not given:
            raise LabelError("an empty answer; choose one, type one, or press n for n/a")
        row = GoldRow(cell.product, cell.attribute, given, 0)
        return spelled_row(row, self._catalogue, cell.title).gold

    def _is_repeated(self, entry: Entry) -> bool:
        """Whether a browser sent a decision again whose answer it did not get."""
        last = self._decisions.last(entry.reviewer, entry.mode)
        same = ("product", "attribute", "verdict", "gold", "note")
        return last is not None and all(getattr(last, name) == getattr(entry, name) for name in same)

    def _next(self, reviewer: str, mode: Mode) -> Key | None:
        back = self._back.get((reviewer, mode))
        if back is not None:
            return key_of(back)
        if mode == "adjudicate":
            mine = self._decisions.of(reviewer, mode)
            waiting = list(self._decisions.open_differences())
            return min(waiting, key=lambda key: mine[key].at if key in mine else 0.0, default=None)
        place = next(self._open_for(reviewer), None)
        return None if place is None else self._queue.keys[place]

    def _others(self, key: Key, mode: Mode) -> Mapping[str, Entry]:
        """People's decisions on a cell, where they are shown."""
        return self._decisions.on(key) if mode == "adjudicate" else {}

    def _open_for(self, reviewer: str) -> Iterator[int]:
        held = self._holds.others(reviewer, self._clock())
        return self._queue.open_for(reviewer, self._decisions, held)

    def _state(self, reviewer: str, mode: Mode) -> dict[str, Any]:
        check_who(reviewer, mode, self.reviewers)
        key = self._next(reviewer, mode)
        if mode == "review":
            self._holds.show(reviewer, key, self._clock())
        back = self._back.get((reviewer, mode))
        before = {"verdict": back.verdict, "gold": list(back.gold), "note": back.note} if back else None
        card = None
        if key is not None:
            row = self._rows[key]
            reason, others = self._reasons.get(key, ""), self._others(key, mode)
            card = self._cards.card(self._seen[row], self._shown[row], reason, others) | {"before": before}
        return {
            "reviewer": reviewer,
            "reviewers": self.reviewers,
            "mode": mode,
            "card": card,
            "progress": self._progress(reviewer, mode),
            "tally": plain(self._tally()),
            "agreement": plain(agreements(self._decisions)),
            "undo": self._decisions.steps(reviewer, mode),
            "out": self.out.name,
        }

    def _progress(self, reviewer: str, mode: Mode) -> dict[str, Any]:
        mine = self._decisions.of(reviewer, mode)
        verdicts = [entry.verdict for entry in mine.values()]
        unsettled = sum(1 for _ in self._decisions.open_differences())
        left = unsettled if mode == "adjudicate" else sum(1 for _ in self._open_for(reviewer))
        pace = self._decisions.pace(reviewer, mode)
        return {
            "done": len(verdicts) - verdicts.count("skip"),
            "left": left,
            "unsure": verdicts.count("unsure"),
            "skipped": verdicts.count("skip"),
            "unsettled": unsettled,
            "seconds_left": None if pace is None else pace * left,
        }

    def _tally(self) -> Tally:
        gold = self._decisions.gold()
        cells = [
            (self._seen[self._rows[key]], self._shown[self._rows[key]], own) for key, own in gold.items()
        ]
        return tally(cells, self._cards.members, self._cards.calibrated)

    def _gold_rows(self) -> list[GoldRow]:
        gold = self._decisions.gold()
        return [GoldRow(*key, own, number) for number, (key, own) in enumerate(gold.items(), 1)]
