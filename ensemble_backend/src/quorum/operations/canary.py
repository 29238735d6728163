# SPDX-License-Identifier: Apache-2.0
"""Compare the canary with the stable channel on the same products, and act on the verdict if allowed to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorum.bulk.ask import attributes_of
from quorum.bulk.callbacks import Note, Progress, ignore
from quorum.bulk.listings import Listing, gold_of, read_listings
from quorum.decision.weights import Weights
from quorum.deployment.schema import Deployment
from quorum.evaluation.canary import (
    Decided,
    Observed,
    Pair,
    Report,
    agreement_of,
    compare_channels,
    is_trained_on,
    pairs_from_votes,
)
from quorum.operations.rollout import connect
from quorum.operations.servers import store_of
from quorum.records import Record
from quorum.rollout.channels import RolloutError
from quorum.server.runfile import endpoint_of
from quorum.tasks.catalogue import Catalogue
from quorum.votes import VotesTable, read_votes
from quorum_client import Answer, AsyncClient, Extraction
from quorum_contract import CANARY, STABLE
from quorum_contract.errors import QuorumError

_TIMEOUT_S = 60.0

Versions = tuple[int, int]
Evidence = tuple[list[Pair], tuple[Observed, Observed] | None]
Asked = tuple[Listing, Extraction | QuorumError, Extraction | QuorumError]


class CanaryReportError(QuorumError, ValueError):
    """The channels cannot be compared; the message says why and what to do."""

    code = "CANARY_NOT_COMPARABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryOptions:
    """Source of the evidence, and permitted actions.

    Attributes:
        votes: Recorded votes, as ``extract`` writes them.
        replay: Listings to ask both channels about instead; one of the two is needed.
        promote: Promote the canary if the rules say so.
        roll_back: End the canary if the rules say so.
        attributes: For a replay, attributes to ask for; None: the whole catalogue.
        text_column: For a replay, column with the product text.
        concurrency: For a replay, listings in flight.
        top: How many of the most frequent differences to list.
        url: For a replay, ``host:port`` of the server; None: the local one, else that of ``deploy.yaml``.
    """

    votes: str | Path | None = None
    replay: str | Path | None = None
    promote: bool = False
    roll_back: bool = False
    attributes: Sequence[str] | None = None
    text_column: str | None = None
    concurrency: int = 8
    top: int = 10
    url: str | None = None


@dataclass(frozen=True, slots=True)
class CanaryReport(Record):
    """The comparison, and the action: "promoted", "rolled back", or None."""

    comparison: Report
    done: str | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return self.comparison.to_json() | {"done": self.done}


def canary_report(
    deployment: Deployment, options: CanaryOptions, *, progress: Progress = ignore, note: Note = ignore
) -> CanaryReport:
    """Compare the canary with stable on the same products, by recorded votes or by a replay.

    Recorded votes of either channel serve: both have the same members, so each cell is decided with both
    versions of the weights; latencies and fall-backs come from the file. A replay asks both channels about
    every listing.

    Args:
        deployment: The deployment that is served.
        options: Source of the evidence, and permitted actions.
        progress: For a replay, called after each listing.
        note: Takes remarks: unknown attributes, members that answer differently the second time.

    Raises:
        CanaryReportError: No evidence is named, there is no canary, or no listing was answered by both.
        RolloutError: The channels changed during a replay, or the verdict could not be carried out.
        VotesError: The votes cannot be read.
    """
    if (options.votes is None) == (options.replay is None):
        raise CanaryReportError("name either a file of recorded VOTES, or --replay LISTINGS")
    store = store_of(deployment)
    pins = store.state().pins
    versions = pins[STABLE], pins[CANARY]
    if versions[0] == versions[1]:
        raise CanaryReportError(
            f"both channels answer with version {versions[0]}; begin with `quorum canary N`"
        )
    trained_on = False
    if options.votes is not None:
        sides = store.weights(versions[0]), store.weights(versions[1])
        (pairs, observed), trained_on = _recorded(deployment, Path(options.votes), versions, sides)
    else:
        pairs, observed = _replay(deployment, options, versions, progress, note)
    rules = deployment.rollout.canary
    comparison = compare_channels(pairs, versions, rules, observed, options.top, trained_on)
    return CanaryReport(comparison, _act(deployment, comparison, options))


def _recorded(
    deployment: Deployment, votes: Path, versions: Versions, sides: tuple[Weights, Weights]
) -> tuple[Evidence, bool]:
    """Evidence from recorded votes, and whether weights of a channel were learned from them."""
    table = read_votes(votes).of_members(deployment.member_names)
    evidence = pairs_from_votes(table, *sides), _observed(table, versions)
    return evidence, any(is_trained_on(table, weights) for weights in sides)


def _replay(
    deployment: Deployment, options: CanaryOptions, versions: Versions, progress: Progress, note: Note
) -> Evidence:
    assert options.replay is not None
    listings = read_listings(Path(options.replay), options.text_column)
    names = attributes_of(deployment, options.attributes, note)
    url = options.url or endpoint_of(deployment).grpc_url
    asked = asyncio.run(_ask_both(url, listings, names, options.concurrency, progress))
    return _replayed(asked, versions, deployment.catalogue(), note)


def _act(deployment: Deployment, comparison: Report, options: CanaryOptions) -> str | None:
    action, reason = comparison.verdict.action, f"canary: {comparison.verdict.reason}"
    promote, end = action == "promote" and options.promote, action == "roll back" and options.roll_back
    if not (promote or end):
        return None
    with connect(deployment) as rollout:
        if promote:
            rollout.promote(comparison.canary_version, reason, over=comparison.stable_version)
        rollout.end_canary(reason, of=comparison.canary_version)
    return "promoted" if promote else "rolled back"


def _observed(table: VotesTable, versions: Versions) -> tuple[Observed, Observed] | None:
    """Latencies and fall-backs of these versions in a votes table, if it has any."""
    sides = {STABLE: Observed(), CANARY: Observed()}
    wanted: dict[str | None, int] = dict(zip(sides, versions, strict=True))
    for cell in table.cells:
        origin = cell.origin
        if origin is None or origin.weights_version != wanted.get(origin.channel):
            # From an earlier canary or stable version.
            continue
        if origin.fallback_from in sides:
            sides[origin.fallback_from].failed.add(cell.product)
        elif origin.channel in sides and origin.latency_ms is not None:
            sides[origin.channel].latencies_ms[cell.product] = origin.latency_ms
    seen = any(side.latencies_ms or side.failed for side in sides.values())
    return (sides[STABLE], sides[CANARY]) if seen else None


async def _ask_both(
    url: str, listings: Sequence[Listing], attributes: Sequence[str], concurrency: int, progress: Progress
) -> list[Asked]:
    free = asyncio.Semaphore(concurrency)
    done = 0

    async def ask(client: AsyncClient, listing: Listing, channel: str) -> Extraction | QuorumError:
        try:
            return await client.extract(listing.text, attributes, category=listing.category, channel=channel)
        except QuorumError as error:
            return error

    async def both(client: AsyncClient, number: int, listing: Listing) -> Asked:
        nonlocal done
        async with free:
            # Alternate the order, so that warm-up favours neither.
            order = (STABLE, CANARY) if number % 2 else (CANARY, STABLE)
            answers = {channel: await ask(client, listing, channel) for channel in order}
        done += 1
        progress(done, len(listings))
        return listing, answers[STABLE], answers[CANARY]

    progress(0, len(listings))
    async with AsyncClient(url, timeout_s=_TIMEOUT_S) as client:
        return list(await asyncio.gather(*(both(client, number, row) for number, row in enumerate(listings))))


def _replayed(asked: Sequence[Asked], versions: Versions, catalogue: Catalogue, note: Note) -> Evidence:
    observed = (Observed(), Observed())
    pairs: list[Pair] = []
    changed = 0
    for number, (listing, *answers) in enumerate(asked, 1):
        product = f"{number}:{listing.product}"
        for side, answer, version in zip(observed, answers, versions, strict=True):
            if isinstance(answer, QuorumError):
                side.failed.add(product)
                continue
            if answer.weights_version != version:
                raise RolloutError(
                    f"version {answer.weights_version} answered where {version} is pinned: the channels "
                    "changed during the replay; run it again"
                )
            side.latencies_ms[product] = answer.latency_s * 1e3
        left, right = answers
        if isinstance(left, QuorumError) or isinstance(right, QuorumError):
            continue
        for a, b in zip(left.answers, right.answers, strict=True):
            changed += a.votes != b.votes
            gold = tuple(gold_of(listing, a.attribute, catalogue))
            pairs.append(Pair(product, a.attribute, _decided(a), _decided(b), gold))
    if not pairs:
        error = next((a for _, *both in asked for a in both if isinstance(a, QuorumError)), None)
        raise CanaryReportError(f"no listing was answered by both channels: {error}")
    if changed:
        note(f"members answered {changed} of {len(pairs)} cells differently the second time")
    return pairs, observed


def _decided(answer: Answer) -> Decided:
    agreement = agreement_of(answer.value, [vote.value for vote in answer.votes])
    return Decided(answer.value, answer.confidence, agreement)
