# SPDX-License-Identifier: Apache-2.0
"""Ask about every listing of a file and write the answers as they come."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from quorum.bulk.answers import OutputError, Sink, open_sinks
from quorum.bulk.ask import ask_in_order, attributes_of
from quorum.bulk.callbacks import Note, Progress, ignore
from quorum.bulk.listings import Listing, read_listings
from quorum.deployment.schema import Deployment
from quorum.server.runfile import endpoint_of
from quorum.votes import check_target
from quorum_client import AsyncClient, ChannelNotFound, Client, Extraction, Overloaded, Unavailable
from quorum_contract import STABLE
from quorum_contract.errors import QuorumError

GIVE_UP_AFTER = 20
"""A run stops after so many listings in a row without a server to answer them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractOptions:
    """Options of :func:`extract`.

    Attributes:
        out: CSV or JSONL file for the answers.
        votes: Votes table for every vote; one of the two files is needed.
        attributes: Attributes to ask for; None: the whole catalogue.
        text_column: Column with the product text; None: title, text, input or name.
        id_column: Column with the product's id; None: the first of :data:`quorum.bulk.listings.ID_COLUMNS`
            that a row fills, else the row number.
        channel: Ensemble to ask.
        canary_share: Share of the products to route to the canary, in [0, 1]; "served": the share that the
            server announces; None: none is routed.
        concurrency: Requests in flight.
        url: ``host:port`` of the server; None: the local server, else the one that ``deploy.yaml`` names.
        timeout_s: Seconds per listing.
    """

    out: str | Path | None = None
    votes: str | Path | None = None
    attributes: Sequence[str] | None = None
    text_column: str | None = None
    id_column: str | None = None
    channel: str = STABLE
    canary_share: float | Literal["served"] | None = None
    concurrency: int = 16
    url: str | None = None
    timeout_s: float = 60.0


@dataclass(slots=True)
class _Count:
    """Listings so far."""

    total: int
    failed: int = 0
    by_channel: Counter[str] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        return self.failed + self.by_channel.total()


@dataclass(frozen=True, slots=True)
class ExtractReport:
    """Result of a run.

    Attributes:
        answered: Listings with an answer.
        failed: Listings that are marked with an error.
        left: Listings that were not asked about, because the run ended early.
        by_channel: Channel, or "CHANNEL for CHANNEL" after a fall-back -> listings that it answered.
        ended: Why the run ended: "complete", "interrupted" by Ctrl-C, or "unavailable" after
            :data:`GIVE_UP_AFTER` listings in a row without a server.
        silent: Number of these; 0 for other ends.
        last_error: The last of these failures; None for other ends.
        resume: Row, counted from 1, from which another run goes on; None where the run is complete.
        out: File with the answers.
        votes: File with the votes.
        routed: Whether a share of the products was routed to the canary.
    """

    answered: int
    failed: int
    left: int
    by_channel: dict[str, int]
    ended: Literal["complete", "interrupted", "unavailable"]
    silent: int
    last_error: QuorumError | None
    resume: int | None
    out: Path | None
    votes: Path | None
    routed: bool

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; the channels only where a share was routed."""
        counts: dict[str, Any] = {"answered": self.answered, "failed": self.failed, "left": self.left}
        files = {
            name: str(path) if path else None for name, path in (("out", self.out), ("votes", self.votes))
        }
        return counts | files | ({"channels": self.by_channel} if self.routed else {})


def extract(
    deployment: Deployment,
    file: str | Path,
    options: ExtractOptions,
    *,
    progress: Progress = ignore,
    note: Note = ignore,
) -> ExtractReport:
    """Ask about every listing of a file. Answers are written as they come; a listing that fails is marked.

    The run stops after :data:`GIVE_UP_AFTER` listings in a row without a server to answer them. Ctrl-C ends
    it too and is reported, not raised. Answers so far are in the files either way.

    Args:
        deployment: The deployment that is served.
        file: CSV or JSONL with a text column.
        options: See :class:`ExtractOptions`.
        progress: Called after each listing.
        note: Called with remarks: rows without an id, attributes outside the catalogue.

    Raises:
        OutputError: No file to write is named, one cannot be written, or one is read or written already.
        ListingsError: The listings cannot be read.
        NoAttributesError: There is nothing to ask for.
        quorum_client.Unavailable: The channel does not answer; no file was touched.
    """
    source = Path(file)
    _check_distinct(source, options)
    listings = read_listings(source, options.text_column, options.id_column)
    _note_numbered(source, listings, note)
    names = attributes_of(deployment, options.attributes, note)
    url = options.url or endpoint_of(deployment).grpc_url
    # Before the files are opened, so that an earlier output stays when no server answers.
    with Client(url, channel=options.channel) as client:
        if not client.is_ready():
            raise Unavailable(
                f"channel {options.channel!r} at {url} does not answer; start it with `quorum up`"
            )
    count = _Count(len(listings))
    ended: QuorumError | KeyboardInterrupt | None = None
    with ExitStack() as files:
        columns = list(listings[0].row)
        sinks = open_sinks(
            files, _path(options.out), _path(options.votes), columns, names, deployment.catalogue()
        )
        client_ = AsyncClient(
            url, channel=options.channel, timeout_s=options.timeout_s, canary_share=options.canary_share
        )
        try:
            ended = asyncio.run(
                _ask_each(client_, listings, names, options.concurrency, sinks, count, progress)
            )
        except KeyboardInterrupt as interrupt:
            ended = interrupt
    return _report(options, count, ended)


def _check_distinct(source: Path, options: ExtractOptions) -> None:
    """Refuse options without an output file, or with one that is the input or another output."""
    out, votes = _path(options.out), _path(options.votes)
    if out is None and votes is None:
        raise OutputError("nothing to write: name --out FILE (CSV or JSONL), --votes FILE, or both")
    for option, path, others in (
        ("--out", out, [source]),
        ("--votes", votes, [source, out]),
    ):
        if path is not None and any(other and path.resolve() == other.resolve() for other in others):
            raise OutputError(f"{option} {path}: that file is read or written already; name another")
    if votes is not None:
        check_target(votes)


def _path(name: str | Path | None) -> Path | None:
    return None if name is None else Path(name)


def _note_numbered(source: Path, listings: Sequence[Listing], note: Note) -> None:
    numbered = sum(listing.numbered for listing in listings)
    if numbered:
        note(
            f"{source}: {numbered} of {len(listings)} rows have no id, so they are numbered (row-1, row-2,"
            " ...) and cannot be joined with other files; name the column of the id with --id-column"
        )


async def _ask_each(
    client: AsyncClient,
    listings: Sequence[Listing],
    attributes: Sequence[str],
    concurrency: int,
    sinks: Sequence[Sink],
    count: _Count,
    progress: Progress,
) -> QuorumError | None:
    """Ask about all listings; returns the last error if the run stopped without a server."""
    silent = 0
    progress(0, count.total)
    async with client:
        async for listing, result in ask_in_order(client, listings, attributes, concurrency):
            for sink in sinks:
                sink.write(listing, result)
            if isinstance(result, QuorumError):
                count.failed += 1
            else:
                count.by_channel[_channel(result)] += 1
            progress(count.done, count.total)
            # An overloaded server exists and may accept the next listing.
            if not isinstance(result, ChannelNotFound | Unavailable) or isinstance(result, Overloaded):
                silent = 0
                continue
            silent += 1
            if silent == GIVE_UP_AFTER:
                return result
    return None


def _channel(result: Extraction) -> str:
    return f"{result.channel} for {result.fallback_from}" if result.fallback_from else result.channel


def _report(
    options: ExtractOptions, count: _Count, ended: QuorumError | KeyboardInterrupt | None
) -> ExtractReport:
    why: Literal["complete", "interrupted", "unavailable"] = "complete"
    resume = error = None
    if isinstance(ended, KeyboardInterrupt):
        why, resume = "interrupted", count.done + 1
    elif ended is not None:
        why, resume, error = "unavailable", count.done - GIVE_UP_AFTER + 1, ended
    return ExtractReport(
        answered=count.done - count.failed,
        failed=count.failed,
        left=count.total - count.done,
        by_channel=dict(count.by_channel),
        ended=why,
        silent=GIVE_UP_AFTER if error else 0,
        last_error=error,
        resume=resume,
        out=_path(options.out),
        votes=_path(options.votes),
        routed=options.canary_share is not None,
    )
