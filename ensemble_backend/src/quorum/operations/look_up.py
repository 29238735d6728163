# SPDX-License-Identifier: Apache-2.0
"""Add the votes of a catalogue member to a recorded votes table, without a server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quorum.deployment.schema import Deployment
from quorum.records import Record
from quorum.runtimes.base import RuntimeSettings
from quorum.runtimes.catalogue import add_votes
from quorum.runtimes.lookup_options import CatalogueOptions
from quorum.runtimes.option_base import OptionError
from quorum.votes import check_target, read_votes, write_votes


@dataclass(frozen=True, slots=True)
class AddedVotes(Record):
    """The votes of a member that were added to a table.

    Attributes:
        out: File of the table with them.
        member: Its name.
        cells: Cells of the table.
        answered: Cells in which the member found a value.
    """

    out: Path
    member: str
    cells: int
    answered: int


def add_catalogue_votes(
    votes: str | Path, deployment: Deployment, member: str, out: str | Path
) -> AddedVotes:
    """Add the votes of a member of runtime ``catalogue`` to a votes table.

    No product counts for its own votes, even if the catalogue has it: neither its text nor its id.

    Args:
        votes: A votes table, with titles.
        deployment: Has the member.
        member: Its name.
        out: File of the table with its votes; the ending names the format.

    Raises:
        OptionError: The deployment has no such member of this runtime.
        VotesError: The table cannot be read, lacks a title, or has votes of the member already.
        RuntimeConfigError: The file of the products cannot be used.
        OSError: The table cannot be written.
    """
    found = {one.name: one.options for one in deployment.members}
    options = found.get(member)
    if not isinstance(options, CatalogueOptions):
        raise OptionError("member", f"{deployment.path} has no member {member!r} of runtime 'catalogue'")
    check_target(out)
    settings = RuntimeSettings(member, deployment.root, options, catalogue=deployment.catalogue())
    table = add_votes(read_votes(votes), settings)
    write_votes(table, out)
    answered = sum(cell.values[-1] is not None for cell in table.cells)
    return AddedVotes(Path(out), member, len(table), answered)
