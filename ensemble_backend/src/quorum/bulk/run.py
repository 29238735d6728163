# SPDX-License-Identifier: Apache-2.0
"""Ask about every listing of a file and write the answers as they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from quorum.bulk import only as alone
from quorum.bulk.answers import check_outputs, open_sinks
from quorum.bulk.ask import ask_in_order, attributes_of, check_lazy, fields_of
from quorum.bulk.callbacks import Note, Progress, ignore
from quorum.bulk.listings import Listing, check_gold, read_listings
from quorum.bulk.outcomes import GIVE_UP_AFTER, Ended, Outcomes, is_interrupted, write_each
from quorum.bulk.outputs import OutputError
from quorum.bulk.outputs.outcome import Sink
from quorum.bulk.outputs.votes_tables import VotesSink
from quorum.bulk.spent import BudgetSpent, BudgetWatch, Totals
from quorum.bulk.waits import WaitNotes, check_ready
from quorum.deployment.schema import Deployment
from quorum.records import Record, plain
from quorum.server.exposure import client_key
from quorum.server.runfile import endpoint_of
from quorum.votes import VotesWriter, check_target
from quorum.votes.lazy import lazy_warning
from quorum_client import (
    AWAY_S,
    AsyncClient,
    DecisionStatus,
    Extraction,
    InvalidRequest,
)
from quorum_contract import BULK, LAZY_OF, STABLE, Priority
from quorum_contract.checks import encode_attributes
from quorum_contract.errors import QuorumError


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
        only: Members to ask, and no others, on a server of their own; their votes go into the existing table
            ``votes``. Listings on which it has their votes are not asked again. None: all members, of the
            running server.
        priority: "bulk": the server admits listings while it has little else to do, and the run waits while
            it is busy, or away; "interactive": as requests of people who wait.
        away_s: How long a bulk run waits for a server that is away, in seconds, as while it is started again;
            not with ``only``.
        lazy: Ask members in rows, see :meth:`quorum_client.Client.extract`.
        force: Replace ``out`` and ``votes`` where they exist; without it such files are refused.
        escaped: Make CSV cells harmless, see :func:`quorum.safe_text.safe_cell`. False: cells as they are,
            for machines.
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
    only: Sequence[str] | None = None
    force: bool = False
    escaped: bool = True
    priority: Priority = BULK
    away_s: float = AWAY_S
    lazy: bool = False


@dataclass(slots=True)
class _Count(Outcomes[Extraction]):
    """Listings so far, and what members and ensemble said."""

    by_channel: Counter[str] = field(default_factory=Counter)
    voted: int = 0
    abstained: dict[str, Counter[str]] = field(default_factory=dict)
    decided: int = 0
    undecided: Counter[str] = field(default_factory=Counter)
    spent: Totals = field(default_factory=Totals)
    budgets: BudgetWatch = field(default_factory=BudgetWatch)

    def count(self, answer: Extraction) -> None:
        """As :meth:`Outcomes.count`."""
        self.by_channel[_channel(answer)] += 1
        self.spent.add(answer)
        self.budgets.add(self.done, answer)
        for one in answer.answers:
            for vote in one.votes:
                if vote.value is None:
                    self.abstained.setdefault(vote.member, Counter())[vote.status.name] += 1
                else:
                    self.voted += 1
            if one.status is DecisionStatus.DECIDED:
                self.decided += 1
            else:
                self.undecided[one.status.name] += 1


@dataclass(frozen=True, slots=True)
class ExtractReport(Record):
    """Result of a run.

    Attributes:
        answered: Listings with an answer.
        failed: Listings that are marked with an error.
        left: Listings that were not asked about, because the run ended early.
        by_channel: Channel, or "CHANNEL for CHANNEL" after a fall-back -> listings that it answered.
        ended: Why the run ended: "complete", "interrupted" by Ctrl-C, or "unavailable" after
            :data:`quorum.bulk.outcomes.GIVE_UP_AFTER` listings in a row without a server.
        silent: Number of these; 0 for other ends.
        last_error: The last of these failures; None for other ends.
        resume: Row, counted from 1, from which another run goes on; None where the run is complete.
        out: File with the answers.
        votes: File with the votes.
        routed: Whether a share of the products was routed to the canary.
        only: Members that were asked; empty: all.
        voted: Votes that members gave, "n/a" included.
        abstained: Member -> why its other votes have no value, a name of
            :class:`quorum_contract.status.Status` -> votes.
        decided: Answers to an attribute with a value, "n/a" included; 0 with ``only``, which records votes.
        undecided: Why other answers have none, a name of :class:`quorum_contract.status.DecisionStatus` ->
            answers; empty with ``only``.
        errors: Code of an error -> listings that failed with it, and the message of the first.
        spent: Calls, tokens and cost of all answers.
        budgets: Member -> since when its budget was spent, and how many answers it is missing in.
    """

    answered: int
    failed: int
    left: int
    by_channel: dict[str, int]
    ended: Ended
    silent: int
    last_error: QuorumError | None
    resume: int | None
    out: Path | None
    votes: Path | None
    routed: bool
    only: tuple[str, ...] = ()
    voted: int = 0
    abstained: dict[str, dict[str, int]] = field(default_factory=dict)
    decided: int = 0
    undecided: dict[str, int] = field(default_factory=dict)
    errors: dict[str, tuple[int, str]] = field(default_factory=dict)
    spent: Totals = field(default_factory=Totals)
    budgets: dict[str, BudgetSpent] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; the channels only where a share was routed."""
        data = {name: plain(getattr(self, name)) for name in ("answered", "failed", "left", "out", "votes")}
        data["errors"] = {
            code: {"listings": listings, "first": first} for code, (listings, first) in self.errors.items()
        }
        data |= {"voted": self.voted, "abstained": self.abstained}
        data |= {"spent": self.spent.to_json()} if self.spent.answers else {}
        data |= {"budgets": plain(self.budgets)} if self.budgets else {}
        decided = {"decided": self.decided, "undecided": self.undecided}
        more = {"only": list(self.only)} if self.only else decided
        return data | more | ({"channels": self.by_channel} if self.routed else {})


def extract(
    deployment: Deployment,
    file: str | Path,
    options: ExtractOptions,
    *,
    progress: Progress = ignore,
    note: Note = ignore,
) -> ExtractReport:
    """Ask about every listing of a file. Answers are written as they come; a listing that fails is marked.

    The run stops after :data:`quorum.bulk.outcomes.GIVE_UP_AFTER` listings in a row without a server to
    answer them. Ctrl-C ends it too and is reported, not raised. Answers so far are in the files either way.
    Other signals are the caller's: one that ends the process leaves a Parquet file without its footer, which
    cannot be read.

    Args:
        deployment: The deployment that is served.
        file: CSV or JSONL with a text column.
        options: See :class:`ExtractOptions`.
        progress: Called after each listing.
        note: Called with remarks: rows without an id, attributes outside the catalogue, why the run waits.

    Raises:
        OutputError: See :func:`quorum.bulk.answers.check_outputs`; or a file cannot be written.
        ListingsError: The listings cannot be read.
        NoAttributesError: There is nothing to ask for.
        quorum_client.InvalidRequest: An attribute or a setting cannot work; no file was touched.
        quorum_client.Unavailable: The channel does not answer; no file was touched.
        quorum.server.triton.ServerProcessError: With ``only``, their server does not start.
    """
    if options.only is not None:
        return _extract_only(deployment, Path(file), options, options.only, progress, note)
    source, out, votes = Path(file), _path(options.out), _path(options.votes)
    check_outputs(out, votes, source, force=options.force)
    names = attributes_of(deployment, options.attributes, note)
    fields = fields_of(deployment, names)
    listings = read_listings(source, options.text_column, options.id_column, fields)
    check_gold(listings, deployment.catalogue())
    note_numbered(source, listings, note)
    # What every request would be refused for.
    encode_attributes(names)
    _check_settings(options)
    check_lazy(deployment, options.lazy)
    if options.lazy and votes:
        note(lazy_warning(votes))
    url = options.url or endpoint_of(deployment).grpc_url
    client = AsyncClient(
        url,
        channel=options.channel,
        timeout_s=options.timeout_s,
        canary_share=options.canary_share,
        key=client_key(),
    )
    check_ready(url, asked_channel(options))
    count = _Count(budgets=BudgetWatch(note))
    with ExitStack() as files:
        columns, catalogue = list(listings[0].row), deployment.catalogue()
        sinks = open_sinks(files, out, votes, columns, names, catalogue, escaped=options.escaped)
        interrupted = is_interrupted(
            _ask_each(client, listings, names, options, sinks, count, progress, note)
        )
    return _report(count, len(listings) - count.done, interrupted, options)


def _extract_only(
    deployment: Deployment,
    source: Path,
    options: ExtractOptions,
    only: Sequence[str],
    progress: Progress,
    note: Note,
) -> ExtractReport:
    """Ask some members only, and merge their votes into the table."""
    votes = _check_only(options, only)
    spec = alone.members_alone(deployment, only)
    names = attributes_of(deployment, options.attributes or alone.attributes_in(votes), note)
    encode_attributes(names)
    listings = read_listings(source, options.text_column, options.id_column, fields_of(deployment, names))
    check_gold(listings, deployment.catalogue())
    note_numbered(source, listings, note)
    part = alone.part_path(votes, spec.member_names)
    # Of a run that was killed.
    alone.add_part(votes, part, spec.member_names)
    recorded = alone.recorded_on(votes, only, listings)
    left = alone.left_to_ask(votes, only, listings, recorded, note)
    count, interrupted = _Count(budgets=BudgetWatch(note)), False
    if left:
        try:
            with alone.serving(spec) as url, VotesWriter(part) as writer:
                sink = VotesSink(writer, deployment.catalogue(), origin=False)
                client = AsyncClient(url, timeout_s=options.timeout_s)
                # Nothing starts this server again.
                here = replace(options, away_s=0.0)
                interrupted = is_interrupted(
                    _ask_each(client, left, names, here, [sink], count, progress, note)
                )
        except KeyboardInterrupt:
            interrupted = True
        alone.add_part(votes, part, spec.member_names)
    report = _report(count, len(left) - count.done, interrupted, options)
    return replace(report, only=tuple(spec.member_names), decided=0, undecided={})


def _check_only(options: ExtractOptions, only: Sequence[str]) -> Path:
    """The table to add votes to; refuses options that need the answers of all members."""
    votes = _path(options.votes)
    if not only or votes is None or not votes.is_file():
        raise OutputError(
            f"--only {', '.join(only)}: name the recorded table with --votes FILE, which gets the new votes"
        )
    for option, given in (
        ("--out", options.out),
        ("--force", options.force or None),
        ("--url", options.url),
        ("--canary-share", options.canary_share),
        ("--channel", None if options.channel == STABLE else options.channel),
        ("--lazy", options.lazy or None),
    ):
        if given is not None:
            raise OutputError(
                f"--only and {option}: leave one out; with --only some members answer on a server of their "
                "own, and only their votes are recorded"
            )
    _check_settings(options)
    check_target(votes)
    return votes


def _check_settings(options: ExtractOptions) -> None:
    if options.concurrency < 1:
        raise InvalidRequest(f"concurrency: {options.concurrency!r}; give a whole number above 0")
    if not options.away_s >= 0:
        raise InvalidRequest(f"away_s: {options.away_s!r}; give seconds, 0 or more")


def _report(count: _Count, left: int, interrupted: bool, options: ExtractOptions) -> ExtractReport:
    ended = count.ended(interrupted=interrupted)
    gave_up = ended == "unavailable"
    silent = GIVE_UP_AFTER if gave_up else 0
    return ExtractReport(
        answered=count.answered,
        failed=count.failed,
        left=left,
        by_channel=dict(count.by_channel),
        ended=ended,
        silent=silent,
        last_error=count.last_error if gave_up else None,
        resume=None if ended == "complete" else count.done + 1 - silent,
        out=_path(options.out),
        votes=_path(options.votes),
        routed=options.canary_share is not None,
        voted=count.voted,
        abstained={member: dict(sorted(reasons.items())) for member, reasons in count.abstained.items()},
        decided=count.decided,
        undecided=dict(sorted(count.undecided.items())),
        errors=count.errors,
        spent=count.spent,
        budgets=count.budgets.spent,
    )


def asked_channel(options: ExtractOptions) -> str:
    """The channel that a run asks: with ``lazy`` the lazy one of the one named."""
    return LAZY_OF.get(options.channel, options.channel) if options.lazy else options.channel


def _path(name: str | Path | None) -> Path | None:
    return None if name is None else Path(name)


def note_numbered(source: Path, listings: Sequence[Listing], note: Note) -> None:
    """Remark on rows that have only a number as their id."""
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
    options: ExtractOptions,
    sinks: Sequence[Sink],
    count: _Count,
    progress: Progress,
    note: Note,
) -> None:
    async with client:
        results = ask_in_order(
            client,
            listings,
            attributes,
            options.concurrency,
            options.priority,
            away_s=options.away_s,
            on_wait=WaitNotes(note, options.away_s),
            lazy=options.lazy,
        )
        await write_each(results, len(listings), sinks, count, progress)


def _channel(result: Extraction) -> str:
    return f"{result.channel} for {result.fallback_from}" if result.fallback_from else result.channel
