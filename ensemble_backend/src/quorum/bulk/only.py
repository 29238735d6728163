# SPDX-License-Identifier: Apache-2.0
"""Ask some members only, on a server that holds no others, and add their votes to a recorded table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from quorum.bulk.callbacks import Note
from quorum.bulk.listings import Listing
from quorum.bulk.outputs import OutputError
from quorum.deployment.schema import Deployment, VoteSpec
from quorum.files import replacing, scratch_folder
from quorum.repository.render import render
from quorum.server.leftovers import remove_traces
from quorum.server.supervise import wait_channels
from quorum.server.triton import TritonServer
from quorum.votes import read_members, read_rows
from quorum.votes.merge import merge

_START_S = 600.0
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a votes table has on the listings of a file.

    Attributes:
        wanting: Products with a cell on which a member that is asked has no vote.
        known: Products that have cells.
    """

    wanting: set[str]
    known: set[str]


def members_alone(deployment: Deployment, names: Sequence[str]) -> Deployment:
    """The deployment with these members only, on free ports; raises OutputError for unknown names."""
    unknown = sorted(set(names) - set(deployment.member_names))
    if unknown:
        known = ", ".join(deployment.member_names)
        raise OutputError(f"--only {', '.join(unknown)}: the members of {deployment.path} are {known}")
    ports = {"host": "127.0.0.1", "grpc_port": 0, "http": False, "metrics_port": 0}
    changed = {
        "members": [member for member in deployment.members if member.name in names],
        "server": deployment.server.model_copy(update=ports),
        "fleet": [],
        # Of its places none are kept for others: there are no other callers.
        "gate": deployment.gate.model_copy(update={"max_bulk_in_flight": deployment.gate.max_in_flight}),
        # Of all members together; here only the votes of some are recorded.
        "vote": VoteSpec(),
    }
    return deployment.model_copy(update=changed)


@contextmanager
def serving(deployment: Deployment) -> Iterator[str]:
    """Serve a deployment from a repository of its own for the time of a block; yields ``host:port``.

    Raises:
        quorum.server.triton.ServerProcessError: It does not start; the message ends with its log.
    """
    with scratch_folder("quorum-only-", remove_traces) as folder:
        repository = folder / "model_repository"
        render(deployment, repository)
        log = folder / "server.log"
        server = TritonServer(deployment, repository=repository, log_path=log, temporary=True)
        try:
            server.start()
            wait_channels(server, _START_S)
            yield server.endpoint.grpc_url
        finally:
            # Nothing is in flight, or nothing that is still wanted.
            server.stop(drain_s=0)


def part_path(votes: Path, names: Sequence[str]) -> Path:
    """The file of new votes until they are in the table: ``votes.jsonl`` -> ``votes.jsonl.only-A+B.jsonl``.

    No member has "+" in its name, so that the members of a file are clear from its own.
    """
    return votes.with_name(f"{votes.name}.only-{'+'.join(names)}.jsonl")


def add_part(votes: Path, part: Path, names: Sequence[str]) -> None:
    """Merge new votes into the table, which stands for what both have, and remove them.

    Raises:
        OutputError: They are of other members than ``names``.
    """
    if not part.exists():
        return
    if any(True for _ in read_rows(part)):
        if sorted(found := read_members(part)) != sorted(names):
            raise OutputError(
                f"{part}: has votes of {', '.join(found)}, not of {', '.join(names)}; merge them yourself "
                "(`quorum votes merge`) or remove this file"
            )
        with replacing(votes) as temporary:
            merge([votes, part], temporary, "first", progress=lambda *_: None)
    part.unlink()


def attributes_in(votes: Path) -> list[str]:
    """The attributes of a table, in order of appearance; raises VotesError where it cannot be read."""
    return list(dict.fromkeys(row.cell.attribute for row in read_rows(votes)))


def recorded_on(votes: Path, names: Sequence[str], listings: Sequence[Listing]) -> Recorded:
    """Read which listings of a file the table has, and which lack a vote.

    Raises:
        OutputError: A product has another text there, or is listed twice, so that votes cannot be joined.
        VotesError: The table cannot be read.
    """
    texts: dict[str, str] = {}
    for listing in listings:
        if listing.product in texts:
            raise OutputError(
                f"product {listing.product!r} is listed twice, so its votes cannot be joined with {votes}"
            )
        texts[listing.product] = listing.text
    wanting, known, other = set(), set(), []
    for row in read_rows(votes):
        cell = row.cell
        if (text := texts.get(cell.product)) is None:
            continue
        known.add(cell.product)
        if cell.title and cell.title != text and cell.product not in other:
            other.append(cell.product)
        have = dict(zip(row.members, cell.values, strict=True))
        if any(have.get(name) is None for name in names):
            wanting.add(cell.product)
    if other:
        raise OutputError(
            f"{len(other)} products have another text in {votes} than in the listings, the first: "
            f"{', '.join(map(repr, other[:_SHOWN]))}; ask about the listings that these votes are on"
        )
    return Recorded(wanting, known)


def left_to_ask(
    votes: Path, names: Sequence[str], listings: Sequence[Listing], recorded: Recorded, note: Note
) -> list[Listing]:
    """The listings of the table that lack a vote; ``note`` takes how many others there are."""
    if foreign := len(listings) - len(recorded.known):
        note(f"{foreign} listings are not in {votes}: not asked, as the other members have no votes on them")
    if not recorded.known:
        raise OutputError(f"{votes} has none of these listings; are the ids of the same column (--id)?")
    if done := len(recorded.known) - len(recorded.wanting):
        note(
            f"{done} listings have votes of {', '.join(names)} already: not asked again; to ask anew, take "
            "them out first (`quorum votes drop`)"
        )
    return [listing for listing in listings if listing.product in recorded.wanting]
