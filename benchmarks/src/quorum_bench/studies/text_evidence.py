# SPDX-License-Identifier: Apache-2.0
"""Measure what evidence of the text adds to learned weights, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from quorum.decision.cell import Ballot, Parameters, decide_one
from quorum.decision.evidence import Evidence, TextEvidence
from quorum.decision.weights import Weights
from quorum.evaluation.heldout import HeldOut, assign_folds, held_out, training
from quorum.evaluation.measures import calibration_error
from quorum.evaluation.stats import means_over_products
from quorum.learning import learn
from quorum.serving.packing import Admitted, pack_question, pack_votes, unpack_question, unpack_votes
from quorum.votes import VotesTable, read_votes

Row = dict[str, Any]
SIZES = (50, 100, 200, 500, None)
FOLDS = 5
MOST_US = 10.0
_ATTRIBUTES = 6
_CHUNK = 60
_REPEATS = 25
_TAIL = 0.025

ACCURACY_HEAD = (
    "Held-out accuracy of loglinear, without and with evidence of the text; points with 95 % intervals over\n"
    "products, labels as drawn; ECE and calls saved by stopping early without and with it\n"
    f"{'labels':>8}{'draws':>7}{'best LLM':>10}{'votes':>8}{'text':>8}  {'gain':22}{'worst draw':>11}"
    f"{'ECE':>13}{'saved':>15}{'off':>6}"
)


def accuracy(votes: Path, seeds: int = 5, draws: int = 1) -> Iterator[Row]:
    """Per number of labels: figures of votes alone and with the text, over seeds and draws of labels."""
    table = read_votes(votes)
    rows = np.flatnonzero(table.labelled)
    products = table.products[rows]
    best = float(table.correct()[rows].mean(axis=0).max())
    for size in SIZES:
        pairs, off = [], 0
        for seed in range(seeds):
            fold = assign_folds(table.products, FOLDS, seed)
            for draw in range(1 if size is None else draws):
                seen = training(table, fold, size, seed + 1000 * draw)
                text = [learn(part, "loglinear") for part in seen]
                plain = [learn(part, "loglinear", settings={"evidence": False}) for part in seen]
                off += sum(not weights.evidence for weights in text)
                pairs.append((held_out(table, fold, plain), held_out(table, fold, text)))
        gains = [100.0 * (b.right[rows].astype(float) - a.right[rows]) for a, b in pairs]
        (gain,) = means_over_products(np.mean(gains, axis=0)[:, None], products, _TAIL)
        yield {
            "labels": size,
            "draws": len(pairs),
            "folds_off": off / (FOLDS * len(pairs)),
            "best_llm": 100.0 * best,
            "gain": [gain.value, gain.low, gain.high],
            "gain_by_draw": [float(one.mean()) for one in gains],
            "votes": _figures([a for a, _ in pairs], rows),
            "text": _figures([b for _, b in pairs], rows),
        }


def _figures(held: Sequence[HeldOut], rows: Any) -> dict[str, float]:
    """Mean accuracy, calibration error and calls saved, in percent."""
    return {
        "accuracy": 100.0 * float(np.mean([out.right[rows].mean() for out in held])),
        "ece": 100.0
        * float(np.mean([calibration_error(out.confidence[rows], out.right[rows]) for out in held])),
        "saved": 100.0 * float(np.mean([out.saved for out in held])),
    }


def accuracy_line(row: Row) -> str:
    """Return a row of :func:`accuracy` as a line."""
    value, low, high = row["gain"]
    votes, text = row["votes"], row["text"]
    gain = f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"
    return (
        f"{row['labels'] or 'all':>8}{row['draws']:7d}{row['best_llm']:10.2f}{votes['accuracy']:8.2f}"
        f"{text['accuracy']:8.2f}  {gain:22}{min(row['gain_by_draw']):+11.2f}"
        f"{votes['ece']:7.1f} {text['ece']:5.1f}{votes['saved']:8.1f} {text['saved']:6.1f}"
        f"{100 * row['folds_off']:5.0f}%"
    )


TIME_HEAD = (
    f"Microseconds, least of {_REPEATS} runs that take turns; wanted: < {MOST_US:g} more a cell\n"
    f"{'work':44}{'votes':>8}{'text':>8}{'more':>8}{'ratio':>8}"
)


def cost(votes: Path) -> Iterator[Row]:
    """Microseconds to decide a cell, and what the vote does in Python for a request of six attributes."""
    table = read_votes(votes)
    weights = learn(table, "loglinear")
    cells = [_served(table, weights, row) for row in range(len(table))]
    evidence = Evidence(weights.evidence)
    texts = [evidence.of(cell.title) for cell in table.cells]
    requests = [_packed(table, row) for row in range(0, len(table) - _ATTRIBUTES, _ATTRIBUTES)]
    yield _row("one cell: the rule", cells, texts, _decide)
    yield _row(
        "six attributes: unpack, fold, decide",
        requests,
        [evidence] * len(requests),
        partial(_respond, weights),
    )


_Cell = tuple[Parameters, list[Ballot]]
_Request = tuple[bytes, list[bytes]]


def _served(table: VotesTable, weights: Weights, row: int) -> _Cell:
    cell = table.cells[row]
    ballots = [(value or "", int(value is None)) for value in cell.values]
    return weights.parameters(cell.attribute, cell.category), ballots


def _packed(table: VotesTable, row: int) -> _Request:
    """Six cells as the tensors of one request, with the text of the first."""
    cells = table.cells[row : row + _ATTRIBUTES]
    names = tuple(cell.attribute for cell in cells)
    question = pack_question(Admitted(cells[0].title, cells[0].category, names, 0))
    votes = (
        [(cell.values[j] or "", int(cell.values[j] is None), None) for cell in cells]
        for j in range(len(table.members))
    )
    return question, [pack_votes(own) for own in votes]


def _decide(cell: _Cell, text: TextEvidence | None) -> None:
    decide_one(*cell, (), text)


def _respond(weights: Weights, request: _Request, evidence: Evidence | None) -> None:
    question, packed = unpack_question(request[0]), [unpack_votes(own) for own in request[1]]
    text = evidence.of(question.text) if evidence else None
    for at, name in enumerate(question.attributes):
        ballots = [(own[at][0], own[at][1]) for own in packed]
        decide_one(weights.parameters(name, question.category), ballots, (), text)


def _row(name: str, work: Sequence[Any], texts: Sequence[Any], run: Callable[[Any, Any], None]) -> Row:
    """Time chunks of the work by turns, without and with the text, so that one run decides the ratio."""
    least: dict[tuple[bool, int], float] = {}
    for _ in range(_REPEATS):
        for start in range(0, len(work), _CHUNK):
            own, given = work[start : start + _CHUNK], texts[start : start + _CHUNK]
            for with_text in (False, True):
                begin = time.perf_counter()
                for one, text in zip(own, given, strict=True):
                    run(one, text if with_text else None)
                took = (time.perf_counter() - begin) * 1e6
                least[with_text, start] = min(took, least.get((with_text, start), took))
    plain, text = (
        sum(t for (with_, _), t in least.items() if with_ is kind) / len(work) for kind in (False, True)
    )
    return {"work": name, "votes_us": plain, "text_us": text, "ratio": text / plain}


def cost_line(row: Row) -> str:
    """Return a row of :func:`cost` as a line."""
    more = row["text_us"] - row["votes_us"]
    return f"{row['work']:44}{row['votes_us']:8.2f}{row['text_us']:8.2f}{more:+8.2f}{row['ratio']:8.2f}"
