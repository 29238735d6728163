# SPDX-License-Identifier: Apache-2.0
"""Gather what a student learns from all sources, without a trace of held-out keyphrases."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quorum.distill.options import DistillOptions, Task
from quorum.distill.signals import click_targets, relevance_targets
from quorum.distill.sources import Clicks, Relevance, read_items, read_keyphrases, read_rows
from quorum.distill.split import Split, same_key
from quorum.distill.student import Lesson
from quorum.retrieval.judged import Judged

MIN_ROWS = 8
"""Pairs of a task that can be learned, at least."""


@dataclass(frozen=True, slots=True)
class DistillSources:
    """Files besides the judged pairs; None: there is none."""

    clicks: Path | None = None
    relevance: Path | None = None
    items: Path | None = None
    keyphrases: Path | None = None


@dataclass
class Rows:
    """Numbers texts as they come: a text of items, or a keyphrase, has one row."""

    items: dict[str, int] = field(default_factory=dict)
    keyphrases: dict[str, int] = field(default_factory=dict)

    def item(self, text: str) -> int:
        """Row of an item's text."""
        return self.items.setdefault(text, len(self.items))

    def keyphrase(self, text: str) -> int:
        """Row of a keyphrase."""
        return self.keyphrases.setdefault(text, len(self.keyphrases))

    def lesson(
        self, task: Task, pairs: Sequence[tuple[str, str]], targets: npt.ArrayLike, weight: float
    ) -> Lesson:
        """The lesson of pairs of item text and keyphrase."""
        return Lesson(
            task,
            np.array([self.item(text) for text, _ in pairs], np.int64),
            np.array([self.keyphrase(keyphrase) for _, keyphrase in pairs], np.int64),
            np.asarray(targets, np.float32),
            weight,
        )


@dataclass(frozen=True, slots=True)
class Material:
    """What is learned from.

    Attributes:
        rows: Of all texts of the lessons, and of those to mine.
        judge: The judged pairs.
        others: Lessons of clicks and search relevance, of weight above 0.
        check: Pairs by which the epoch is chosen.
        pool: Rows of the items that pairs are mined for.
        minable: Rows of the keyphrases that are mined.
        known: Judged pairs, by rows.
        candidates: Keyphrases that recall searches among.
        left_out: What of the sources is not learned, in words -> how many rows.
    """

    rows: Rows
    judge: Lesson
    others: tuple[Lesson, ...]
    check: Lesson
    pool: tuple[int, ...]
    minable: tuple[int, ...]
    known: frozenset[tuple[int, int]]
    candidates: tuple[str, ...]
    left_out: Mapping[str, int]


def pairs_of(judged: Judged) -> list[tuple[str, str]]:
    """Item text and keyphrase of each pair."""
    numbers = zip(judged.item_of.tolist(), judged.keyphrase_of.tolist(), strict=True)
    return [(judged.texts[item], judged.keyphrases[keyphrase]) for item, keyphrase in numbers]


def gather_material(split: Split, sources: DistillSources, options: DistillOptions) -> Material:
    """Read all sources, and leave out what is of held-out keyphrases.

    Raises:
        SourceError: A file cannot be read.
        ListingsError: The same of the items.
        TrainingDataError: Rows of a file mean nothing; the message names them.
    """
    rows, left_out = Rows(), dict[str, int]()
    train, weights = split.train, options.weights
    judge = rows.lesson("judge", pairs_of(train), train.labels, weights.get("judge", 0.0))
    check = rows.lesson("judge", pairs_of(split.check), split.check.labels, 1.0)
    more = read_items(sources.items) if sources.items else {}
    texts = {**dict(zip(train.items, train.texts, strict=True)), **more}
    others = []
    for task, (pairs, targets) in _signals(split, sources, options, texts).items():
        seen = [same_key(keyphrase) not in split.secret for _, keyphrase in pairs]
        if hidden := len(seen) - sum(seen):
            left_out[f"{task} of held-out keyphrases"] = hidden
        kept = [pair for pair, is_seen in zip(pairs, seen, strict=True) if is_seen]
        weight = weights.get(task, 0.0)
        if weight and len(kept) >= MIN_ROWS:
            others.append(rows.lesson(task, kept, targets[np.array(seen, np.bool_)], weight))
        elif kept and weight:
            left_out[f"{task}: fewer than {MIN_ROWS} rows"] = len(kept)
    pool = list(dict.fromkeys([*(text for text, _ in pairs_of(train)), *more.values()]))
    if len(pool) > options.pool:
        pool = random.Random(f"pool {options.seed}").sample(pool, options.pool)
    given = read_keyphrases(sources.keyphrases) if sources.keyphrases else []
    minable = [keyphrase for keyphrase in given if same_key(keyphrase) not in split.secret]
    if len(minable) < len(given):
        left_out["held-out keyphrases of --keyphrases, not mined"] = len(given) - len(minable)
    used = [keyphrase for _, keyphrase in pairs_of(train)]
    return Material(
        rows,
        judge,
        tuple(others),
        check,
        tuple(rows.item(text) for text in pool),
        tuple(dict.fromkeys(rows.keyphrase(keyphrase) for keyphrase in (*minable, *used))),
        frozenset(zip(judge.items.tolist(), judge.keyphrases.tolist(), strict=True)),
        tuple(dict.fromkeys((*given, *used))),
        left_out,
    )


Signal = tuple[list[tuple[str, str]], npt.NDArray[np.float32]]


def _signals(
    split: Split, sources: DistillSources, options: DistillOptions, texts: Mapping[str, str]
) -> dict[Task, Signal]:
    """Pairs and targets of clicks and relevance: of their files, else of the columns of the judged pairs."""
    train, found = split.train, dict[Task, Signal]()
    if options.weights.get("clicks"):
        numbers = [train.signals.get(name, np.full(len(train), np.nan)) for name in _OF_CLICKS]
        shown = np.isfinite(numbers).all(0) & (numbers[1] > 0) & (numbers[2] >= 1) & (numbers[0] >= 0)
        pairs = pairs_of(train.taking(shown))
        clicks, impressions, positions = (np.asarray(own[shown], np.float64) for own in numbers)
        if sources.clicks:
            rows = read_rows(sources.clicks, Clicks, texts)
            pairs = [(row.text, row.keyphrase) for row in rows]
            clicks, impressions, positions = np.array(
                [[getattr(row, n) for n in _OF_CLICKS] for row in rows]
            ).T
        if pairs:
            found["clicks"] = pairs, click_targets(clicks, impressions, positions, options.position_bias)
    if options.weights.get("relevance"):
        scores = train.signals.get("relevance", np.full(len(train), np.nan))
        pairs, scores = pairs_of(train.taking(np.isfinite(scores))), scores[np.isfinite(scores)]
        if sources.relevance:
            own = read_rows(sources.relevance, Relevance, texts)
            pairs, scores = (
                [(row.text, row.keyphrase) for row in own],
                np.array([row.relevance for row in own]),
            )
        if pairs:
            keys = [keyphrase for _, keyphrase in pairs]
            found["relevance"] = pairs, relevance_targets(np.maximum(scores, 0), keys)
    return found


_OF_CLICKS = ("clicks", "impressions", "position")
