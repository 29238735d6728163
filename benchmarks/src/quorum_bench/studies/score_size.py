# SPDX-License-Identifier: Apache-2.0
"""Measure what levels of scores cost: rows of histograms, seconds to learn, microseconds to decide."""

from __future__ import annotations

import itertools
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from quorum.decision.cell import Ballot, Parameters, decide_one
from quorum.decision.lazy import is_settled
from quorum.decision.patterns import ABSTAIN
from quorum.learning import learn_statistic
from quorum.learning.loglinear import LogLinear
from quorum.learning.online import State, dump_state, load_state
from quorum.learning.scored import ScoredCoin
from quorum_bench.studies.score_noise import simulated
from quorum_bench.studies.score_votes import drawn_gold, statistic_of

Row = dict[str, Any]
Result = TypeVar("Result")
CELLS = (100_000, 1_000_000)
MEMBERS = (3, 5, 8)
LABELS = 1000
MOST_EXTRA_US = 10.0
_ATTRIBUTES = 6
_DECIDED = 2000
_REPEATS = 9

SIZE_HEAD = (
    f"Rows, seconds and bytes of {_ATTRIBUTES} attributes; loglinear: {LABELS} gold labels\n"
    f"{'':8}{'':8}{'rows of the histogram':>22}{'seconds to count':>20}{'seconds to fit':>17}"
    f"{'state file, MB':>17}\n"
    f"{'cells':>8}{'members':>8}{'plain':>10}{'scores':>12}{'plain':>10}{'scores':>10}{'em':>7}"
    f"{'loglinear':>10}{'plain':>9}{'scores':>8}"
)
TIME_HEAD = (
    f"Microseconds per cell, one at a time, least of {_REPEATS}; wanted: < {MOST_EXTRA_US:g} more to decide\n"
    f"{'members':>8}{'decide':>10}{'with scores':>13}{'more':>8}"
    f"{'settled?':>11}{'with scores':>13}{'more':>8}"
)


def size(sizes: tuple[int, ...] = CELLS) -> Iterator[Row]:
    """Per number of cells and members: rows, seconds and bytes, with and without scores."""
    for cells, members in itertools.product(sizes, MEMBERS):
        votes = simulated(0, cells // _ATTRIBUTES, np.linspace(0.6, 0.85, members))
        gold = drawn_gold(votes, LABELS, 0)
        plain_s, plain = _timed(partial(statistic_of, votes, gold, scores=False))
        count_s, scored = _timed(partial(statistic_of, votes, gold))
        if scored.scored is None:
            raise ValueError("the simulated votes have no scores")
        em_s, _ = _timed(partial(ScoredCoin(10.0).fit, scored.scored))
        fit_s, _ = _timed(partial(LogLinear(labels=10.0).fit, scored.hist, scored.gold, scored.scored))
        yield {
            "cells": len(votes.codes),
            "members": members,
            "rows": len(plain.hist.counts),
            "rows_scores": len(scored.scored.counts),
            "count_s": plain_s,
            "count_scores_s": count_s,
            "em_s": em_s,
            "loglinear_s": fit_s,
            "state": _state_bytes(State(plain, ())),
            "state_scores": _state_bytes(State(scored, ())),
        }


def size_line(row: Row) -> str:
    """Return a row of :func:`size` as a line."""
    kept = "" if row["state_scores"] is None else f"{row['state_scores'] / 1e6:8.1f}"
    return (
        f"{row['cells']:8d}{row['members']:8d}{row['rows']:10d}{row['rows_scores']:12d}"
        f"{row['count_s']:10.2f}{row['count_scores_s']:10.2f}{row['em_s']:7.2f}{row['loglinear_s']:10.2f}"
        f"{row['state'] / 1e6:9.2f}{kept or '-':>8}"
    )


def serving() -> Iterator[Row]:
    """Per number of members: microseconds to decide a cell, and to see whether it is settled."""
    for members in MEMBERS:
        votes = simulated(1, 10_000, np.linspace(0.6, 0.85, members))
        weights = learn_statistic(statistic_of(votes), "em")
        parameters = weights.default
        plain = Parameters(parameters.weights)
        codes = votes.codes[:_DECIDED].tolist()
        given = np.zeros(votes.codes.shape) if votes.scores is None else votes.scores[:_DECIDED]
        scores = [[None if s != s else float(s) for s in row] for row in given.tolist()]
        ballots = [[_ballot(code) for code in row] for row in codes]
        partly = [[*row[:-1], None] for row in ballots]
        yield {
            "members": members,
            "has_offsets": bool(parameters.scores),
            "decide_us": _least_us(partial(_each, decide_one, plain, ballots)),
            "decide_scores_us": _least_us(partial(_each, decide_one, parameters, ballots, scores)),
            "settled_us": _least_us(partial(_each, is_settled, plain, partly)),
            "settled_scores_us": _least_us(partial(_each, is_settled, parameters, partly, scores)),
        }


def time_line(row: Row) -> str:
    """Return a row of :func:`serving` as a line."""
    more = row["decide_scores_us"] - row["decide_us"]
    later = row["settled_scores_us"] - row["settled_us"]
    verdict = "met" if more < MOST_EXTRA_US else "MISSED"
    return (
        f"{row['members']:8d}{row['decide_us']:10.2f}{row['decide_scores_us']:13.2f}{more:+8.2f}"
        f"{row['settled_us']:11.2f}{row['settled_scores_us']:13.2f}{later:+8.2f}"
        f"  {verdict}"
    )


def _each(decide: Callable[..., object], parameters: Parameters, *columns: Sequence[object]) -> None:
    for row in zip(*columns, strict=True):
        decide(parameters, *row)


def _ballot(code: int) -> Ballot:
    return (f"value {code}", 0) if code != ABSTAIN else ("", 1)


def _least_us(work: Callable[[], object]) -> float:
    return min(timeit.repeat(work, number=1, repeat=_REPEATS)) / _DECIDED * 1e6


def _timed(work: Callable[[], Result]) -> tuple[float, Result]:
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def _state_bytes(state: State) -> int | None:
    """Size of a state's file; None if it does not keep the scores that the state has."""
    with tempfile.TemporaryDirectory(prefix="quorum-bench-") as folder:
        file = Path(folder) / "weights.state.json"
        dump_state(state, file)
        if state.statistic.scored is not None and load_state(file).statistic.scored is None:
            return None
        return file.stat().st_size
