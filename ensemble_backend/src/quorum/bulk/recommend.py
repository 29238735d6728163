# SPDX-License-Identifier: Apache-2.0
"""Recommend keyphrases for one item, or for every item of a file, written as they come."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TextIO

from quorum.bulk.answers import check_output, reserving
from quorum.bulk.callbacks import Note, Progress, ignore
from quorum.bulk.listings import Listing, read_listings
from quorum.bulk.outcomes import Ended, Outcomes, Writes, in_order, is_interrupted, note_numbered, write_each
from quorum.bulk.waits import WaitNotes, check_ready
from quorum.deployment.schema import Deployment
from quorum.records import Record, plain
from quorum.safe_text import safe_cell
from quorum.server.exposure import client_key
from quorum.server.runfile import endpoint_of
from quorum_client import (
    AWAY_S,
    AsyncClient,
    Client,
    Recommendation,
    RecommendItem,
)
from quorum_contract import BULK, RECOMMEND, Priority
from quorum_contract.checks import check_limit, check_min_score
from quorum_contract.errors import QuorumError

_COLUMNS = ("item", "rank", "keyphrase", "score", "version", "channel", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendOptions:
    """Options of :func:`recommend_items`.

    Attributes:
        out: CSV (a row per keyphrase) or JSONL (a line per item).
        k: How many keyphrases each item gets at most, 1 to 100.
        min_score: The lowest score of one; None: any.
        text_column: Column with the item's text; None: title, text, input or name.
        id_column: Column with the item's id, by which items are routed to the canary; None: the first of
            :data:`quorum.bulk.listings.ID_COLUMNS` that a row fills, else the row number.
        channel: Ensemble to ask; None: the stable one, or the canary for its share.
        force: Replace ``out`` where it exists; without it such a file is refused.
        canary_share: As of :class:`quorum.bulk.options.ExtractOptions`, as all that follow.
    """

    out: str | Path
    k: int = 20
    min_score: float | None = None
    text_column: str | None = None
    id_column: str | None = None
    channel: str | None = None
    force: bool = False
    canary_share: float | Literal["served"] | None = None
    concurrency: int = 16
    url: str | None = None
    timeout_s: float = 30.0
    escaped: bool = True
    priority: Priority = BULK
    away_s: float = AWAY_S


@dataclass(frozen=True, slots=True)
class RecommendReport(Record):
    """Result of a run.

    Attributes:
        out: The file with the keyphrases.
        answered: Items with an answer, if only an empty one.
        empty: Those of them that got no keyphrase.
        failed: Items that are marked with an error.
        left: Items that were not asked about, because the run ended early.
        keyphrases: How many were written.
        by_version: Version of the retriever -> items that it answered.
        ended: "complete", "interrupted" by Ctrl-C, or "unavailable" after
            :data:`quorum.bulk.outcomes.GIVE_UP_AFTER` items in a row without a server.
        errors: Code of an error -> items that failed with it, and the message of the first.
    """

    out: Path
    answered: int
    empty: int
    failed: int
    left: int
    keyphrases: int
    by_version: dict[int, int]
    ended: Ended
    errors: dict[str, tuple[int, str]]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        errors = {code: {"items": items, "first": first} for code, (items, first) in self.errors.items()}
        return {**{f.name: plain(getattr(self, f.name)) for f in fields(self)}, "errors": errors}


@dataclass(slots=True)
class _Count(Outcomes[Recommendation]):
    """Items so far, and what they got."""

    empty: int = 0
    keyphrases: int = 0
    by_version: Counter[int] = field(default_factory=Counter)

    def count(self, answer: Recommendation) -> None:
        """As :meth:`Outcomes.count`."""
        self.empty += not answer.keyphrases
        self.keyphrases += len(answer.keyphrases)
        self.by_version[answer.version] += 1


def recommend(
    deployment: Deployment,
    text: str,
    k: int = 20,
    *,
    category: str = "",
    min_score: float | None = None,
    channel: str = RECOMMEND,
    url: str | None = None,
    timeout_s: float = 30.0,
) -> Recommendation:
    """Recommend keyphrases for one item.

    Args:
        deployment: The deployment that is served.
        text: Title and description.
        k: How many are wanted, 1 to 100.
        category: The item's leaf category: only keyphrases of it, or of none; "": all.
        min_score: The lowest score of one; None: any.
        channel: Ensemble to ask.
        url: ``host:port`` of the server; None: the local server, else the one that ``deploy.yaml`` names.
        timeout_s: How long to wait for the answer.

    Raises:
        quorum_client.QuorumError: No answer; ChannelNotFound: no version of the retriever is published.
    """
    target = url or endpoint_of(deployment).grpc_url
    with Client(target, timeout_s=timeout_s, key=client_key()) as client:
        return client.recommend(text, k, category, min_score, channel=channel)


def recommendation_json(result: Recommendation) -> dict[str, Any]:
    """A recommendation as plain data."""
    return {
        "keyphrases": [{"keyphrase": k.text, "score": round(k.score, 6)} for k in result.keyphrases],
        "version": result.version,
        "channel": result.channel,
        **({"fallback_from": result.fallback_from} if result.fallback_from else {}),
        "latency_ms": round(result.latency_s * 1e3, 2),
    }


def recommend_items(
    deployment: Deployment,
    file: str | Path,
    options: RecommendOptions,
    *,
    progress: Progress = ignore,
    note: Note = ignore,
) -> RecommendReport:
    """Recommend keyphrases for every item of a file, in its order; an item that fails is marked.

    The run ends early as :func:`quorum.bulk.run.extract` does; what was answered is in the file then.

    Args:
        deployment: The deployment that is served.
        file: CSV, JSONL or Parquet, with a text column and perhaps an id and a ``category``.
        options: See :class:`RecommendOptions`.
        progress: Called after each item.
        note: Called with remarks: rows without an id, why the run waits.

    Raises:
        OutputError: The output cannot be written, is the input, or holds something.
        ListingsError: The items cannot be read.
        quorum_client.InvalidRequest: A setting cannot work; no file was touched.
        quorum_client.Unavailable: The channel does not answer; no file was touched.
    """
    source, out = Path(file), Path(options.out)
    _check(source, out, options)
    items = read_listings(source, options.text_column, options.id_column)
    note_numbered(source, items, note)
    url, key = options.url or endpoint_of(deployment).grpc_url, client_key()
    client = AsyncClient(url, timeout_s=options.timeout_s, canary_share=options.canary_share, key=key)
    check_ready(
        url,
        options.channel or RECOMMEND,
        "start the server with `quorum up`, and publish a version of the retriever with `quorum publish`",
    )
    count = _Count()
    with ExitStack() as files:
        with reserving(files, [out]):
            # Buffered by line: an answer is on disk at once.
            opened = files.enter_context(out.open("w", 1, encoding="utf-8", newline=""))
        sink = _Csv(opened, escaped=options.escaped) if out.suffix == ".csv" else _Jsonl(opened)
        interrupted = is_interrupted(_ask_each(client, items, options, sink, count, progress, note))
    return RecommendReport(
        out,
        count.answered,
        count.empty,
        count.failed,
        len(items) - count.done,
        count.keyphrases,
        dict(sorted(count.by_version.items())),
        count.ended(interrupted=interrupted),
        count.errors,
    )


def _check(source: Path, out: Path, options: RecommendOptions) -> None:
    check_output(out, source, force=options.force)
    check_limit(options.k)
    if options.min_score is not None:
        check_min_score(options.min_score)


async def _ask_each(
    client: AsyncClient,
    items: Sequence[Listing],
    options: RecommendOptions,
    sink: Writes[Recommendation],
    count: _Count,
    progress: Progress,
    note: Note,
) -> None:
    asked = (RecommendItem(i.text, i.category, options.k, options.min_score, i.product) for i in items)
    async with client:
        results = client.recommend_many(
            asked,
            concurrency=options.concurrency,
            errors="return",
            channel=options.channel,
            priority=options.priority,
            away_s=options.away_s,
            on_wait=WaitNotes(note, options.away_s),
        )
        await write_each(in_order(items, results), len(items), [sink], count, progress)


class _Jsonl:
    """One JSON object per item: its keyphrases, or ``error``."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, item: Listing, result: Recommendation | QuorumError) -> None:
        """Write one item."""
        found = {"error": str(result)} if isinstance(result, QuorumError) else recommendation_json(result)
        line = {"item": item.product, "category": item.category, "title": item.text} | found
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")


class _Csv:
    """A row per keyphrase; an item that failed, or got none, has one row without a keyphrase."""

    def __init__(self, file: TextIO, *, escaped: bool) -> None:
        self._csv, self._escaped = csv.writer(file), escaped
        self._csv.writerow(_COLUMNS)

    def write(self, item: Listing, result: Recommendation | QuorumError) -> None:
        """Write the rows of one item."""
        if isinstance(result, QuorumError):
            self._row(item.product, "", "", "", "", "", str(result))
            return
        for rank, (text, score) in enumerate(result.keyphrases, 1):
            self._row(item.product, rank, text, round(score, 6), result.version, result.channel, "")
        if not result.keyphrases:
            self._row(item.product, "", "", "", result.version, result.channel, "")

    def _row(self, *cells: str | float) -> None:
        # A score stays a number: below 0 it begins as a formula does, and is none.
        self._csv.writerow([safe_cell(c) if self._escaped and isinstance(c, str) else c for c in cells])
