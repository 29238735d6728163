# SPDX-License-Identifier: Apache-2.0
"""Keep weights up to date: add a day's votes to a state and learn the weights from it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from quorum.decision.histogram import UNLABELLED, Histogram
from quorum.decision.patterns import ABSTAIN, MAX_MEMBERS
from quorum.decision.weights import Weights
from quorum.learning.learn import learn_statistic
from quorum.votes.statistic import Statistic
from quorum.votes.table import VotesTable
from quorum_contract.errors import QuorumError

SCHEMA_VERSION = 1
FORGOTTEN = 1e-4
"""Rows with a count below this are dropped, so that the state does not keep every pattern ever seen."""
_KEYS = {"schema_version", "members", "groups", "products", "days", "rows", "content_hash"}
_OPTIONAL = {"gold_rows"}
_DAY_KEYS = {"data_hash", "cells", "gold_labels", "factor", "votes_hash"}


class OnlineError(QuorumError, ValueError):
    """Votes do not fit a state, or its file cannot be used; the message says what to do."""

    code = "LEARNING_STATE_INVALID"


@dataclass(frozen=True, slots=True)
class Day:
    """One table of votes in a state.

    Attributes:
        data_hash: Hash of the table, so that it is not added twice.
        cells: Number of its cells.
        gold_labels: Number of its cells with gold.
        factor: Weight of one of its cells today, in (0, 1].
        votes_hash: Hash of its votes without gold, to recognise the table when gold comes later; "": not
            recorded.
    """

    data_hash: str
    cells: int
    gold_labels: int
    factor: float = 1.0
    votes_hash: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """The histogram of all votes so far, which is all that learning needs of them.

    Attributes:
        statistic: Pattern counts, the older days scaled down. A product seen on two days counts twice in
            ``statistic.products``.
        days: The tables that were added, oldest first.
    """

    statistic: Statistic
    days: tuple[Day, ...]

    @property
    def content_hash(self) -> str:
        """``sha256:`` of the canonical JSON of the content."""
        return _digest(_as_json(self))


def begin(table: VotesTable) -> State:
    """Begin a state with a first table."""
    return State(table.statistic(), (_day(table),))


def update(state: State, table: VotesTable, forgetting: float = 1.0) -> State:
    """Add a day's votes to a state.

    Counts become ``forgetting * old + new``: after ``d`` days a cell counts ``forgetting ** d``; half as much
    after ``h`` days with ``forgetting = 0.5 ** (1 / h)``. With 1, the state is that of the joined tables.

    A table that was added without gold and comes again with gold replaces the first: nothing is forgotten,
    and its cells count once. A single cell that is in two tables counts twice.

    Args:
        state: The state after the earlier days.
        table: The day's votes.
        forgetting: In (0, 1].

    Returns:
        The new state.

    Raises:
        OnlineError: Other members, a table that was added before, or again with other gold, or ``forgetting``
            outside (0, 1].
    """
    if table.members != state.statistic.members:
        raise OnlineError(
            f"the state is for the members {list(state.statistic.members)}, the votes are of "
            f"{list(table.members)}; when members change, begin a new state with votes of all of them"
        )
    if not 0.0 < forgetting <= 1.0:
        raise OnlineError(f"forgetting is {forgetting}; it must be above 0 and at most 1 (1 forgets nothing)")
    day = _day(table)
    for number, earlier in enumerate(state.days, start=1):
        if earlier.data_hash == day.data_hash:
            raise OnlineError(
                f"these {day.cells} cells ({day.data_hash}) were added before, as table {number} of "
                f"{len(state.days)}; give the next day's votes"
            )
        if earlier.votes_hash == day.votes_hash:
            return _exchange(state, number, table)
    kept = _kept(state.statistic.scaled(forgetting) + table.statistic())
    days = (replace(d, factor=d.factor * forgetting) for d in state.days)
    return State(kept, (*days, day))


def _exchange(state: State, number: int, table: VotesTable) -> State:
    """Replace the ``number``-th table, which has no gold, by the same votes with gold."""
    old = state.days[number - 1]
    if old.gold_labels:
        raise OnlineError(
            f"these {old.cells} cells were added before, as table {number} of {len(state.days)}, with "
            f"the gold of {old.gold_labels}; which ones is not known any more: begin a new state from "
            "recorded votes"
        )
    before = table.with_gold(np.zeros(len(table), np.bool_)).statistic().scaled(old.factor)
    removed = replace(before, hist=replace(before.hist, counts=-before.hist.counts))
    joined = _kept(state.statistic + removed + table.statistic().scaled(old.factor))
    days = list(state.days)
    days[number - 1] = replace(_day(table), factor=old.factor)
    return State(replace(joined, products=state.statistic.products), tuple(days))


def _kept(statistic: Statistic) -> Statistic:
    gold = statistic.gold
    return replace(
        statistic,
        hist=statistic.hist.take(statistic.hist.counts >= FORGOTTEN),
        gold=None if gold is None else gold.take(gold.counts >= FORGOTTEN),
    )


def relearn(
    state: State,
    method: str = "auto",
    *,
    catalogue_hash: str | None = None,
    value_counts: Mapping[str, int] | None = None,
    created: datetime | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Weights:
    """Learn weights from a state, as :func:`quorum.learning.learn` does; takes milliseconds.

    Returns:
        The weights; ``data_hash`` in their provenance is the hash of the state, ``labelled_tables`` the
        hashes of its tables with gold.

    Raises:
        LearnError: The state does not allow the method.
    """
    return learn_statistic(
        state.statistic, method, catalogue_hash=catalogue_hash, value_counts=value_counts, created=created,
        settings=settings, provenance={
            "data_hash": state.content_hash, "days": len(state.days),
            "labelled_tables": [day.data_hash for day in state.days if day.gold_labels],
        },
    )  # fmt: skip


def state_path(weights: str | Path) -> Path:
    """Path of the state of a weights file: ``weights.json`` -> ``weights.state.json`` in the same folder."""
    return Path(weights).with_suffix(".state.json")


def dump_state(state: State, path: str | Path) -> None:
    """Write a state as JSON, one line per row of the histogram: ``[group, right, count, code, code, ...]``.

    ``gold_rows`` repeats the labelled cells, with the code of the value that is part of others as last entry.
    """
    content = _as_json(state) | {"content_hash": state.content_hash}
    parts = []
    for key, value in content.items():
        if key in {"groups", "days", "rows", "gold_rows"} and value:
            lines = ",\n".join("    " + _flat(row) for row in value)
            parts.append(f"  {_flat(key)}: [\n{lines}\n  ]")
        else:
            parts.append(f"  {_flat(key)}: {_flat(value)}")
    Path(path).write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def load_state(path: str | Path) -> State:
    """Read a state that :func:`dump_state` wrote.

    Raises:
        OnlineError: The file is unreadable, of another schema version or shape, or was edited.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OnlineError(
            f"{path}: cannot be read ({error}); begin a new state from recorded votes"
        ) from error
    try:
        return _from_json(content)
    except OnlineError as error:
        raise OnlineError(f"{path}: {error}") from error
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise OnlineError(f"{path}: not the content of a state ({error!r}); begin a new one") from error


def _day(table: VotesTable) -> Day:
    votes = table.with_gold(np.zeros(len(table), np.bool_)).data_hash()
    return Day(table.data_hash(), len(table), int(table.labelled.sum()), votes_hash=votes)


def _as_json(state: State) -> dict[str, Any]:
    gold = state.statistic.gold
    return {
        "schema_version": SCHEMA_VERSION,
        "members": list(state.statistic.members),
        "groups": [list(name) for name in state.statistic.groups],
        "products": state.statistic.products,
        "days": [{key: value for key, value in asdict(day).items() if value != ""} for day in state.days],
        "rows": _rows(state.statistic.hist),
    } | ({} if gold is None else {"gold_rows": _rows(gold)})


def _rows(hist: Histogram) -> list[list[float]]:
    columns = (hist.groups.tolist(), hist.right.tolist(), hist.counts.tolist(), hist.codes.tolist())
    return [[g, right, count, *codes] for g, right, count, codes in zip(*columns, strict=True)]


def _histogram(rows: list[list[float]], columns: int, groups: int, members: int) -> Histogram:
    if not all(isinstance(row, list) and len(row) == columns + 3 for row in rows):
        raise OnlineError(f"every row needs {columns + 3} numbers for {members} members; begin a new state")
    codes = np.array([row[3:] for row in rows], np.int64).reshape(len(rows), columns)
    hist = Histogram(
        codes=np.clip(codes, -128, 127).astype(np.int8),
        groups=np.array([row[0] for row in rows], np.int32),
        right=np.array([row[1] for row in rows], np.int64),
        counts=np.array([row[2] for row in rows], np.float64),
    )
    _check_ranges(hist, groups, members)
    return hist


def _from_json(content: Any) -> State:
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        version = content.get("schema_version") if isinstance(content, dict) else content
        raise OnlineError(
            f"schema_version is {version!r}, this quorum reads {SCHEMA_VERSION}; begin a new state, "
            "or upgrade"
        )
    if content.keys() - _OPTIONAL != _KEYS:
        raise OnlineError(f"the keys are {sorted(content)}, not {sorted(_KEYS)}; begin a new state")
    members = tuple(content["members"])
    m, groups = (
        len(members),
        tuple((category, attribute) for category, attribute in _pairs(content["groups"])),
    )
    if not 1 <= m <= MAX_MEMBERS:
        raise OnlineError(f"{m} members; between 1 and {MAX_MEMBERS} are possible; begin a new state")
    hist = _histogram(content["rows"], m, len(groups), m)
    gold = _histogram(content["gold_rows"], m + 1, len(groups), m) if "gold_rows" in content else None
    days = []
    for day in content["days"]:
        if {*day, "votes_hash"} != _DAY_KEYS:
            raise OnlineError(f"a day has the keys {sorted(day)}, not {sorted(_DAY_KEYS)}; begin a new state")
        days.append(Day(**day))
    state = State(Statistic(members, groups, hist, content["products"], gold), tuple(days))
    if content["content_hash"] != state.content_hash:
        raise OnlineError(
            f"content_hash is {content['content_hash']!r} but the content's is {state.content_hash!r}: the "
            "file was edited or damaged; restore it, or begin a new state from recorded votes"
        )
    return state


def _pairs(groups: list[list[str]]) -> list[list[str]]:
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in groups):
        raise OnlineError("`groups` must be pairs of category and attribute; begin a new state")
    return groups


def _check_ranges(hist: Histogram, groups: int, members: int) -> None:
    fine = (
        ((hist.codes >= ABSTAIN) & (hist.codes <= members)).all()
        and ((hist.groups >= 0) & (hist.groups < groups)).all()
        and ((hist.right >= UNLABELLED) & (hist.right < 1 << members)).all()
        and (np.isfinite(hist.counts) & (hist.counts > 0)).all()
    )
    if not fine:
        raise OnlineError("a row holds a number out of range; begin a new state from recorded votes")


def _flat(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
