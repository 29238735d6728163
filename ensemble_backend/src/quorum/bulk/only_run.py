# SPDX-License-Identifier: Apache-2.0
"""Run ``extract`` with some members only: ask them on a server of their own, and merge their votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quorum.bulk import only as alone
from quorum.bulk.ask import ask_in_order, attributes_of, fields_of
from quorum.bulk.callbacks import Note
from quorum.bulk.ledger import Entry, Tally
from quorum.bulk.listings import Listing, check_gold, read_listings
from quorum.bulk.options import IN_FLIGHT, ExtractOptions
from quorum.bulk.outcomes import Outcomes, is_interrupted, note_numbered, write_each
from quorum.bulk.outputs import OutputError
from quorum.bulk.outputs.outcome import Sink
from quorum.bulk.outputs.votes_tables import VotesSink
from quorum.bulk.progress import JobProgress, OnProgress, Pace
from quorum.bulk.report import ExtractReport
from quorum.bulk.spent import BudgetWatch
from quorum.deployment.schema import Deployment
from quorum.votes import VotesWriter, check_target
from quorum_client import AsyncClient, Extraction
from quorum_contract import STABLE
from quorum_contract.checks import encode_attributes
from quorum_contract.errors import QuorumError


@dataclass(slots=True)
class _Count(Outcomes[Extraction]):
    """Listings so far, and what the members said."""

    tally: Tally = field(default_factory=Tally)
    budgets: BudgetWatch = field(default_factory=BudgetWatch)

    def add(self, result: Extraction | QuorumError) -> None:
        """As :meth:`Outcomes.add`."""
        # Not by super(), which a dataclass with slots has none of.
        Outcomes.add(self, result)
        self.tally.add(Entry.of(self.done, "", result))

    def count(self, answer: Extraction) -> None:
        """As :meth:`Outcomes.count`."""
        self.budgets.add(self.done, answer)


def extract_only(
    deployment: Deployment,
    files: Sequence[str],
    options: ExtractOptions,
    only: Sequence[str],
    progress: OnProgress,
    note: Note,
) -> ExtractReport:
    """Ask some members only, and merge their votes into the table; see :func:`quorum.bulk.run.extract`."""
    votes = _check(options, only)
    spec = alone.members_alone(deployment, only)
    wanted = options.attributes or alone.attributes_in(votes)
    names = attributes_of(deployment, wanted, note, is_open=options.open or options.attributes is None)
    encode_attributes(names)
    listings = _listings(deployment, files, options, names, note)
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
                interrupted = is_interrupted(_ask_each(client, left, names, options, sink, count, progress))
        except KeyboardInterrupt:
            interrupted = True
        alone.add_part(votes, part, spec.member_names)
    ended = count.ended(interrupted=interrupted)
    return ExtractReport(
        rows=len(left),
        tally=count.tally,
        asked=count.done,
        ended=ended,
        last_error=count.last_error if ended == "unavailable" else None,
        outputs=(str(votes),),
        only=tuple(spec.member_names),
        budgets=count.budgets.spent,
    )


def _listings(
    deployment: Deployment,
    files: Sequence[str],
    options: ExtractOptions,
    names: Sequence[str],
    note: Note,
) -> list[Listing]:
    if len(files) != 1:
        raise OutputError("--only reads one file of listings; join the files, or run it for each")
    (source,) = map(Path, files)
    text = options.text[0] if options.text and len(options.text) == 1 else None
    if options.text and text is None:
        raise OutputError("--only takes one text column; name it with --text")
    listings = read_listings(source, text, options.id, fields_of(deployment, names))
    check_gold(listings, deployment.catalogue())
    note_numbered(source, listings, note)
    return listings


async def _ask_each(
    client: AsyncClient,
    listings: Sequence[Listing],
    attributes: Sequence[str],
    options: ExtractOptions,
    sink: Sink,
    count: _Count,
    progress: OnProgress,
) -> None:
    concurrency = IN_FLIGHT if options.concurrency == "auto" else options.concurrency
    pace = Pace()

    def show(done: int, total: int) -> None:
        if done:
            pace.add()
        spent, tally = count.tally.spent, count.tally
        progress(
            JobProgress(
                done=done,
                total=total,
                failed=count.failed,
                rate=pace.rate,
                eta_s=pace.eta_s(total - done),
                cost=spent.cost if spent.without_cost < spent.answers else None,
                abstained=tally.absent_share,
            )
        )

    async with client:
        # Nothing starts this server again, so it is not waited for.
        results = ask_in_order(client, listings, attributes, concurrency, options.priority, away_s=0.0)
        await write_each(results, len(listings), [sink], count, show)


def _check(options: ExtractOptions, only: Sequence[str]) -> Path:
    """The table to add votes to; refuses options that need the answers of all members."""
    votes = None if options.votes is None else Path(options.votes)
    if not only or votes is None or not votes.is_file():
        raise OutputError(
            f"--only {', '.join(only)}: name the recorded table with --votes FILE, which gets the new votes"
        )
    for option, given in (
        ("--out", options.out),
        ("--force", options.force or None),
        ("--retry-failed", options.retry_failed or None),
        ("--url", options.url),
        ("--engine", None if options.engine == "local" else options.engine),
        ("--canary-share", options.canary_share),
        ("--channel", None if options.channel == STABLE else options.channel),
        ("--lazy", options.lazy or None),
    ):
        if given is not None:
            raise OutputError(
                f"--only and {option}: leave one out; with --only some members answer on a server of their "
                "own, and only their votes are recorded"
            )
    check_target(votes)
    return votes
