# SPDX-License-Identifier: Apache-2.0
"""Estimate what a run over listings takes, and ask a few of them where a server answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from quorum.bulk.ask import ask_in_order, attributes_of, check_lazy
from quorum.bulk.callbacks import Note, ignore
from quorum.bulk.estimate import (
    PROMPTS,
    Expected,
    Request,
    Sample,
    expect,
    parts_in_words,
    sample_of,
    sample_size,
)
from quorum.bulk.inputs.parts import PartReader
from quorum.bulk.inputs.records import Row
from quorum.bulk.inputs.scan import Scan
from quorum.bulk.job_input import (
    Files,
    check_bad,
    column_names,
    listings_by,
    names_of,
    own_places,
    scan_input,
)
from quorum.bulk.listings import Listing
from quorum.bulk.options import IN_FLIGHT, ExtractOptions
from quorum.bulk.run import job_folder, outputs_of
from quorum.bulk.waits import check_ready
from quorum.deployment.schema import Deployment
from quorum.server.exposure import client_key
from quorum.server.runfile import endpoint_of
from quorum_client import AsyncClient, Extraction
from quorum_contract.errors import QuorumError

_USUAL = "some words of it"
"""About as long as the value of an open attribute."""


def estimate_extract(
    deployment: Deployment, files: Files, options: ExtractOptions | None = None, *, note: Note = ignore
) -> Expected:
    """Estimate what :func:`quorum.bulk.run.extract` over files takes; nothing is written.

    Where the server answers, some listings drawn at random are asked, which costs what they cost; their
    answers are dropped. Else calls and tokens are those of the prompts, and the time is not known.

    Args:
        deployment: The deployment.
        files: As of the run.
        options: As of the run; ``None``: the defaults.
        note: Called with remarks: what was detected, why nothing was asked.

    Raises:
        ListingsError: The listings cannot be read.
        NoAttributesError: There is nothing to ask for.
        TooManyBad: More rows are bad than ``max_bad`` allows.
        UnknownAttributeError: An attribute is not in the catalogue.
        quorum_client.InvalidRequest: A setting cannot work; ``lazy`` without lazy channels.
    """
    chosen = options or ExtractOptions()
    chosen.check()
    check_lazy(deployment, chosen.lazy)
    names = attributes_of(deployment, chosen.attributes, note, is_open=chosen.open)
    concurrency = IN_FLIGHT if chosen.concurrency == "auto" else chosen.concurrency
    catalogue = deployment.catalogue()

    def answer_of(request: Request) -> str:
        values = {
            name: max(catalogue.get(name).values, key=len, default=_USUAL) for name in request.attributes
        }
        return json.dumps(values, ensure_ascii=False)

    is_named = chosen.out is not None or chosen.votes is not None
    outputs = outputs_of(chosen) if is_named else None
    with TemporaryDirectory(prefix="quorum-") as spool:
        columns = column_names(deployment, names, chosen)
        own = own_places(job_folder(outputs, chosen), outputs) if outputs else []
        found = scan_input(names_of(files), columns, chosen, catalogue, note, spool=Path(spool), own=own)
        check_bad(found, chosen, note)
        drawn = list(_drawn(found, deployment, max(PROMPTS, sample_size(concurrency))))
    some = [drawn[n] for n in sample_of(drawn, sample_size(concurrency))]
    if outputs and (folder := job_folder(outputs, chosen)).exists():
        note(f"{folder} is begun: the estimate is for all rows, also for those that it has outcomes of")
    sample = _ask_some(deployment, some, names, chosen, concurrency, note)
    if chosen.lazy and not sample.spent:
        note("each member is counted as asked about each listing; asked in rows, some are not")
    requests = [Request(listing.text, listing.category, names) for listing in drawn]
    return expect(deployment, requests, answer_of, sample, concurrency, of=found.rows - found.bad_rows)


def _drawn(found: Scan, deployment: Deployment, size: int) -> Iterator[Listing]:
    """Listings drawn at random; bad rows are left out."""
    listing_of, rows = listings_by(found, deployment), set(sample_of(range(found.rows), size))
    with PartReader(found) as reader:
        for part in found.parts:
            if not rows.isdisjoint(range(part.first, part.first + part.rows)):
                for row in reader.read(part):
                    if isinstance(row, Row) and row.index in rows:
                        listing = listing_of(row)
                        if isinstance(listing, Listing):
                            yield listing


def in_words(expected: Expected, currency: str = "") -> str:
    """An estimate for people."""
    return "; ".join([f"{expected.requests} listings", *parts_in_words(expected, currency)])


def _ask_some(
    deployment: Deployment,
    some: Sequence[Listing],
    names: Sequence[str],
    options: ExtractOptions,
    concurrency: int,
    note: Note,
) -> Sample:
    """Ask these listings, if the server answers."""
    url = options.url or endpoint_of(deployment).grpc_url
    try:
        check_ready(url, options.asked_channel)
    except QuorumError as error:
        note(f"no server, so that nothing is asked, and the time is not estimated: {error}")
        return Sample()

    async def ask() -> list[Extraction]:
        client = AsyncClient(url, channel=options.channel, timeout_s=options.timeout_s, key=client_key())
        async with client:
            answers = ask_in_order(client, some, names, concurrency, options.priority, lazy=options.lazy)
            return [answer async for _, answer in answers if isinstance(answer, Extraction)]

    answers = asyncio.run(ask())
    spent = [answer.spent for answer in answers if answer.spent]
    note(f"{len(answers)} of {len(some)} listings asked for this answered")
    return Sample([answer.latency_s for answer in answers], spent)
