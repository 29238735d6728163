# SPDX-License-Identifier: Apache-2.0
"""Compare the canary with the stable channel on the same products, and act on the verdict if allowed to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorum.bulk.ask import attributes_of, fields_of
from quorum.bulk.callbacks import Note, Progress, ignore
from quorum.bulk.listings import Listing, check_gold, gold_of, read_listings
from quorum.decision.answer_kinds import AnswerKind, kind_in
from quorum.decision.quorum_rule import QuorumRule
from quorum.deployment.schema import Deployment
from quorum.evaluation.answers import agreement_of
from quorum.evaluation.canary import (
    Decided,
    Observed,
    Pair,
    Report,
    compare_channels,
    is_trained_on,
    pairs_from_votes,
)
from quorum.evaluation.canary_page import canary_html
from quorum.files import write_atomic
from quorum.operations.pages import page_path
from quorum.operations.rollout import connect
from quorum.operations.scores import gives_no_scores, unlike_served
from quorum.operations.servers import store_of
from quorum.records import Record
from quorum.repository.history import History
from quorum.review.spellings import as_served, respelled_in_words
from quorum.rollout.channels import RolloutError
from quorum.server.exposure import client_key
from quorum.server.runfile import endpoint_of
from quorum.votes import VotesTable, read_votes
from quorum.votes.readable import readable
from quorum_client import Answer, AsyncClient, Extraction
from quorum_contract import CANARY, STABLE, Status
from quorum_contract.errors import QuorumError

_TIMEOUT_S = 60.0

# Of the stable channel and of the canary.
Versions = tuple[int, int]
Sides = tuple[Observed, Observed]
# The last: whether weights of a channel were learned from these votes.
Evidence = tuple[list[Pair], Sides | None, bool]
Asked = tuple[Extraction | QuorumError, Extraction | QuorumError]


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
        text_column: For a replay, column with the product text, or several that are joined.
        concurrency: For a replay, listings in flight.
        top: How many of the most frequent differences to list.
        url: For a replay, ``host:port`` of the server; None: the local one, else that of ``deploy.yaml``.
    """

    votes: str | Path | None = None
    replay: str | Path | None = None
    promote: bool = False
    roll_back: bool = False
    attributes: Sequence[str] | None = None
    text_column: str | Sequence[str] | None = None
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
    deployment: Deployment,
    options: CanaryOptions,
    *,
    report: str | Path | None = None,
    progress: Progress = ignore,
    note: Note = ignore,
) -> CanaryReport:
    """Compare the canary with stable on the same products, by recorded votes or by a replay.

    Recorded votes of either channel serve: both have the same members, so each cell is decided with both
    versions of the weights; latencies and fall-backs come from the file. A replay asks both channels about
    every listing.

    Args:
        deployment: The deployment that is served.
        options: See :class:`CanaryOptions`.
        report: HTML file to write as well; None: none.
        progress: For a replay, called after each listing.
        note: Takes remarks: rows of a replay that are bad and left out, unknown attributes, members that
            answer differently the second time, recorded votes without the scores that a version weighs them
            by.

    Raises:
        CanaryReportError: No evidence is named, there is no canary, or no listing was answered by both.
        RolloutError: The channels changed during a replay, or the verdict could not be carried out.
        VotesError: The votes cannot be read.
        ReportError: The report needs a library that is not installed.
        OSError: The report cannot be written there.
    """
    page = page_path(report)
    if (options.votes is None) == (options.replay is None):
        raise CanaryReportError("name either a file of recorded VOTES, or --replay LISTINGS")
    store = store_of(deployment)
    state = store.state()
    versions = stable, canary = state.pins[STABLE], state.pins[CANARY]
    begin = "begin one with `quorum canary N --share 5%`"
    if stable == canary:
        raise CanaryReportError(f"both channels answer with version {stable}: there is no canary; {begin}")
    if not state.canary_share and History(store.path).was_left(canary):
        raise CanaryReportError(
            f"version {canary}, which the canary channel still has, is what stable answered with before "
            f"version {stable}: there is no canary; {begin}"
        )
    if options.votes is not None:
        pairs, observed, trained_on = _recorded(deployment, options.votes, versions, note)
    else:
        pairs, observed, trained_on = _replay(deployment, options, versions, progress, note)
    rules, guard = deployment.rollout.canary, deployment.rollout.guard
    comparison = compare_channels(pairs, versions, rules, observed, options.top, trained_on, guard)
    done = _act(deployment, comparison, options)
    if page:
        write_atomic(page, canary_html(comparison, done))
    return CanaryReport(comparison, done)


def _recorded(deployment: Deployment, votes: str | Path, versions: Versions, note: Note) -> Evidence:
    store, catalogue = store_of(deployment), deployment.catalogue()
    stable, canary = (store.weights(version).fitted(catalogue.hashes) for version in versions)
    recorded = read_votes(votes).of_members(deployment.member_names)
    # Weights know the votes that they were learned from as recorded.
    trained_on = is_trained_on(recorded, stable) or is_trained_on(recorded, canary)
    table, respelled = as_served(recorded, catalogue)
    if respelled:
        note(respelled_in_words(respelled))
    silent = gives_no_scores(deployment)
    for version, weights in zip(versions, (stable, canary), strict=True):
        for remark in unlike_served(table, weights, f"version {version}", silent):
            note(remark)
    vote = deployment.vote
    rule = QuorumRule(vote.min_members, vote.min_weight)
    for remark in readable(table, catalogue.answer_kinds())[1]:
        note(remark)
    pairs = pairs_from_votes(table, stable, canary, rule, catalogue.answer_kinds())
    return pairs, _observed(table, versions), trained_on


def _observed(table: VotesTable, versions: Versions) -> Sides | None:
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


def _act(deployment: Deployment, comparison: Report, options: CanaryOptions) -> str | None:
    allowed = {"promote": options.promote, "roll back": options.roll_back}
    action, reason = comparison.verdict.action, f"canary: {comparison.verdict.reason}"
    if not allowed.get(action):
        return None
    with connect(deployment) as rollout:
        if action == "promote":
            rollout.promote(comparison.canary_version, reason, over=comparison.stable_version)
        rollout.end_canary(reason, of=comparison.canary_version)
    return "promoted" if action == "promote" else "rolled back"


def _replay(
    deployment: Deployment, options: CanaryOptions, versions: Versions, progress: Progress, note: Note
) -> Evidence:
    assert options.replay is not None
    names, catalogue = attributes_of(deployment, options.attributes, note), deployment.catalogue()
    fields = fields_of(deployment, names)
    listings = read_listings(Path(options.replay), options.text_column, fields=fields, note=note)
    check_gold(listings, catalogue)
    kinds = catalogue.answer_kinds()
    url = options.url or endpoint_of(deployment).grpc_url
    observed, pairs, changed = (Observed(), Observed()), [], 0
    error: QuorumError | None = None
    asked = asyncio.run(_ask_both(url, listings, names, options.concurrency, progress))
    for number, (listing, answers) in enumerate(zip(listings, asked, strict=True), 1):
        product = f"{number}:{listing.product}"
        for side, answer, version in zip(observed, answers, versions, strict=True):
            if isinstance(answer, QuorumError):
                error = error or answer
                side.failed.add(product)
            elif answer.weights_version != version:
                raise RolloutError(
                    f"version {answer.weights_version} answered where {version} is pinned: the channels "
                    "changed during the replay; run it again"
                )
            else:
                side.latencies_ms[product] = answer.latency_s * 1e3
        left, right = answers
        if isinstance(left, QuorumError) or isinstance(right, QuorumError):
            continue
        for a, b in zip(left.answers, right.answers, strict=True):
            # On another category no member was asked: both say "n/a", which is no evidence.
            if not catalogue.get(a.attribute).is_asked_for(listing.category):
                continue
            changed += _said(a) != _said(b)
            gold, kind = tuple(gold_of(listing, a.attribute, catalogue)), kind_in(kinds, a.attribute)
            was, now = _decided(a, kind, listing.text), _decided(b, kind, listing.text)
            pairs.append(Pair(product, a.attribute, was, now, gold, listing.category, kind, listing.text))
    if not pairs:
        why = error or "no product is of a category that has one of these attributes"
        raise CanaryReportError(f"no listing was answered by both channels: {why}")
    if changed:
        note(f"members answered {changed} of {len(pairs)} cells differently the second time")
    return pairs, observed, False


def _said(answer: Answer) -> list[tuple[str | None, Status]]:
    """What each member answered; how sure it was of that may differ."""
    return [(vote.value, vote.status) for vote in answer.votes]


def _decided(answer: Answer, kind: AnswerKind, text: str) -> Decided:
    agreement = agreement_of(answer.value, [vote.value for vote in answer.votes], kind, text)
    return Decided(answer.value, answer.confidence, agreement)


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
        return answers[STABLE], answers[CANARY]

    progress(0, len(listings))
    async with AsyncClient(url, timeout_s=_TIMEOUT_S, key=client_key()) as client:
        return list(await asyncio.gather(*(both(client, number, row) for number, row in enumerate(listings))))
