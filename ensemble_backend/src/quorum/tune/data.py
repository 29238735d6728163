# SPDX-License-Identifier: Apache-2.0
"""Read the rows that a member is tuned on, and check all of them before any training."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from quorum.bulk.listings import Listing, gold_names, gold_of, read_listings
from quorum.decision.forms import SET_FORMS
from quorum.files import hash_file
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import kind_of, read
from quorum.tune.tuned_on import question_hash
from quorum_contract.errors import QuorumError

Source = Literal["gold", "votes"]
ALL = "all"
"""Task that stands for every attribute that the rows have gold for."""
MAX_PROBLEMS = 5
"""Rows that one error names."""
_SAMPLE = 40
"""Characters of an answer that a message takes as an example."""


class TrainingDataError(QuorumError, ValueError):
    """Rows cannot be trained on; the message names file, rows and fix."""

    code = "TRAINING_DATA_INVALID"


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One answer to learn: an attribute of one product.

    Attributes:
        row: Number of its row in the file, from 1.
        product: Id of the product.
        text: As the members get it: plain, or of named fields (:func:`quorum_contract.fields.join_fields`).
        category: May be empty.
        attribute: The name.
        answers: Acceptable answers as VALUES spells them, at least one; training is on the first.
    """

    row: int
    product: str
    text: str
    category: str
    attribute: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Rows to train on, checked.

    Attributes:
        rows: In the order of the file.
        tasks: Attributes, in the order that they were named, or of first appearance.
        source: Whether people gave the answers (gold), or the ensemble (votes).
        file_hash: ``sha256:...`` of the file.
        left_out: Rows of the file without an answer to any of the tasks, or with one below the confidence.
        why_left_out: Of each reason, in words, how many of these.
    """

    rows: tuple[TrainingRow, ...]
    tasks: tuple[str, ...]
    source: Source
    file_hash: str
    left_out: int = 0
    why_left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def data_hash(self) -> str:
        """``sha256:...`` of what is trained on: texts, categories, attributes and answers."""
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update(repr((row.text, row.category, row.attribute, row.answers)).encode())
        return f"sha256:{digest.hexdigest()}"

    @property
    def question_hashes(self) -> frozenset[str]:
        """What is trained on and held out, for :mod:`quorum.tune.tuned_on`."""
        return frozenset(question_hash(row.attribute, row.text) for row in self.rows)

    def of_products(self, products: set[str]) -> tuple[TrainingRow, ...]:
        """The rows of these products."""
        return tuple(row for row in self.rows if row.product in products)


class Problems:
    """Collects problems of rows, and refuses all of them in one error."""

    def __init__(self, path: Path, remedy: str = "fix these rows, or leave them out of the file") -> None:
        self._path, self._remedy = path, remedy
        self._found: list[tuple[int, str]] = []

    def add(self, row: int, problem: str) -> None:
        """Note a problem of one row."""
        self._found.append((row, problem))

    def refuse(self) -> None:
        """Raise TrainingDataError if there is any problem; it names the first rows and how many there are."""
        if not self._found:
            return
        rows = len({row for row, _ in self._found})
        named = "\n".join(f"  row {row}: {problem}" for row, problem in self._found[:MAX_PROBLEMS])
        more = len(self._found) - MAX_PROBLEMS
        further = f"\n  and {more} more" if more > 0 else ""
        plural = "row" if rows == 1 else "rows"
        counted = " (row 1 is the one below the header)" if self._path.suffix == ".csv" else ""
        raise TrainingDataError(
            f"{self._path}: {rows} {plural} cannot be trained on{counted}; {self._remedy}:\n{named}{further}"
        )


def fields_of_tasks(catalogue: Catalogue, tasks: Sequence[str]) -> tuple[str, ...]:
    """The named fields that the tasks' texts are made of; raises TrainingDataError where tasks differ."""
    fields = {catalogue.get(task).fields for task in tasks}
    if len(fields) > 1:
        raise TrainingDataError(
            f"{', '.join(tasks[:10])} are asked of texts with different fields; tune them one by one"
        )
    return fields.pop() if fields else ()


def read_gold(
    path: Path, tasks: Sequence[str], catalogue: Catalogue, rows: int | None = None, seed: int = 0
) -> TrainingData:
    """Read the gold of listings (CSV or JSONL, :func:`quorum.bulk.listings.read_listings`).

    Args:
        path: The file.
        tasks: Attributes; :data:`ALL` for every one that the file has gold for.
        catalogue: Says what answers are allowed; an attribute outside it is open.
        rows: Train on this many rows of the file with gold, drawn with ``seed``; None: on all.
        seed: Of that draw.

    Raises:
        ListingsError: The file cannot be read.
        TrainingDataError: Rows with an empty text, or with gold that its attribute does not allow; no gold
            for a task; tasks of different fields; or fewer rows than ``rows``.
    """
    have = gold_names(path)
    # Of which fields a text is made is known by the attributes alone.
    wanted = have if tuple(tasks) == (ALL,) else tuple(dict.fromkeys(tasks))
    listings = read_listings(path, fields=fields_of_tasks(catalogue, wanted), can_name=False)
    for task in wanted or (ALL,):
        if task not in have:
            raise TrainingDataError(_no_gold(path, task, have, listings[0]))
    problems = Problems(path)
    found: list[TrainingRow] = []
    for number, listing in enumerate(listings, 1):
        found += _rows_of(number, listing, wanted, catalogue, problems)
    problems.refuse()
    chosen = draw(path, found, rows, seed)
    left_out = len(listings) - len({row.row for row in found})
    why = {f"without gold for {wanted[0]}" if len(wanted) == 1 else "without gold": left_out}
    return TrainingData(tuple(chosen), wanted, "gold", hash_file(path), left_out, why)


def _no_gold(path: Path, task: str, have: Sequence[str], first: Listing) -> str:
    """The message, with a sample made of the first row."""
    known = f", only for {', '.join(have[:10])}" if have else ""
    name = "colour" if task == ALL else task
    column = first.row.get(task)
    answer = column if isinstance(column, str) and 0 < len(column) < _SAMPLE else "yes"
    sample = json.dumps({name: [answer]}, ensure_ascii=False)
    if path.suffix == ".csv":
        sample = '"' + sample.replace('"', '""') + '"'
    ignored = f" (a column {task!r} is not read as gold)" if task in first.row else ""
    what = "gold" if task == ALL else f"gold for {task!r}"
    return (
        f"{path}: no row has {what}{known}{ignored}; gold is a JSON column `gold`, {{attribute: [answers]}},"
        f" for example {sample}"
    )


def _rows_of(
    number: int, listing: Listing, tasks: Iterable[str], catalogue: Catalogue, problems: Problems
) -> list[TrainingRow]:
    if not listing.text.strip():
        problems.add(number, "its text is empty")
        return []
    found = []
    for task in tasks:
        if task not in listing.gold:
            continue
        attribute = catalogue.get(task)
        # No answers: nothing, but of a set the answer that names nothing.
        if not listing.gold[task] and attribute.form not in SET_FORMS:
            continue
        if problem := kind_of(attribute).gold_problem(attribute, listing.gold[task], listing.text):
            problems.add(number, f"{task}: {problem}")
            continue
        answers = tuple(gold_of(listing, task, catalogue))
        row = TrainingRow(number, listing.product, listing.text, listing.category, task, answers)
        found += checked(row, attribute, problems)
    return found


def checked(row: TrainingRow, attribute: Attribute, problems: Problems) -> list[TrainingRow]:
    """The row with its answers as VALUES spells them; none, and a problem, where serving would refuse one."""
    known = [(answer, read(attribute, answer, row.text)) for answer in row.answers]
    for answer, found in known:
        if found is None:
            problems.add(row.row, f"{attribute.name}: {answer!r:.80} {kind_of(attribute).refusal}")
            return []
    return [replace(row, answers=tuple(found for _, found in known if found is not None))]


def draw(path: Path, found: Sequence[TrainingRow], rows: int | None, seed: int) -> Sequence[TrainingRow]:
    """Rows of ``rows`` file rows drawn at random; raises TrainingDataError if there are fewer."""
    if rows is None:
        return found
    numbers = sorted({row.row for row in found})
    if not 0 < rows <= len(numbers):
        raise TrainingDataError(
            f"{path}: --rows {rows}, but {len(numbers)} rows have an answer; ask for 1 to {len(numbers)}"
        )
    chosen = set(random.Random(seed).sample(numbers, rows))
    return [row for row in found if row.row in chosen]


def joined(parts: Sequence[TrainingData]) -> TrainingData:
    """One set of rows of several, for a member of several tasks; products of different files stay apart."""
    first, *others = parts
    if not others:
        return first
    rows = [
        replace(row, product=f"{part.file_hash[7:15]} {row.product}") for part in parts for row in part.rows
    ]
    tasks = tuple(dict.fromkeys(task for part in parts for task in part.tasks))
    hashes = hashlib.sha256(" ".join(part.file_hash for part in parts).encode()).hexdigest()
    why = Counter[str]()
    for part in parts:
        why.update(part.why_left_out)
    left_out = sum(part.left_out for part in parts)
    return TrainingData(tuple(rows), tasks, first.source, f"sha256:{hashes}", left_out, dict(why))
