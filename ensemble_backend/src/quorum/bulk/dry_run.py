# SPDX-License-Identifier: Apache-2.0
"""Estimate what a run over listings takes, and ask a few of them where a server answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from quorum.bulk.ask import ask_in_order, attributes_of, check_lazy, fields_of
from quorum.bulk.callbacks import Note, ignore
from quorum.bulk.estimate import Expected, Request, Sample, expect, parts_in_words, sample_of, sample_size
from quorum.bulk.listings import Listing, read_listings
from quorum.bulk.run import ExtractOptions, asked_channel
from quorum.bulk.waits import check_ready
from quorum.deployment.schema import Deployment
from quorum.server.exposure import client_key
from quorum.server.runfile import endpoint_of
from quorum_client import AsyncClient, Extraction
from quorum_contract.errors import QuorumError

_USUAL = "some words of it"
"""About as long as the value of an open attribute."""


def estimate_extract(
    deployment: Deployment, file: str | Path, options: ExtractOptions | None = None, *, note: Note = ignore
) -> Expected:
    """Estimate what :func:`quorum.bulk.run.extract` over a file takes; nothing is written.

    Where the server answers, some listings drawn at random are asked, which costs what they cost; their
    answers are dropped. Else calls and tokens are those of the prompts, and the time is not known.

    Args:
        deployment: The deployment.
        file: CSV or JSONL with a text column.
        options: As of the run; ``None``: the defaults.
        note: Called with remarks: attributes outside the catalogue, why nothing was asked.

    Raises:
        ListingsError: The listings cannot be read.
        NoAttributesError: There is nothing to ask for.
        quorum_client.InvalidRequest: ``lazy`` without lazy channels.
    """
    chosen = options or ExtractOptions()
    check_lazy(deployment, chosen.lazy)
    names = attributes_of(deployment, chosen.attributes, note)
    listings = read_listings(Path(file), chosen.text_column, chosen.id_column, fields_of(deployment, names))
    requests = [Request(listing.text, listing.category, names) for listing in listings]
    catalogue = deployment.catalogue()

    def answer_of(request: Request) -> str:
        values = {
            name: max(catalogue.get(name).values, key=len, default=_USUAL) for name in request.attributes
        }
        return json.dumps(values, ensure_ascii=False)

    sample = _ask_some(deployment, listings, names, chosen, note)
    if chosen.lazy and not sample.spent:
        note("each member is counted as asked about each listing; asked in rows, some are not")
    return expect(deployment, requests, answer_of, sample, chosen.concurrency)


def in_words(expected: Expected, currency: str = "") -> str:
    """An estimate for people."""
    return "; ".join([f"{expected.requests} listings", *parts_in_words(expected, currency)])


def _ask_some(
    deployment: Deployment,
    listings: Sequence[Listing],
    names: Sequence[str],
    options: ExtractOptions,
    note: Note,
) -> Sample:
    """Ask a sample of the listings, if the server answers."""
    url = options.url or endpoint_of(deployment).grpc_url
    try:
        check_ready(url, asked_channel(options))
    except QuorumError as error:
        note(f"no server, so that nothing is asked, and the time is not estimated: {error}")
        return Sample()
    some = [listings[n] for n in sample_of(listings, sample_size(options.concurrency))]

    async def ask() -> list[Extraction]:
        client = AsyncClient(url, channel=options.channel, timeout_s=options.timeout_s, key=client_key())
        async with client:
            answers = ask_in_order(
                client, some, names, options.concurrency, options.priority, lazy=options.lazy
            )
            return [answer async for _, answer in answers if isinstance(answer, Extraction)]

    answers = asyncio.run(ask())
    spent = [answer.spent for answer in answers if answer.spent]
    note(f"{len(answers)} of {len(some)} listings asked for this answered")
    return Sample([answer.latency_s for answer in answers], spent)
