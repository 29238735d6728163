# SPDX-License-Identifier: Apache-2.0
"""Ask recorded LLMs and a tuned encoder together, on a tritonserver over gRPC, and keep the votes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import yaml

from quorum.files import hash_file
from quorum.votes import Cell, VotesTable, build_table, read_votes
from quorum.votes.schema import known_scores
from quorum.votes.write import replacing_votes
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.workload import Product, Workload
from quorum_client import Client, Extraction

ENCODER = "encoder"
_TIMEOUT_S = 60.0


def deployment(votes: Path, runs: Sequence[str], attributes: Sequence[str], encoder: Path) -> str:
    """``deploy.yaml`` of members that replay recorded runs, and of an encoder.

    Args:
        votes: Table of the runs.
        runs: Names in that table.
        attributes: That are asked for.
        encoder: Folder of the encoder.
    """
    members = [
        {
            "name": member_name(run),
            "runtime": "replay",
            "options": {"votes": str(votes.resolve()), "recorded_as": run},
        }
        for run in runs
    ]
    own = {"name": ENCODER, "runtime": "encoder", "options": {"model": str(encoder.resolve())}}
    content = {
        "default_normaliser": "exact",
        "members": [*members, own],
        "attributes": {name: {"normaliser": "exact"} for name in attributes},
    }
    return yaml.safe_dump(content, sort_keys=False)


def member_name(run: str) -> str:
    """A run's name as that of a member, which has no dots."""
    return run.replace(".", "")


def served_votes(votes: Path, encoder: Path, folder: Path) -> VotesTable:
    """Ask a deployment of the recorded runs and an encoder about all labelled cells of the runs' table.

    The votes are kept in ``folder``, and read where they are there already.

    Raises:
        ServerProcessError: The server does not start.
        QuorumError: A question is not answered.
        ValueError: A member does not answer what was recorded of it.
    """
    key = hashlib.sha256(f"{hash_file(votes)} {encoder.name}".encode()).hexdigest()[:12]
    kept = folder / f"served-{encoder.name}-{key}.jsonl"
    recorded = read_votes(votes)
    if not kept.is_file():
        cells = _asked(votes, recorded, encoder, folder)
        with replacing_votes(kept) as writer:
            for cell in cells:
                writer.write(cell, (*map(member_name, recorded.members), ENCODER))
    table = read_votes(kept)
    check_recorded(recorded, table)
    return table


def _asked(votes: Path, recorded: VotesTable, encoder: Path, folder: Path) -> list[Cell]:
    folder.mkdir(parents=True, exist_ok=True)
    deploy = folder / f"deploy-{encoder.name}.yaml"
    names = sorted({cell.attribute for cell in recorded.cells})
    deploy.write_text(deployment(votes, recorded.members, names, encoder), encoding="utf-8")
    groups: dict[str, list[Cell]] = {}
    for cell in recorded.cells:
        if cell.gold:
            groups.setdefault(cell.product, []).append(cell)
    products = [
        Product(cells[0].title, cells[0].category, tuple(cell.attribute for cell in cells))
        for cells in groups.values()
    ]
    with (
        QuorumTarget(Workload(tuple(products)), deploy=deploy) as target,
        Client(target.url, timeout_s=_TIMEOUT_S) as client,
    ):
        return [
            found
            for product, cells in zip(products, groups.values(), strict=True)
            for found in _cells(
                cells, client.extract(product.text, product.attributes, category=product.category)
            )
        ]


def _cells(cells: Sequence[Cell], extraction: Extraction) -> list[Cell]:
    """The cells of a product with the votes of the server."""
    found = []
    for cell in cells:
        votes = extraction[cell.attribute].votes
        found.append(
            Cell(
                cell.product,
                cell.category,
                cell.title,
                cell.attribute,
                tuple(vote.value for vote in votes),
                cell.gold,
                scores=known_scores(vote.score for vote in votes),
            )
        )
    return found


def check_recorded(recorded: VotesTable, served: VotesTable) -> None:
    """Raise ValueError where a replayed member answers otherwise than recorded."""
    own = {(cell.product, cell.attribute): cell.values for cell in recorded.cells}
    size = len(recorded.members)
    wrong = [cell for cell in served.cells if cell.values[:size] != own[cell.product, cell.attribute]]
    if wrong:
        first = wrong[0]
        raise ValueError(
            f"{len(wrong)} cells were answered otherwise than recorded, such as {first.attribute!r} of "
            f"{first.product}: {first.values[:size]}; the catalogue may spell values in another way"
        )


def only(table: VotesTable, members: Sequence[str]) -> VotesTable:
    """The votes of some members."""
    places = [table.members.index(name) for name in members]
    return build_table(members, [cell.of_members(places) for cell in table.cells])
