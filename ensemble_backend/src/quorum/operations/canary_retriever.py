# SPDX-License-Identifier: Apache-2.0
"""Compare the retriever's canary with its stable version: the deployment's ensemble judges what differs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quorum.bulk.callbacks import Note, Progress, ignore
from quorum.bulk.judging.asking import Asking, judging_client
from quorum.bulk.judging.journal import Cell, Decider, JudgeError
from quorum.bulk.judging.labels import Labels, asked_by
from quorum.bulk.judging.outputs import judge_of, judged_pair
from quorum.bulk.judging.pairs import Pair
from quorum.bulk.judging.requests import requests_of
from quorum.bulk.listings import Listing, ListingsError, read_listings
from quorum.bulk.waits import WaitNotes
from quorum.deployment.schema import Deployment
from quorum.evaluation.retriever_canary import Pooled, RetrieverReport, difference_of
from quorum.operations.canary import CanaryReportError
from quorum.operations.servers import store_of
from quorum.retrieval.judged import JudgedPair
from quorum.retrieval.judged_files import check_new, write_judged
from quorum.rollout.channels import RolloutError
from quorum.server.exposure import client_key
from quorum.server.runfile import endpoint_of
from quorum_client import AWAY_S, Client, Recommendation, RecommendItem
from quorum_contract import RECOMMEND, RECOMMEND_CANARY
from quorum_contract.errors import QuorumError
from quorum_contract.fields import one_line

PER_REQUEST = 16
"""Keyphrases asked together, as `quorum judge` does by default."""
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieverCanaryOptions:
    """What to compare on, and where the judged pairs go.

    Attributes:
        items: Items, CSV, JSONL or Parquet, as listings; one row for each id.
        judged: New file for the judged pairs (``.parquet`` or ``.jsonl``); None: they are not kept.
        k: How many keyphrases count for an item.
        text_column: Column with the item's text, or several that are joined.
        concurrency: Requests in flight.
        url: ``host:port`` of the server; None: the local one, else that of ``deploy.yaml``.
        away_s: How long the run waits for a server that is away, in seconds.
    """

    items: str | Path
    judged: str | Path | None = None
    k: int = 10
    text_column: str | Sequence[str] | None = None
    concurrency: int = 8
    url: str | None = None
    away_s: float = AWAY_S


def retriever_canary_report(
    deployment: Deployment,
    options: RetrieverCanaryOptions,
    *,
    progress: Progress = ignore,
    note: Note = ignore,
) -> RetrieverReport:
    """Ask both channels for keyphrases of every item, and let the ensemble judge those that only one has.

    The stable channel judges as :func:`quorum.judge` does: by the ``default`` question, with its labels. All
    is asked as bulk. What is not answered, or cannot be asked, is not judged, and is counted.

    Args:
        deployment: The deployment that is served, with a ``default`` question.
        options: See :class:`RetrieverCanaryOptions`.
        progress: Called with the numbers of judged and of all pairs.
        note: Takes remarks: items that a channel did not answer, pairs that were not judged, waits.

    Raises:
        JudgeError: The deployment has no ``default`` question, or the weights changed meanwhile.
        CanaryReportError: Both channels have one version, no item was answered by both, or nothing judged.
        ListingsError: The items cannot be read, or an id stands twice.
        RolloutError: The channels changed meanwhile, or nothing is published.
        JudgedError: The judged pairs cannot be written; nothing is asked.
    """
    asked_by(deployment)
    served = store_of(deployment).state().retriever
    if served is None:
        raise RolloutError("no version of the retriever was published; `quorum publish` its folder first")
    versions = served.pins[RECOMMEND], served.pins[RECOMMEND_CANARY]
    if versions[0] == versions[1]:
        raise CanaryReportError(
            f"both channels of the retriever answer with version {versions[0]}: there is no canary; begin "
            "one with `quorum canary N --retriever`"
        )
    out = None if options.judged is None else Path(options.judged)
    if out is not None:
        check_new(out)
    listings = read_listings(Path(options.items), options.text_column)
    _check_ids(listings)
    pooled = _pooled(deployment, options, listings, versions, note)
    judged = _Judged(deployment, progress)
    pairs = _pairs(deployment, pooled)
    if pairs:
        asyncio.run(_judge(judged, pairs, options, note))
    rows = judged.rows(pairs)
    _check_judged(sum(len(item.disputed) for item in pooled), rows, judged.why, note)
    report = difference_of(pooled, versions, options.k, rows)
    if out is not None:
        judge = {
            "judge": "quorum canary report --retriever",
            **judge_of(deployment, judged.weights),
            "retriever_versions": list(versions),
        }
        write_judged(out, rows, judge)
    return report


@dataclass(slots=True)
class _Judged:
    """Outcomes so far, by the line of the pair."""

    deployment: Deployment
    progress: Progress
    weights: Decider | None = None
    cells: dict[int, Cell] = field(default_factory=dict)
    total: int = 0
    last_error: str = ""

    def decided_by(self, weights: Decider) -> None:
        """Refuse other weights than before."""
        if self.weights is not None and self.weights != weights:
            raise JudgeError(
                f"weights version {weights.version} decides now, version {self.weights.version} did before:"
                " labels of two judges do not mix; run it again"
            )
        self.weights = weights

    def keep(self, cells: list[Cell]) -> None:
        """Keep the outcomes of one request."""
        self.cells |= {cell.line: cell for cell in cells}
        self.progress(len(self.cells), self.total)

    def rows(self, pairs: Sequence[Pair]) -> list[JudgedPair]:
        """The pairs that have a decision."""
        asked = asked_by(self.deployment)
        found = ((pair, self.cells.get(pair.line)) for pair in pairs)
        return [judged_pair(asked, pair, cell) for pair, cell in found if cell and not cell.reason]

    @property
    def why(self) -> str:
        """Why a pair was not judged: an error, else the first reason; may be empty."""
        return self.last_error or next((cell.reason for cell in self.cells.values() if cell.reason), "")


def _check_judged(disputed: int, rows: Sequence[JudgedPair], why: str, note: Note) -> None:
    """Say how many are not judged; refuse a report where none is."""
    if disputed and not rows:
        raise CanaryReportError(
            f"none of the {disputed} keyphrases that only one version recommends was judged"
            f" ({why or 'all are attributes of the catalogue'}), which says nothing of the canary; see what"
            " `quorum ask TEXT --attributes KEYPHRASE` answers, and run the report again"
        )
    if disputed > len(rows):
        because = f": {why}" if why else ""
        note(f"{disputed - len(rows)} of {disputed} keyphrases were not judged{because}")


def _check_ids(listings: Sequence[Listing]) -> None:
    first: dict[str, str] = {}
    for listing in listings:
        if not listing.product.strip():
            raise ListingsError(f"{listing.place}: the id is blank; give each item an id, or none")
        before = first.setdefault(listing.product, listing.place)
        if before != listing.place:
            raise ListingsError(
                f"{listing.place}: id {listing.product!r:.80} is that of {before} too; keep one row for"
                " each id"
            )


def _pooled(
    deployment: Deployment,
    options: RetrieverCanaryOptions,
    listings: Sequence[Listing],
    versions: tuple[int, int],
    note: Note,
) -> list[Pooled]:
    """What both versions recommend, for the items that both answered."""
    asked = [RecommendItem(item.text, item.category, options.k, item_id=item.product) for item in listings]
    url = options.url or endpoint_of(deployment).grpc_url
    found: list[list[tuple[str, ...] | QuorumError]] = []
    with Client(url, timeout_s=_TIMEOUT_S, key=client_key()) as client:
        for channel, version in zip((RECOMMEND, RECOMMEND_CANARY), versions, strict=True):
            answers = client.recommend_many(
                asked,
                concurrency=options.concurrency,
                errors="return",
                channel=channel,
                away_s=options.away_s,
                on_wait=WaitNotes(note, options.away_s),
            )
            found.append([_of_version(answer, version) for answer in answers])
    pooled, failed = [], list[QuorumError]()
    for listing, stable, canary in zip(listings, *found, strict=True):
        if isinstance(stable, QuorumError) or isinstance(canary, QuorumError):
            failed.append(stable if isinstance(stable, QuorumError) else canary)
        else:
            pooled.append(Pooled(listing.product, listing.text, listing.category, stable, canary))
    if not pooled:
        raise CanaryReportError(
            f"none of {len(listings)} items was answered by both channels: {failed[0]}; see with"
            " `quorum status` whether both answer, and run it again"
        )
    if failed:
        note(f"{len(failed)} of {len(listings)} items were not answered by both channels: {failed[0]}")
    return pooled


def _of_version(found: Recommendation | QuorumError, version: int) -> tuple[str, ...] | QuorumError:
    if isinstance(found, QuorumError):
        return found
    if found.version != version:
        raise RolloutError(
            f"version {found.version} answered where {version} is pinned: the channels changed meanwhile; "
            "run it again"
        )
    return tuple(one_line(keyphrase.text) for keyphrase in found.keyphrases)


def _pairs(deployment: Deployment, pooled: Sequence[Pooled]) -> list[Pair]:
    """What one version alone recommends, but attributes of the catalogue, which are asked something else."""
    catalogue = deployment.catalogue()
    disputed = ((item, text) for item in pooled for text in item.disputed if catalogue.is_by_default(text))
    return [Pair(n, item.item, item.text, text, item.category) for n, (item, text) in enumerate(disputed, 1)]


async def _judge(judged: _Judged, pairs: Sequence[Pair], options: RetrieverCanaryOptions, note: Note) -> None:
    judged.total = len(pairs)
    judged.progress(0, judged.total)
    asking = Asking(
        client=judging_client(judged.deployment, options.url, _TIMEOUT_S),
        labels=Labels(judged.deployment),
        decided_by=judged.decided_by,
        keep=lambda cells, _: judged.keep(cells),
        note=note,
        concurrency=options.concurrency,
        away_s=options.away_s,
    )
    async with asking.client:
        left = await asking.ask_again(await asking.ask(requests_of(pairs, PER_REQUEST)))
    judged.last_error = asking.last_error if left else ""
