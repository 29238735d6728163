# SPDX-License-Identifier: Apache-2.0
"""Keep weights up to date: add a day's votes to a state and learn the weights from it again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from quorum.decision.answer_kinds import AnswerKinds
from quorum.decision.arrays import leaders
from quorum.decision.evidence import FEATURES
from quorum.decision.forms import FORMS
from quorum.decision.hashed_json import advise, check_hash, lay_out, parse, with_hash
from quorum.decision.histogram import UNLABELLED, Histogram
from quorum.decision.patterns import ABSTAIN, MAX_MEMBERS, NA
from quorum.decision.scores import LEVELS, NO_SCORE
from quorum.decision.weights import Weights
from quorum.files import write_atomic
from quorum.learning.by_kind import learn_parts, with_earlier
from quorum.learning.learn import learn_statistic
from quorum.votes.exploded import exploded
from quorum.votes.statistic import Statistic
from quorum.votes.table import VotesTable
from quorum.votes.text_rows import TextRows
from quorum_contract.errors import QuorumError

SCHEMA_VERSION = 3
"""2: a state of votes with scores; 3: of labelled votes with texts. All others are written as version 1, byte
for byte as before."""
_MOST = 1e15
FORGOTTEN = 1e-4
"""Rows with a count below this are dropped, so that the state does not keep every pattern ever seen."""


class OnlineError(QuorumError, ValueError):
    """Votes do not fit a state, or its file cannot be used; the message says what to do."""

    code = "LEARNING_STATE_INVALID"


class Day(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One table of votes in a state.

    Attributes:
        data_hash: Hash of the table, so that it is not added twice.
        cells: Number of its cells.
        gold_labels: Number of its cells with gold.
        factor: Weight of one of its cells today, in (0, 1].
        votes_hash: Hash of its votes without gold and scores, to recognise the table when these come later;
            "": not recorded.
    """

    data_hash: str
    cells: int
    gold_labels: int
    factor: float
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
        return str(_content(self)["content_hash"])


def without_attributes(state: State, names: Collection[str]) -> State:
    """Leave out the votes on these attributes, which meant something else then."""
    groups = state.statistic.groups
    kept = np.array([attribute not in names for _, attribute in groups], np.bool_)
    statistic = state.statistic.mapped(lambda hist: hist.take(kept[hist.groups]))
    return State(_kept(statistic), state.days)


def begin(table: VotesTable, kinds: AnswerKinds | None = None) -> State:
    """Begin a state with a first table; ``kinds`` are those of its attributes, as in :func:`update`."""
    return State(exploded(table, kinds or {}).statistic(), (_day(table),))


def update(
    state: State, table: VotesTable, forgetting: float = 1.0, kinds: AnswerKinds | None = None
) -> State:
    """Add a day's votes to a state.

    Counts become ``forgetting * old + new``: after ``d`` days a cell counts ``forgetting ** d``; half as much
    after ``h`` days with ``forgetting = 0.5 ** (1 / h)``. With 1, the state is that of the joined tables.

    A table that was added without gold, or without scores, and comes again with them replaces the first:
    nothing is forgotten, and its cells count once. A single cell that is in two tables counts twice.
    Of attributes with ``kinds`` other than single values, the state has one cell per thing that was named
    (:mod:`quorum.votes.exploded`), and none for written texts.

    Raises:
        OnlineError: Other members, a table that was added before, or again with other gold or scores, or
            ``forgetting`` outside (0, 1].
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
            return _exchange(state, number, table, kinds or {})
    kept = _kept(state.statistic.scaled(forgetting) + exploded(table, kinds or {}).statistic())
    days = (msgspec.structs.replace(d, factor=d.factor * forgetting) for d in state.days)
    return State(kept, (*days, day))


def _exchange(state: State, number: int, table: VotesTable, kinds: AnswerKinds) -> State:
    """Replace the ``number``-th table, which has no gold, by the same votes with gold or scores."""
    old = state.days[number - 1]
    if old.gold_labels:
        raise OnlineError(
            f"these {old.cells} cells were added before, as table {number} of {len(state.days)}, with "
            f"the gold of {old.gold_labels}; which ones is not known any more: begin a new state from "
            "recorded votes"
        )
    blank = _without_gold(table)
    known = {votes.data_hash(): votes for votes in (blank.without_scores(), blank)}
    if old.data_hash not in known:
        raise OnlineError(
            f"these {old.cells} cells were added before, as table {number} of {len(state.days)}, with other "
            "scores; which ones is not known any more: begin a new state from recorded votes"
        )
    before = exploded(known[old.data_hash], kinds).statistic().scaled(old.factor)
    removed = before.mapped(lambda hist: replace(hist, counts=-hist.counts))
    joined = _kept(state.statistic + removed + exploded(table, kinds).statistic().scaled(old.factor))
    days = list(state.days)
    days[number - 1] = _day(table, old.factor)
    return State(replace(joined, products=state.statistic.products), tuple(days))


def _kept(statistic: Statistic) -> Statistic:
    """Leave out the rows that are forgotten, and the groups that have none left."""
    hist = statistic.hist.take(statistic.hist.counts >= FORGOTTEN)
    present = np.unique(hist.groups)
    number = np.zeros(len(statistic.groups), np.int32)
    number[present] = np.arange(len(present))

    def kept(part: Histogram) -> Histogram:
        return part.take((part.counts >= FORGOTTEN) & np.isin(part.groups, present)).regrouped(number)

    groups = tuple(statistic.groups[group] for group in present)
    text = statistic.text
    if text is not None:
        rows = (text.hist.counts >= FORGOTTEN) & np.isin(text.hist.groups, present)
        text = text.take(rows).regrouped(number) if rows.any() else None
    left = replace(statistic.mapped(kept), groups=groups, text=text)
    # Without a score any more it is, and is written as, a state of votes without scores.
    return left if left.scored is None or _has_scores(left.scored) else left.without_scores()


def _has_scores(hist: Histogram) -> bool:
    return hist.levels is not None and bool((hist.levels != NO_SCORE).any())


def relearn(
    state: State,
    method: str = "auto",
    *,
    catalogue: Mapping[str, str] | None = None,
    value_counts: Mapping[str, int] | None = None,
    created: datetime | None = None,
    settings: Mapping[str, Any] | None = None,
    kinds: AnswerKinds | None = None,
    before: Weights | None = None,
) -> Weights:
    """Learn weights from a state, as :func:`quorum.learning.learn` does; takes milliseconds.

    ``kinds`` as in :func:`update`. Texts keep their weights of ``before``; "auto" counts labels of all forms.

    Returns:
        The weights; ``data_hash`` in their provenance is the hash of the state, ``labelled_tables`` the
        hashes of its tables with gold.

    Raises:
        LearnError: The state does not allow the method.
    """
    provenance = {
        "data_hash": state.content_hash,
        "days": len(state.days),
        "labelled_tables": [day.data_hash for day in state.days if day.gold_labels],
    }
    options: dict[str, Any] = {"catalogue": catalogue, "value_counts": value_counts}
    options |= {"created": created, "settings": settings}
    if not kinds:
        return learn_statistic(state.statistic, method, **options, provenance=provenance)
    most = dict.fromkeys(FORMS, sum(day.factor * day.gold_labels for day in state.days))
    weights = learn_parts(state.statistic, kinds, method, **options, provenance=provenance, labels=most)
    return weights if before is None else with_earlier(weights, before, kinds)


def is_learned_from(weights: Weights, state: State) -> bool:
    """Whether weights are of this state; if not, one of the two files was written without the other."""
    found = weights.provenance.get("data_hash")
    return found == state.content_hash or [day.data_hash for day in state.days] == [found]


def is_added(state: State, table: VotesTable) -> bool:
    """Whether a state holds this table already, with the same gold and scores."""
    return table.data_hash() in {day.data_hash for day in state.days}


def state_path(weights: str | Path) -> Path:
    """Path of the state of a weights file: ``weights.json`` -> ``weights.state.json`` in the same folder."""
    return Path(weights).with_suffix(".state.json")


def dump_state(state: State, path: str | Path) -> None:
    """Write a state atomically as JSON, a line per histogram row: ``[group, right, count, code, code, ...]``.

    ``gold_rows`` repeats the labelled cells, with the code of the value that is part of others as last code.
    Where votes have scores, ``scored_rows`` repeats all cells, and both end in the levels of scores.
    Where labelled cells have texts, ``text_rows`` repeats these, each like a row of ``gold_rows`` followed by
    the features of the first value, of the second, and so on; none where the cell has no text.
    """
    text = lay_out(_content(state), {"groups", "days", "rows", "gold_rows", "scored_rows", "text_rows"})
    write_atomic(Path(path), text)


def load_state(path: str | Path) -> State:
    """Read a state of :func:`dump_state`; raises OnlineError if unreadable, edited or of another schema."""
    try:
        content = parse(Path(path).read_text(encoding="utf-8"), SCHEMA_VERSION)
        file = msgspec.convert(content, _File)
        state = State(_statistic(file), file.days)
        check_hash(file.content_hash, state.content_hash)
    except (OSError, ValueError) as error:
        raise OnlineError(f"{path}: {advise(error, 'begin a new state from recorded votes')}") from error
    return state


class _File(msgspec.Struct, forbid_unknown_fields=True):
    schema_version: int
    members: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=MAX_MEMBERS)]
    groups: tuple[tuple[str, str], ...]
    products: int
    days: tuple[Day, ...]
    rows: list[list[float]]
    content_hash: str
    gold_rows: list[list[float]] | None = None
    scored_rows: list[list[float]] | None = None
    text_rows: list[list[float]] | None = None


def _statistic(file: _File) -> Statistic:
    n_groups, members, gold, scored = len(file.groups), len(file.members), None, None
    levels = members if file.scored_rows is not None else 0
    if file.schema_version != _version(file.scored_rows is not None, file.text_rows is not None):
        version = file.schema_version
        raise OnlineError(
            f"schema_version is {version}, which is 3 exactly with text_rows, else 2 exactly with scored_rows"
        )
    hist = _histogram(file.rows, n_groups, members, "rows")
    if file.gold_rows is not None:
        gold = _histogram(file.gold_rows, n_groups, members, "gold_rows", 1, levels)
    if file.scored_rows is not None:
        scored = _histogram(file.scored_rows, n_groups, members, "scored_rows", 0, levels)
        _check_same_cells(hist, scored)
    text = None if file.text_rows is None else _texts(file.text_rows, n_groups, members, levels)
    return Statistic(file.members, file.groups, hist, file.products, gold, scored, text)


def _version(scored: bool, text: bool) -> int:
    return 3 if text else 2 if scored else 1


def _check_same_cells(hist: Histogram, scored: Histogram) -> None:
    """Refuse rows with scores that are of other cells than those without."""
    plain, other = (np.bincount(part.groups, part.counts, hist.n_groups) for part in (hist, scored))
    levels = scored.all_levels()
    if (
        scored.n_groups > hist.n_groups
        or not np.allclose(plain, other)
        or (scored.right != UNLABELLED).any()
        or (levels[scored.codes == ABSTAIN] != NO_SCORE).any()
    ):
        raise OnlineError("scored_rows: are not the cells of rows, without gold")


def _day(table: VotesTable, factor: float = 1.0) -> Day:
    votes = _without_gold(table).without_scores().data_hash()
    return Day(table.data_hash(), len(table), int(table.labelled.sum()), factor, votes)


def _without_gold(table: VotesTable) -> VotesTable:
    return table.with_gold(np.zeros(len(table), np.bool_))


def _content(state: State) -> dict[str, Any]:
    """All that the file holds, the hash last."""
    statistic, members = state.statistic, len(state.statistic.members)
    content = {
        "schema_version": _version(statistic.scored is not None, statistic.text is not None),
        "members": statistic.members,
        "groups": statistic.groups,
        "products": statistic.products,
        "days": msgspec.to_builtins(state.days),
        "rows": _rows(statistic.hist, members),
    }
    more = {"gold_rows": statistic.gold, "scored_rows": statistic.scored}
    content |= {name: _rows(part, members) for name, part in more.items() if part is not None}
    return with_hash(
        content if statistic.text is None else content | {"text_rows": _text_rows(statistic.text)}
    )


def _rows(hist: Histogram, members: int) -> list[list[float]]:
    numbers = hist.codes
    if hist.levels is not None:
        numbers = np.concatenate([hist.codes, hist.levels[:, :members]], axis=1)
    columns = (hist.groups.tolist(), hist.right.tolist(), hist.counts.tolist(), numbers.tolist())
    return [[g, right, count, *row] for g, right, count, row in zip(*columns, strict=True)]


def _text_rows(text: TextRows) -> list[list[float]]:
    """Rows of labelled cells, each followed by the features of its values in the order of members."""
    members = text.features.shape[1]
    rows = _rows(text.hist, members)
    for row, lead, features in zip(rows, _first_namings(text.hist, members), text.features, strict=True):
        row += features[lead & ~np.isnan(features[:, 0])].ravel().tolist()
    return rows


def _texts(rows: list[list[float]], groups: int, members: int, levels: int) -> TextRows:
    """Inverse of :func:`_text_rows`."""
    width, size = 3 + members + 1 + levels, len(FEATURES)
    hist = _histogram([row[:width] for row in rows], groups, members, "text_rows", 1, levels)
    features = np.full((len(rows), members, size), np.nan)
    for at, lead in enumerate(_first_namings(hist, members)):
        if numbers := rows[at][width:]:
            values = np.flatnonzero(lead)
            if len(numbers) != size * len(values) or max(map(abs, numbers)) > _MOST:
                raise OnlineError(
                    f"text_rows: {size} numbers for each value, or none, are needed after the votes"
                )
            for first, own in zip(values, np.reshape(numbers, (-1, size)), strict=True):
                features[at, hist.codes[at, :members] == hist.codes[at, first]] = own
    if (hist.right == UNLABELLED).any():
        raise OnlineError("text_rows: a cell without gold")
    return TextRows(hist, features)


def _first_namings(hist: Histogram, members: int) -> npt.NDArray[np.bool_]:
    """(r, m) whether a member is the first that named its value, "n/a" left out."""
    codes = hist.codes[:, :members]
    return leaders(codes) & (codes > NA)


def _histogram(
    rows: list[list[float]], groups: int, members: int, where: str, parts: int = 0, levels: int = 0
) -> Histogram:
    """Rows of numbers as a histogram: ``members + parts`` codes, then ``levels`` levels."""
    width = 3 + members + parts + levels
    if any(len(row) != width for row in rows):
        raise OnlineError(f"{where}: every row needs {width} numbers for {members} members")
    table = np.array(rows, np.float64).reshape(len(rows), width)
    group, right, counts, codes = table[:, 0], table[:, 1], table[:, 2], table[:, 3 : width - levels]
    level = table[:, width - levels :]
    fine = (
        ((codes >= ABSTAIN) & (codes <= members)).all()
        and ((group >= 0) & (group < groups)).all()
        and ((right >= UNLABELLED) & (right < 1 << members)).all()
        and ((counts > 0) & (counts <= _MOST)).all()
        and ((level >= NO_SCORE) & (level < LEVELS)).all()
    )
    if not fine:
        raise OnlineError(f"{where}: a row holds a number out of range")
    own = None
    if levels:
        own = np.concatenate([level, np.full((len(rows), parts), NO_SCORE)], axis=1).astype(np.int8)
    return Histogram(codes.astype(np.int8), group.astype(np.int32), right.astype(np.int64), counts, own)
