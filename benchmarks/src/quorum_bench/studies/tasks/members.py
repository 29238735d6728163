# SPDX-License-Identifier: Apache-2.0
"""Add a tuned encoder to the votes of recorded large LLMs on AE-110K: accuracy by labels, and calls saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.decision.weights import Weights
from quorum.evaluation.draws import training_draws
from quorum.evaluation.heldout import assign_folds, training
from quorum.evaluation.score import apply, is_right
from quorum.evaluation.stats import Estimate, means_over_products
from quorum.learning import learn
from quorum.votes import VotesTable
from quorum_bench.studies.tasks.asked import tuned_encoder
from quorum_bench.studies.tasks.cascade import SHARES, alone_held_out, cascaded, lazy, surest
from quorum_bench.studies.tasks.ensemble import ENCODER, only, served_votes
from quorum_bench.studies.tasks.figures import attribute_lines, percent, points, shares_by_attribute
from quorum_bench.studies.tasks.inputs import Inputs, Row

LABELS: tuple[int | None, ...] = (100, 200, None)
FOLDS = 5
CHEAP = 0.01
"""Cost of asking the encoder, where an LLM costs 1."""
ENCODERS_ALONE = "encoder alone"
Floats = npt.NDArray[np.float64]
HEAD = f"{'labels':>7} {'who':34}{'accuracy, %':>22}{'to the best LLM':>22}{'to five':>22}"


class World(NamedTuple):
    """Votes of the recorded LLMs and of an encoder, by seed of the encoder; equal but for its votes."""

    served: Sequence[VotesTable]

    @property
    def first(self) -> VotesTable:
        """That of the first seed."""
        return self.served[0]

    @property
    def llms(self) -> tuple[str, ...]:
        """Names of the recorded LLMs."""
        return tuple(name for name in self.first.members if name != ENCODER)

    @property
    def best(self) -> int:
        """Place of the best single LLM."""
        return int(np.argmax(self.first.correct()[:, : len(self.llms)].mean(axis=0)))


def rows(inputs: Inputs) -> Iterator[Row]:
    """Yield accuracies alone, by number of labels, by attribute, and calls saved."""
    seeds = range(inputs.effort.seeds)
    made = [tuned_encoder(inputs, "ae-110k", inputs.effort.products, seed) for seed in seeds]
    world = World([served_votes(inputs.votes, one.folder, inputs.cache.folder) for one in made])
    yield from alone(world)
    five = only(world.first, world.llms)
    for labels in LABELS:
        right = {"five LLMs": learned_right(five, labels, inputs.effort.draws)}
        for name, tables in _sixes(world).items():
            right[name] = np.concatenate(
                [learned_right(table, labels, inputs.effort.draws) for table in tables], axis=1
            )
        yield from compared(world, labels, right)
        if labels is None:
            yield {"who": "by attribute", "attributes": attributes(world, right)}
    yield from saved(world)


def _sixes(world: World) -> Mapping[str, Sequence[VotesTable]]:
    return {
        "five LLMs and encoder": [table.without_scores() for table in world.served],
        "five LLMs and encoder, its scores": world.served,
    }


def alone(world: World) -> Iterator[Row]:
    """A row for the encoder, each LLM, and for cells where any member is right."""
    table, size = world.first, len(world.llms)
    encoders = np.mean([served.correct()[:, size] for served in world.served], axis=0)
    best = table.correct()[:, world.best].astype(float)
    any_six = np.mean([served.correct().any(axis=1) for served in world.served], axis=0)
    columns = {
        ENCODERS_ALONE: encoders,
        **{name: table.correct()[:, place] for place, name in enumerate(world.llms)},
        "any of five right": table.correct()[:, :size].any(axis=1),
        "any of six right": any_six,
    }
    for name, values in columns.items():
        own, away = means_over_products(np.column_stack([values, values - best]), table.products)
        yield {"labels": None, "who": name, "accuracy": own, "to_best": away}


def learned_right(table: VotesTable, labels: int | None, draws: int) -> Floats:
    """(n, draws) whether cells are right by weights learned from labels of other products.

    With a number of labels, draws differ in the labels; with all, in the folds.
    """
    found = []
    if labels is None:
        for draw in range(max(draws // FOLDS, 1)):
            fold = assign_folds(table.products, FOLDS, draw)
            found.append(_right(table, fold, training(table, fold, None, draw)))
    else:
        fold = assign_folds(table.products, FOLDS, 0)
        # One draw of several is an order of all labels, shared by the folds.
        drawn = training_draws(table, fold, labels, 0, max(draws, 2))
        found += [_right(table, fold, tables) for tables in drawn]
    return np.column_stack(found).astype(np.float64)


def _right(
    table: VotesTable, fold: npt.NDArray[np.int64], tables: Sequence[VotesTable]
) -> npt.NDArray[np.bool_]:
    right = np.zeros(len(table), np.bool_)
    for part, seen in enumerate(tables):
        test = fold == part
        right[test] = is_right(table, apply(table, learn(seen, "loglinear")))[test]
    return right


def compared(world: World, labels: int | None, right: Mapping[str, Floats]) -> Iterator[Row]:
    """A row per set of members, with differences to the best LLM and to five LLMs."""
    table = world.first
    best = table.correct()[:, world.best].astype(float)
    five = right["five LLMs"].mean(axis=1)
    for name, draws in right.items():
        own = draws.mean(axis=1)
        accuracy, to_best, to_five = means_over_products(
            np.column_stack([own, own - best, own - five]), table.products
        )
        by_draw = draws.mean(axis=0)
        row = {
            "labels": labels or int(table.labelled.sum()),
            "who": name,
            "accuracy": accuracy,
            "to_best": to_best,
            "draws": draws.shape[1],
            "lowest": 100 * float(by_draw.min()),
            "highest": 100 * float(by_draw.max()),
        }
        yield row if name == "five LLMs" else row | {"to_five": to_five}


def attributes(world: World, right: Mapping[str, Floats]) -> list[Row]:
    """Accuracy by attribute: best LLM, encoder, five and six with all labels."""
    table, size = world.first, len(world.llms)
    columns = {
        "best LLM": table.correct()[:, world.best].astype(float),
        "encoder": np.mean([served.correct()[:, size] for served in world.served], axis=0),
        "five": right["five LLMs"].mean(axis=1),
        "six": right["five LLMs and encoder"].mean(axis=1),
    }
    return shares_by_attribute([cell.attribute for cell in table.cells], columns)


def saved(world: World) -> Iterator[Row]:
    """Rows of the cascade by the share that the encoder answers alone, and of lazy votes."""
    table, size = world.first, len(world.llms)
    fold = assign_folds(table.products, FOLDS, 0)
    five = only(table, world.llms)
    dear = _right(five, fold, training(five, fold, None, 0))
    best = table.correct()[:, world.best]
    cheap = [served.correct()[:, size] for served in world.served]
    confidence = [np.nan_to_num(served.scores[:, size].astype(float), nan=-np.inf) for served in world.served]
    pairs = list(zip(confidence, cheap, strict=True))

    def row(name: str, by_seed: Sequence[npt.NDArray[np.bool_]]) -> Row:
        mixed = [
            cascaded(flags, right, dear).astype(float) for flags, right in zip(by_seed, cheap, strict=True)
        ]
        own = np.mean(mixed, axis=0)
        figures = means_over_products(
            np.column_stack([own, own - best, own - dear, np.mean(by_seed, axis=0)]), table.products
        )
        sure = [right[flags].mean() for flags, right in zip(by_seed, cheap, strict=True) if flags.any()]
        return {
            "saving": name,
            "accuracy": figures[0],
            "to_best": figures[1],
            "to_five": figures[2],
            "alone": figures[3],
            "right_alone": 100 * float(np.mean(sure)) if sure else None,
        }

    for share in SHARES:
        yield row(f"cascade {share:.0%}", [surest(sure, share) for sure in confidence])
    for name, cautious in (("lowest", False), ("best", True)):
        chosen = [alone_held_out(sure, right, dear, fold, cautious=cautious) for sure, right in pairs]
        yield row(f"cascade, {name} threshold of other folds", chosen)
    yield from _lazy_rows(world, fold)


def _lazy_rows(world: World, fold: npt.NDArray[np.int64]) -> Iterator[Row]:
    size = len(world.llms)
    ways: dict[str, tuple[Sequence[VotesTable], Sequence[float]]] = {
        "lazy, five LLMs": ([only(world.first, world.llms)], (1.0,) * size),
        "lazy, six, equal costs": ([t.without_scores() for t in world.served], (1.0,) * (size + 1)),
        "lazy, encoder first": (
            [t.without_scores() for t in world.served],
            (*(1.0,) * size, CHEAP),
        ),
        "lazy, encoder first, its scores": (world.served, (*(1.0,) * size, CHEAP)),
    }
    for name, (tables, costs) in ways.items():
        yield {"saving": name, **_lazy(tables, fold, costs, size)}


def _lazy(
    tables: Sequence[VotesTable], fold: npt.NDArray[np.int64], costs: Sequence[float], llms: int
) -> Row:
    """LLM calls per cell by weights of other folds, means over tables."""
    calls, none, same, right = [], [], [], []
    for table in tables:
        asked = np.zeros((len(table), len(table.members)), np.bool_)
        alike = 0
        learned: list[Weights] = [learn(seen, "loglinear") for seen in training(table, fold, None, 0)]
        decided = np.zeros(len(table), np.bool_)
        for part, weights in enumerate(learned):
            test = np.flatnonzero(fold == part)
            own = table.take(test)
            found = lazy(own, weights, costs)
            asked[test] = found.asked
            alike += found.same
            decided[test] = is_right(own, apply(own, weights))
        by_cell = asked[:, :llms].sum(axis=1)
        calls.append(by_cell.astype(float))
        none.append(float((by_cell == 0).mean()))
        same.append(alike / len(table))
        right.append(decided.astype(float))
    spent, accuracy = means_over_products(
        np.column_stack([np.mean(calls, axis=0), np.mean(right, axis=0)]), tables[0].products
    )
    return {
        "accuracy": accuracy,
        "llm_calls": spent,
        "without_llm": 100 * float(np.mean(none)),
        "same": 100 * float(np.mean(same)),
    }


def line(row: Row) -> str:
    """Return a row as a line of the table."""
    if "attributes" in row:
        return attribute_lines(row["attributes"])
    if "saving" in row:
        return _saving_line(row)
    labels = "" if row["labels"] is None else str(row["labels"])
    to_five = points(row["to_five"]) if "to_five" in row else ""
    return (
        f"{labels:>7} {row['who']:34}{percent(row['accuracy']):>22}{points(row['to_best']):>22}{to_five:>22}"
    )


def _saving_line(row: Row) -> str:
    if "llm_calls" in row:
        calls: Estimate = row["llm_calls"]
        return (
            f"{row['saving']:42}{percent(row['accuracy']):>22}  {calls.value:.2f} "
            f"[{calls.low:.2f}, {calls.high:.2f}] LLM calls a cell, none for {row['without_llm']:.1f} %, "
            f"{row['same']:.1f} % decided as by all votes"
        )
    sure = "" if row["right_alone"] is None else f", {row['right_alone']:.1f} % of them right"
    return (
        f"{row['saving']:42}{percent(row['accuracy']):>22}{points(row['to_best']):>22}"
        f"{points(row['to_five']):>22}  alone {percent(row['alone'])}{sure}"
    )
