# SPDX-License-Identifier: Apache-2.0
"""Distil people's grades of products and queries: one step against two, losses, tasks, dimensions, int8.

Three folds by query, so that each of the 135 queries is unseen once; three seeds, of the mined pairs and of
the student. The judge's label is the mean of three raters' votes. The cross-encoder is trained once a fold,
as it takes two CPU minutes, and kept. Clicks are simulated.
"""

from __future__ import annotations

import gzip
import importlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.distill.assistant import Assistant, PairTexts
from quorum.distill.candidates import Candidates, pair_texts, with_more
from quorum.distill.figures import HeldOut, Rated, held_out_of
from quorum.distill.lessons import Rows, pairs_of
from quorum.distill.mine import ASSISTANT_NEGATIVES, NEGATIVES
from quorum.distill.options import DIMS, DistillOptions, Loss, Task
from quorum.distill.signals import click_targets, relevance_targets
from quorum.distill.split import with_check
from quorum.distill.student import EPOCHS, RATES, FitOptions, Lesson, Student, Texts, joined
from quorum.distill.write import finish, int8_vectors, write_student
from quorum.evaluation.relevance import auc, mean, pearson
from quorum.retrieval.judged import Judged, JudgedPair, gather
from quorum.retrieval.manifest import StudentManifest
from quorum.tasks.default import Default
from quorum.tune.base import Base
from quorum_bench.studies.distill_figures import Judge, Row

Notice = Callable[[str], None]
FOLDS = 3
POOL = 700
DRAWN = 0.8
"""Of the mined pairs, which a seed learns; all of them are labelled once a fold, as that takes longest."""
MAX_TOKENS = 64
ASSISTANT_EPOCHS = DistillOptions().assistant_epochs
BATCH = 64
POSITION_BIAS = 1.0
"""What the student assumes; the simulation's is .7."""
ASKED = Default("Would a buyer who searches for {name} want this product?", ("irrelevant", "relevant"))


class Variant(NamedTuple):
    """What a student learns, and by which loss.

    Attributes:
        tasks: Task -> weight.
        mined: Whether pairs that the cross-encoder labelled are added to the judge's.
        loss: Of the student.
    """

    tasks: Mapping[Task, float]
    mined: bool
    loss: Loss


VARIANTS: Mapping[str, Variant] = {
    "direct, MSE": Variant({"judge": 1.0}, False, "mse"),
    "direct, Pearson": Variant({"judge": 1.0}, False, "pearson"),
    "clicks only (simulated)": Variant({"clicks": 1.0}, False, "pearson"),
    "two steps, MSE": Variant({"judge": 1.0}, True, "mse"),
    "two steps, Pearson": Variant({"judge": 1.0}, True, "pearson"),
    "multi-task (clicks simulated)": Variant(
        {"judge": 1.0, "clicks": 0.3, "relevance": 0.3}, True, "pearson"
    ),
}
ZERO, ASSISTANT = "zero-shot", "cross-encoder"
ONE, TWO = "direct, Pearson", "two steps, Pearson"
AGAINST = (ZERO, "two steps, MSE", "direct, MSE", ONE)


@dataclass(frozen=True)
class World:
    """Data and base of the study.

    Attributes:
        judged: All pairs; ``gold`` is the source's final grade.
        folds: (P,) of each pair.
        raters: (P, 3) votes, over the highest grade.
        mined: Keyphrases to mine.
        others: Further keyphrases that recall searches among; none of them is mined.
        base: Folder of MiniLM.
        cache: Folder of what takes long.
        notice: Called with what comes next.
    """

    judged: Judged
    folds: npt.NDArray[np.int64]
    raters: npt.NDArray[np.float64]
    mined: tuple[str, ...]
    others: tuple[str, ...]
    base: Base
    cache: Path
    notice: Notice


def read_world(data: Path, base: Base, cache: Path, notice: Notice) -> World:
    """Read the folder ``keyphrases`` of the public data; raises OSError where a file is missing."""
    texts = {row["id"]: _text(row) for row in _lines(data / "items.jsonl.gz")}
    rows = _lines(data / "judgements.jsonl.gz")
    shown = _positions(rows)
    judged = gather(
        JudgedPair(
            item=row["item"],
            text=texts[row["item"]],
            keyphrase=row["keyphrase"],
            label=row["mean"],
            value=str(row["final"]),
            confidence=1.0,
            gold=row["final"] / 3,
            clicks=row["sim_clicks"],
            impressions=row["sim_impressions"],
            position=shown.get((row["keyphrase"], row["item"])),
            relevance=row["search_score"],
        )
        for row in rows
    )
    keyphrases = [row["keyphrase"] for row in _lines(data / "keyphrases.jsonl.gz")]
    cache.mkdir(parents=True, exist_ok=True)
    return World(
        judged,
        np.array([row["fold"] for row in rows]),
        np.array([row["votes"] for row in rows]) / 3,
        tuple(keyphrases[::2]),
        tuple(keyphrases[1::2]),
        base,
        cache,
        notice,
    )


def rows(
    world: World, seeds: int, folds: Sequence[int] = range(FOLDS), *, direct: bool = False
) -> Iterator[Row]:
    """Yield a row per method and number of dimensions; then paired differences, int8, and the ceiling.

    ``direct`` leaves out the cross-encoder, and what learns from it.
    """
    chosen = ONE if direct else TWO
    rated: dict[tuple[str, int], dict[tuple[int, int], Rated]] = {}
    held: dict[int, HeldOut] = {}
    runs: list[_Fold] = []
    student = Student(world.base, "adapter", DIMS[0], MAX_TOKENS)
    table, texts = _all_texts(world, student)
    for fold in folds:
        run = _Fold(world, fold, student, table, texts)
        held[fold] = run.held_out
        for seed in range(seeds):
            world.notice(f"fold {fold}, seed {seed}")
            for name, size, found in run.rate(seed, direct):
                rated.setdefault((name, size), {})[fold, seed] = found
        runs.append(run)
    judge = Judge(world.judged, world.folds, held)
    for (name, size), own in rated.items():
        yield judge.figures(name, size, own)
    for other in AGAINST:
        for size in DIMS:
            if other != chosen and (other, size) in rated:
                yield judge.difference(chosen, other, size, rated[chosen, size], rated[other, size])
    small = [run.int8(chosen) for run in runs]
    for figure in small[0]:
        values = [row[figure] for row in small]
        yield {"kind": "int8", "figure": figure, "mean": float(np.mean(values)), "folds": values}
    for rater in range(3):
        others = np.delete(world.raters, rater, 1).mean(1)
        yield {"kind": "ceiling", "rater": rater, "pearson": pearson(world.raters[:, rater], others)}


def _text(item: Row) -> str:
    """Title, type and description, as far as they are there."""
    return " | ".join(filter(None, (item.get(name) for name in ("title", "type", "description"))))


def _positions(rows: Sequence[Row]) -> dict[tuple[str, str], int]:
    """Query and item -> place at which it was shown: those that were shown, in the order of the search."""
    found: dict[tuple[str, str], int] = {}
    places: dict[str, int] = {}
    for row in sorted((row for row in rows if row["sim_impressions"]), key=lambda row: row["search_rank"]):
        query = row["keyphrase"]
        places[query] = found[query, row["item"]] = places.get(query, 0) + 1
    return found


def _lines(path: Path) -> list[Row]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _all_texts(world: World, student: Student) -> tuple[Rows, Texts]:
    """Rows of all texts, with the base's vectors, which are kept."""
    table = Rows()
    for item, keyphrase in pairs_of(world.judged):
        table.item(item)
        table.keyphrase(keyphrase)
    for keyphrase in (*world.mined, *world.others):
        table.keyphrase(keyphrase)
    items, keyphrases = tuple(table.items), tuple(table.keyphrases)
    path = world.cache / "vectors.npz"
    if not path.is_file():
        world.notice("computing vectors of the base")
        np.savez(path, items=student.base_vectors(items), keyphrases=student.base_vectors(keyphrases))
    with np.load(path) as kept:
        return table, Texts(items, keyphrases, kept["items"], kept["keyphrases"])


class _Fold:
    """One fold held out."""

    def __init__(self, world: World, fold: int, student: Student, table: Rows, texts: Texts) -> None:
        self._world, self._fold, self._student = world, fold, student
        self._table, self._texts = table, texts
        self._train, self._check = with_check(world.judged.taking(world.folds != fold), 0)
        self._test = world.judged.taking(world.folds == fold)
        used = [keyphrase for _, keyphrase in pairs_of(world.judged.taking(world.folds != fold))]
        self.held_out = held_out_of(self._test, (*used, *world.others), 0)
        self._vectors = (
            texts.item_vectors[[table.items[text] for text in self.held_out.items]],
            texts.keyphrase_vectors[[table.keyphrases[text] for text in self.held_out.keyphrases]],
        )

    @cached_property
    def _assistant(self) -> Assistant:
        return self._taught()

    def rate(self, seed: int, direct: bool) -> Iterator[tuple[str, int, Rated]]:
        """Yield what each method says of the held-out pairs, by dimensions."""
        for size in DIMS:
            yield ZERO, size, self.held_out.rate(*self._vectors, size)
        mined = None if direct else self._mined(seed)
        if mined is not None:
            scores = self._kept("held-out", lambda: self._labels(pairs_of(self._test)))
            yield ASSISTANT, DIMS[0], Rated(scores, np.empty(0))
        for name, variant in VARIANTS.items():
            if variant.mined and mined is None:
                continue
            self._fit(variant, mined, seed)
            vectors = self._student.adapted(*self._vectors)
            for size in DIMS:
                yield name, size, self.held_out.rate(*vectors, size)

    def int8(self, name: str) -> dict[str, float]:
        """What the student of this name and of seed 0 loses in int8."""
        variant = VARIANTS[name]
        self._fit(variant, self._mined(0) if variant.mined else None, 0)
        whole = self.held_out.rate(*self._student.adapted(*self._vectors), DIMS[0])
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write_student(self._student, self.held_out.items, folder)
            finish(folder, StudentManifest(dims=DIMS, max_tokens=MAX_TOKENS))
            small = self.held_out.rate(*int8_vectors(folder, self.held_out), DIMS[0])
        relevant, labels = self.held_out.relevant, self.held_out.labels
        return {
            "auc": auc(small.scores, relevant) - auc(whole.scores, relevant),
            "pearson": pearson(small.scores, labels) - pearson(whole.scores, labels),
            "recall": mean(small.hits) - mean(whole.hits),
        }

    def _fit(self, variant: Variant, mined: Lesson | None, seed: int) -> None:
        lessons = [self._lesson(task, weight, variant, mined, seed) for task, weight in variant.tasks.items()]
        check = self._judge_lesson(self._check)
        options = FitOptions(variant.loss, DIMS, EPOCHS["adapter"], RATES["adapter"], BATCH, seed)
        for parameter in self._student.adapter.parameters():
            parameter.data.zero_()
        with tempfile.TemporaryDirectory() as folder:
            self._student.fit(self._texts, lessons, check, options, Path(folder), "study")

    def _lesson(self, task: Task, weight: float, variant: Variant, mined: Lesson | None, seed: int) -> Lesson:
        train = self._train
        if task == "judge":
            own = [self._judge_lesson(train), self._negatives(NEGATIVES, seed)]
            return joined([*own, mined] if variant.mined and mined else own, weight)
        if task == "relevance":
            pairs = pairs_of(train)
            scores = np.asarray(train.signals["relevance"], np.float64)
            targets = relevance_targets(scores, [keyphrase for _, keyphrase in pairs])
            return self._table.lesson(task, pairs, targets, weight)
        shown = train.taking(train.signals["impressions"] > 0)
        clicks, impressions, positions = (
            np.asarray(shown.signals[name], np.float64) for name in ("clicks", "impressions", "position")
        )
        targets = click_targets(clicks, impressions, positions, POSITION_BIAS)
        return self._table.lesson(task, pairs_of(shown), targets, weight)

    def _judge_lesson(self, judged: Judged) -> Lesson:
        return self._table.lesson("judge", pairs_of(judged), judged.labels, 1.0)

    def _mined(self, seed: int) -> Lesson:
        """Pairs that the cross-encoder labelled, of which each seed draws its own."""
        items, keyphrases = self._candidates.near(self._texts, POOL, 0)
        pairs = [
            (self._texts.items[i], self._texts.keyphrases[k]) for i, k in zip(items, keyphrases, strict=True)
        ]
        labels = self._kept("mined", lambda: self._labels(pairs))
        drawn = np.random.default_rng(seed).permutation(len(labels))[: round(DRAWN * len(labels))]
        return Lesson("judge", items[drawn], keyphrases[drawn], labels[drawn])

    def _negatives(self, share: float, seed: int) -> Lesson:
        """Random pairs, taken as irrelevant; a share of the number of judged ones."""
        return self._candidates.random(round(share * len(self._train)), seed)

    @cached_property
    def _candidates(self) -> Candidates:
        """The items of the judged pairs, and all keyphrases that are mined."""
        own = self._judge_lesson(self._train)
        mined = [self._table.keyphrases[keyphrase] for keyphrase in self._world.mined]
        keyphrases = np.unique(np.concatenate([own.keyphrases, mined]))
        judged = zip(own.items.tolist(), own.keyphrases.tolist(), strict=True)
        return Candidates.of(np.unique(own.items).tolist(), keyphrases.tolist(), judged)

    def _taught(self) -> Assistant:
        """The cross-encoder of the fold, from the cache if it is there."""
        torch = importlib.import_module("torch")
        assistant = Assistant(self._world.base, ASKED, MAX_TOKENS, 0)
        path = self._world.cache / f"cross-encoder-{self._fold}.pt"
        if not path.is_file():
            self._world.notice(f"training the cross-encoder of fold {self._fold}")
            learned, check = self._learned(), pair_texts(self._check)
            folder = self._world.cache / f"training-{self._fold}"
            assistant.fit(learned, check, folder, f"fold {self._fold}", ASSISTANT_EPOCHS, 0)
            torch.save(assistant.network.state_dict(), path)
        assistant.network.load_state_dict(torch.load(path, weights_only=True))
        return assistant

    def _learned(self) -> PairTexts:
        """What the cross-encoder learns: judged pairs, and random ones as irrelevant."""
        more = self._negatives(ASSISTANT_NEGATIVES, 0)
        return with_more(pair_texts(self._train), more, self._texts.items, self._texts.keyphrases)

    def _labels(self, pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
        return self._assistant.label([item for item, _ in pairs], [keyphrase for _, keyphrase in pairs])

    def _kept(self, name: str, make: Callable[[], npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        path = self._world.cache / f"{name}-{self._fold}.npy"
        if not path.is_file():
            np.save(path, make())
        kept: npt.NDArray[np.float32] = np.load(path)
        return kept
