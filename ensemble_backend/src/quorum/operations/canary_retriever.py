# SPDX-License-Identifier: Apache-2.0
"""Compare the retriever's canary with its stable version: the deployment's ensemble judges what differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from quorum.bulk.callbacks import Note, Progress, ignore
from quorum.bulk.listings import Listing, read_listings
from quorum.deployment.schema import Deployment
from quorum.evaluation.retriever_canary import Judge, Pooled, RetrieverReport, judge_difference
from quorum.operations.canary import CanaryReportError
from quorum.operations.servers import store_of
from quorum.retrieval.judged import JudgedPair, write_judged
from quorum.rollout.channels import RolloutError
from quorum.server.exposure import client_key
from quorum.server.runfile import endpoint_of
from quorum_client import Answer, Client, Recommendation
from quorum_contract import MAX_ATTRIBUTE_BYTES, RECOMMEND, RECOMMEND_CANARY, STABLE
from quorum_contract.errors import QuorumError

GRADES: Mapping[str, float] = {"irrelevant": 0.0, "relevant": 1.0}
"""Answer to a keyphrase -> its label."""
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieverCanaryOptions:
    """What to compare on, and where the judged pairs go.

    Attributes:
        items: Items, CSV or JSONL, as listings.
        judged: File for the judged pairs (``.parquet`` or ``.jsonl``); None: they are not kept.
        k: How many keyphrases count for an item.
        text_column: Column with the item's text.
        concurrency: Questions in flight.
        url: ``host:port`` of the server; None: the local one, else that of ``deploy.yaml``.
    """

    items: str | Path
    judged: str | Path | None = None
    k: int = 10
    text_column: str | None = None
    concurrency: int = 8
    url: str | None = None


def retriever_canary_report(
    deployment: Deployment,
    options: RetrieverCanaryOptions,
    judge: Judge | None = None,
    *,
    progress: Progress = ignore,
    note: Note = ignore,
) -> RetrieverReport:
    """Ask both channels for keyphrases of every item, and let a judge decide on those that only one has.

    Args:
        deployment: The deployment that is served.
        options: See :class:`RetrieverCanaryOptions`.
        judge: Labels keyphrases; None: the deployment's stable channel, which is asked with them as
            attributes and answers "relevant" or "irrelevant".
        progress: Called after each question.
        note: Takes remarks: items that a channel did not answer.

    Raises:
        CanaryReportError: Both channels have one version, or no item was answered by both.
        RolloutError: The channels changed meanwhile, or nothing is published.
        JudgedError: The judged pairs cannot be written.
    """
    served = store_of(deployment).state().retriever
    if served is None:
        raise RolloutError("no version of the retriever was published; `quorum publish` its folder first")
    versions = served.pins[RECOMMEND], served.pins[RECOMMEND_CANARY]
    if versions[0] == versions[1]:
        raise CanaryReportError(
            f"both channels of the retriever answer with version {versions[0]}: there is no canary; begin "
            "one with `quorum canary N --retriever`"
        )
    listings = read_listings(Path(options.items), options.text_column)
    url = options.url or endpoint_of(deployment).grpc_url
    with (
        Client(url, timeout_s=_TIMEOUT_S, key=client_key()) as client,
        ThreadPoolExecutor(options.concurrency) as pool,
    ):
        asked = pool.map(lambda listing: _recommended(client, listing, options.k, versions), listings)
        pooled, failed = [], list[QuorumError]()
        for found in asked:
            failed.append(found) if isinstance(found, QuorumError) else pooled.append(found)
        if failed:
            note(f"{len(failed)} of {len(listings)} items were not answered by both channels: {failed[0]}")
        if not pooled:
            raise CanaryReportError(f"no item was answered by both channels: {failed[0]}")
        own, seen = asking(client), set[int]()

        def judged_by(item: Pooled, keyphrases: Sequence[str]) -> Sequence[JudgedPair | None]:
            pairs, version = own(item, keyphrases)
            seen.add(version)
            return pairs

        report, pairs = judge_difference(
            pooled, versions, options.k, judge or judged_by, progress, judge_all=pool.map
        )
    if options.judged is not None:
        judged_from = {
            "judge": "quorum canary report --retriever",
            "weights_versions": sorted(seen),
            "retriever_versions": list(versions),
            "grades": dict(GRADES),
        }
        write_judged(Path(options.judged), pairs, judged_from)
    return report


def asking(client: Client) -> Callable[[Pooled, Sequence[str]], tuple[list[JudgedPair | None], int]]:
    """A judge that asks the stable channel; it also returns the version of the weights that answered."""

    def ask(item: Pooled, keyphrases: Sequence[str]) -> tuple[list[JudgedPair | None], int]:
        short = [text for text in keyphrases if len(text.encode()) <= MAX_ATTRIBUTE_BYTES]
        if not short:
            return [None] * len(keyphrases), 0
        extraction = client.extract(item.text, short, category=item.category, channel=STABLE)
        answers = {answer.attribute: answer for answer in extraction.answers}
        pairs = [_pair(item, text, answers.get(text)) for text in keyphrases]
        return pairs, extraction.weights_version

    return ask


def _pair(item: Pooled, keyphrase: str, answer: Answer | None) -> JudgedPair | None:
    """One answer as a judged pair; None where nothing was decided."""
    if answer is None or answer.value is None or answer.value not in GRADES:
        return None
    grade, sure = GRADES[answer.value], answer.confidence
    said = [vote.value for vote in answer.votes if vote.value is not None]
    return JudgedPair(
        item=item.item,
        text=item.text,
        category=item.category,
        keyphrase=keyphrase,
        label=sure * grade + (1 - sure) * (1 - grade),
        value=answer.value,
        confidence=sure,
        disagreement=sum(value != answer.value for value in said) / len(said) if said else 0.0,
    )


def _recommended(client: Client, listing: Listing, k: int, versions: tuple[int, int]) -> Pooled | QuorumError:
    try:
        found = [
            _of_version(client.recommend(listing.text, k, listing.category, channel=channel), version)
            for channel, version in zip((RECOMMEND, RECOMMEND_CANARY), versions, strict=True)
        ]
    except RolloutError:
        raise
    except QuorumError as error:
        return error
    return Pooled(listing.product, listing.text, listing.category, *found)


def _of_version(found: Recommendation, version: int) -> tuple[str, ...]:
    if found.version != version:
        raise RolloutError(
            f"version {found.version} answered where {version} is pinned: the channels changed meanwhile; "
            "run it again"
        )
    return tuple(keyphrase.text for keyphrase in found.keyphrases)
