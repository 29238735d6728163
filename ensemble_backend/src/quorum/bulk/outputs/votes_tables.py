# SPDX-License-Identifier: Apache-2.0
"""Write every vote as a votes table, in the schema of :mod:`quorum.votes`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from quorum.bulk.inputs.records import BadRow
from quorum.bulk.listings import Listing, gold_of
from quorum.bulk.outputs.outcome import Outcome
from quorum.tasks.catalogue import Catalogue
from quorum.votes import Cell, Origin, VotesWriter
from quorum.votes.join import join_votes
from quorum.votes.schema import known_scores, known_usage
from quorum_client import Extraction


class VotesSink:
    """A votes table: one row per listing and attribute, as `quorum learn` reads it.

    Without ``origin`` the server's answer is not recorded: it is of some members only.
    """

    def __init__(self, writer: VotesWriter, catalogue: Catalogue, *, origin: bool = True) -> None:
        self._writer = writer
        self._catalogue = catalogue
        self._has_origin = origin

    def write(self, listing: Listing, result: Extraction | Exception) -> None:
        """Write the rows of one listing; a failed listing has none."""
        if isinstance(result, Exception):
            return
        # Of others no member was asked: the category has no such attribute.
        asked = [
            answer
            for answer in result.answers
            if self._catalogue.get(answer.attribute).is_asked_for(listing.category)
        ]
        origin = origin_of(result) if self._has_origin else None
        # The same for each attribute.
        shares = {member: spent.share(len(asked)) for member, spent in result.usage.items() if asked}
        for answer in asked:
            cell = Cell(
                product=listing.product,
                category=listing.category,
                title=listing.text,
                attribute=answer.attribute,
                values=tuple(vote.value for vote in answer.votes),
                gold=tuple(gold_of(listing, answer.attribute, self._catalogue)),
                origin=origin,
                scores=known_scores(vote.score for vote in answer.votes),
                usage=known_usage(shares.get(vote.member) for vote in answer.votes),
            )
            self._writer.write(cell, [vote.member for vote in answer.votes])


class VotesTables:
    """Parts are votes tables too; one without a vote is left out."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def write(self, path: Path, outcomes: Sequence[Outcome], bad: Sequence[BadRow]) -> bool:
        """As :meth:`PartFormat.write`."""
        with VotesWriter(path, buffered=True) as writer:
            sink = VotesSink(writer, self._catalogue)
            for outcome in outcomes:
                sink.write(*outcome)
        return writer.has_rows

    def join(self, parts: Sequence[Path], path: Path) -> None:
        """As :meth:`PartFormat.join`; raises VotesError if parts have votes of other members."""
        join_votes(parts, path)


def origin_of(result: Extraction) -> Origin:
    """Channel, weights and latency of an answer, for `quorum canary report`."""
    latency_ms = round(result.latency_s * 1e3, 2)
    return Origin(result.channel, result.weights_version, latency_ms, result.fallback_from or None)
